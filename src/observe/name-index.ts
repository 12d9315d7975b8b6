/**
 * Which names an address was answered for, to whom: an index over the answers in the history.
 *
 * For `observe`, `grants list`, `explain` and revocation, through daemon/directory.ts. It follows
 * the history only when it is asked to (`follow`), so that recording a flow costs nothing more.
 *
 * Sightings lie in generations of GENERATION_ANSWERS answers each, and a generation goes when the
 * last record in it has left the history: nothing is ever taken out one by one. What must stay
 * true: it is bounded whatever clients look up. What finds no room counts as never seen, which
 * closes rather than opens (grant/revocation.ts).
 */
import { decodeFlow } from '../flow/decode.ts'
import {
  FLOW_HEADER_BYTES,
  FLOW_MESSAGE_BYTES,
  FLOW_NAME_BYTES,
  FLOW_QUESTION,
  FLOW_TYPE,
} from '../flow/record.ts'
import { ANCOUNT_AT, HEADER_BYTES } from '../wire/header.ts'
import type { FlowHistory, HistoryCursor } from './history.ts'
import { Slice } from './turns.ts'

/** An address that a client asks from, and since when (ms since 1970) it is that client's. */
export interface SourceAddress {
  /** Canonical text. */
  readonly address: string
  readonly sinceMs: number
}

const GENERATION_ANSWERS = 2048
/** Client and address, of one generation: twice what ordinary answers bring; some 1 MiB. */
const PAIRS_MAX = 4096
/** For one client and address, the latest: what a CDN's address may be called. */
export const NAMES_MAX = 100

interface Generation {
  /** Sequence number of its last record. */
  last: number
  answers: number
  /** By client and address: each name, without its final dot, and when it was last asked for. */
  readonly pairs: Map<string, Map<string, number>>
}

export class NameIndex {
  readonly #history: FlowHistory
  readonly #cursor: HistoryCursor
  /** Oldest first. */
  readonly #generations: Generation[] = []
  #reading: Promise<void> | null = null

  constructor(history: FlowHistory) {
    this.#history = history
    this.#cursor = history.cursor(0)
  }

  /** Resolves when everything is in that the history holds now. */
  async follow(): Promise<void> {
    const { end } = this.#history
    while (this.#cursor.sequence < end) {
      this.#reading ??= this.#read(end).finally(() => (this.#reading = null))
      await this.#reading
    }
    this.#forget()
  }

  /** The names for which any of `sources` was given `address`; the latest first. */
  names(sources: readonly SourceAddress[], address: string): string[] {
    const found = new Map<string, number>()
    for (const source of sources) {
      const key = pairKey(source.address, address)
      for (const { pairs } of this.#generations) {
        for (const [name, askedMs] of pairs.get(key) ?? []) {
          if (askedMs < source.sinceMs) continue
          found.set(name, Math.max(askedMs, found.get(name) ?? askedMs))
        }
      }
    }
    const latest = [...found].toSorted(([, a], [, b]) => b - a)
    return latest.slice(0, NAMES_MAX).map(([name]) => name)
  }

  async #read(end: number): Promise<void> {
    const slice = new Slice()
    while (this.#cursor.sequence < end && this.#cursor.next()) {
      this.#add(this.#cursor)
      if (slice.isOver) await slice.next()
    }
  }

  #add({ bytes, recordAt, recordBytes, sequence }: HistoryCursor): void {
    if (!hasAnswers(bytes, recordAt, recordBytes)) return
    const flow = decodeFlow(bytes, recordAt, recordBytes)
    if (flow?.type !== 'question' || flow.answer === null) return
    const { pairs } = this.#generationOf(sequence - 1)
    const name = flow.name.replace(/(?<=.)\.$/, '')
    // The record's time is that of the answer, and who asked may be gone by then.
    const askedMs = flow.timeMs - Math.ceil(flow.durationUs / 1000)
    for (const address of flow.answer.addresses) {
      const key = pairKey(flow.source.address, address)
      const names = pairs.get(key)
      if (names !== undefined) addName(names, name, askedMs)
      else if (pairs.size < PAIRS_MAX) pairs.set(key, new Map([[name, askedMs]]))
    }
  }

  #generationOf(sequence: number): Generation {
    let generation = this.#generations.at(-1)
    if (generation === undefined || generation.answers === GENERATION_ANSWERS) {
      this.#forget()
      generation = { last: sequence, answers: 0, pairs: new Map() }
      this.#generations.push(generation)
    }
    generation.last = sequence
    generation.answers++
    return generation
  }

  #forget(): void {
    const { start } = this.#history
    const kept = this.#generations.findIndex(({ last }) => last >= start)
    this.#generations.splice(0, kept < 0 ? this.#generations.length : kept)
  }
}

/** Keeps the latest names, oldest first. */
function addName(names: Map<string, number>, name: string, timeMs: number): void {
  names.delete(name)
  names.set(name, timeMs)
  if (names.size > NAMES_MAX) names.delete(names.keys().next().value!)
}

function pairKey(source: string, address: string): string {
  return `${source} ${address}`
}

/**
 * Looks at the bytes, as many records need no more: whether a message with answers is there. Where
 * the record is not whole it may say anything; decodeFlow finds out.
 */
function hasAnswers(bytes: Uint8Array, at: number, length: number): boolean {
  if (length < FLOW_HEADER_BYTES || bytes[at + FLOW_TYPE] !== FLOW_QUESTION) return false
  const messageBytes = bytes[at + FLOW_MESSAGE_BYTES]! | (bytes[at + FLOW_MESSAGE_BYTES + 1]! << 8)
  const nameBytes = bytes[at + FLOW_NAME_BYTES]! | (bytes[at + FLOW_NAME_BYTES + 1]! << 8)
  const messageAt = FLOW_HEADER_BYTES + nameBytes
  if (messageBytes < HEADER_BYTES) return false
  return bytes[at + messageAt + ANCOUNT_AT] !== 0 || bytes[at + messageAt + ANCOUNT_AT + 1] !== 0
}
