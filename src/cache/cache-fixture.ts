/**
 * What the cache's tests share: names from text, made-up messages, and a cache that is called with
 * a few named values. Used by *.test.ts in this folder only.
 */
import { KIND_ERROR, KIND_POSITIVE } from '../wire/answer.ts'
import { hashName } from '../wire/name.ts'
import { AnswerCache, type AnswerMeta, type CacheOptions } from './cache.ts'
import { Question } from './question.ts'

export const TYPE_A = 1
export const TYPE_AAAA = 28
const CLASS_IN = 1
const SEED = 0x5eed

/** 'www.example.com' in wire form. */
export function nameOf(text: string): Uint8Array {
  const labels = text === '' ? [] : text.split('.')
  const bytes = labels.flatMap((label) => [label.length, ...Buffer.from(label)])
  return Uint8Array.from([...bytes, 0])
}

/** Bytes that no two messages share: `length` of them, all following from `salt`. */
export function messageOf(salt: number, length: number): Uint8Array {
  const message = new Uint8Array(length)
  let state = (salt * 2654435761) >>> 0
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    message[index] = state >>> 24
  }
  return message
}

export interface TestQuestion {
  readonly name: Uint8Array
  readonly hash?: number
  readonly type?: number
  readonly class?: number
  readonly keyFlags?: number
  readonly group?: number
}

export interface TestAnswer {
  readonly message?: Uint8Array
  readonly kind?: number
  readonly ttls?: readonly number[]
  /** Offset and family. */
  readonly addresses?: readonly (readonly [number, number])[]
  readonly ttlSeconds?: number
  readonly nowMs?: number
}

export class TestCache {
  readonly cache: AnswerCache

  constructor(options: CacheOptions) {
    this.cache = new AnswerCache(options)
  }

  find(question: TestQuestion): number {
    return this.cache.find(questionOf(question))
  }

  insert(question: TestQuestion, answer: TestAnswer = {}): number {
    const message = answer.message ?? messageOf(1, 60)
    return this.cache.insert(
      questionOf(question),
      message,
      0,
      message.length,
      metaOf(answer),
      answer.ttlSeconds ?? 60,
      answer.nowMs ?? 0,
    )
  }

  fail(
    question: TestQuestion,
    nowMs: number,
    message = messageOf(2, 40),
    kind = KIND_ERROR,
  ): number {
    return this.cache.insertFailure(questionOf(question), kind, message, 0, message.length, nowMs)
  }

  /** The stored message, by way of an odd offset in a larger buffer whose rest must stay as it is. */
  message(entry: number): Uint8Array {
    const out = new Uint8Array(this.cache.messageBytes(entry) + 10).fill(0xee)
    const bytes = this.cache.copyMessage(entry, out, 5)
    if (out.some((byte, at) => (at < 5 || at >= 5 + bytes) && byte !== 0xee)) {
      throw new Error('copyMessage wrote outside the message')
    }
    return out.slice(5, 5 + bytes)
  }

  name(entry: number): Uint8Array {
    const out = new Uint8Array(255)
    return out.slice(0, this.cache.copyName(entry, out, 0))
  }

  ttls(entry: number): number[] {
    const into = new Uint16Array(8192)
    return [...into.subarray(0, this.cache.ttlOffsets(entry, into))]
  }

  addresses(entry: number): [number, number][] {
    const offsets = new Uint16Array(8192)
    const families = new Uint8Array(8192)
    const count = this.cache.addresses(entry, offsets, families)
    return [...offsets.subarray(0, count)].map((offset, index) => [offset, families[index]!])
  }

  /** Every entry, by way of `list`. */
  entries(): number[] {
    const into = new Int32Array(64)
    const found: number[] = []
    for (let cursor = 0; cursor !== -1; ) {
      cursor = this.cache.list(cursor, into)
      found.push(...into.subarray(0, this.cache.listed))
    }
    return found
  }

  /** Blocks in use: those that `bytesUsed` counts beside the index. */
  usedBlocks(): number {
    const { bytesUsed, bytesMax } = this.cache.counters()
    return (bytesUsed - bucketCountOf(bytesMax) * 4) / 64
  }
}

export function bucketCountOf(bytes: number): number {
  return 2 ** (Math.floor(Math.log2(bytes / 64)) - 1)
}

/** Blocks that an entry of these sizes takes: 3 words in the first, 15 in each further one. */
export function blocksOf(name: number, ttls: number, addresses: number, message: number): number {
  const words = Math.ceil(name / 4) + Math.ceil(ttls / 2) + addresses + Math.ceil(message / 4)
  return words <= 2 ? 1 : 1 + Math.ceil((words - 2) / 15)
}

export function metaOf(answer: TestAnswer): AnswerMeta {
  const ttls = answer.ttls ?? []
  const addresses = answer.addresses ?? []
  return {
    kind: answer.kind ?? KIND_POSITIVE,
    ttlOffsets: Uint16Array.from(ttls),
    ttlCount: ttls.length,
    addressOffsets: Uint16Array.from(addresses, ([offset]) => offset),
    addressFamilies: Uint8Array.from(addresses, ([, family]) => family),
    addressCount: addresses.length,
  }
}

export function questionOf(asked: TestQuestion): Question {
  const question = new Question()
  question.name = asked.name
  question.nameBytes = asked.name.length
  question.hash = (asked.hash ?? hashName(asked.name, 0, asked.name.length, SEED)) | 0
  question.type = asked.type ?? TYPE_A
  question.class = asked.class ?? CLASS_IN
  question.keyFlags = asked.keyFlags ?? 0
  question.group = asked.group ?? 0
  return question
}
