/** What a peer is told of flows, from one history into another. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FLOW_BYTES_MAX } from '../flow/record.ts'
import { FlowHistory } from '../observe/history.ts'
import { eachFrame, endOfPiece } from '../sync/frames.ts'
import { FlowsForPeer } from './flows-for-peer.ts'

/** Appends a record that begins with the number. */
function append(history: FlowHistory, number: number, bytes = 64, isForeign = false): void {
  const view = new DataView(new ArrayBuffer(bytes))
  view.setUint32(0, number)
  history.append(view, 0, bytes, isForeign)
}

/** All that the peer is told now; each piece is one message. */
function told(flows: FlowsForPeer): { number: number; bytes: number }[] {
  const records: { number: number; bytes: number }[] = []
  for (let piece = flows.next(); piece !== null; piece = flows.next()) {
    assert.equal(endOfPiece(piece, 0), piece.length)
    eachFrame(piece, (view, at, length) => {
      records.push({ number: view.getUint32(at), bytes: length })
    })
  }
  return records
}

test('the peer is told what was decided here since, and nothing that it knows', () => {
  const history = new FlowHistory()
  append(history, 1)
  const flows = new FlowsForPeer(history)
  assert.deepEqual(told(flows), [])
  append(history, 2)
  append(history, 3, 64, true)
  append(history, 4)
  const numbers = told(flows).map(({ number }) => number)
  assert.deepEqual(numbers, [2, 4])
  assert.deepEqual(told(flows), [])
})

test('a new process is told all that is still known, its own too', () => {
  const history = new FlowHistory()
  append(history, 1)
  append(history, 2, 64, true)
  const flows = new FlowsForPeer(history)
  flows.rewind()
  append(history, 3, 64, true)
  append(history, 4)
  const numbers = told(flows).map(({ number }) => number)
  assert.deepEqual(numbers, [1, 2, 4])
})

test('a flow of any length arrives in whole words, and the next one behind it', () => {
  const history = new FlowHistory()
  const flows = new FlowsForPeer(history)
  const lengths = [64, 65, 66, 67, FLOW_BYTES_MAX - 1, FLOW_BYTES_MAX, 68]
  for (const [number, bytes] of lengths.entries()) append(history, number, bytes)
  const whole = [64, 68, 68, 68, FLOW_BYTES_MAX, FLOW_BYTES_MAX, 68]
  assert.deepEqual(
    told(flows),
    whole.map((bytes, number) => ({ number, bytes })),
  )
})

test('more than fits into one message goes in several', () => {
  const history = new FlowHistory()
  const flows = new FlowsForPeer(history)
  for (let number = 0; number < 3000; number++) append(history, number, 64 + (number % 100))
  const numbers = told(flows).map(({ number }) => number)
  assert.deepEqual(
    numbers,
    Array.from({ length: 3000 }, (_, number) => number),
  )
})
