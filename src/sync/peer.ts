/**
 * What the peer link and the daemon say to each other: the words of sync/link.ts, in a file of
 * their own so that its parts can use them too.
 */
import type { ListenSocket } from '../linux/listen-socket.ts'

export type Role = 'agent' | 'proxy'

/** The sockets that clients' queries come to, made together and handed on together. */
export interface SocketSet {
  /** A later one replaces an earlier one. From 1; 0 without interception: then there is one. */
  readonly generation: number
  /** Where the ruleset steers to; null: that family is not intercepted. */
  readonly addresses: { readonly v4: string | null; readonly v6: string | null }
  readonly sockets: readonly ListenSocket[]
}

export interface PolicyText {
  /** From 1. */
  readonly revision: number
  readonly text: string
}

/** What we know of the process at the other end; it stays as it was when the link has gone. */
export interface PeerState {
  readonly role: Role
  /** As it says itself; in a container that is not our number for it. */
  readonly pid: number
  /** Drawn at its start: tells a process from the one before it. */
  readonly instance: string
  /** Its place among the processes that write grants. */
  readonly place: number
  readonly version: string
  /** The policy that is in force there; 0: none. */
  readonly revision: number
  /** Of the sockets that it holds; -1: none. */
  readonly generation: number
  /** It takes queries from them, and goes on to. */
  readonly isReading: boolean
  readonly isLinked: boolean
  /** It said that it stops. */
  readonly isLeaving: boolean
  /** Linked, and silent for more than a second of our own running time. */
  readonly isMute: boolean
  /** On the clock that `now` reads. */
  readonly lastHeardMs: number
  /** Something waits here because the peer does not read. */
  readonly isLagging: boolean
}

/** 'reading': whether it reads has changed. */
export type PeerChange = 'linked' | 'unlinked' | 'mute' | 'heard' | 'leaving' | 'reading'

/**
 * 'caught-up': all that was asked for has arrived, and its policy is enforced here.
 * 'nobody': nobody listens at the peer's path.
 * 'mute': somebody is there and did not answer, or speaks no protocol that we know.
 */
export type CatchUpOutcome = 'caught-up' | 'nobody' | 'mute'

/**
 * 'acknowledged': the peer enforces this revision, or the one that has replaced it.
 * 'gone': nobody is there.
 * 'silent': the peer was not heard, and can't have let a grant through since.
 */
export type AnnounceOutcome = 'acknowledged' | 'gone' | 'silent'

/** Where flows for the peer come from: a cursor in a bounded history. */
export interface FlowSource {
  /** The next flows as frames; null: none now. Valid until it is called again. */
  next(): Uint8Array | null
  /** The peer is a new process, which has none: go back to the oldest. */
  rewind(): void
}

/**
 * The daemon's side. What only says something (`sockets`, `snapshot`, a source's `next`) may be
 * called at any time, also from within a call to the link and from `open`; what takes something is
 * called from the event loop. Frames are records, each behind a u32 of its length, little-endian.
 */
export interface PeerHandlers {
  /** What is held now; the link sends copies and keeps none. */
  sockets(): SocketSet | null
  /** Whether queries are taken from them, and not only until a stop is over. */
  isReading(): boolean
  /** A later generation than ours; its descriptors are the daemon's from then on. */
  takeSockets(set: SocketSet): void
  /** The newest policy that is in force here. */
  snapshot(): PolicyText | null
  /**
   * The peer's policy is newer than ours. Resolves when it is in force here: only then the peer
   * is told so. If it rejects, it is called again after a second, with the newest there is then.
   */
  takeSnapshot(revision: number, text: string): Promise<void>
  /** All answers worth having, as frames, in pieces of any size. */
  answers(): AsyncIterable<Uint8Array>
  /**
   * @param kind    RECORD_FLOW or RECORD_LEARNED
   * @param frames  whole frames; valid during the call
   */
  takeRecords(kind: number, frames: Uint8Array): void
  changed(state: PeerState, change: PeerChange): void
  /**
   * Whether the kernel still takes grants from the process of the other role: its alive element
   * stands. Asked while a policy is announced to somebody who is silent; if it rejects, nobody
   * knows. Absent where nothing is granted.
   */
  isPeerAlive?(): Promise<boolean>
}
