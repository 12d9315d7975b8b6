/**
 * What a scenario needs of the world that it runs in. There are two: in-process.ts (the real data
 * plane over a clock that jumps, scripted servers and the memory datapath), and real daemons in
 * network namespaces. Both are made from a Scenario before its first step.
 *
 * What must stay true: nothing here is easier in one world than in the other. A step that only one
 * of them can do belongs into a scenario that says `only in process`.
 */
import type { GrantEntry } from '../../../src/datapath/driver.ts'
import type { QuestionFlow } from '../../../src/flow/decode.ts'
import type { KernelState, RecordChange, ServerFault } from './scenario.ts'

export interface World {
  /** How far a TTL or an expiry may be off because real time runs while we look; 0 in process. */
  readonly slackSeconds: number

  changeRecords(change: RecordChange): Promise<void>
  setFault(server: string, fault: ServerFault): Promise<void>
  /** These policies and no others, as YAML documents. Resolves when they are enforced. */
  setPolicies(policies: readonly string[]): Promise<void>
  setKernel(state: KernelState): Promise<void>
  pass(ms: number): Promise<void>

  /** Sends all of them before any is answered. */
  send(messages: readonly ClientMessage[]): Promise<Exchange[]>
  /** Waits for the reply; null: none came within `limitMs` from the sending. */
  reply(exchange: Exchange, limitMs: number): Promise<Reply | null>
  /** The flow of the exchange's query; null: none was recorded. */
  flow(exchange: Exchange): Promise<QuestionFlow | null>

  /** Every grant in force. */
  grants(): Promise<GrantInForce[]>
  canConnect(connection: Connection): Promise<boolean>
  /** Questions that arrived at a server, dropped ones too. */
  askedCount(server: string, name: string, isTcp: boolean | null): Promise<number>

  [Symbol.asyncDispose](): Promise<void>
}

export interface ClientMessage {
  /** The source address. */
  readonly client: string
  /** Whom it is sent to, at port 53. */
  readonly server: string
  readonly isTcp: boolean
  readonly bytes: Uint8Array
}

/** What a scenario can say of a grant. */
export type GrantInForce = Pick<GrantEntry, 'client' | 'address' | 'remainingMs'>

/** One message that was sent; a world has more to it. */
export interface Exchange {
  readonly message: ClientMessage
}

export interface Reply {
  readonly bytes: Uint8Array
  /** From the sending. */
  readonly afterMs: number
}

export interface Connection {
  readonly client: string
  readonly address: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
}
