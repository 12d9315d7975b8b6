/**
 * A TestPeer in a process of its own, which a test can stop and kill: commands come over the
 * channel that `fork` opens, one answer each. Arguments: directory, role, what it begins with.
 */
import type { Log } from '../log.ts'
import { TestPeer } from './peer-fixture.ts'
import type { PeerState, PolicyText, Role } from './peer.ts'
import { openLocalSet } from './socket-fixture.ts'

export interface ProcessStart {
  readonly policy?: PolicyText
  readonly hasSockets?: boolean
}

/** 'look' is answered with a Look. */
export type Command =
  | { readonly do: 'catch-up'; readonly want?: 'everything' | 'changes' }
  | { readonly do: 'look' }

export interface Look {
  readonly story: readonly string[]
  readonly revision: number
  readonly textLength: number
  /** Records by kind. */
  readonly counts: Readonly<Record<number, number>>
  readonly flows: readonly string[]
  readonly generation: number
  readonly peer: PeerState | null
}

const log: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  fatal() {},
  child: () => log,
}

if (process.send !== undefined) {
  const [run, role, text] = process.argv.slice(2)
  const { policy, hasSockets } = JSON.parse(text!) as ProcessStart
  const peer = new TestPeer(run!, role as Role, log, {
    policy: policy ?? null,
    set: hasSockets === true ? openLocalSet(1) : null,
  })
  process.on('message', (message: { id: number; command: Command }) => {
    void obey(peer, message.command).then((value) => process.send!({ id: message.id, value }))
  })
  process.on('disconnect', () => process.exit())
  process.send({ id: 0 })
}

async function obey(peer: TestPeer, command: Command): Promise<unknown> {
  if (command.do === 'look') return look(peer)
  return peer.link.catchUp(command.want === undefined ? {} : { want: command.want })
}

function look({ story, policy, received, set, link }: TestPeer): Look {
  const counts = Object.entries(received).map(([kind, records]) => [kind, records.length])
  return {
    story,
    revision: policy?.revision ?? 0,
    textLength: policy?.text.length ?? 0,
    counts: Object.fromEntries(counts) as Record<number, number>,
    flows: received[1] ?? [],
    generation: set?.generation ?? -1,
    peer: link.peer,
  }
}
