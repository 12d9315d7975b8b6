/**
 * Who has an address, for people who read flows: clients and Services of the present snapshot.
 *
 * Cilium's numeric identities mean nothing here, but Hubble's lines have a place for one: a client
 * gets a number from a hash of its labels, in the range of cluster identities, so that the same
 * labels show the same number on every node.
 */
import { decodeFlow } from '../flow/decode.ts'
import {
  FLOW_FAMILY,
  FLOW_HEADER_BYTES,
  FLOW_QUESTION,
  FLOW_SOURCE,
  FLOW_TYPE,
} from '../flow/record.ts'
import { IPV4_BYTES, parseAddress } from '../identity/address.ts'
import type { Directory } from '../observe/flow-row.ts'
import type { FlowHistory } from '../observe/history.ts'
import type { ClientEntry, Snapshot } from '../policy/snapshot.ts'

const CLUSTER_IDENTITY_FIRST = 256
const CLUSTER_IDENTITY_COUNT = 65_280

interface Known {
  readonly namespace: string
  readonly name: string
  readonly identity: number
}

export class NodeDirectory implements Directory {
  #byAddress = new Map<string, Known>()
  /** By each address of a client, all that it has: a pod asks by IPv4 what it then uses by IPv6. */
  #addresses = new Map<string, readonly Uint8Array[]>()
  readonly #history: FlowHistory

  constructor(history: FlowHistory) {
    this.#history = history
  }

  use(snapshot: Snapshot): void {
    this.#byAddress = new Map(
      snapshot.clients.flatMap((client) => {
        const known = {
          namespace: client.namespace,
          name: client.name,
          identity: identityOf(client),
        }
        return client.addresses.map((address) => [address, known] as const)
      }),
    )
    this.#addresses = new Map(
      snapshot.clients.flatMap(({ addresses }) => {
        const own = addresses.flatMap((address) => parseAddress(address) ?? [])
        return addresses.map((address) => [address, own] as const)
      }),
    )
  }

  endpoint(address: string): Known | null {
    return this.#byAddress.get(address) ?? null
  }

  /**
   * From the answers in the history that this client got, by whichever of its addresses; asked for
   * the lines of denied connections only.
   */
  names(client: string, address: string): readonly string[] {
    const sources = this.#addresses.get(client) ?? [parseAddress(client)]
    const wanted = parseAddress(address)
    if (wanted === null) return []
    const names = new Set<string>()
    const cursor = this.#history.cursor(0)
    while (cursor.next()) {
      const { bytes, recordAt, recordBytes } = cursor
      if (bytes[recordAt + FLOW_TYPE] !== FLOW_QUESTION) continue
      if (!isFrom(sources, bytes, recordAt)) continue
      if (!isIn(bytes, recordAt + FLOW_HEADER_BYTES, recordAt + recordBytes, wanted)) continue
      const flow = decodeFlow(bytes, recordAt, recordBytes)
      if (flow?.type === 'question' && flow.answer?.addresses.includes(address)) {
        names.add(flow.name.replace(/\.$/, ''))
      }
    }
    return [...names]
  }
}

/** Whether the flow's source is one of these; the family too, as 4 bytes may begin 16 others. */
function isFrom(
  sources: readonly (Uint8Array | null)[],
  bytes: Uint8Array,
  recordAt: number,
): boolean {
  const family = bytes[recordAt + FLOW_FAMILY]
  return sources.some((source) => {
    if (source === null || family !== (source.length === IPV4_BYTES ? 4 : 6)) return false
    return isAt(bytes, recordAt + FLOW_SOURCE, source)
  })
}

function isAt(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  return wanted.every((byte, index) => bytes[at + index] === byte)
}

function isIn(bytes: Uint8Array, from: number, end: number, wanted: Uint8Array): boolean {
  for (let at = from; at + wanted.length <= end; at++) {
    if (bytes[at] === wanted[0] && isAt(bytes, at, wanted)) return true
  }
  return false
}

/** FNV-1a over the sorted labels and the namespace. */
function identityOf(client: ClientEntry): number {
  const labels = Object.entries(client.labels)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
  let hash = 0x811c9dc5
  for (const byte of Buffer.from([client.namespace, ...labels].join('\n'))) {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  return CLUSTER_IDENTITY_FIRST + ((hash >>> 0) % CLUSTER_IDENTITY_COUNT)
}
