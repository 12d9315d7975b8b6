/** When the second of two processes reads the sockets that both hold, in virtual time. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SLEEP_MS } from './control.ts'
import { SecondReader } from './second-reader.ts'

const PEER_READS = true

test('who is alone reads; while the peer reads, the sockets are only looked at', () => {
  const second = new SecondReader()
  assert.ok(second.isReading(!PEER_READS, 0))
  assert.ok(!second.isReading(PEER_READS, 20))
  assert.equal(second.lookEveryMs, SLEEP_MS)
  assert.ok(second.isReading(!PEER_READS, 40), 'as soon as the peer does not')
})

test('what lies there at eight looks in a row is more than the peer can do: it reads, for a while', () => {
  const second = new SecondReader()
  let nowMs = 1000
  for (let look = 0; look < 8; look++) {
    assert.ok(!second.isReading(PEER_READS, nowMs))
    second.looked(true, nowMs)
    assert.ok(second.lookEveryMs < 5, 'the next look is soon')
    nowMs += second.lookEveryMs
  }
  assert.ok(nowMs < 1020)
  assert.ok(second.isReading(PEER_READS, nowMs))
  assert.ok(second.isReading(PEER_READS, nowMs + 200))
  assert.ok(!second.isReading(PEER_READS, nowMs + 300), 'the peer has its turn again')
  assert.equal(second.lookEveryMs, SLEEP_MS, 'and counting begins anew')
})

test('a look that finds nothing in between: the datagram was on its way to the peer', () => {
  const second = new SecondReader()
  for (let look = 0; look < 40; look++) {
    second.looked(look % 8 !== 7, look * SLEEP_MS)
    assert.ok(!second.isReading(PEER_READS, look * SLEEP_MS))
  }
})

test('what was found before the peer went is not held against the next one', () => {
  const second = new SecondReader()
  for (let look = 0; look < 7; look++) second.looked(true, look)
  assert.ok(second.isReading(!PEER_READS, 10))
  second.looked(true, 20)
  assert.ok(!second.isReading(PEER_READS, 20))
})
