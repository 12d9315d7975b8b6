/**
 * Who has an address, for people who read flows and for revocation: clients, other pods and
 * Services of the present snapshot, and the names that clients were answered.
 *
 * Cilium's numeric identities mean nothing here, but Hubble's lines have a place for one: a client
 * gets a number from a hash of its labels, in the range of cluster identities, so that the same
 * labels show the same number on every node. Of the others a snapshot has no labels; their number
 * comes from their name.
 *
 * What must stay true: what one client was answered is never taken for another's, also when they
 * had the same address one after the other. Flows hold addresses, so what was answered before an
 * address became its present client's says nothing of that client.
 */
import type { Directory, NamesOf } from '../observe/flow-row.ts'
import type { FlowHistory } from '../observe/history.ts'
import { NameIndex, type SourceAddress } from '../observe/name-index.ts'
import type { ClientEntry, Snapshot } from '../policy/snapshot.ts'

const CLUSTER_IDENTITY_FIRST = 256
const CLUSTER_IDENTITY_COUNT = 65_280
/** The index of names is kept for so long after somebody asked: it may take 15 MiB. */
const INDEX_KEPT_MS = 60_000

interface Known {
  readonly namespace: string
  readonly name: string
  readonly identity: number
}

interface Holder extends SourceAddress {
  /** 'team-a/client' */
  readonly client: string
  sinceMs: number
}

export class NodeDirectory implements Directory {
  #byAddress = new Map<string, Known>()
  /** By each address of a client, all that it has: a pod asks by IPv4 what it then uses by IPv6. */
  #sources = new Map<string, readonly Holder[]>()
  /** When the first snapshot came into use; -1: none has. */
  #begunMs = -1
  readonly #history: FlowHistory
  #index: NameIndex | null = null
  #indexTimer: NodeJS.Timeout | undefined

  constructor(history: FlowHistory) {
    this.#history = history
  }

  /** @param nowMs  since 1970: from now on the addresses are those of the clients in `snapshot` */
  use(snapshot: Snapshot, nowMs: number = Date.now()): void {
    this.#byAddress = new Map([
      ...snapshot.places.flatMap(({ namespace, name, addresses }) => {
        const known = { namespace, name, identity: identityOf(namespace, [name]) }
        return addresses.map((address) => [address, known] as const)
      }),
      ...snapshot.clients.flatMap((client) => {
        const { namespace, name, addresses } = client
        const known = { namespace, name, identity: identityOf(namespace, labelsOf(client)) }
        return addresses.map((address) => [address, known] as const)
      }),
    ])
    const former = new Map([...this.#sources.values()].flat().map((held) => [held.address, held]))
    // What the peer tells a process that has just begun is of the same clients, or see useFormer.
    const changedMs = this.#begunMs < 0 ? 0 : nowMs
    this.#sources = new Map(
      snapshot.clients.flatMap(({ namespace, name, addresses }) => {
        const client = `${namespace}/${name}`
        const own = addresses.map((address): Holder => {
          const before = former.get(address)
          return before?.client === client ? before : { address, sinceMs: changedMs, client }
        })
        return addresses.map((address) => [address, own] as const)
      }),
    )
    if (this.#begunMs < 0) this.#begunMs = nowMs
  }

  /**
   * Learns what was in force before, perhaps before this process began: an address that somebody
   * else had then became its present client's when we began.
   */
  useFormer({ clients }: Snapshot): void {
    const former = new Map(
      clients.flatMap(({ namespace, name, addresses }) =>
        addresses.map((address) => [address, `${namespace}/${name}`] as const),
      ),
    )
    for (const held of [...this.#sources.values()].flat()) {
      if (held.sinceMs === 0 && former.get(held.address) !== held.client) {
        held.sinceMs = this.#begunMs
      }
    }
  }

  endpoint(address: string): Known | null {
    return this.#byAddress.get(address) ?? null
  }

  /** From the answers that a client got by whichever of its addresses. */
  async names(): Promise<NamesOf> {
    clearTimeout(this.#indexTimer)
    this.#indexTimer = setTimeout(() => (this.#index = null), INDEX_KEPT_MS).unref()
    this.#index ??= new NameIndex(this.#history)
    const index = this.#index
    await index.follow()
    return (client, address) => {
      const sources = this.#sources.get(client) ?? [{ address: client, sinceMs: 0 }]
      return index.names(sources, address)
    }
  }
}

function labelsOf(client: ClientEntry): string[] {
  return Object.entries(client.labels)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
}

/** FNV-1a over the namespace and what is sorted in it. */
function identityOf(namespace: string, words: readonly string[]): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from([namespace, ...words].join('\n'))) {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  return CLUSTER_IDENTITY_FIRST + ((hash >>> 0) % CLUSTER_IDENTITY_COUNT)
}
