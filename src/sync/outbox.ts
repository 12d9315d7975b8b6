/**
 * What is to be sent to the peer, and in which order.
 *
 * Nothing is queued: the outbox holds *that* something is due, and makes the message when there is
 * room for it, from what is true then. So a peer that does not read costs the same memory after an
 * hour as after a second, and gets the present when it goes on. There are two exceptions. Learned
 * answers are sent at once or not at all, since they grow old; that some were lost is remembered,
 * and the peer gets all answers when it asks what changed. Flows stay in their history until there
 * is room for them.
 *
 * ORDER  our beat and question · sockets · policy · answers that were asked for · DONE · flows
 *
 * What must stay true: DONE follows everything that its question asked for; a set of sockets is
 * sent in one go, or from the beginning again, because between two goes the daemon may have closed
 * one, and its number may be somebody else's.
 *
 * Used by link.ts.
 */
import { assert } from '../assert.ts'
import { EventLoopPump } from './pump.ts'
import type { Repeats } from '../log.ts'
import { AnswerDump } from './answer-dump.ts'
import type { Connection, Sent } from './connection.ts'
import { countFrames, endOfPiece } from './frames.ts'
import type { FlowSource, PeerHandlers } from './peer.ts'
import type { StampedPolicy } from './policy-exchange.ts'
import {
  ANSWERS,
  ASK,
  BEAT,
  CHUNK_BYTES,
  DONE,
  FLOWS,
  type Holding,
  json,
  POLICY,
  policyChunk,
  SOCKETS,
  type Want,
} from './protocol.ts'
import { cutSockets } from './socket-assembly.ts'

export type OutboxHandlers = Pick<PeerHandlers, 'sockets' | 'answers'>

export interface OutboxParts {
  readonly handlers: OutboxHandlers
  readonly repeats: Repeats
  readonly holding: () => Holding
  /** The question to send when one is due; null: it has been answered meanwhile. */
  readonly question: () => { readonly id: number; readonly want: Want } | null
}

interface Transfer {
  readonly policy: StampedPolicy
  readonly bytes: Uint8Array
  at: number
}

export class Outbox {
  /** Records that the peer did not get because it did not read. */
  answersLost = 0
  readonly #parts: OutboxParts
  readonly #pump = new EventLoopPump(() => this.#sendNext())
  #connection: Connection | null = null
  #beat: 'none' | 'plain' | 'reply' = 'none'
  #isAskDue = false
  #areSocketsDue = false
  #transfer: Transfer | null = null
  #dump: AnswerDump | null = null
  /** The question that we are answering. */
  #doneId: number | null = null
  /** What was asked for is answered without waiting for the answers of our cache. */
  #isDumpLast = false
  /** The peer lacks answers that it would have got. */
  #hasGap = false
  #flows: FlowSource | null = null
  #flowBatch: Uint8Array = new Uint8Array(0)
  #flowAt = 0

  constructor(parts: OutboxParts) {
    this.#parts = parts
  }

  /** @param isNewPeer  not the process that the link before this one was with */
  attach(connection: Connection, isNewPeer: boolean): void {
    this.detach()
    this.#connection = connection
    // While there was no link nothing was told.
    this.#hasGap = true
    if (!isNewPeer) return
    this.#flowBatch = new Uint8Array(0)
    this.#flowAt = 0
    this.#flows?.rewind()
  }

  /** What was due to this link is not due any more; a new one begins by comparing. */
  detach(): void {
    this.#connection = null
    this.#pump.stop()
    this.#beat = 'none'
    this.#isAskDue = false
    this.#areSocketsDue = false
    this.#transfer = null
    this.#doneId = null
    this.#dump?.close()
    this.#dump = null
  }

  /** Something waits because the peer does not read. */
  get isLagging(): boolean {
    return this.#pump.isBlocked
  }

