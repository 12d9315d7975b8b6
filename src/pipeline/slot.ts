/**
 * Slots: the queries that wait for an upstream, one a row, all room for them made at start.
 *
 * A query that the cache can answer never takes a slot: it is answered from the receive buffer.
 * The others are kept here as what their answer will need: the way back (channel, addresses,
 * ports) and the query reduced to a valid message of header, question and a bare OPT, so that it is
 * parsed again, by the same code, when the answer comes (pipeline/arrival.ts). Of a message of
 * another opcode that is the header and its question, if it has one; the message itself has left.
 *
 * Slots that wait for the same flight form a list through `next`.
 */
import { assert } from '../assert.ts'
import { copyBytes, putU16 } from '../wire/bytes.ts'
import { OPTION_KEEPALIVE } from '../wire/edns.ts'
import {
  FLAG_CD,
  FLAG_RD,
  HEADER_BYTES,
  OPCODE_MASK,
  QUESTION_AT,
  TYPE_OPT,
} from '../wire/header.ts'
import { QUERY_OK, QUERY_OPCODE } from '../wire/query.ts'
import type { Arrival } from './arrival.ts'
import type { ShareTable } from './share.ts'

export const NO_SLOT = -1
/** keep(): this client has as many as it may; others would still get one. */
export const OVER_SHARE = -2

/** Header 12, name 255, type and class 4, OPT 11 and an option without value 4. */
const QUERY_BYTES = 288
const ADDRESS_BYTES = 16
const OPT_BYTES = 11
const OPTION_BYTES = 4

export class SlotTable {
  readonly count: number
  readonly #shares: ShareTable
  /** The slot that waits for the same flight after this one. */
  readonly next: Int32Array
  readonly #free: Int32Array
  #freeCount: number
  readonly #share: Int32Array
  readonly #link: Int32Array
  readonly #channel: Int32Array
  readonly #family: Uint8Array
  readonly #isIntercepted: Uint8Array
  readonly #sourcePort: Uint16Array
  readonly #destinationPort: Uint16Array
  readonly #interface: Int32Array
  readonly #receivedMs: Float64Array
  readonly #queryBytes: Uint16Array
  /** Source and destination of each slot. */
  readonly #addresses: Uint8Array
  readonly #queries: Uint8Array

  constructor(count: number, shares: ShareTable) {
    this.count = count
    this.#shares = shares
    this.next = new Int32Array(count).fill(NO_SLOT)
    this.#free = new Int32Array(count)
    for (let index = 0; index < count; index++) this.#free[index] = count - 1 - index
    this.#freeCount = count
    this.#share = new Int32Array(count)
    this.#link = new Int32Array(count)
    this.#channel = new Int32Array(count)
    this.#family = new Uint8Array(count)
    this.#isIntercepted = new Uint8Array(count)
    this.#sourcePort = new Uint16Array(count)
    this.#destinationPort = new Uint16Array(count)
    this.#interface = new Int32Array(count)
    this.#receivedMs = new Float64Array(count)
    this.#queryBytes = new Uint16Array(count)
    this.#addresses = new Uint8Array(count * 2 * ADDRESS_BYTES)
    this.#queries = new Uint8Array(count * QUERY_BYTES)
  }

  get usedCount(): number {
    return this.count - this.#freeCount
  }

  /**
   * Keeps a query; NO_SLOT when there is no room, OVER_SHARE when there is none for its client.
   * @param roomElsewhere  of what else it needs so many are free: flights, if it begins one
   */
  keep(arrival: Arrival, roomElsewhere: number): number {
    const room = this.#freeCount < roomElsewhere ? this.#freeCount : roomElsewhere
    if (room === 0) return NO_SLOT
    if (!this.#shares.take(arrival.share, arrival.link, room)) return OVER_SHARE
    const slot = this.#free[--this.#freeCount]!
    this.next[slot] = NO_SLOT
    this.#share[slot] = arrival.share
    this.#link[slot] = arrival.link
    this.#channel[slot] = arrival.channel
    this.#family[slot] = arrival.family
    this.#isIntercepted[slot] = arrival.isIntercepted ? 1 : 0
    this.#sourcePort[slot] = arrival.sourcePort
    this.#destinationPort[slot] = arrival.destinationPort
    this.#interface[slot] = arrival.interfaceIndex
    this.#receivedMs[slot] = arrival.receivedMs
    const at = slot * 2 * ADDRESS_BYTES
    for (let index = 0; index < ADDRESS_BYTES; index++) {
      this.#addresses[at + index] = arrival.addresses[arrival.sourceAt + index]!
      this.#addresses[at + ADDRESS_BYTES + index] =
        arrival.addresses[arrival.destinationAt + index]!
    }
    this.#queryBytes[slot] = this.#writeQuery(slot * QUERY_BYTES, arrival)
    return slot
  }

  /** Makes `arrival` the query that the slot keeps. Its packet is the slot's memory. */
  load(slot: number, arrival: Arrival): void {
    arrival.channel = this.#channel[slot]!
    arrival.family = this.#family[slot]!
    arrival.isIntercepted = this.#isIntercepted[slot] === 1
    arrival.sourcePort = this.#sourcePort[slot]!
    arrival.destinationPort = this.#destinationPort[slot]!
    arrival.interfaceIndex = this.#interface[slot]!
    arrival.receivedMs = this.#receivedMs[slot]!
    arrival.addresses = this.#addresses
    arrival.sourceAt = slot * 2 * ADDRESS_BYTES
    arrival.destinationAt = arrival.sourceAt + ADDRESS_BYTES
    const at = slot * QUERY_BYTES
    const parsed = arrival.parse(this.#queries, at, at + this.#queryBytes[slot]!)
    assert(parsed === QUERY_OK || parsed === QUERY_OPCODE, 'a kept query can be read again')
  }

  free(slot: number): void {
    assert(this.#freeCount < this.count, 'a slot is free exactly once')
    this.#free[this.#freeCount++] = slot
    this.#shares.giveBack(this.#share[slot]!, this.#link[slot]!)
  }

  #writeQuery(at: number, arrival: Arrival): number {
    const out = this.#queries
    const query = arrival.query
    putU16(out, at, query.id)
    putU16(out, at + 2, query.flags & (OPCODE_MASK | FLAG_RD | FLAG_CD))
    putU16(out, at + 4, query.questionBytes === 0 ? 0 : 1)
    putU16(out, at + 6, 0)
    putU16(out, at + 8, 0)
    putU16(out, at + 10, query.hasEdns ? 1 : 0)
    copyBytes(
      arrival.packet,
      arrival.start + QUESTION_AT,
      query.questionBytes,
      out,
      at + QUESTION_AT,
    )
    let end = at + HEADER_BYTES + query.questionBytes
    if (query.hasEdns) {
      out[end] = 0
      putU16(out, end + 1, TYPE_OPT)
      putU16(out, end + 3, query.udpBytes)
      putU16(out, end + 5, 0)
      putU16(out, end + 7, query.isDnssecOk ? 0x8000 : 0)
      putU16(out, end + 9, query.wantsKeepalive ? OPTION_BYTES : 0)
      end += OPT_BYTES
      if (query.wantsKeepalive) {
        putU16(out, end, OPTION_KEEPALIVE)
        putU16(out, end + 2, 0)
        end += OPTION_BYTES
      }
    }
    return end - at
  }
}
