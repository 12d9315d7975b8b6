/**
 * How the pipeline asks upstreams: the interface between them.
 *
 * A *flight* is one question on its way, numbered by the pipeline (pipeline/flight.ts); everything
 * that belongs to asking it (servers tried, sockets, deadlines) is the transport's. An *upstream
 * group* is the servers that answer for one zone, or one server that a client chose itself;
 * answers of different groups never mix.
 */
import type { Answer } from '../wire/answer.ts'

export interface Transport {
  /**
   * The group that a name is asked of, or NO_GROUP.
   * @param name  wire form, lower case
   * @param family  0 when the question was sent to ourselves: the name's zone decides. 4 or 6 when
   *   it was intercepted on its way to `server`: the zone decides where we stand in for that
   *   server, otherwise the server itself is asked
   * @param client  32 bits that stand for who asks: of new servers, each client may choose a share
   * @param nowMs  the group is in use; a server that a client chose may be forgotten afterwards
   */
  route(
    name: Uint8Array,
    nameAt: number,
    nameBytes: number,
    family: number,
    server: Uint8Array,
    serverAt: number,
    serverPort: number,
    client: number,
    nowMs: number,
  ): number
  /** 32 bits that stand for the group in every process with the same servers; 0: for none. */
  groupId(group: number): number
  /** The group that they stand for here, or NO_GROUP. */
  groupOfId(id: number): number
  /**
   * Begins to ask. The end comes through AnswerSink, never from within this call.
   * @param question.keyFlags  KEY_DO and KEY_CD of cache/cache.ts
   */
  ask(flight: number, group: number, question: FlightQuestion, nowMs: number): void
  /**
   * Whether a client's question is one of ours that a server has handed back to us: whoever answers
   * it waits for himself. That server is asked no more until it has answered by itself.
   */
  isReturned(name: Uint8Array, nameAt: number, nameBytes: number): boolean
  /** How many messages more can be relayed. */
  readonly relayRoom: number
  /**
   * Passes a message of another opcode than QUERY on, as it came but for its ID, to the server that
   * a question would be asked of first; there must be room. Its end comes through AnswerSink, never
   * from within this call.
   * @param slot  what the sink is to call it
   * @param isStream  it came by TCP, and goes by TCP
   * @returns false when it did not leave: then nothing follows
   */
  relay(
    slot: number,
    group: number,
    packet: Uint8Array,
    start: number,
    end: number,
    isStream: boolean,
    nowMs: number,
  ): boolean
}

/** What is asked; a view that is only valid during the call. */
export interface FlightQuestion {
  readonly name: Uint8Array
  readonly nameAt: number
  readonly nameBytes: number
  readonly type: number
  readonly class: number
  readonly isDnssecOk: boolean
  readonly isCheckingDisabled: boolean
}

export interface AnswerSink {
  /**
   * A reply that is to the flight's question, from the server it was asked of. The bytes are the
   * transport's and valid during the call.
   */
  arrived(flight: number, bytes: Uint8Array, at: number, answer: Answer, nowMs: number): void
  /** No server gave one. */
  failed(flight: number, failure: FlightFailure, nowMs: number): void
  /** The reply to a relayed message: as it came, valid during the call. */
  relayed(slot: number, bytes: Uint8Array, at: number, length: number, nowMs: number): void
  /** A relayed message got no reply, though it may have arrived. */
  relayFailed(slot: number, failure: FlightFailure, nowMs: number): void
  /**
   * A group that has no flight gives its number back: what was learned from it before `nowMs` is
   * nobody's. Whatever comes of a group with this number from now on is another server's.
   */
  forgotten(group: number, nowMs: number): void
}

export type FlightFailure =
  | typeof FLIGHT_TIMEOUT
  | typeof FLIGHT_UNREACHABLE
  | typeof FLIGHT_LOOP
  | typeof FLIGHT_FULL

/** Every try timed out, or the flight's deadline passed. */
export const FLIGHT_TIMEOUT = 1
/** The kernel or the server's host refused every try. */
export const FLIGHT_UNREACHABLE = 2
/** Every server that could be asked hands our questions back to us. */
export const FLIGHT_LOOP = 3
/** As many questions as one group may have are under way: others need room too. */
export const FLIGHT_FULL = 4

/** route(): as many servers as this client, or all clients, may choose are in use. */
export const NO_GROUP = -1

/** From the first try to giving up, whatever lies between: RFC 9520 and clients' own 5 s. */
export const FLIGHT_DEADLINE_MS = 5000
