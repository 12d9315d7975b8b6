import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { bodyBytesMax, RingReader, RingWriter, ringBytes } from './ring.ts'

const HEAD = 0
const TAIL = 1

/** @param start  how many words were written and read before, in 32 bits */
function ring(
  capacityWords: number,
  start = 0,
): {
  words: Int32Array
  writer: RingWriter
  reader: RingReader
} {
  const words = new Int32Array(new SharedArrayBuffer(ringBytes(capacityWords)))
  words[HEAD] = start
  words[TAIL] = start
  return { words, writer: new RingWriter(words), reader: new RingReader(words) }
}

function write(writer: RingWriter, kind: number, body: Uint8Array): boolean {
  const at = writer.reserve(kind, body.length)
  if (at < 0) return false
  writer.bytes.set(body, at)
  writer.commit()
  return writer.publish()
}

function read(reader: RingReader): { kind: number; body: number[] } | null {
  if (!reader.next()) return null
  const body = [...reader.bytes.subarray(reader.bodyAt, reader.bodyAt + reader.bodyBytes)]
  reader.release()
  return { kind: reader.kind, body }
}

test('records come out in the order and with the bytes they went in', () => {
  const { writer, reader } = ring(16)
  assert.equal(read(reader), null)
  write(writer, 1, Uint8Array.of(1, 2, 3, 4, 5))
  write(writer, 127, new Uint8Array(0))
  assert.deepEqual(read(reader), { kind: 1, body: [1, 2, 3, 4, 5] })
  assert.deepEqual(read(reader), { kind: 127, body: [] })
  assert.equal(read(reader), null)
})

test('a record that was reserved and not committed is not seen', () => {
  const { writer, reader } = ring(16)
  writer.reserve(1, 4)
  assert.equal(reader.next(), false)
})

test('records are seen when they are published, and not before', () => {
  const { writer, reader } = ring(16)
  for (const body of [1, 2]) {
    writer.bytes[writer.reserve(1, 1)] = body
    writer.commit()
  }
  assert.equal(reader.next(), false)
  assert.equal(writer.publish(), true)
  assert.deepEqual(
    [read(reader), read(reader), read(reader)],
    [{ kind: 1, body: [1] }, { kind: 1, body: [2] }, null],
  )
  assert.equal(writer.publish(), false, 'there is nothing new')
})

test('a full ring drops the newest record and counts it', () => {
  const { writer, reader } = ring(8)
  assert.equal(write(writer, 1, new Uint8Array(12).fill(1)), true)
  assert.equal(write(writer, 1, new Uint8Array(12).fill(2)), true)
  assert.equal(write(writer, 1, new Uint8Array(0)), false)
  assert.equal(reader.dropped, 1)
  assert.equal(read(reader)?.body[0], 1)
  assert.equal(write(writer, 1, new Uint8Array(12).fill(3)), true)
  assert.equal(read(reader)?.body[0], 2)
  assert.equal(read(reader)?.body[0], 3)
})

test('what is read stays untouched until it is released', () => {
  const { writer, reader } = ring(8)
  write(writer, 1, new Uint8Array(12).fill(1))
  assert.equal(reader.next(), true)
  write(writer, 1, new Uint8Array(12).fill(2))
  assert.equal(write(writer, 1, new Uint8Array(12).fill(3)), false)
  assert.equal(reader.bytes[reader.bodyAt], 1)
})

test('a body never wraps: it is written in one piece from the start of the ring', () => {
  const { writer, reader } = ring(8)
  write(writer, 1, new Uint8Array(16))
  read(reader)
  const at = writer.reserve(1, 12)
  assert.equal(at, (4 + 1) * 4)
})

test('counting goes on where 32 bits end', () => {
  const { writer, reader } = ring(16, -8)
  for (let round = 0; round < 20; round++) {
    const body = new Uint8Array(13).fill(round)
    assert.equal(write(writer, 1, body), true)
    assert.deepEqual(read(reader), { kind: 1, body: [...body] })
  }
  assert.equal(reader.dropped, 0)
})

test('the longest body fits an empty ring wherever its last record ended', () => {
  for (let before = 0; before < 16; before++) {
    const { writer, reader } = ring(16, before)
    const body = new Uint8Array(bodyBytesMax(16)).fill(before)
    assert.equal(write(writer, 1, body), true, `after ${before} words`)
    assert.deepEqual(read(reader)?.body, [...body])
  }
})

