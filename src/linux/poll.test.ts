import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { EventFd } from './eventfd.ts'
import { PollSet } from './poll.ts'

test('only who has something is ready, and looking does not wait', () => {
  const events = [EventFd.create(), EventFd.create(), EventFd.create()]
  const poll = new PollSet()
  poll.watch(events.map(({ fd }) => fd))
  assert.equal(poll.look(), 0)
  events[1]!.signal()
  assert.equal(poll.look(), 1)
  assert.deepEqual(
    [0, 1, 2].map((index) => poll.isReady(index)),
    [false, true, false],
  )
  events[1]!.clear()
  assert.equal(poll.look(), 0)
  assert.equal(poll.isReady(1), false)
  poll.watch([])
  assert.equal(poll.look(), 0, 'nobody is asked about')
  for (const event of events) event.close()
})

allocatesNothing('looking allocates nothing', () => {
  const event = EventFd.create()
  event.signal()
  const poll = new PollSet()
  poll.watch([event.fd])
  return () => poll.look() + (poll.isReady(0) ? 1 : 0)
})
