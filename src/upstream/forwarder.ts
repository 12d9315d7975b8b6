/**
 * The forwarder: asks a question of a group's servers until one of them answers.
 *
 *   UDP to the best server ──answer──► done            truncated ──► TCP to the same server
 *        │ no answer in a second, an ICMP error, SERVFAIL
 *        └──► the next server … at most TRIES_PER_SERVER × servers tries and 5 s in all
 *
 * What must stay true (RFC 5452; the attacks are SAD DNS, Kaminsky, TuDoor):
 * - Every try has a socket of its own: a port that the kernel chose at random, connected, so that
 *   the kernel drops what comes from elsewhere; and an ID from a cryptographic source.
 * - A datagram that is not the answer (other ID, other question, malformed) changes nothing: the
 *   try goes on waiting. After MISMATCHES_MAX of them somebody is guessing, and TCP is used.
 * - A flight ends exactly once, in the sink; afterwards nothing of it is left registered.
 *
 * It performs its I/O through `Channels`, so that the same logic runs over scripted servers and a
 * clock that jumps. `channelReady` is called when a channel has something; `tick` every few ms.
 */
import { assert } from '../assert.ts'
import { ANSWER_OK, type Answer, parseAnswer } from '../wire/answer.ts'
import { writeQuestion } from '../wire/build.ts'
import { putU16 } from '../wire/bytes.ts'
import { UDP_BYTES } from '../wire/edns.ts'
import {
  FLAG_CD,
  FLAG_RD,
  HEADER_BYTES,
  QUESTION_AT as QUESTION_SECTION_AT,
  RCODE_MASK,
  RCODE_NOTIMP,
  RCODE_REFUSED,
  RCODE_SERVFAIL,
} from '../wire/header.ts'
import { chooseServer, ServerHealth } from './health.ts'
import type { Routes, Server } from './routes.ts'
import {
  type AnswerSink,
  FLIGHT_DEADLINE_MS,
  FLIGHT_TIMEOUT,
  FLIGHT_UNREACHABLE,
  type FlightFailure,
  type FlightQuestion,
  type Transport,
} from './transport.ts'

/** How a try speaks to a server; what the worker does with sockets, and a test without them. */
export interface Channels {
  /** The question of flight n lies at n × QUESTION_BYTES: memory that the kernel may read. */
  readonly questions: Uint8Array
  /** A reply is read to the start of it. 65,535 bytes. */
  readonly reply: Uint8Array
  /**
   * Opens a channel for a flight and sends its question: one at a time for each flight. Over TCP
   * the question follows as soon as the connection stands.
   * @returns 0, or a negative errno
   */
  open(flight: number, server: Server, isTcp: boolean, questionBytes: number): number
  /** Bytes of the reply now in `reply`, NOTHING_YET, or CHANNEL_FAILED. */
  receive(flight: number): number
  close(flight: number): void
}

export const NOTHING_YET = 0
export const CHANNEL_FAILED = -1

/** Header 12, name 255, type and class 4, OPT 11; and room for a length before it, 2. */
export const QUESTION_BYTES = 288
/** Where the message begins: the two bytes before it are the length that TCP wants. */
export const QUESTION_AT = 4

/** Of the OPT record behind our question. */
const OPT_BYTES = 11

const TRY_MS = 1000
const TRIES_PER_SERVER = 2
const MISMATCHES_MAX = 8

const IDLE = 0
/** Between two tries, or before the first. */
const WAITING = 1
const UDP = 2
const TCP = 3

export class Forwarder implements Transport {
  readonly #routes: Routes
  readonly #channels: Channels
  readonly #sink: AnswerSink
  readonly #random: () => number
  readonly #answer: Answer
  /** By group, in the order of Routes.servers; made when a group is first asked. */
  readonly #groupHealth: (ServerHealth[] | undefined)[] = []

  // One row a flight.
  readonly #state: Uint8Array
  readonly #group: Uint16Array
  readonly #server: Uint8Array
  readonly #tries: Uint8Array
  /** Which servers this round of tries has had, a bit each. */
  readonly #tried: Uint32Array
  readonly #mismatches: Uint8Array
  readonly #questionBytes: Uint16Array
  readonly #sentMs: Float64Array
  readonly #deadlineMs: Float64Array
  /** Flights under way, in no order; #place is where each stands in it. */
  readonly #active: Int32Array
  readonly #place: Int32Array
  #activeCount = 0
  /** Flights whose first try is still to be sent. */
  readonly #fresh: Int32Array
  #freshCount = 0

  /** Replies that were not to our question: somebody is guessing, or a server is confused. */
  mismatches = 0
  queries = 0
  timeouts = 0

