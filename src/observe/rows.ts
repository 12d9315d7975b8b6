/**
 * Rows of the commands that list or explain: what a daemon answers 'cache-list', 'cache-clear',
 * 'grants-list' and 'explain' with. 'policy-list' is answered with PolicyState of status.ts.
 */

export interface CacheRow {
  /** With its final dot. */
  readonly name: string
  readonly type: string
  readonly kind: 'positive' | 'nxdomain' | 'nodata' | 'failure'
  /** Negative: expired so long ago, and kept to be served stale. */
  readonly ttlSeconds: number
  readonly addresses: readonly string[]
  /** Size of the message. */
  readonly bytes: number
}

/** The answer to 'cache-clear' {name?: the names at and below it; absent: all}. */
export interface ClearedRow {
  readonly cleared: number
}

export interface GrantRow {
  /** 'team-a/client', or the address when it is no client any more. */
  readonly client: string
  readonly clientAddress: string
  readonly address: string
  /** Names that this client was given the address for; empty after a restart. */
  readonly names: readonly string[]
  /** '80/tcp 443/tcp'; 'all' for every port. */
  readonly ports: string
  readonly remainingSeconds: number
}

/** The answer to 'explain' {client, target}: one row. Causes come first cause first. */
export interface ExplainRow {
  /** 'team-a/client', or the address that was asked about when it is no client. */
  readonly client: string
  /** NAME[:PORT] or ADDRESS[:PORT]. */
  readonly target: string
  readonly isAllowed: boolean
  readonly causes: readonly ExplainCause[]
}

export interface ExplainCause {
  /** Stable: of policy/explain.ts, or Reason.id of a flow. */
  readonly code: string
  /** The policy it comes from; '' for none. */
  readonly policy: string
  /** A sentence. */
  readonly text: string
  /** ISO 8601: since when it is so; null when that is not known. */
  readonly since: string | null
}
