/**
 * What main thread and worker say to each other by message: the start, and what may wait for a turn
 * of the event loop. Plain data, cloned on the way. (What may not wait: worker/control.ts.)
 */
import type { RegionDescriptor } from '../linux/region.ts'
import type { Endpoint, Server } from '../upstream/routes.ts'
import type { ListenSocket } from '../linux/listen-socket.ts'

/** workerData: all that the worker needs to build its parts. */
export interface WorkerStart {
  readonly control: RegionDescriptor
  /** Two memories for policy tables; see TABLE in worker/control.ts. */
  readonly tables: readonly [RegionDescriptor, RegionDescriptor]
  /** Ring from the worker: flows and learned answers. */
  readonly records: RegionDescriptor
  /** Ring to the worker: answers that the peer learned. */
  readonly answers: RegionDescriptor
  /** Event descriptor that wakes the worker. */
  readonly wakeFd: number
  /** Event descriptor that wakes the main thread. */
  readonly wakeMainFd: number
  readonly cacheBytes: number
  readonly queriesPerSecond: number
  readonly grantsMax: number
  readonly maxTtlSeconds: number
  readonly minTtlSeconds: number
  readonly maxNegativeTtlSeconds: number
  readonly serveStaleSeconds: number
  readonly prefetch: boolean
  readonly nothingBelowNxdomain: boolean
  readonly rotate: boolean
  readonly upstreams: UpstreamTable
  /** Marks of our sockets; 0 without interception. */
  readonly ownMark: number
  readonly ownerMark: number
  /** How grants are written; null without interception. */
  readonly grants: GrantSettings | null
}

export interface GrantSettings {
  /** 1 to PLACES_MAX: our place among the processes that write grants. */
  readonly place: number
  readonly mark: number
}

/** Configured upstream groups, and whom we stand in for. */
export interface UpstreamTable {
  readonly groups: readonly (readonly Server[])[]
  /** Zone names in wire form; several zones may share a group. */
  readonly zones: readonly { readonly name: Uint8Array; readonly group: number }[]
  readonly standIns: readonly Endpoint[]
}

/** To the worker. A request's answer carries its id. */
export type WorkerRequest =
  | { readonly kind: 'sockets'; readonly id: number; readonly sockets: readonly ListenSocket[] }
  | { readonly kind: 'upstreams'; readonly upstreams: UpstreamTable }
  | { readonly kind: 'cache-list'; readonly id: number; readonly cursor: number }
  | { readonly kind: 'cache-clear'; readonly id: number; readonly name: Uint8Array | null }
  | { readonly kind: 'cache-dump'; readonly id: number; readonly cursor: number }
  | { readonly kind: 'upstream-health'; readonly id: number }
  | { readonly kind: 'prove'; readonly id: number }

export type WorkerReply =
  /** The loop reads from these sockets now, and from no others. */
  | { readonly kind: 'sockets'; readonly id: number }
  | {
      readonly kind: 'cache-list'
      readonly id: number
      readonly cursor: number
      readonly rows: CacheRow[]
    }
  | { readonly kind: 'cache-clear'; readonly id: number; readonly count: number }
  | {
      readonly kind: 'cache-dump'
      readonly id: number
      /** -1 when that was all. */
      readonly cursor: number
      /** Records of cache/learned.ts, each behind a u32 of its length, little-endian. */
      readonly records: Uint8Array
    }
  | { readonly kind: 'upstream-health'; readonly id: number; readonly rows: UpstreamRow[] }
  /** What the question that the worker asked itself was answered with. */
  | { readonly kind: 'prove'; readonly id: number; readonly rcode: number }

/** From the worker: encrypt what comes out of this descriptor, which is the receiver's now. */
export interface TlsRequest {
  readonly kind: 'tls'
  readonly fd: number
  readonly server: Server
}

export interface CacheRow {
  readonly name: Uint8Array
  readonly type: number
  readonly class: number
  readonly kind: number
  readonly group: number
  readonly remainingSeconds: number
  readonly ttlSeconds: number
  readonly message: Uint8Array
}

export interface UpstreamRow {
  /** Wire form; none: a client chose it, or it is not configured any more. */
  readonly zones: readonly Uint8Array[]
  readonly isChosen: boolean
  readonly address: Uint8Array
  readonly port: number
  readonly transport: 'udp' | 'tcp' | 'tls'
  readonly queries: number
  readonly failures: number
  readonly failuresInRow: number
  readonly smoothedMs: number
  readonly isPaused: boolean
  readonly isLoop: boolean
}
