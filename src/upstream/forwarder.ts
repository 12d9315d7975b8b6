/**
 * The forwarder: asks a question of a group's servers until one of them answers.
 *
 *   UDP to the best server ──answer──► done            truncated ──► TCP to the same server
 *        │ no answer in a second, an ICMP error, SERVFAIL
 *        └──► the next server … at most TRIES_PER_SERVER × servers tries and 5 s in all
 *
 * What must stay true (RFC 5452; the attacks are SAD DNS, Kaminsky, TuDoor):
 * - Every try over UDP has a port of its own, which the kernel chose at random, on a connected
 *   socket, so that the kernel drops what comes from elsewhere; and an ID from a cryptographic source.
 * - A datagram that is not the answer (other ID, other question, malformed) changes nothing: the
 *   try goes on waiting. After MISMATCHES_MAX of them somebody is guessing, and TCP is used.
 * - The question's letters go out in random case, which the answer must repeat (0x20). A reply that
 *   differs in nothing else may be from a server that does not keep it: if the right one does not
 *   come either, the question goes over TCP, and after a few times the server is asked without.
 * - A connection is shared by many flights. One that ends although it had worked costs its flights
 *   nothing but the time: each is asked again on another, once. A reply there that is to none of
 *   their questions ends it.
 * - A flight ends exactly once, in the sink; afterwards nothing of it is left registered.
 * - One group never has all flights: where servers are dead, questions wait for 5 s each, and other
 *   zones need room meanwhile.
 *
 * Over TLS questions are padded to a multiple of 128 bytes (RFC 8467 §4.1).
 *
 * Servers that are ill are probed, each once in PROBE_EVERY_MS, so that they get questions again as
 * soon as they are well (and so that a loop is found, see probes.ts). A probe is a flight behind
 * those of the pipeline that has one try and ends nowhere. What is no question is relays.ts's.
 *
 * It performs its I/O through `Channels`, so that the same logic runs over scripted servers and a
 * clock that jumps. `channelReady` is called when a channel has something, `step` at the end of each
 * turn, `tick` every few ms.
 */
import { assert } from '../assert.ts'
import { EMFILE } from '../linux/errno.ts'
import { ANSWER_OK, type Answer, parseAnswer } from '../wire/answer.ts'
import { writeQuestion } from '../wire/build.ts'
import { putU16 } from '../wire/bytes.ts'
import { padOpt, UDP_BYTES } from '../wire/edns.ts'
import {
  ARCOUNT_AT,
  FLAG_CD,
  FLAG_RD,
  HEADER_BYTES,
  QUESTION_AT as QUESTION_SECTION_AT,
  RCODE_FORMERR,
  RCODE_MASK,
  RCODE_NOTIMP,
  RCODE_REFUSED,
  RCODE_SERVFAIL,
} from '../wire/header.ts'
import { CHANNEL_LOST, type Channels, NOTHING_YET, QUESTION_AT, QUESTION_BYTES } from './channel.ts'
import { chooseServer, type GroupHealth, noteChoice, type ServerHealth } from './health.ts'
import { isSameButCase, NEVER, setCase } from './letter-case.ts'
import { Probes, PROBES_MAX } from './probes.ts'
import { Relays, RELAYS_MAX } from './relays.ts'
import type { Routes, Server } from './routes.ts'
import {
  type AnswerSink,
  FLIGHT_DEADLINE_MS,
  FLIGHT_FULL,
  FLIGHT_LOOP,
  FLIGHT_TIMEOUT,
  FLIGHT_UNREACHABLE,
  type FlightFailure,
  type FlightQuestion,
  type Transport,
} from './transport.ts'

/** Channels beside those of the pipeline's flights. */
export const OWN_CHANNELS = PROBES_MAX + RELAYS_MAX

/** Of the OPT record behind our question. */
const OPT_BYTES = 11

const TRY_MS = 1000
const TRIES_PER_SERVER = 2
const MISMATCHES_MAX = 8
/** Both processes of a node probe: two a second together. */
const PROBE_EVERY_MS = 1000
/** How long the reply with the right case may come after one without; and how often it may not. */
const CASE_WAIT_MS = 50
const CASE_LOST_MAX = 3
/** Of all flights, those that one group may have. */
const GROUP_SHARE = 3 / 4

const IDLE = 0
/** Between two tries, or before the first. */
const WAITING = 1
const UDP = 2
/** Over a connection. */
const STREAM = 3

export class Forwarder implements Transport {
  readonly routes: Routes
  readonly #channels: Channels
  readonly #sink: AnswerSink
  readonly #random: () => number
  readonly #answer: Answer
  readonly #probes: Probes
  readonly #relays: Relays
  readonly #flightsMax: number
  readonly #groupFlightsMax: number

