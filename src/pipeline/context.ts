/**
 * What the stages of the pipeline share: the parts they act through, the tables they work on, and
 * the one query under way. A stage is a function of this; pipeline.ts says in which order they run.
 */
import type { AnswerCache } from '../cache/cache.ts'
import type { LearnedCodec } from '../cache/learned.ts'
import { Question } from '../cache/question.ts'
import type { GrantWriter } from '../datapath/driver.ts'
import type { RingWriter } from '../flow/ring.ts'
import type { GrantTable } from '../grant/table.ts'
import type { PolicyTable } from '../policy/table.ts'
import type { Transport } from '../upstream/transport.ts'
import { Arrival } from './arrival.ts'
import type { Counters } from './counters.ts'
import { FlightTable } from './flight.ts'
import { MessageMeta } from './meta.ts'
import { ShareTable } from './share.ts'
import { Silence } from './silence.ts'
import { SlotTable } from './slot.ts'

/** Where replies are written and by which way they leave. */
export interface Replies {
  /** The reply opened last goes into `bytes` from `at`, and ends before `limit`. */
  readonly bytes: Uint8Array
  /** The same memory. */
  readonly view: DataView
  readonly at: number
  readonly limit: number
  /** Makes room for a reply to `arrival`; false when its way back is gone or will take no more. */
  open(arrival: Arrival): boolean
  /** The reply opened last is `length` bytes long and may leave. */
  send(arrival: Arrival, length: number): void
}

export interface PipelineParts {
  readonly cache: AnswerCache
  /** How answers are told to the peer. */
  readonly learned: LearnedCodec
  readonly replies: Replies
  readonly transport: Transport
  /** null without interception: names are governed then, connections are not. */
  readonly grantWriter: GrantWriter | null
  readonly grants: GrantTable
  /** Flows and learned answers, on their way to the main thread. */
  readonly records: RingWriter
  readonly counters: Counters
}

export interface PipelineOptions {
  /** Queries that wait for an upstream at one time. */
  readonly slotsMax: number
  /** Questions at upstreams at one time; a power of two. */
  readonly flightsMax: number
  /** Of one client; 0: no bound. */
  readonly queriesPerSecond: number
  /** New grants of one client and timeout class in the time that such grants last. */
  readonly grantsMax: number
  readonly maxTtlSeconds: number
  readonly minTtlSeconds: number
  readonly maxNegativeTtlSeconds: number
  /** cache.prefetch */
  readonly prefetch: boolean
  /** cache.nothingBelowNxdomain */
  readonly nothingBelowNxdomain: boolean
  /** cache.rotate */
  readonly rotate: boolean
  /** Of the hashes of names: unknown outside, so that nobody can fill one bucket. */
  readonly nameSeed: number
}

export class Context {
  readonly parts: PipelineParts
  readonly options: PipelineOptions
  readonly shares: ShareTable
  readonly slots: SlotTable
  readonly flights: FlightTable
  readonly silence = new Silence()
  /** The query that the stages work on. */
  readonly arrival: Arrival
  /** What the flight that has just ended asked. */
  readonly asked = new Question()
  /** Offsets in the message that is being given out. */
  readonly meta = new MessageMeta()
  readonly policy: PolicyTable
  /** Wall clock at the worker's time 0, ms since 1970: flows carry the time of day. */
  epochMs = 0
  /** Of the addresses in answers: changes with each (answer.ts). */
  turn = 0
  /** Somebody is there to be told what is learned. */
  hasPeer = false
  /** An answer for the peer lies in the ring since somebody last looked. */
  hasTold = false

  constructor(parts: PipelineParts, policy: PolicyTable, options: PipelineOptions) {
    this.parts = parts
    this.options = options
    this.policy = policy
    this.shares = new ShareTable({
      seed: options.nameSeed,
      queriesPerSecond: options.queriesPerSecond,
      grantsMax: options.grantsMax,
    })
    this.slots = new SlotTable(options.slotsMax, this.shares)
    this.flights = new FlightTable(options.flightsMax)
    this.arrival = new Arrival(options.nameSeed)
  }
}