  /**
   * @param flightsMax  flights are numbered 0 to flightsMax - 1
   * @param random  0 to 65,535, not to be guessed
   */
  constructor(
    routes: Routes,
    channels: Channels,
    sink: AnswerSink,
    options: { flightsMax: number; random: () => number; answer: Answer },
  ) {
    const count = options.flightsMax
    this.#routes = routes
    this.#channels = channels
    this.#sink = sink
    this.#random = options.random
    this.#answer = options.answer
    this.#state = new Uint8Array(count)
    this.#group = new Uint16Array(count)
    this.#server = new Uint8Array(count)
    this.#tries = new Uint8Array(count)
    this.#tried = new Uint32Array(count)
    this.#mismatches = new Uint8Array(count)
    this.#questionBytes = new Uint16Array(count)
    this.#sentMs = new Float64Array(count)
    this.#deadlineMs = new Float64Array(count)
    this.#active = new Int32Array(count)
    this.#place = new Int32Array(count)
    this.#fresh = new Int32Array(count)
    assert(channels.questions.length >= count * QUESTION_BYTES, 'a question for every flight')
  }

  route(
    name: Uint8Array,
    nameAt: number,
    nameBytes: number,
    family: number,
    server: Uint8Array,
    serverAt: number,
    serverPort: number,
    client: number,
  ): number {
    return this.#routes.route(name, nameAt, nameBytes, family, server, serverAt, serverPort, client)
  }

  groupId(group: number): number {
    return this.#routes.groupId(group)
  }

  groupOfId(id: number): number {
    return this.#routes.groupOfId(id)
  }

  ask(flight: number, group: number, question: FlightQuestion, nowMs: number): void {
    assert(this.#state[flight] === IDLE, 'a flight is asked once')
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const flags = question.isCheckingDisabled ? FLAG_RD | FLAG_CD : FLAG_RD
    this.#questionBytes[flight] = writeQuestion(
      this.#channels.questions,
      at,
      0,
      flags,
      question.name,
      question.nameAt,
      question.nameBytes,
      question.type,
      question.class,
      question.isDnssecOk,
      UDP_BYTES,
    )
    this.#group[flight] = group
    this.#tries[flight] = 0
    this.#tried[flight] = 0
    this.#deadlineMs[flight] = nowMs + FLIGHT_DEADLINE_MS
    this.#state[flight] = WAITING
    this.#place[flight] = this.#activeCount
    this.#active[this.#activeCount++] = flight
    // The first try goes out with the next step, never from within this call: see Transport.ask.
    this.#server[flight] = 0
    this.#sentMs[flight] = nowMs
    this.#fresh[this.#freshCount++] = flight
  }

