import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, SOL_TCP, TCP_NODELAY } from './constants.ts'
import { EAGAIN, ECONNREFUSED, EPIPE } from './errno.ts'
import { Epoll } from './epoll.ts'
import { Region } from './region.ts'
import { close, getOption, localPort, receive, send, takeError } from './socket.ts'
import { TcpAcceptor, connectTcp, listenTcp, shutdownWrite } from './tcp.ts'

const LOCALHOST = new Uint8Array([127, 0, 0, 1])
const LOCALHOST6 = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])

/** Waits until one of `events` comes for `fd`; which. */
function wait(fd: number, events: number): number {
  using epoll = new Epoll()
  epoll.add(fd, events, 0)
  assert.equal(epoll.wait(2000), 1)
  return epoll.events(0)
}

function listen(family: 4 | 6, address: Uint8Array): number {
  return listenTcp({ family, address, port: 0, isTransparent: false })
}

for (const family of [4, 6] as const) {
  const localhost = family === 4 ? LOCALHOST : LOCALHOST6

  test(`IPv${family}: a connection knows both its ends and carries bytes both ways`, () => {
    const listener = listen(family, localhost)
    const port = localPort(listener)
    const acceptor = new TcpAcceptor()
    assert.equal(acceptor.accept(listener), -EAGAIN)
    const asker = connectTcp(family, localhost, 0, port, 0)
    assert.ok(wait(asker, EPOLLOUT) & EPOLLOUT)
    assert.equal(takeError(asker), 0)
    const accepted = acceptor.accept(listener)
    assert.ok(accepted > 0)
    const ends = [acceptor.peerAt, acceptor.localAt].map((at) => [
      ...acceptor.u8.subarray(at, at + localhost.length),
    ])
    assert.deepEqual(ends, [[...localhost], [...localhost]])
    assert.equal(acceptor.family, family)
    assert.deepEqual([acceptor.peerPort, acceptor.localPort], [localPort(asker), port])
    assert.equal(getOption(accepted, SOL_TCP, TCP_NODELAY), 1, 'inherited from the listener')

    const region = Region.create(64)
    region.u8.set(Buffer.from('query'))
    assert.equal(send(asker, region.address, 5), 5)
    wait(accepted, EPOLLIN)
    assert.equal(receive(accepted, region.address + 32, 32), 5)
    assert.equal(Buffer.from(region.u8.subarray(32, 37)).toString(), 'query')
    assert.equal(receive(accepted, region.address, 32), -EAGAIN)

    // The asker has asked all; the answer still reaches it.
    assert.equal(shutdownWrite(asker), 0)
    assert.ok(wait(accepted, EPOLLIN | EPOLLRDHUP) & EPOLLRDHUP)
    assert.equal(receive(accepted, region.address, 32), 0)
    assert.equal(send(accepted, region.address, 5), 5)
    wait(asker, EPOLLIN)
    assert.equal(receive(asker, region.address, 32), 5)
    assert.equal(send(asker, region.address, 5), -EPIPE)
    for (const fd of [asker, accepted, listener]) close(fd)
  })
}

test('a refused connection tells so when it is asked', () => {
  const listener = listen(4, LOCALHOST)
  const port = localPort(listener)
  close(listener)
  const asker = connectTcp(4, LOCALHOST, 0, port, 0)
  assert.ok(asker > 0, 'only begun: the outcome comes later')
  wait(asker, EPOLLOUT)
  assert.equal(takeError(asker), -ECONNREFUSED)
  assert.equal(takeError(asker), 0, 'told once')
  close(asker)
})

test('a port whose last connection lingers can be listened at again', () => {
  const listener = listen(4, LOCALHOST)
  const port = localPort(listener)
  const asker = connectTcp(4, LOCALHOST, 0, port, 0)
  wait(asker, EPOLLOUT)
  const accepted = new TcpAcceptor().accept(listener)
  // Who closes first lingers in TIME_WAIT: the server's side here.
  close(accepted)
  wait(asker, EPOLLRDHUP)
  close(asker)
  close(listener)
  close(listenTcp({ family: 4, address: LOCALHOST, port, isTransparent: false }))
})

test('a port that somebody listens at is an error that says who to look for', () => {
  const listener = listen(4, LOCALHOST)
  const port = localPort(listener)
  const again = (): number =>
    listenTcp({ family: 4, address: LOCALHOST, port, isTransparent: false })
  assert.throws(again, { code: 'EADDRINUSE', message: /^open TCP 127\.0\.0\.1:\d+: .*'ss -lntup'/ })
  close(listener)
})

allocatesNothing('looking for a connection, and reading its ends, allocates nothing', () => {
  const listener = listen(6, LOCALHOST6)
  const asker = connectTcp(6, LOCALHOST6, 0, localPort(listener), 0)
  wait(asker, EPOLLOUT)
  const acceptor = new TcpAcceptor()
  acceptor.accept(listener)
  return () => {
    const ends = acceptor.peerAt + acceptor.localAt + acceptor.peerPort + acceptor.localPort
    return acceptor.accept(listener) + ends + acceptor.family
  }
})
