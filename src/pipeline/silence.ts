/**
 * Silence: which upstream groups do not answer just now. The pipeline notes when one was heard and
 * when a question went without an answer; pipeline/cached.ts then does not let clients wait for what
 * is known to fail, and asks a silent group only now and then whether it is back.
 *
 * What must stay true: one broken name does not make its group silent. Only a group from which
 * nothing at all has come since the question went out is.
 */
import { GROUPS_MAX } from '../cache/question.ts'

/**
 * At most one question in so long goes to a silent group without a client waiting for it. A flight
 * has two tries a server (upstream/forwarder.ts), so a server sees about two a second, and its
 * return is noticed within one.
 */
const PROBE_MS = 1000

/** By group; untouched pages take no memory. */
export class Silence {
  /** When the group last said anything. */
  readonly #heardMs = new Float64Array(GROUPS_MAX)
  /** 0: it answers. Else: when it may be asked next without a client waiting. */
  readonly #probeMs = new Float64Array(GROUPS_MAX)
  /** When it was heard for the first time after it had been silent. */
  readonly #backMs = new Float64Array(GROUPS_MAX)

  heard(group: number, nowMs: number): void {
    if (this.#probeMs[group] !== 0) this.#backMs[group] = nowMs
    this.#probeMs[group] = 0
    this.#heardMs[group] = nowMs
  }

  /** A question that was asked at `askedMs` has had no answer by now. */
  unheard(group: number, askedMs: number, nowMs: number): void {
    if (this.#heardMs[group]! >= askedMs || this.#probeMs[group] !== 0) return
    this.#probeMs[group] = nowMs + PROBE_MS
  }

  /** The group's number is another's from now on. */
  forgetGroup(group: number): void {
    this.#heardMs[group] = 0
    this.#probeMs[group] = 0
    this.#backMs[group] = 0
  }

  isSilent(group: number): boolean {
    return this.#probeMs[group] !== 0
  }

  /** Whether a silent group may be asked now; whoever is told so asks. */
  mayProbe(group: number, nowMs: number): boolean {
    if (nowMs < this.#probeMs[group]!) return false
    this.#probeMs[group] = nowMs + PROBE_MS
    return true
  }

  /** Whether the group was silent at `atMs` and has come back since. */
  isBackSince(group: number, atMs: number): boolean {
    return this.#backMs[group]! > atMs
  }
}