  /** The peer has read something, or there is something new to send. */
  pump(): void {
    if (this.#connection !== null) this.#pump.run()
  }

  beat(isReplyWanted: boolean): void {
    if (this.#beat !== 'reply') this.#beat = isReplyWanted ? 'reply' : 'plain'
    this.pump()
  }

  ask(): void {
    this.#isAskDue = true
    this.pump()
  }

  sendSockets(): void {
    this.#areSocketsDue = true
    this.pump()
  }

  sendPolicy(policy: StampedPolicy): void {
    if (this.#transfer?.policy.digest !== policy.digest) {
      this.#transfer = { policy, bytes: Buffer.from(policy.text), at: 0 }
    }
    this.pump()
  }

  /** Answers a question; sockets and policy, if due, have been ordered before. */
  answer(id: number, want: Want): void {
    const isFirst = want === 'everything'
    if (isFirst || this.#hasGap) this.#beginDump()
    this.#isDumpLast = !isFirst
    this.#doneId = id
    this.pump()
  }

  /** Sends answers at once; false when some were lost. */
  tellAnswers(frames: Uint8Array): boolean {
    for (let at = 0; at < frames.length; ) {
      const end = endOfPiece(frames, at)
      assert(end !== -1, 'answers are told as whole frames that fit into a message')
      const sent = this.#connection?.send(ANSWERS, frames.subarray(at, end))
      if (sent !== 'sent') {
        this.#hasGap = true
        // Nobody is there to lack them, or somebody who will ask when there is a link again.
        if (sent === 'full') this.answersLost += countFrames(frames, at, frames.length)
        return false
      }
      at = end
    }
    return true
  }

  streamFlows(source: FlowSource): void {
    this.#flows = source
    this.pump()
  }

  close(): void {
    this.detach()
    this.#flows = null
  }

  #beginDump(): void {
    this.#dump?.close()
    this.#hasGap = false
    this.#dump = new AnswerDump(
      this.#parts.handlers.answers(),
      () => this.pump(),
      this.#parts.repeats,
    )
  }

  /** One message; null when there is nothing to send now. */
  #sendNext(): Sent | null {
    const connection = this.#connection
    if (connection === null) return null
    if (this.#dump?.isOver === true) this.#dump = null
    if (this.#beat !== 'none') return this.#sendBeat(connection)
    if (this.#isAskDue) return this.#sendAsk(connection)
    if (this.#areSocketsDue) return this.#sendSockets(connection)
    if (this.#transfer !== null) return this.#sendPolicy(connection, this.#transfer)
    if (this.#doneId !== null && (this.#dump === null || this.#isDumpLast)) {
      return this.#sendDone(connection, this.#doneId)
    }
    if (this.#dump !== null && this.#dump.piece !== null) {
      return this.#sendDump(connection, this.#dump, this.#dump.piece)
    }
    return this.#sendFlows(connection)
  }

  #sendBeat(connection: Connection): Sent {
    const isReplyWanted = this.#beat === 'reply'
    const sent = connection.send(BEAT, json({ ...this.#parts.holding(), isReplyWanted }))
    if (sent === 'sent') this.#beat = 'none'
    return sent
  }

  #sendAsk(connection: Connection): Sent {
    const question = this.#parts.question()
    if (question === null) {
      this.#isAskDue = false
      return 'sent'
    }
    const sent = connection.send(ASK, json({ ...this.#parts.holding(), ...question }))
    if (sent === 'sent') this.#isAskDue = false
    return sent
  }

  #sendSockets(connection: Connection): Sent {
    const set = this.#parts.handlers.sockets()
    for (const { part, descriptors } of set === null ? [] : cutSockets(set)) {
      const sent = connection.send(SOCKETS, json(part), descriptors)
      if (sent !== 'sent') return sent
    }
    this.#areSocketsDue = false
    return 'sent'
  }

  #sendPolicy(connection: Connection, transfer: Transfer): Sent {
    const { policy, bytes, at } = transfer
    const piece = bytes.subarray(at, at + CHUNK_BYTES)
    const { revision, digest } = policy
    const textBytes = bytes.length
    const body = policyChunk({ revision, digest, textBytes, offset: at, bytes: piece })
    const sent = connection.send(POLICY, body)
    if (sent !== 'sent') return sent
    transfer.at += piece.length
    if (transfer.at === textBytes) this.#transfer = null
    return 'sent'
  }

  #sendDone(connection: Connection, id: number): Sent {
    const sent = connection.send(DONE, json({ id }))
    if (sent === 'sent') this.#doneId = null
    return sent
  }

  #sendDump(connection: Connection, dump: AnswerDump, piece: Uint8Array): Sent {
    const sent = connection.send(ANSWERS, piece)
    if (sent === 'sent') dump.next()
    return sent
  }

  #sendFlows(connection: Connection): Sent | null {
    if (this.#flowAt === this.#flowBatch.length) {
      const batch = this.#flows?.next() ?? null
      if (batch === null || batch.length === 0) return null
      this.#flowBatch = batch
      this.#flowAt = 0
    }
    const end = endOfPiece(this.#flowBatch, this.#flowAt)
    assert(end !== -1, 'flows are streamed as whole frames that fit into a message')
    const sent = connection.send(FLOWS, this.#flowBatch.subarray(this.#flowAt, end))
    if (sent === 'sent') this.#flowAt = end
    return sent
  }
}
