import assert from 'node:assert/strict'
import { closeSync, openSync } from 'node:fs'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { sleep, start } from '../../test/support/process.ts'
import { EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT } from './constants.ts'
import { EBADF, EEXIST, EINVAL, EPERM } from './errno.ts'
import { Epoll } from './epoll.ts'
import { EventFd } from './eventfd.ts'

test('a signalled descriptor comes back with its token and events, also a negative token', () => {
  using epoll = new Epoll()
  const one = EventFd.create()
  const other = EventFd.create()
  assert.equal(epoll.add(one.fd, EPOLLIN, 0x7fffffff), 0)
  assert.equal(epoll.add(other.fd, EPOLLIN | EPOLLEXCLUSIVE, -2), 0)
  assert.equal(epoll.wait(0), 0)
  other.signal()
  assert.equal(epoll.wait(1000), 1)
  assert.deepEqual([epoll.token(0), epoll.events(0)], [-2, EPOLLIN])
  one.signal()
  assert.equal(epoll.wait(0), 2)
  assert.deepEqual(
    [epoll.token(0), epoll.token(1)].sort((a, b) => a - b),
    [-2, 0x7fffffff],
  )
  one.close()
  other.close()
})

test('more descriptors than the array holds come in two turns', () => {
  using epoll = new Epoll()
  const all = Array.from({ length: 70 }, () => EventFd.create())
  all.forEach((eventFd, index) => {
    epoll.add(eventFd.fd, EPOLLIN, index)
    eventFd.signal()
  })
  const seen = new Set<number>()
  for (let turn = 0; turn < 2; turn++) {
    const count = epoll.wait(0)
    for (let index = 0; index < count; index++) seen.add(epoll.token(index))
  }
  assert.equal(seen.size, 70)
  for (const eventFd of all) eventFd.close()
})

test('modified and removed descriptors behave as they are told', () => {
  using epoll = new Epoll()
  const eventFd = EventFd.create()
  assert.equal(epoll.add(eventFd.fd, EPOLLIN, 1), 0)
  assert.equal(epoll.add(eventFd.fd, EPOLLIN, 1), -EEXIST)
  assert.equal(epoll.modify(eventFd.fd, EPOLLOUT | EPOLLET, 2), 0)
  assert.equal(epoll.wait(0), 1)
  assert.deepEqual([epoll.token(0), epoll.events(0)], [2, EPOLLOUT])
  assert.equal(epoll.wait(0), 0, 'edge triggered: told once')
  assert.equal(epoll.remove(eventFd.fd), 0)
  eventFd.signal()
  assert.equal(epoll.wait(0), 0)
  eventFd.close()
})

test('what can not be waited for is refused with its errno', () => {
  using epoll = new Epoll()
  const file = openSync(import.meta.filename, 'r')
  assert.equal(epoll.add(file, EPOLLIN, 0), -EPERM)
  assert.equal(epoll.add(-1, EPOLLIN, 0), -EBADF)
  const eventFd = EventFd.create()
  epoll.add(eventFd.fd, EPOLLIN | EPOLLEXCLUSIVE, 0)
  assert.equal(epoll.modify(eventFd.fd, EPOLLIN, 0), -EINVAL)
  eventFd.close()
  closeSync(file)
})

test('a wait lasts as long as it is told', () => {
  using epoll = new Epoll()
  const start = performance.now()
  assert.equal(epoll.wait(20), 0)
  assert.ok(performance.now() - start >= 19)
})

test('a process that was stopped while it waited goes on as if its time were over', async () => {
  const code = `
    const { Epoll } = await import('${import.meta.resolve('./epoll.ts')}')
    const epoll = new Epoll()
    console.log('waiting')
    console.log(epoll.wait(20_000))`
  await using child = await start(process.execPath, ['--input-type=module', '-e', code], {
    ready: 'waiting',
  })
  const begin = performance.now()
  while (child.isRunning && performance.now() - begin < 10_000) {
    child.kill('SIGSTOP')
    child.kill('SIGCONT')
    await sleep(20)
  }
  assert.ok(!child.isRunning, 'its wait ended long before its time')
  assert.equal((await child.exited).stdout, 'waiting\n0\n')
})

test('signals add up until they are cleared', () => {
  const eventFd = EventFd.create()
  assert.equal(eventFd.clear(), false)
  EventFd.attach(eventFd.fd).signal()
  eventFd.signal()
  assert.equal(eventFd.clear(), true)
  assert.equal(eventFd.clear(), false)
  eventFd.close()
})

allocatesNothing('waiting, reading events and clearing a signal allocate nothing', () => {
  const epoll = new Epoll()
  const eventFd = EventFd.create()
  epoll.add(eventFd.fd, EPOLLIN | EPOLLEXCLUSIVE, 7)
  let sum = 0
  return () => {
    eventFd.signal()
    const count = epoll.wait(20)
    for (let index = 0; index < count; index++) sum ^= epoll.token(index) ^ epoll.events(index)
    eventFd.clear()
    return sum
  }
})

allocatesNothing('registering and removing a descriptor allocates nothing', () => {
  const epoll = new Epoll()
  const eventFd = EventFd.create()
  return (call) => {
    epoll.add(eventFd.fd, EPOLLIN, call)
    return epoll.remove(eventFd.fd)
  }
})
