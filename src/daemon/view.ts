/** A daemon as those see it who report on it (handlers.ts, status.ts) or reload it (reload.ts). */
import type { Config } from '../config/load.ts'
import type { Log } from '../log.ts'
import type { FlowHistory } from '../observe/history.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import type { StandIns } from '../policy/stand-ins.ts'
import type { PeerLink } from '../sync/link.ts'
import type { SocketSet } from '../sync/peer.ts'
import type { DataPlane } from '../worker/data-plane.ts'
import type { NodeDirectory } from './directory.ts'
import type { Structure } from './structure.ts'
import type { UpstreamSource } from './upstreams.ts'

export type Role = 'agent' | 'proxy'

/** Where this process has its policy from. */
export type PolicyOrigin = 'files' | 'peer' | 'disk' | 'none'

export interface DaemonView {
  readonly role: Role
  readonly version: string
  config: Config
  readonly log: Log
  /** Monotonic. */
  readonly startedMs: number
  readonly history: FlowHistory
  readonly directory: NodeDirectory
  readonly upstreams: UpstreamSource
  readonly dataPlane: DataPlane
  /** null without interception. */
  readonly structure: Structure | null
  readonly link: PeerLink
  readonly snapshot: Snapshot
  readonly policyFrom: PolicyOrigin
  readonly socketSet: SocketSet | null
  readonly standIns: StandIns
}
