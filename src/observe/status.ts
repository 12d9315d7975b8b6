/**
 * What a daemon says of itself: the row that 'status' is answered with.
 *
 * The daemons fill it, `namegate status` prints it, and scripts read it with -o json: fields are
 * added, never renamed. It is made on request, so it may cost a few milliseconds.
 */
import type { PolicyFault } from '../policy/snapshot.ts'

export interface StatusReport {
  readonly role: 'agent' | 'proxy'
  readonly node: string
  readonly version: string
  readonly pid: number
  readonly uptimeSeconds: number
  /** Why this process is not as it should be; empty: all is well. */
  readonly degraded: readonly Degradation[]
  /** Whether this process and the other one answer questions, as this one sees it. */
  readonly alive: { readonly agent: Aliveness; readonly proxy: Aliveness }
  readonly sockets: SocketsStatus
  readonly policy: PolicyStatus
  readonly clients: ClientsStatus
  readonly kernel: KernelStatus
  readonly upstreams: readonly UpstreamStatus[]
  readonly cache: { readonly entries: number; readonly bytes: number; readonly bytesMax: number }
  readonly flows: { readonly recorded: number; readonly lost: number }
  /** By name, as pipeline/counters.ts declares them; they begin at 0 with the process. */
  readonly counters: Readonly<Record<string, number>>
}

/** `code` is stable, for alerts: 'peer-silent'; `message` says what to do. */
export interface Degradation {
  readonly code: string
  readonly message: string
}

/** 'silent': it is there and does not answer. */
export type Aliveness = 'alive' | 'silent' | 'absent'

export interface SocketsStatus {
  /** Counts up each time that new sockets had to be made. */
  readonly generation: number
  /** '169.254.20.10:53' */
  readonly addresses: readonly string[]
  /** Whether the other process holds them too. */
  readonly isShared: boolean
}

export interface PolicyStatus {
  /** 0: there is none. */
  readonly revision: number
  /** Where this process has it from. */
  readonly from: 'files' | 'peer' | 'disk' | 'none'
  readonly mode: 'enforce' | 'audit'
  readonly policies: readonly PolicyState[]
}

export interface PolicyState {
  /** 'team-a/allow-google' */
  readonly name: string
  readonly kind: string
  readonly file: string
  /** 'accepted': compiled, not in force in this process yet. */
  readonly state: 'enforced' | 'accepted' | 'faulty'
  readonly clientCount: number
  readonly faults: readonly PolicyFault[]
}

/** Names as 'team-a/client'. */
export interface ClientsStatus {
  readonly governed: readonly string[]
  readonly ungoverned: readonly string[]
  /** Selected by a policy, but its traffic cannot be governed here. */
  readonly ungovernable: readonly { readonly client: string; readonly why: string }[]
}

export interface KernelStatus {
  /** 'off': nothing is intercepted, by configuration. 'differs': being repaired. */
  readonly state: 'off' | 'same' | 'differs' | 'unknown'
  /** What differs, or the evidence of the choice made at start; '' when there is nothing to say. */
  readonly detail: string
  /** Grants in force; null when that was not read. */
  readonly grantCount: number | null
}

export interface UpstreamStatus {
  /** Empty: a client chose it, or it is not configured any more. */
  readonly zones: readonly string[]
  readonly isChosen: boolean
  /** '192.0.2.53:53' */
  readonly server: string
  readonly transport: 'udp' | 'tcp' | 'tls'
  /**
   * 'paused': it failed, and is asked last until it has answered. 'loop': it hands our questions
   * back to us, and is not asked until it answers by itself.
   */
  readonly state: 'well' | 'paused' | 'loop' | 'unused'
  readonly roundTripMs: number
  readonly queries: number
  readonly failures: number
}
