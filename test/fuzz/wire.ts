/**
 * Fuzz targets of src/wire: what must hold for any bytes. Each reads its input twice, at two
 * places of larger buffers with different bytes around it, and compares: a parser that reads
 * outside its message gives itself away.
 */
import assert from 'node:assert/strict'
import { Answer, ANSWER_OK, KIND_POSITIVE, parseAnswer } from '../../src/wire/answer.ts'
import {
  ageTtls,
  cutAtOpt,
  finishAnswer,
  SMALL_BYTES_MAX,
  writeError,
} from '../../src/wire/build.ts'
import { EDE_STALE_ANSWER, FLAG_TC, TYPE_A, TYPE_AAAA } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { BAD_NAME, checkName, readName, skipName } from '../../src/wire/name.ts'
import { parseQuery, Query, QUERY_OK, rcodeOfQuery } from '../../src/wire/query.ts'
import { formatRecord, parseRecord, type ResourceRecord } from '../../src/wire/record-text.ts'
import { formatName, parseName, parseNameAsWritten } from '../../src/wire/text.ts'
import type { FuzzTarget } from './target.ts'

const NO_TTLS = new Uint16Array(0)

interface Placed {
  readonly buffer: Uint8Array
  readonly start: number
  readonly end: number
}

/** The input as the data plane meets it: in the middle of other bytes. */
function place(input: Uint8Array, start: number, fill: number): Placed {
  const buffer = new Uint8Array(start + input.length + 300).fill(fill)
  buffer.set(input, start)
  return { buffer, start, end: start + input.length }
}

export const wireName: FuzzTarget = {
  corpus: 'wire',
  run(input, random) {
    const offset = random.below(input.length + 1)
    const results = [place(input, 0, 0), place(input, 77, 0xc0)].map(({ buffer, start, end }) => {
      const out = new Uint8Array(256).fill(0xdd)
      const length = readName(buffer, start, start + offset, end, out, 0)
      const steps = checkName(buffer, start, start + offset, end, NO_TTLS, 0)
      assert.equal(steps === BAD_NAME, length === BAD_NAME, 'checkName and readName agree')
      assert.equal(out[255], 0xdd, 'nothing is written behind 255 bytes')
      return length === BAD_NAME ? null : out.slice(0, length)
    })
    assert.deepEqual(results[0], results[1], 'bytes outside the message matter')
    assert.deepEqual(results[0], slowName(input, offset, offset, input.length, 0))
    if (results[0]) assert.notEqual(skipName(input, offset, input.length), BAD_NAME)
  },
}

/** The rules of name.ts once more, as plainly as possible. */
function slowName(
  input: Uint8Array,
  at: number,
  runAt: number,
  end: number,
  jumps: number,
): Uint8Array | null {
  const length = input[at]
  if (length === undefined || at >= end || jumps > 126) return null
  if (length === 0) return Uint8Array.of(0)
  if (length >= 0xc0) {
    if (at + 2 > end) return null
    const to = (length - 0xc0) * 256 + input[at + 1]!
    return to < 12 || to >= runAt ? null : slowName(input, to, to, runAt, jumps + 1)
  }
  if (length > 63 || at + 1 + length > end) return null
  const rest = slowName(input, at + 1 + length, runAt, end, jumps)
  if (rest === null || rest.length + 1 + length > 255) return null
  const label = Array.from(input.subarray(at + 1, at + 1 + length), (byte) =>
    byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte,
  )
  return Uint8Array.from([length, ...label, ...rest])
}

export const wireQuery: FuzzTarget = {
  corpus: 'wire',
  run(input) {
    const results = [place(input, 0, 0), place(input, 99, 0xc0)].map(({ buffer, start, end }) => {
      const query = new Query(7)
      const name = new Uint8Array(256)
      const code = parseQuery(buffer, start, end, query, name, 0)
      return { code, query, name, buffer, start }
    })
    const { code, query, name, buffer, start } = results[1]!
    assert.equal(code, results[0]!.code)
    assert.deepEqual({ ...query, record: 0 }, { ...results[0]!.query, record: 0 })
    const out = new Uint8Array(1000)
    const bytes = writeError(out, 0, buffer, start, query, rcodeOfQuery(code) & 31, 15)
    assert.ok(bytes <= SMALL_BYTES_MAX)
    const answered = parseMessage(out, 0, bytes)
    assert.ok(answered?.isWhole, 'what a client gets is whole, whatever it sent')
    if (code !== QUERY_OK) return
    const message = parseMessage(input)
    assert.ok(message?.isWhole && message.question !== null)
    assert.deepEqual(answered.question, message.question)
    assert.deepEqual(name.slice(0, query.nameBytes), parseName(formatName(message.question.name)))
    assert.equal(message.edns !== null, query.hasEdns)
  },
}

