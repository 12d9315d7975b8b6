import assert from 'node:assert/strict'
import { closeSync, openSync } from 'node:fs'
import { test } from 'node:test'
import { ECONNREFUSED } from './errno.ts'
import { EventFd } from './eventfd.ts'
import { watchReadable } from './event-loop.ts'
import { Region } from './region.ts'
import { SocketError, close, localPort, receive, send } from './socket.ts'
import { TcpAcceptor, connectTcp, listenTcp } from './tcp.ts'
import { connectUdp, openUdp } from './udp.ts'
import { SendBatch } from './udp-batch.ts'

const LOCALHOST = new Uint8Array([127, 0, 0, 1])
const ANY_PORT = { family: 4, address: LOCALHOST, port: 0, isTransparent: false } as const

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

test('the callback runs while there is something to read, and never after the close', async () => {
  const eventFd = EventFd.create()
  let calls = 0
  const done = Promise.withResolvers<void>()
  const watch = watchReadable(eventFd.fd, () => {
    if (++calls < 3) return
    eventFd.clear()
    done.resolve()
  })
  eventFd.signal()
  await done.promise
  await sleep(20)
  assert.equal(calls, 3, 'level triggered until it was cleared')
  watch.close()
  watch.close()
  eventFd.signal()
  await sleep(20)
  assert.equal(calls, 3)
  eventFd.close()
})

test('a watch closed by its own callback is not called again', async () => {
  const eventFd = EventFd.create()
  let calls = 0
  const watch = watchReadable(eventFd.fd, () => {
    calls++
    watch.close()
  })
  eventFd.signal()
  await sleep(20)
  assert.equal(calls, 1)
  eventFd.close()
})

test('a descriptor that is closed, or never was one, or is a file: an error, not an abort', () => {
  const eventFd = EventFd.create()
  eventFd.close()
  const watch = (fd: number) => () => watchReadable(fd, () => {})
  assert.throws(watch(eventFd.fd), { code: 'EBADF' })
  assert.throws(watch(-1), SocketError)
  const file = openSync(import.meta.filename, 'r')
  assert.throws(watch(file), { code: 'EPERM' })
  closeSync(file)
})

test('a descriptor is watched once; after the close it may be watched again', async () => {
  const eventFd = EventFd.create()
  let calls = 0
  const callback = (): void => {
    calls++
    eventFd.clear()
  }
  const first = watchReadable(eventFd.fd, callback)
  assert.throws(() => watchReadable(eventFd.fd, callback), /watched once/)
  first.close()
  using second = watchReadable(eventFd.fd, callback)
  assert.ok(second)
  eventFd.signal()
  await sleep(20)
  assert.equal(calls, 1)
})

test('a promise that a callback settles goes on at once, not with the next timer', async () => {
  const eventFd = EventFd.create()
  const timer = setTimeout(() => {}, 5_000)
  const read = Promise.withResolvers<void>()
  using watch = watchReadable(eventFd.fd, () => {
    eventFd.clear()
    read.resolve()
  })
  assert.ok(watch)
  eventFd.signal()
  const start = performance.now()
  await read.promise
  assert.ok(performance.now() - start < 1_000)
  clearTimeout(timer)
})

test('an error on the socket calls back, and the watch goes on after it', async () => {
  const region = Region.create(64)
  const server = openUdp(ANY_PORT)
  const port = localPort(server)
  const asker = connectUdp(4, LOCALHOST, 0, port, 0)
  close(server)
  const results: number[] = []
  using watch = watchReadable(asker, () => results.push(receive(asker, region.address, 64)))
  assert.ok(watch)
  send(asker, region.address, 5)
  await sleep(20)
  assert.deepEqual(results, [-ECONNREFUSED])
  const again = openUdp({ ...ANY_PORT, port })
  const answer = new SendBatch({ messages: 1 })
  answer.set(0, 4, LOCALHOST, 0, localPort(asker), LOCALHOST, 0, 7, 0)
  assert.equal(answer.send(again, 0, 1), 1)
  await sleep(20)
  assert.deepEqual(results, [-ECONNREFUSED, 7])
  watch.close()
  close(asker)
  close(again)
})

test('a peer that hangs up calls back, also when it has sent nothing', async () => {
  const [listener, acceptor] = [listenTcp(ANY_PORT), new TcpAcceptor()]
  const asker = connectTcp(4, LOCALHOST, 0, localPort(listener), 0)
  await sleep(5)
  const accepted = acceptor.accept(listener)
  const region = Region.create(64)
  const results: number[] = []
  const watch = watchReadable(accepted, () => {
    results.push(receive(accepted, region.address, 64))
    watch.close()
  })
  close(asker)
  await sleep(20)
  assert.deepEqual(results, [0])
  close(accepted)
  close(listener)
})
