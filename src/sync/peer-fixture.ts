/**
 * A process without a data plane, for the tests of this folder: a PeerLink whose handlers keep
 * what they are given. In the test's own process, or (peer-process-fixture.ts) in one that can be
 * stopped and killed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../linux/process.ts'
import type { Log } from '../log.ts'
import { PeerLink } from './link.ts'
import type {
  FlowSource,
  PeerChange,
  PeerHandlers,
  PeerState,
  PolicyText,
  Role,
  SocketSet,
} from './peer.ts'

const LENGTH_BYTES = 4

/** Frames of records that are texts. */
export function framesOf(...records: readonly string[]): Uint8Array {
  return Buffer.concat(
    records.map((record) => {
      const body = Buffer.from(record)
      const length = Buffer.alloc(LENGTH_BYTES)
      length.writeUInt32LE(body.length)
      return Buffer.concat([length, body])
    }),
  )
}

export function recordsOf(frames: Uint8Array): string[] {
  const bytes = Buffer.from(frames)
  const records: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + LENGTH_BYTES + bytes.readUInt32LE(at)
    records.push(bytes.toString('utf8', at + LENGTH_BYTES, end))
    at = end
  }
  return records
}

/** All flows that were ever recorded here, handed out from a cursor. */
export class TestFlows implements FlowSource {
  readonly records: string[] = []
  readonly batch: number
  #at = 0

  constructor(batch = 10) {
    this.batch = batch
  }

  next(): Uint8Array | null {
    const some = this.records.slice(this.#at, this.#at + this.batch)
    this.#at += some.length
    return some.length === 0 ? null : framesOf(...some)
  }

  rewind(): void {
    this.#at = 0
  }
}

export class TestPeer implements PeerHandlers {
  readonly role: Role
  readonly link: PeerLink
  readonly flows = new TestFlows()
  readonly changes: PeerChange[] = []
  /** Everything that came, in its order: 'sockets 1', 'policy 41', 'answers', 'flows'. */
  readonly story: string[] = []
  readonly received: Record<number, string[]> = {}
  set: SocketSet | null = null
  policy: PolicyText | null = null
  cache: Uint8Array[] = []
  /** What enforcing a policy takes; a throw is a failure. */
  enforce: () => Promise<void> = async () => {}
  isPeerAlive?: () => Promise<boolean>
  reads = false

  constructor(run: string, role: Role, log: Log, set: Partial<TestPeer> = {}) {
    this.role = role
    Object.assign(this, set)
    const options = { run, role, place: role === 'agent' ? 1 : 2, version: '0.1.0', log }
    this.link = PeerLink.open({ ...options, now: monotonicMs }, this)
    this.link.streamFlows(this.flows)
  }

  sockets(): SocketSet | null {
    return this.set
  }

  takeSockets(set: SocketSet): void {
    this.set = set
    this.story.push(`sockets ${set.generation}`)
  }

  isReading(): boolean {
    return this.reads
  }

  snapshot(): PolicyText | null {
    return this.policy
  }

  async takeSnapshot(revision: number, text: string): Promise<void> {
    await this.enforce()
    this.policy = { revision, text }
    this.story.push(`policy ${revision}`)
  }

  async *answers(): AsyncGenerator<Uint8Array> {
    for (const frames of this.cache) {
      await sleep(1)
      yield frames
    }
  }

  takeRecords(kind: number, frames: Uint8Array): void {
    const records = recordsOf(frames)
    ;(this.received[kind] ??= []).push(...records)
    this.story.push(`records ${kind}`)
  }

  changed(_state: PeerState, change: PeerChange): void {
    this.changes.push(change)
    this.story.push(change)
  }

  [Symbol.dispose](): void {
    this.link.close()
  }
}