const SENT = buildMessage({ question: 'www.example.com. A' })
const ASKING = buildMessage({ id: 3, question: 'WWW.example.com. A', edns: {} })

export const wireAnswer: FuzzTarget = {
  corpus: 'wire',
  run(input, random) {
    // As a rule the question is ours, or nothing behind it would ever be looked at.
    if (!random.oneIn(8) && input.length >= SENT.length) {
      input.set(SENT.subarray(4, 6), 4)
      input.set(SENT.subarray(12), 12)
      input[2] = (input[2]! | 0x80) & 0x85
    }
    const results = [place(input, 0, 0), place(input, 99, 0xc0)].map((placed) => {
      const { buffer, start, end } = placed
      const answer = new Answer()
      const code = parseAnswer(buffer, start, end, SENT, 12, SENT.length - 12, answer)
      return { code, answer, ...placed }
    })
    const { code, answer, buffer, start } = results[1]!
    assert.equal(code, results[0]!.code)
    if (code !== ANSWER_OK) return
    const { section: _, ...fields } = answer
    const { section: __, ...sameFields } = results[0]!.answer
    assert.deepEqual(fields, sameFields)
    checkLearned(input, answer)
    checkFinished(buffer, start, answer, random.below(2) === 0 ? 512 : 65535)
  },
}

/** Every address learned is in the answer section, at the end of a chain found the slow way. */
function checkLearned(input: Uint8Array, answer: Answer): void {
  const learned = new Set<string>()
  for (let index = 0; index < answer.hintsFrom; index++) {
    const at = answer.addressOffsets[index]!
    learned.add(String(input.subarray(at, at + (answer.addressFamilies[index] === 4 ? 4 : 16))))
  }
  if (answer.kind !== KIND_POSITIVE) assert.equal(answer.addressCount, 0)
  const end = formatName(answer.endName, 0, answer.endNameBytes)
  const owned = new Set<string>()
  const lower = (name: Uint8Array) => formatName(parseName(formatName(name)))
  for (const record of parseMessage(input)?.answers ?? []) {
    const isAddress = record.type === TYPE_A || record.type === TYPE_AAAA
    if (isAddress && record.class === 1 && lower(record.name) === end) {
      owned.add(String(record.rdata))
    }
  }
  if (answer.kind === KIND_POSITIVE) assert.deepEqual(learned, owned)
}

/** What goes to a client is whole, has its question and no TTL above the cap. */
function checkFinished(from: Uint8Array, start: number, answer: Answer, bytesMax: number): void {
  if (answer.isTruncated) return
  const out = new Uint8Array(answer.keptBytes + 100)
  out.set(from.subarray(start, start + answer.keptBytes))
  const bytes = cutAtOpt(out, 0, answer)
  ageTtls(out, 0, answer.ttlOffsets, 0, answer.ttlCount, 5, 0, 60)
  const query = new Query(7)
  parseQuery(ASKING, 0, ASKING.length, query, new Uint8Array(256), 0)
  const length = finishAnswer(out, 0, bytes, ASKING, 0, query, bytesMax, EDE_STALE_ANSWER)
  const message = parseMessage(out, 0, length)
  assert.ok(message?.isWhole)
  assert.equal(message.id, 3)
  assert.equal(message.edns?.ede, EDE_STALE_ANSWER)
  assert.equal(formatName(message.question!.name), 'WWW.example.com.')
  if ((message.flags & FLAG_TC) !== 0) assert.ok(length <= bytesMax)
  if (answer.isTooMany) return
  for (const { ttl } of [...message.answers, ...message.authority, ...message.additional]) {
    assert.ok(ttl <= 60)
  }
}

export const wireText: FuzzTarget = {
  corpus: 'wire',
  run(input) {
    const text = String.fromCharCode(...input)
    for (const parse of [parseNameAsWritten, parseRecord]) {
      try {
        parse(text)
      } catch (error) {
        assert.equal((error as Error).name, 'TextError')
      }
    }
    const message = parseMessage(input)
    if (message === null) return
    if (message.question !== null) {
      const { name } = message.question
      assert.deepEqual(parseNameAsWritten(formatName(name)), name)
    }
    for (const record of [...message.answers, ...message.authority, ...message.additional]) {
      const line = formatRecord(record)
      assert.match(line, /^[\x20-\x7e]+$/, 'no line of ours can harm a terminal')
      const again: ResourceRecord = parseRecord(line)
      assert.deepEqual(again, record)
    }
  },
}
