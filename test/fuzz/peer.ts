/**
 * Fuzz targets of what the other process hands over, or left on disk: messages of the sync link,
 * frames, learned answers, flows, the last policy. The peer is our own program, but it may be of
 * another release, or broken; its bytes must not end this process or mean something else here.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { AnswerCache } from '../../src/cache/cache.ts'
import { isLearned, LEARNED_NAME, LearnedCodec, learnedNameBytes } from '../../src/cache/learned.ts'
import { decodeFlow, VERDICTS } from '../../src/flow/decode.ts'
import { createLogTo } from '../../src/log.ts'
import { LastPolicy } from '../../src/state/last-policy.ts'
import {
  areFrames,
  countFrames,
  eachFrame,
  endOfPiece,
  FRAME_BYTES_MAX,
} from '../../src/sync/frames.ts'
import {
  POLICY_BYTES_MAX,
  policyChunk,
  PROTOCOL,
  readAsk,
  readBeat,
  readDone,
  readGoodbye,
  readHello,
  readPolicy,
  readSockets,
  SOCKETS_MAX,
  type Holding,
} from '../../src/sync/protocol.ts'
import { hashName } from '../../src/wire/name.ts'
import type { FuzzTarget } from './target.ts'

export const syncMessage: FuzzTarget = {
  corpus: 'sync-message',
  words: [
    ...['"', '{', '}', '[', ']', ':', ',', 'null', 'true', '-1', '1e99', '0.5', '9007199254740993'],
    ...['"protocol"', '"digest"', '"generation"', '"__proto__"', '"sockets"', '\\u0000', '\\ud800'],
  ],
  run(input) {
    const hello = readHello(input)
    if (hello !== null && 'role' in hello) {
      checkHolding(hello)
      assert.ok(hello.protocol <= PROTOCOL && hello.role !== '' && hello.instance.length <= 64)
    }
    const beat = readBeat(input)
    if (beat !== null) checkHolding(beat)
    const ask = readAsk(input)
    if (ask !== null) {
      checkHolding(ask)
      assert.ok(['everything', 'changes'].includes(ask.want) && ask.id >= 0)
    }
    assert.ok((readDone(input) ?? 0) >= 0)
    assert.ok(readGoodbye(input).length <= 64)
    const part = readSockets(input)
    if (part !== null) {
      assert.ok(part.first + part.sockets.length <= part.count && part.count <= SOCKETS_MAX)
      for (const socket of part.sockets) {
        assert.deepEqual(Object.keys(socket), ['kind', 'family', 'port', 'isTransparent'])
      }
    }
    const chunk = readPolicy(input)
    if (chunk === null) return
    assert.ok(chunk.offset + chunk.bytes.length <= chunk.textBytes)
    assert.ok(chunk.textBytes <= POLICY_BYTES_MAX && chunk.revision > 0)
    assert.deepEqual(policyChunk(chunk), input, 'what was read says the same again')
  },
}

function checkHolding({ revision, digest, generation }: Holding): void {
  assert.ok(Number.isInteger(revision) && revision >= 0 && revision <= 0xffffffff)
  assert.match(digest, /^([0-9a-f]{64})?$/)
  assert.ok(Number.isInteger(generation) && generation >= -1)
}

export const syncFrames: FuzzTarget = {
  corpus: 'sync-frames',
  run(input) {
    const isWhole = areFrames(input)
    const count = countFrames(input, 0, input.length)
    assert.equal(isWhole, count > 0)
    let seen = 0
    let seenBytes = 0
    eachFrame(input, (view, at, length) => {
      assert.ok(at >= 4 && at + length <= view.byteLength, 'a record lies inside its frames')
      seen++
      seenBytes += 4 + length
    })
    if (isWhole) assert.deepEqual([seen, seenBytes], [count, input.length])
    for (let at = 0; at < input.length; ) {
      const end = endOfPiece(input, at)
      if (end === -1) {
        assert.ok(!isWhole)
        return
      }
      assert.ok(end > at && end <= input.length && end - at <= FRAME_BYTES_MAX)
      assert.ok(areFrames(input.subarray(at, end)))
      at = end
    }
  },
}

const NAME_SEED = 7
const NOW_MS = 5000

export const learned: FuzzTarget = {
  corpus: 'learned',
  smokeCases: 300,
  run(input) {
    const cache = new AnswerCache({ bytes: 1 << 20 })
    const codec = new LearnedCodec(cache, 0)
    const bytes = new Uint8Array(input.length + 40).fill(0xee)
    bytes.set(input, 20)
    if (!isLearned(bytes, 20, input.length)) return
    const nameBytes = learnedNameBytes(bytes, 20)
    const hash = hashName(bytes, 20 + LEARNED_NAME, nameBytes, NAME_SEED)
    const entry = codec.insert(bytes, 20, hash, 1, NOW_MS)
    if (entry < 0) return
    // Told on, it is the same record but for its end and its group, which are the caller's.
    const told = new Uint8Array(codec.encodedBytes(entry))
    assert.equal(codec.encode(entry, 1, told, 0), told.length)
    assert.equal(told.length, input.length)
    assert.deepEqual(told.subarray(12), input.subarray(12))
    assert.ok(isLearned(told, 0, told.length))
  },
}

export const flow: FuzzTarget = {
  corpus: 'flow',
  run(input) {
    const results = [0xc0, 0].map((fill, index) => {
      const at = index * 33
      const bytes = new Uint8Array(input.length + 300).fill(fill)
      bytes.set(input, at)
      return decodeFlow(bytes, at, input.length)
    })
    const read = results[0]!
    assert.deepEqual(results[1], read, 'bytes outside the record matter')
    if (read === null) return
    assert.ok(VERDICTS.includes(read.verdict))
    for (const { address } of [read.source, read.destination]) assert.ok(isIP(address) !== 0)
    assert.match(JSON.stringify(read), /^[ -~]+$/, 'nothing that a terminal would obey')
  },
}

const log = createLogTo({ write: () => {} }, { level: 'error', fields: {}, isTerminal: false })

export const lastPolicy: FuzzTarget = {
  corpus: 'last-policy',
  words: [
    'namegate-policy ',
    'layout=',
    'revision=',
    'bytes=',
    'sha256=',
    '\n',
    '{',
    '9'.repeat(20),
  ],
  smokeCases: 500,
  run(input, random) {
    // As a rule the checksum is right, or nothing behind it would ever be looked at.
    const content = random.oneIn(4) ? Buffer.from(input) : withChecksum(Buffer.from(input))
    const directory = mkdtempSync(path.join(tmpdir(), 'namegate-fuzz-'))
    try {
      writeFileSync(path.join(directory, 'policy.json'), content)
      const read = new LastPolicy(directory, log).read()
      if (read === null) return
      const start = `namegate-policy layout=1 revision=${read.revision} bytes=`
      const end = content.indexOf('\n')
      assert.ok(content.subarray(0, end).toString('latin1').startsWith(start))
      assert.equal(read.text, content.subarray(end + 1).toString())
      assert.deepEqual(withChecksum(content), content, 'what is believed has its checksum')
      assert.ok(Number.isSafeInteger(read.revision), 'a revision can be counted on')
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
}

/** The same with the checksum that its header and text ask for. */
function withChecksum(content: Buffer): Buffer {
  const end = content.indexOf('\n')
  const header = content.subarray(0, Math.max(end, 0)).toString('latin1')
  const at = header.indexOf(' sha256=')
  if (at < 0) return content
  const text = content.subarray(end + 1)
  const start = header.slice(0, at)
  const sum = createHash('sha256').update(start).update('\n').update(text).digest('hex')
  return Buffer.concat([Buffer.from(`${start} sha256=${sum}\n`, 'latin1'), text])
}
