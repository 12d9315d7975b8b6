/**
 * Relays: messages of other opcodes than QUERY (NOTIFY, UPDATE, STATUS, and what nobody knows yet)
 * on their way to a server, and its replies on their way back. The Forwarder owns them and says
 * which server.
 *
 * Such a message leaves at once, as the bytes that came: no copy of it is kept. Only its ID is
 * another one, as for every question of ours (a signature survives that: RFC 8945 §4.2).
 *
 * What must stay true:
 * - One try, of one server: an UPDATE may have been done though its reply was lost (RFC 2136 §5), so
 *   it is the client's to say whether it is to be done again.
 * - A reply is believed as far as its opcode lets us check: it is a response of that opcode with our
 *   ID, on a socket that is connected to the server. More is not known of unknown opcodes. After
 *   MISMATCHES_MAX others somebody is guessing, and the message has failed.
 * - Over TCP a message has a connection of its own: one that is shared may be closed just when it
 *   is used again, and then nobody knows whether it was read.
 * - What becomes of a message says nothing about its server: clients choose what it is, and could
 *   otherwise make any server ill with what it does not answer.
 *
 * A server that forwards to us would get a message as often as we get it from there: RELAYS_MAX ends
 * that, because the last one is refused, and so all before it are answered.
 */
import { assert } from '../assert.ts'
import { copyBytes, getU16, putU16 } from '../wire/bytes.ts'
import { FLAG_QR, FLAGS_AT, HEADER_BYTES, ID_AT, OPCODE_MASK } from '../wire/header.ts'
import { type Channels, QUESTION_AT } from './channel.ts'
import type { Server } from './routes.ts'
import {
  type AnswerSink,
  FLIGHT_DEADLINE_MS,
  FLIGHT_TIMEOUT,
  FLIGHT_UNREACHABLE,
  type FlightFailure,
} from './transport.ts'

/** Under way at one time. */
export const RELAYS_MAX = 256

/** Replies to something else that are overheard. */
const MISMATCHES_MAX = 8
/** Of #slots: nothing is under way there. */
const FREE = -1

export class Relays {
  mismatches = 0
  readonly #channels: Channels
  readonly #sink: AnswerSink
  readonly #random: () => number
  /** The channel of relay 0. */
  readonly #first: number
  #count = 0

  // One row a relay.
  readonly #slots = new Int32Array(RELAYS_MAX).fill(FREE)
  readonly #ids = new Uint16Array(RELAYS_MAX)
  /** Where they stand in the flags word. */
  readonly #opcodes = new Uint16Array(RELAYS_MAX)
  readonly #isStream = new Uint8Array(RELAYS_MAX)
  readonly #mismatches = new Uint8Array(RELAYS_MAX)
  readonly #deadlineMs = new Float64Array(RELAYS_MAX)

  /** @param first  relays have the channels from here on */
  constructor(channels: Channels, sink: AnswerSink, random: () => number, first: number) {
    this.#channels = channels
    this.#sink = sink
    this.#random = random
    this.#first = first
  }

  /** How many more there is room for. */
  get room(): number {
    return RELAYS_MAX - this.#count
  }

  /** Sends a message; see Transport.relay. */
  send(
    slot: number,
    server: Server,
    isStream: boolean,
    packet: Uint8Array,
    start: number,
    end: number,
    nowMs: number,
  ): boolean {
    const relay = this.#slots.indexOf(FREE)
    assert(relay >= 0, 'room for a relay was asked for')
    const { message } = this.#channels
    copyBytes(packet, start, end - start, message, QUESTION_AT)
    putU16(message, QUESTION_AT + ID_AT, this.#random())
    const channel = this.#first + relay
    if (this.#channels.openRelay(channel, server, isStream, end - start, nowMs) < 0) return false
    this.#count++
    this.#slots[relay] = slot
    this.#ids[relay] = getU16(message, QUESTION_AT + ID_AT)
    this.#opcodes[relay] = getU16(message, QUESTION_AT + FLAGS_AT) & OPCODE_MASK
    this.#isStream[relay] = isStream ? 1 : 0
    this.#mismatches[relay] = 0
    this.#deadlineMs[relay] = nowMs + FLIGHT_DEADLINE_MS
    return true
  }

  /** The channels have something for a relay. */
  heard(channel: number, nowMs: number): void {
    const relay = channel - this.#first
    if (this.#slots[relay] === FREE || nowMs >= this.#deadlineMs[relay]!) return
    const { reply, replyAt, replyBytes } = this.#channels
    if (replyBytes < 0) this.#fail(relay, FLIGHT_UNREACHABLE, nowMs)
    else if (this.#isReply(relay)) {
      const slot = this.#end(relay)
      this.#sink.relayed(slot, reply, replyAt, replyBytes, nowMs)
    } else {
      this.mismatches++
      this.#mismatches[relay]!++
      // What a stream has once said of a message is its last word about it.
      const isLast = this.#isStream[relay] === 1 || this.#mismatches[relay] === MISMATCHES_MAX
      if (isLast) this.#fail(relay, FLIGHT_UNREACHABLE, nowMs)
    }
  }

  tick(nowMs: number): void {
    if (this.#count === 0) return
    for (let relay = 0; relay < RELAYS_MAX; relay++) {
      if (this.#slots[relay] === FREE || nowMs < this.#deadlineMs[relay]!) continue
      this.#fail(relay, FLIGHT_TIMEOUT, nowMs)
    }
  }

  #isReply(relay: number): boolean {
    const { reply, replyAt, replyBytes } = this.#channels
    if (replyBytes < HEADER_BYTES) return false
    const flags = getU16(reply, replyAt + FLAGS_AT) & (FLAG_QR | OPCODE_MASK)
    const isOurs = getU16(reply, replyAt + ID_AT) === this.#ids[relay]
    return isOurs && flags === (FLAG_QR | this.#opcodes[relay]!)
  }

  #fail(relay: number, failure: FlightFailure, nowMs: number): void {
    const slot = this.#end(relay)
    this.#sink.relayFailed(slot, failure, nowMs)
  }

  #end(relay: number): number {
    const slot = this.#slots[relay]!
    this.#channels.close(this.#first + relay)
    this.#slots[relay] = FREE
    this.#count--
    return slot
  }
}
