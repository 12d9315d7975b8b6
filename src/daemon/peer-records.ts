/**
 * Records between this process and its peer: answers that an upstream gave to one of us, flows of
 * what was decided. The worker makes them, the link carries them; here they are put into frames and
 * taken out of them.
 *
 * What is told is told at once: an answer that a client has may be asked of the peer next.
 */
import { FLOW_BYTES_MAX, RECORD_FLOW, RECORD_LEARNED } from '../flow/record.ts'
import { letOthersRun } from '../linux/process.ts'
import type { FlowHistory } from '../observe/history.ts'
import { eachFrame, FrameBuffer } from '../sync/frames.ts'
import type { PeerLink } from '../sync/link.ts'
import type { DataPlane } from '../worker/data-plane.ts'
import { FlowsForPeer } from './flows-for-peer.ts'

const TELL_BYTES = 64 * 1024
/** As many flows as keep the processor from others for some 20 µs. */
const STRETCH_BYTES = 8 * 1024

export class PeerRecords {
  readonly #history: FlowHistory
  readonly #link: PeerLink
  readonly #learned = new FrameBuffer(TELL_BYTES)

  /** From now on what the worker learns goes to the peer; flows go as soon as `streamFlows` says. */
  constructor(dataPlane: DataPlane, history: FlowHistory, link: PeerLink) {
    this.#history = history
    this.#link = link
    dataPlane.onAnswer = (bytes, at, length) => this.#learn(bytes, at, length)
    dataPlane.onRead = () => {
      this.tellAnswers()
      link.flowsWaiting()
    }
  }

  streamFlows(): void {
    this.#link.streamFlows(new FlowsForPeer(this.#history))
  }

  /** Whatever of answers is not on its way yet. */
  tellAnswers(): void {
    if (!this.#learned.isEmpty) this.#link.tellAnswers(this.#learned.take())
  }

  #learn(bytes: Uint8Array, at: number, length: number): void {
    if (this.#learned.add(bytes, at, length)) return
    this.tellAnswers()
    this.#learned.add(bytes, at, length)
  }
}

/** What the peer told: flows into the history, answers into the worker's cache. */
export function takeRecords(
  dataPlane: DataPlane,
  history: FlowHistory,
  kind: number,
  frames: Uint8Array,
): void {
  // Not for a few: answers may be behind them.
  if (kind === RECORD_FLOW && frames.length > STRETCH_BYTES) letOthersRun()
  eachFrame(frames, (view, at, length) => {
    if (kind === RECORD_FLOW) {
      // A longer one is of another release, which knows fields that we do not.
      if (length <= FLOW_BYTES_MAX) history.append(view, at, length, true)
    } else if (kind === RECORD_LEARNED) {
      dataPlane.give(RECORD_LEARNED, frames.subarray(at, at + length))
    }
  })
}

/** All answers of the worker's cache, in pieces, as frames. */
export async function* dumpAnswers(dataPlane: DataPlane): AsyncGenerator<Uint8Array> {
  let cursor = 0
  while (cursor >= 0) {
    const reply = await dataPlane.ask({ kind: 'cache-dump', cursor })
    cursor = reply.cursor
    if (reply.records.length > 0) yield reply.records
  }
}
