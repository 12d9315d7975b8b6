/**
 * A query as it arrived: who asked, by which way, whom, and what. The pipeline has one, and the
 * stages read and complete it; nothing is made per query.
 *
 * Filled from the receive buffer by the worker, or from a slot (slot.ts) when the answer to a kept
 * query has come. `packet` and `addresses` are views into memory of either: valid until the next
 * receive, or until the slot is freed.
 */
import { Question } from '../cache/question.ts'
import { ScannedName } from '../policy/scanned-name.ts'
import { parseQuery, Query } from '../wire/query.ts'
import { keyFlagsOf } from './key.ts'

export class Arrival {
  /** The worker's number for the way back: a UDP socket, or a TCP connection (CHANNEL_TCP). */
  channel = 0
  /** 4 or 6. */
  family = 4
  /** Sent to another server and taken by the kernel for us, rather than sent to us. */
  isIntercepted = false
  /** Source and destination addresses lie in here, 4 or 16 bytes each. */
  addresses: Uint8Array
  sourceAt = 0
  destinationAt = 0
  sourcePort = 0
  destinationPort = 0
  interfaceIndex = 0
  /** ms on the worker's clock. */
  receivedMs = 0

  packet: Uint8Array
  start = 0
  end = 0
  readonly query: Query
  /** The question's name, wire form, lower case, query.nameBytes long. */
  readonly name = new Uint8Array(256)
  /** The same for policy: what `decide` has read of it, if the client is governed. */
  readonly scanned = new ScannedName()
  /** The same as a key; its group is for the stages to find out (route.ts). */
  readonly question = new Question()

  // What the stages find out.
  /** Index in the policy table; -1: nobody we know. */
  client = -1
  isGoverned = false
  /** Under which rows of share.ts it counts: its client, and its interface if that is unknown; or -1. */
  share = -1
  link = -1
  /** flow/reason.ts: why it ends as it does. */
  reason = 0
  /** In audit mode: policy would have refused the question, but did not. */
  isAudited = false

  constructor(nameSeed: number) {
    this.query = new Query(nameSeed)
    this.addresses = this.name
    this.packet = this.name
  }

  /** Reads the message that lies at start to end; the codes of parseQuery. */
  parse(packet: Uint8Array, start: number, end: number): number {
    this.packet = packet
    this.start = start
    this.end = end
    const { query, question } = this
    const parsed = parseQuery(packet, start, end, query, this.name, 0)
    // By UDP the option is ignored. Source: RFC 7828 §3.2.1.
    if (this.channel < CHANNEL_TCP) query.wantsKeepalive = false
    question.name = this.name
    question.nameBytes = query.nameBytes
    question.hash = query.nameHash | 0
    question.type = query.type
    question.class = query.class
    question.keyFlags = keyFlagsOf(query)
    return parsed
  }
}

/** Channels from here on are TCP connections; below are UDP sockets. */
export const CHANNEL_TCP = 0x1000000
/** The one question that a process asks itself before it serves (worker/loop.ts): no flow. */
export const CHANNEL_PROOF = 0x40000000