  // One row a flight.
  readonly #state: Uint8Array
  readonly #group: Uint16Array
  readonly #server: Uint8Array
  readonly #tries: Uint8Array
  /** Which servers this round of tries has had, a bit each. */
  readonly #tried: Uint32Array
  readonly #mismatches: Uint8Array
  /** Whether it was asked again already because a connection had ended. */
  readonly #isAskedAgain: Uint8Array
  /** When a reply came that had all right but the case; 0: none did. */
  readonly #caseLostMs: Float64Array
  readonly #hasOpt: Uint8Array
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

  queries = 0
  timeouts = 0
  probes = 0
  #mismatchCount = 0

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
    const count = options.flightsMax + PROBES_MAX
    this.#flightsMax = options.flightsMax
    this.#groupFlightsMax = Math.floor(options.flightsMax * GROUP_SHARE)
    this.#probes = new Probes(options.random)
    this.routes = routes
    routes.onForget = (group, nowMs) => sink.forgotten(group, nowMs)
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
    this.#isAskedAgain = new Uint8Array(count)
    this.#caseLostMs = new Float64Array(count)
    this.#hasOpt = new Uint8Array(count)
    this.#questionBytes = new Uint16Array(count)
    this.#sentMs = new Float64Array(count)
    this.#deadlineMs = new Float64Array(count)
    this.#active = new Int32Array(count)
    this.#place = new Int32Array(count)
    this.#fresh = new Int32Array(count)
    this.#relays = new Relays(channels, sink, options.random, count)
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
    nowMs: number,
  ): number {
    const routes = this.routes
    return routes.route(
      name,
      nameAt,
      nameBytes,
      family,
      server,
      serverAt,
      serverPort,
      client,
      nowMs,
    )
  }

  groupId(group: number): number {
    return this.routes.groupId(group)
  }

  groupOfId(id: number): number {
    return this.routes.groupOfId(id)
  }

  ask(flight: number, group: number, question: FlightQuestion, nowMs: number): void {
    assert(flight < this.#flightsMax, 'a flight has a number')
    this.#begin(flight, group, question, nowMs)
    this.#deadlineMs[flight] = nowMs + FLIGHT_DEADLINE_MS
    // The first try goes out with the next step, never from within this call: see Transport.ask.
    this.#fresh[this.#freshCount++] = flight
  }

  isReturned(name: Uint8Array, nameAt: number, nameBytes: number): boolean {
    const probe = this.#probes.find(name, nameAt, nameBytes)
    if (probe < 0) return false
    this.#probes.hasReturned[probe] = 1
    this.#health(this.#flightsMax + probe).isLoop = true
    return true
  }

  get relayRoom(): number {
    return this.#relays.room
  }

  relay(
    slot: number,
    group: number,
    packet: Uint8Array,
    start: number,
    end: number,
    isStream: boolean,
    nowMs: number,
  ): boolean {
    const index = chooseServer(this.#groupHealth(group).servers, 0)
    if (index < 0) return false
    const server = this.routes.servers(group)[index]!
    const isTcp = isStream || server.transport !== 'udp'
    return this.#relays.send(slot, server, isTcp, packet, start, end, nowMs)
  }

  #begin(flight: number, group: number, question: FlightQuestion, nowMs: number): void {
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
    this.#isAskedAgain[flight] = 0
    this.#caseLostMs[flight] = 0
    this.#state[flight] = WAITING
    this.#place[flight] = this.#activeCount
    this.#active[this.#activeCount++] = flight
    this.#server[flight] = 0
    this.#sentMs[flight] = nowMs
    this.#groupHealth(group).inFlight++
  }

  /** Sends the first try of every flight begun since the last step. Once in a turn of the loop. */
  step(nowMs: number): void {
    const count = this.#freshCount
    this.#freshCount = 0
    for (let index = 0; index < count; index++) {
      const flight = this.#fresh[index]!
      if (this.#state[flight] !== WAITING) continue
      const isFull = this.#groupHealth(this.#group[flight]!).inFlight > this.#groupFlightsMax
      if (isFull) this.#fail(flight, FLIGHT_FULL, nowMs)
      else this.#next(flight, nowMs)
    }
    this.#channels.flush()
  }

  /** A channel has something for one flight or more, or failed. */
  channelReady(channel: number, events: number, nowMs: number): void {
    const channels = this.#channels
    const questions = this.#state.length
    const isStream = channel >= questions + RELAYS_MAX
    channels.ready(channel, events, nowMs)
    // Of datagrams a few are read now, the rest at the next turn; from a stream all that came.
    for (let reads = 0; isStream || reads < MISMATCHES_MAX; reads++) {
      // A reply that lay in the socket while we stood still is as old as that: it is not taken.
      if (channel < questions && nowMs >= this.#deadlineMs[channel]!) return
      const flight = channels.next(channel)
      if (flight === NOTHING_YET) return
      if (flight >= questions) {
        this.#relays.heard(flight, nowMs)
        continue
      }
      if (this.#state[flight] !== UDP && this.#state[flight] !== STREAM) continue
      if (nowMs >= this.#deadlineMs[flight]!) continue
      if (channels.replyBytes >= 0) this.#received(channel, flight, nowMs)
      else this.#broken(flight, channels.replyBytes, nowMs)
    }
  }

  /** Ends tries that got no answer in time, and probes who is ill. To be called every 20 ms or so. */
  tick(nowMs: number): void {
    for (let index = this.#activeCount - 1; index >= 0; index--) {
      const flight = this.#active[index]!
      if (nowMs >= this.#deadlineMs[flight]!) {
        this.#timeOut(flight)
        this.#fail(flight, FLIGHT_TIMEOUT, nowMs)
      } else if (nowMs - this.#sentMs[flight]! >= TRY_MS && this.#hasTry(flight)) {
        this.#timeOut(flight)
        this.#next(flight, nowMs)
      } else if (
        this.#state[flight] === UDP &&
        this.#caseLostMs[flight]! > 0 &&
        nowMs - this.#caseLostMs[flight]! >= CASE_WAIT_MS
      ) {
        this.#loseCase(flight, nowMs)
      } else if (flight < this.#flightsMax && this.#health(flight).isLoop) {
        this.#next(flight, nowMs)
      }
    }
    this.#relays.tick(nowMs)
    this.#probe(nowMs)
    this.#channels.flush()
    this.#channels.sweep(nowMs)
    this.routes.sweep(nowMs)
  }

  /** Replies that were not to our question: somebody is guessing, or a server is confused. */
  get mismatches(): number {
    return this.#mismatchCount + this.#relays.mismatches + this.#channels.mismatches
  }

  /** Every server of the groups, with how it is doing; for `status`. */
  servers(): { group: number; server: Server; health: ServerHealth }[] {
    const rows: { group: number; server: Server; health: ServerHealth }[] = []
    for (const group of this.routes.numbers()) {
      const health = this.#groupHealth(group).servers
      for (const [index, server] of this.routes.servers(group).entries()) {
        rows.push({ group, server, health: health[index]! })
      }
    }
    return rows
  }

  /** A try ended without a reply. */
  #broken(flight: number, how: number, nowMs: number): void {
    const isLost = how === CHANNEL_LOST && this.#isAskedAgain[flight] === 0
    if (isLost) {
      this.#isAskedAgain[flight] = 1
      this.#again(flight, true, nowMs)
      return
    }
    this.#health(flight).failed()
    this.#next(flight, nowMs)
  }

  #received(channel: number, flight: number, nowMs: number): void {
    const { questions, reply, replyAt, replyBytes } = this.#channels
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const isOurs =
      replyBytes >= HEADER_BYTES &&
      reply[replyAt] === questions[at] &&
      reply[replyAt + 1] === questions[at + 1] &&
      parseAnswer(
        reply,
        replyAt,
        replyAt + replyBytes,
        questions,
        at + QUESTION_SECTION_AT,
        this.#questionBytes[flight]! - HEADER_BYTES - OPT_BYTES,
        this.#answer,
      ) === ANSWER_OK
    if (!isOurs) {
      this.#mistaken(channel, flight, nowMs)
      return
    }
    const answer = this.#answer
    if (answer.isTruncated) {
      // Cut over TCP too: that server can't say it, and a part of an answer is none.
      const canSayMore = this.#state[flight] === UDP
      if (canSayMore) this.#again(flight, true, nowMs)
      else {
        this.#health(flight).failed()
        this.#next(flight, nowMs)
      }
      return
    }
    if (this.#state[flight] === UDP && this.#caseLostMs[flight] === 0) {
      this.#health(flight).caseLost = 0
    }
    if (isAboutOpt(answer) && this.#hasOpt[flight] === 1) {
      this.#health(flight).speaksEdns = false
      this.#again(flight, this.#state[flight] === STREAM, nowMs)
      return
    }
    if (flight >= this.#flightsMax) {
      this.#probed(flight, answer.rcode, nowMs)
      return
    }
    // An rcode above 15 is about our hop (BADVERS, BADCOOKIE): nothing that a client could be told.
    const isUnusable = answer.rcode > RCODE_MASK
    const waitedMs = nowMs - this.#sentMs[flight]!
    if (isUnusable || isUnwilling(answer.rcode)) this.#health(flight).declined(waitedMs, nowMs)
    else this.#health(flight).succeeded(waitedMs, nowMs)
    if (isUnusable || (isUnwilling(answer.rcode) && this.#hasServer(flight))) {
      this.#next(flight, nowMs)
      return
    }
    this.#end(flight, nowMs)
    this.#sink.arrived(flight, reply, replyAt, answer, nowMs)
  }

  /** What came is not the answer to the flight's question. */
  #mistaken(channel: number, flight: number, nowMs: number): void {
    this.#mismatchCount++
    this.#mismatches[flight]!++
    if (this.#state[flight] === STREAM) {
      // Nobody but the server can write into a connection: a wrong reply there is its last word.
      this.#channels.distrust(channel)
      this.#health(flight).failed()
      this.#next(flight, nowMs)
    } else if (this.#mismatches[flight]! >= MISMATCHES_MAX) this.#again(flight, true, nowMs)
    else if (this.#caseLostMs[flight] === 0 && this.#isOnlyCase(flight)) {
      this.#caseLostMs[flight] = nowMs
    }
  }

  /** Whether the reply has everything right but the case of the question. */
  #isOnlyCase(flight: number): boolean {
    const { questions, reply, replyAt, replyBytes } = this.#channels
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const bytes = this.#questionBytes[flight]! - HEADER_BYTES - OPT_BYTES
    if (replyBytes < HEADER_BYTES + bytes) return false
    if (reply[replyAt] !== questions[at] || reply[replyAt + 1] !== questions[at + 1]) return false
    return isSameButCase(reply, replyAt + HEADER_BYTES, questions, at + HEADER_BYTES, bytes)
  }

  /** The reply with the right case has not come: it was no forgery, the server does not keep it. */
  #loseCase(flight: number, nowMs: number): void {
    const health = this.#health(flight)
    health.caseLost++
    if (health.caseLost >= CASE_LOST_MAX) health.keepsCase = false
    this.#again(flight, true, nowMs)
  }

  /** The same server again, which goes on with the try that made it necessary. */
  #again(flight: number, isStream: boolean, nowMs: number): void {
    this.#close(flight)
    const server = this.routes.servers(this.#group[flight]!)[this.#server[flight]!]!
    if (!this.#send(flight, server, isStream, nowMs)) this.#next(flight, nowMs)
  }

  /** The next try: the best server not tried in this round. */
  #next(flight: number, nowMs: number): void {
    this.#close(flight)
    const servers = this.routes.servers(this.#group[flight]!)
    const health = this.#groupHealth(this.#group[flight]!).servers
    while (this.#hasTry(flight)) {
      this.#tries[flight]!++
      let index = chooseServer(health, this.#tried[flight]!)
      if (index < 0) {
        this.#tried[flight] = 0
        index = chooseServer(health, 0)
      }
      if (index < 0) break
      noteChoice(health, index)
      this.#server[flight] = index
      this.#tried[flight]! |= 1 << index
      const server = servers[index]!
      if (this.#send(flight, server, server.transport !== 'udp', nowMs)) return
    }
    const isLoop = chooseServer(health, 0) < 0
    this.#fail(flight, isLoop ? FLIGHT_LOOP : FLIGHT_UNREACHABLE, nowMs)
  }

  /** Whether the question is on its way. */
  #send(flight: number, server: Server, isStream: boolean, nowMs: number): boolean {
    const questions = this.#channels.questions
    const at = flight * QUESTION_BYTES + QUESTION_AT
    const health = this.#health(flight)
    putU16(questions, at, this.#random())
    // Over UDP whoever guesses must guess this too. On a connection there is nothing to guess.
    const isMixed = !isStream && health.keepsCase && this.#caseLostMs[flight] === 0
    setCase(questions, at + QUESTION_SECTION_AT, isMixed ? this.#random : NEVER)
    const optCount = health.speaksEdns ? 1 : 0
    this.#hasOpt[flight] = optCount
    putU16(questions, at + ARCOUNT_AT, optCount)
    this.#mismatches[flight] = 0
    this.#sentMs[flight] = nowMs
    if (flight >= this.#flightsMax) this.probes++
    else {
      this.queries++
      health.queries++
    }
    health.askedMs = nowMs
    let bytes = this.#questionBytes[flight]!
    if (!health.speaksEdns) bytes -= OPT_BYTES
    // Those of its group are spoken to alike: no question is padded that goes out in clear text.
    else if (server.transport === 'tls') bytes = padOpt(questions, at, bytes)
    const opened = this.#channels.open(flight, server, isStream, bytes, nowMs)
    if (opened === 0) {
      this.#state[flight] = isStream ? STREAM : UDP
      health.inFlight++
    } else if (opened !== -EMFILE) health.failed()
    return opened === 0
  }

  #fail(flight: number, failure: FlightFailure, nowMs: number): void {
    this.#end(flight, nowMs)
    if (flight < this.#flightsMax) this.#sink.failed(flight, failure, nowMs)
  }

  #timeOut(flight: number): void {
    if (flight < this.#flightsMax) this.timeouts++
    this.#health(flight).timedOut(this.#sentMs[flight]!)
  }

  #end(flight: number, nowMs: number): void {
    this.#close(flight)
    this.#state[flight] = IDLE
    const group = this.#groupHealth(this.#group[flight]!)
    group.inFlight--
    group.usedMs = nowMs
    if (flight >= this.#flightsMax) this.#probes.end(flight - this.#flightsMax)
    const last = this.#active[--this.#activeCount]!
    const place = this.#place[flight]!
    this.#active[place] = last
    this.#place[last] = place
  }

  #close(flight: number): void {
    if (this.#state[flight] !== UDP && this.#state[flight] !== STREAM) return
    this.#channels.close(flight)
    this.#state[flight] = WAITING
    this.#health(flight).inFlight--
  }

  /** Asks the servers that are ill, of the groups that are configured. */
  #probe(nowMs: number): void {
    const configured = this.routes.configured
    for (let index = 0; index < configured.length; index++) {
      const { group, name } = configured[index]!
      const health = this.#groupHealth(group).servers
      for (let server = 0; server < health.length; server++) {
        const { isPaused, isLoop, probedMs } = health[server]!
        if ((!isPaused && !isLoop) || nowMs - probedMs < PROBE_EVERY_MS) continue
        const probe = this.#probes.begin(name)
        if (probe < 0) return
        health[server]!.probedMs = nowMs
        this.#sendProbe(probe, group, server, nowMs)
      }
    }
  }

  #sendProbe(probe: number, group: number, index: number, nowMs: number): void {
    const flight = this.#flightsMax + probe
    const servers = this.routes.servers(group)
    this.#begin(flight, group, this.#probes.question(probe), nowMs)
    this.#deadlineMs[flight] = nowMs + PROBE_EVERY_MS
    this.#server[flight] = index
    this.#tries[flight] = servers.length * TRIES_PER_SERVER
    const server = servers[index]!
    if (!this.#send(flight, server, server.transport !== 'udp', nowMs)) this.#end(flight, nowMs)
  }

  /** A server has answered a probe: it is well, unless it had the answer from us. */
  #probed(flight: number, rcode: number, nowMs: number): void {
    const health = this.#health(flight)
    const hasReturned = this.#probes.hasReturned[flight - this.#flightsMax] === 1
    // From one that is a loop SERVFAIL may come from us by way of the other process.
    if (!hasReturned && !(health.isLoop && rcode === RCODE_SERVFAIL)) {
      health.isLoop = false
      health.succeeded(nowMs - this.#sentMs[flight]!, nowMs)
    }
    this.#end(flight, nowMs)
  }

  /** Whether a try is left; the last one waits until the flight's deadline. */
  #hasTry(flight: number): boolean {
    const servers = this.routes.servers(this.#group[flight]!).length
    return this.#tries[flight]! < servers * TRIES_PER_SERVER
  }

  /** Whether a server is left that this flight has not asked at all. */
  #hasServer(flight: number): boolean {
    return this.#tries[flight]! < this.routes.servers(this.#group[flight]!).length
  }

  #health(flight: number): ServerHealth {
    return this.#groupHealth(this.#group[flight]!).servers[this.#server[flight]!]!
  }

  #groupHealth(group: number): GroupHealth {
    return this.routes.health(group)
  }
}

/** How a server of before EDNS answers one that speaks it. RFC 6891 §7. */
function isAboutOpt(answer: Answer): boolean {
  if (answer.optAt !== 0) return false
  return answer.rcode === RCODE_FORMERR || answer.rcode === RCODE_NOTIMP
}

/** Rcodes with which a server says that it will not or cannot answer: another one may. */
function isUnwilling(rcode: number): boolean {
  return rcode === RCODE_SERVFAIL || rcode === RCODE_REFUSED || rcode === RCODE_NOTIMP
}
