/**
 * Which upstream group a name is asked of.
 *
 * A question sent to an address that we stand in for (our own, or a server in intercept.servers)
 * goes to the group of the longest zone that holds its name. A governed client may have asked any
 * other server that its policy allows; that very server is then its own group, so that what it
 * says can never be served to those who did not ask it.
 *
 * Group numbers are keys of the cache and are never used again for another server.
 */
import { assert } from '../assert.ts'
import { isInZone } from '../wire/name.ts'
import { NO_GROUP } from './transport.ts'

/** Where something listens. */
export interface Endpoint {
  readonly family: 4 | 6
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  readonly port: number
}

export interface Server extends Endpoint {
  /** 'udp' turns to TCP when an answer is truncated. */
  readonly transport: 'udp' | 'tcp' | 'tls'
  /** With 'tls', and only then. */
  readonly identity?: TlsIdentity
}

/** By what a server is known over TLS (RFC 8310 §8): all that is given must hold. */
export interface TlsIdentity {
  /** A name or an address that its certificate, of an authority that is trusted, must be for. */
  readonly serverName: string | null
  /** SHA-256 of the certificate's public key in base64, as RFC 7858 §4.2 says; one must match. */
  readonly pins: readonly string[]
  /** The authorities that are trusted, in PEM; null: those that Node trusts. */
  readonly authorities: string | null
}

export interface Zone {
  /** Wire form, lower case, ends in the root's zero byte. */
  readonly name: Uint8Array
  /** Index into the groups. */
  readonly group: number
}

/**
 * They are looked through one by one, and clients choose them: a bound, far above any need. One
 * client may choose as many as it leaves to others: half, if it is the first to want that many.
 */
const CHOSEN_GROUPS_MAX = 256

/** A bit of a word each says which were tried (forwarder.ts); config allows fewer. */
export const SERVERS_MAX = 31

/** Servers of a group, in order of preference. */
interface Group {
  readonly servers: readonly Server[]
  /** A hash over them; 0 for a server that a client chose. */
  readonly id: number
  /** The client that was the first to choose it; 0 for those of the configuration. */
  readonly chosenBy: number
}

export class Routes {
  readonly #groups: Group[] = []
  /** Groups that the configuration names now, each with one of its zones. */
  configured: readonly Zone[] = []
  /** Longest first. */
  #zones: readonly Zone[] = []
  #standIns: readonly Endpoint[] = []
  #chosenCount = 0

  /**
   * Takes the configuration, at start and whenever it or a resolv.conf has changed. A group with
   * the same servers keeps its number, and with it what the cache holds of it.
   * @param groups  servers of each group, at most SERVERS_MAX
   * @param zones  `group` is an index into `groups`
   * @param standIns  whom we stand in for among the servers that questions are intercepted to
   */
  configure(
    groups: readonly (readonly Server[])[],
    zones: readonly Zone[],
    standIns: readonly Endpoint[],
  ): void {
    const numbers = groups.map((servers) => this.#numberOf(servers))
    this.#zones = zones
      .map((zone) => ({ name: zone.name, group: numbers[zone.group]! }))
      .sort((a, b) => b.name.length - a.name.length)
    this.configured = [...new Map(this.#zones.map((zone) => [zone.group, zone])).values()]
    this.#standIns = standIns
  }

  servers(group: number): readonly Server[] {
    return this.#groups[group]!.servers
  }

  get groupCount(): number {
    return this.#groups.length
  }

  /**
   * A hash over the servers of a configured group: the same in every process that has them,
   * whatever its numbers. 0 for a server that a client chose: whoever can choose an address can
   * choose one whose hash is another group's, so these are never spoken of.
   */
  groupId(group: number): number {
    return this.#groups[group]!.id
  }

  /** The configured group with that id, or NO_GROUP. */
  groupOfId(id: number): number {
    if (id === 0) return NO_GROUP
    for (let group = 0; group < this.#groups.length; group++) {
      if (this.#groups[group]!.id === id) return group
    }
    return NO_GROUP
  }

  #numberOf(servers: readonly Server[]): number {
    assert(servers.length <= SERVERS_MAX, 'a group has a bounded number of servers')
    const known = this.groupOfId(idOf(servers))
    if (known !== NO_GROUP) return known
    this.#groups.push({ servers, id: idOf(servers), chosenBy: 0 })
    return this.#groups.length - 1
  }

  /** See Transport.route. */
  route(
    name: Uint8Array,
    nameAt: number,
    nameBytes: number,
    family: number,
    server: Uint8Array,
    serverAt: number,
    serverPort: number,
    client: number,
  ): number {
    if (family === 0) return this.#zone(name, nameAt, nameBytes)
    for (const standIn of this.#standIns) {
      if (isServer(standIn, family, server, serverAt, serverPort)) {
        return this.#zone(name, nameAt, nameBytes)
      }
    }
    for (let group = 0; group < this.#groups.length; group++) {
      const { id, servers } = this.#groups[group]!
      if (id === 0 && isServer(servers[0]!, family, server, serverAt, serverPort)) return group
    }
    if (!this.#mayChoose(client)) return NO_GROUP
    this.#chosenCount++
    const address = server.slice(serverAt, serverAt + (family === 4 ? 4 : 16))
    const chosen: Server = {
      family: family === 4 ? 4 : 6,
      address,
      port: serverPort,
      transport: 'udp',
    }
    this.#groups.push({ servers: [chosen], id: 0, chosenBy: client })
    return this.#groups.length - 1
  }

  /** Whether one more server of this client's choice would leave others as many as it has. */
  #mayChoose(client: number): boolean {
    const free = CHOSEN_GROUPS_MAX - this.#chosenCount
    let own = 0
    for (const group of this.#groups) if (group.id === 0 && group.chosenBy === client) own++
    return own < free
  }

  #zone(name: Uint8Array, nameAt: number, nameBytes: number): number {
    for (const zone of this.#zones) {
      if (isInZone(name, nameAt, nameBytes, zone.name)) return zone.group
    }
    return NO_GROUP
  }
}

const TRANSPORT_BYTE = { udp: 17, tcp: 6, tls: 7 } as const

/** FNV-1a, 32 bits, over ports, addresses and identities in their order. */
function idOf(servers: readonly Server[]): number {
  let hash = 0x811c9dc5
  for (const { transport, port, address, identity } of servers) {
    const known = identity === undefined ? '' : JSON.stringify(identity)
    const rest = new TextEncoder().encode(known)
    for (const byte of [TRANSPORT_BYTE[transport], port >> 8, port & 0xff, ...address, ...rest]) {
      hash = Math.imul(hash ^ byte, 0x01000193)
    }
  }
  // 0 means a server that a client chose.
  return hash === 0 ? 1 : hash >>> 0
}

function isServer(
  server: Endpoint,
  family: number,
  address: Uint8Array,
  addressAt: number,
  port: number,
): boolean {
  if (server.family !== family || server.port !== port) return false
  for (let index = 0; index < server.address.length; index++) {
    if (server.address[index] !== address[addressAt + index]) return false
  }
  return true
}