  /** Sends the first try of every flight begun since the last step. Once in a turn of the loop. */
  step(nowMs: number): void {
    const count = this.#freshCount
    this.#freshCount = 0
    for (let index = 0; index < count; index++) {
      const flight = this.#fresh[index]!
      if (this.#state[flight] === WAITING) this.#next(flight, false, nowMs)
    }
  }

  /** A flight's channel has something for it, or failed. */
  channelReady(flight: number, nowMs: number): void {
    // More than one datagram may wait; a few are read now, the rest at the next turn.
    // A reply that lay in the socket while we stood still is as old as that: it is not taken.
    if (nowMs >= this.#deadlineMs[flight]!) return
    for (let reads = 0; reads < MISMATCHES_MAX; reads++) {
      if (this.#state[flight] !== UDP && this.#state[flight] !== TCP) return
      const bytes = this.#channels.receive(flight)
      if (bytes === NOTHING_YET) return
      if (bytes < 0) {
        this.#health(flight).failed(nowMs)
        this.#next(flight, false, nowMs)
        return
      }
      this.#received(flight, bytes, nowMs)
    }
  }

  /** Ends tries that got no answer in time. To be called every 20 ms or so. */
  tick(nowMs: number): void {
    for (let index = this.#activeCount - 1; index >= 0; index--) {
      const flight = this.#active[index]!
      if (nowMs >= this.#deadlineMs[flight]!) {
        this.timeouts++
        this.#health(flight).failed(nowMs)
        this.#fail(flight, FLIGHT_TIMEOUT, nowMs)
      } else if (nowMs - this.#sentMs[flight]! >= TRY_MS && this.#hasTry(flight)) {
        this.timeouts++
        this.#health(flight).failed(nowMs)
        this.#next(flight, false, nowMs)
      }
    }
  }

  /** Every server of the groups, with how it is doing; for `status`. */
  servers(): { group: number; server: Server; health: ServerHealth }[] {
    const rows: { group: number; server: Server; health: ServerHealth }[] = []
    for (let group = 0; group < this.#routes.groupCount; group++) {
      const health = this.#healthOfGroup(group)
      for (const [index, server] of this.#routes.servers(group).entries()) {
        rows.push({ group, server, health: health[index]! })
      }
    }
    return rows
  }

  #received(flight: number, bytes: number, nowMs: number): void {
    const reply = this.#channels.reply
    const questions = this.#channels.questions
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const isOurs =
      bytes >= HEADER_BYTES &&
      reply[0] === questions[at] &&
      reply[1] === questions[at + 1] &&
      parseAnswer(
        reply,
        0,
        bytes,
        questions,
        at + QUESTION_SECTION_AT,
        this.#questionBytes[flight]! - HEADER_BYTES - OPT_BYTES,
        this.#answer,
      ) === ANSWER_OK
    if (!isOurs) {
      this.mismatches++
      this.#mismatches[flight]!++
      const isStream = this.#state[flight] === TCP
      // Nobody but the server can write into a connection: a wrong reply there is its last word.
      if (isStream) this.#health(flight).failed(nowMs)
      if (isStream || this.#mismatches[flight]! >= MISMATCHES_MAX) {
        this.#next(flight, !isStream, nowMs)
      }
      return
    }
    const answer = this.#answer
    if (answer.isTruncated) {
      // Cut over TCP too: that server can't say it, and a part of an answer is none.
      const canSayMore = this.#state[flight] === UDP
      if (!canSayMore) this.#health(flight).failed(nowMs)
      this.#next(flight, canSayMore, nowMs)
      return
    }
    this.#health(flight).succeeded(nowMs - this.#sentMs[flight]!)
    // An rcode above 15 is about our hop (BADVERS, BADCOOKIE): nothing that a client could be told.
    if (answer.rcode > RCODE_MASK || (isUnwilling(answer.rcode) && this.#hasServer(flight))) {
      this.#next(flight, false, nowMs)
      return
    }
    this.#end(flight)
    this.#sink.arrived(flight, reply, 0, answer, nowMs)
  }

  /**
   * The next try: over TCP to the same server (which goes on with the try that made it necessary),
   * or to the best server not tried in this round.
   */
  #next(flight: number, isTcp: boolean, nowMs: number): void {
    this.#close(flight)
    const servers = this.#routes.servers(this.#group[flight]!)
    const health = this.#healthOfGroup(this.#group[flight]!)
    const triesMax = servers.length * TRIES_PER_SERVER
    let overTcp = isTcp
    while (overTcp || this.#tries[flight]! < triesMax) {
      if (!overTcp) {
        this.#tries[flight]!++
        let server = chooseServer(health, this.#tried[flight]!, nowMs)
        if (server < 0) {
          this.#tried[flight] = 0
          server = chooseServer(health, 0, nowMs)
        }
        this.#server[flight] = server
        this.#tried[flight]! |= 1 << server
      }
      const server = servers[this.#server[flight]!]!
      if (this.#send(flight, server, overTcp || server.transport === 'tcp', nowMs)) return
      health[this.#server[flight]!]!.failed(nowMs)
      overTcp = false
    }
    this.#fail(flight, FLIGHT_UNREACHABLE, nowMs)
  }

  #send(flight: number, server: Server, isTcp: boolean, nowMs: number): boolean {
    const at = flight * QUESTION_BYTES + QUESTION_AT
    putU16(this.#channels.questions, at, this.#random())
    putU16(this.#channels.questions, at - 2, this.#questionBytes[flight]!)
    this.#mismatches[flight] = 0
    this.#sentMs[flight] = nowMs
    this.queries++
    this.#health(flight).queries++
    if (this.#channels.open(flight, server, isTcp, this.#questionBytes[flight]!) < 0) return false
    this.#state[flight] = isTcp ? TCP : UDP
    return true
  }

  #fail(flight: number, failure: FlightFailure, nowMs: number): void {
    this.#end(flight)
    this.#sink.failed(flight, failure, nowMs)
  }

  #end(flight: number): void {
    this.#close(flight)
    this.#state[flight] = IDLE
    const last = this.#active[--this.#activeCount]!
    const place = this.#place[flight]!
    this.#active[place] = last
    this.#place[last] = place
  }

  #close(flight: number): void {
    if (this.#state[flight] !== UDP && this.#state[flight] !== TCP) return
    this.#channels.close(flight)
    this.#state[flight] = WAITING
  }

  /** Whether a try is left; the last one waits until the flight's deadline. */
  #hasTry(flight: number): boolean {
    const servers = this.#routes.servers(this.#group[flight]!).length
    return this.#tries[flight]! < servers * TRIES_PER_SERVER
  }

  /** Whether a server is left that this flight has not asked at all. */
  #hasServer(flight: number): boolean {
    return this.#tries[flight]! < this.#routes.servers(this.#group[flight]!).length
  }

  #health(flight: number): ServerHealth {
    return this.#healthOfGroup(this.#group[flight]!)[this.#server[flight]!]!
  }

  #healthOfGroup(group: number): ServerHealth[] {
    let health = this.#groupHealth[group]
    if (health === undefined) {
      health = this.#routes.servers(group).map(() => new ServerHealth())
      this.#groupHealth[group] = health
    }
    return health
  }
}

/** Rcodes with which a server says that it will not or cannot answer: another one may. */
function isUnwilling(rcode: number): boolean {
  return rcode === RCODE_SERVFAIL || rcode === RCODE_REFUSED || rcode === RCODE_NOTIMP
}