test('whatever is written and read in turn, nothing but what was dropped is missing', () => {
  const step = fc.oneof(fc.nat(40), fc.constant(-1))
  fc.assert(
    fc.property(fc.integer(), fc.array(step, { maxLength: 200 }), (start, steps) => {
      const { writer, reader } = ring(32, start)
      const waiting: number[][] = []
      let dropped = 0
      for (const [index, bytes] of steps.entries()) {
        if (bytes < 0) {
          assert.deepEqual(read(reader)?.body, waiting.shift())
          continue
        }
        const body = new Uint8Array(bytes).fill(index)
        if (write(writer, 1 + (index % 127), body)) waiting.push([...body])
        else dropped++
      }
      for (const body of waiting) assert.deepEqual(read(reader)?.body, body)
      assert.equal(read(reader), null)
      assert.equal(reader.dropped, dropped)
    }),
    { numRuns: 300 },
  )
})

test('between two threads no record is torn, doubled, out of order or lost uncounted', async () => {
  const RECORDS = 200_000
  const words = new Int32Array(new SharedArrayBuffer(ringBytes(1024)))
  // The writer's thread: bodies of 4 to 64 bytes of the sequence number. When the ring is full it
  // loses that record and waits a moment, so that the reader gets to run.
  const source = `
    const { workerData } = require('node:worker_threads')
    import(workerData.module).then(({ RingWriter }) => {
      const writer = new RingWriter(workerData.words)
      const view = new DataView(writer.bytes.buffer)
      const clock = new Int32Array(new SharedArrayBuffer(4))
      for (let sequence = 0; sequence < ${RECORDS}; sequence++) {
        const bodyBytes = 4 + (sequence * 7) % 61
        const at = writer.reserve(1 + sequence % 127, bodyBytes)
        if (at < 0) writer.publish()
        if (at < 0) Atomics.wait(clock, 0, 0, 1)
        if (at < 0) continue
        writer.bytes.fill(sequence & 255, at, at + bodyBytes)
        view.setUint32(at, sequence, true)
        writer.commit()
        if (sequence % 3 === 0) writer.publish()
      }
      writer.publish()
    })`
  const module = new URL('./ring.ts', import.meta.url).href
  const worker = new Worker(source, { eval: true, workerData: { words, module } })
  const exited = new Promise<number>((resolve, reject) => {
    worker.on('exit', resolve)
    worker.on('error', reject)
  })
  let hasExited = false
  void exited.then(() => (hasExited = true))
  const reader = new RingReader(words)
  const view = new DataView(words.buffer)
  let count = 0
  let last = -1
  const drain = () => {
    while (reader.next()) {
      const sequence = view.getUint32(reader.bodyAt, true)
      assert.ok(sequence > last, 'in order')
      assert.equal(reader.kind, 1 + (sequence % 127))
      assert.equal(reader.bodyBytes, 4 + ((sequence * 7) % 61))
      for (let index = 4; index < reader.bodyBytes; index++) {
        if (reader.bytes[reader.bodyAt + index] !== (sequence & 255)) assert.fail('torn')
      }
      last = sequence
      count++
      reader.release()
    }
  }
  while (!hasExited) {
    drain()
    await new Promise((resolve) => setImmediate(resolve))
  }
  drain()
  assert.equal(await exited, 0)
  assert.ok(count > 1000, 'the threads did overlap')
  assert.equal(count + reader.dropped, RECORDS)
})

allocatesNothing('writing and reading a record allocates nothing', () => {
  const { writer, reader } = ring(1024)
  return (call) => {
    const at = writer.reserve(1, 64)
    writer.bytes[at] = call
    writer.commit()
    writer.publish()
    reader.next()
    const first = reader.bytes[reader.bodyAt]
    reader.release()
    return first
  }
})

test('a run is all that lies one behind the other of one kind, and the rest comes after it', () => {
  const words = new Int32Array(4 + 64)
  const writer = new RingWriter(words)
  const reader = new RingReader(words)
  const kinds = [1, 1, 1, 2, 1, 1, 2, 2, 1, 1, 1, 1]
  const seen: number[] = []
  let sent = 0
  const read = (): void => {
    while (reader.nextRun(16)) {
      assert.ok(reader.runWords <= 16)
      let at = reader.runAt
      for (let index = 0; index < reader.runCount; index++) {
        assert.equal(reader.words[at]! >>> 24, reader.kind)
        seen.push(reader.words[at + 1]!)
        at += 1 + (((reader.words[at]! & 0xffffff) + 3) >>> 2)
      }
      assert.equal(at, reader.runAt + reader.runWords)
      reader.release()
    }
  }
  for (let round = 0; round < 40; round++) {
    for (const kind of kinds) {
      const at = writer.reserve(kind, 4 + (sent % 9))
      assert.notEqual(at, -1)
      writer.words[at >> 2] = sent++
      writer.commit()
      if (sent % 5 === 0 && writer.publish()) read()
    }
  }
  writer.publish()
  read()
  assert.deepEqual(
    seen,
    Array.from({ length: sent }, (_, index) => index),
  )
})
