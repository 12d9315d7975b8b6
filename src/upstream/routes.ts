/**
 * Which upstream group a name is asked of.
 *
 * A question sent to an address that we stand in for (our own, or a server in intercept.servers)
 * goes to the group of the longest zone that holds its name. A governed client may have asked any
 * other server that its policy allows; that very server is then its own group, so that what it
 * says can never be served to those who did not ask it.
 *
 * Group numbers are keys of the cache and of much else. A group that is not in the configuration (a
 * server that a client chose; servers of before a reload) gives its number back when nothing was
 * asked of it for IDLE_MS, or a client needs it for another server; `onForget` then says so, and
 * only afterwards the number can be another group's. What must stay true: none that is in flight,
 * or was used in this very millisecond, is given back. So whatever was learned from it is older
 * than that moment, and what is learned from the next one is not.
 */
import { assert } from '../assert.ts'
import { FairPlaces, NO_PLACE } from '../fair-places.ts'
import { isInZone } from '../wire/name.ts'
import { GroupHealth } from './health.ts'
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
 * They are looked through one by one, and clients choose them: a bound, far above any need. Who may
 * have how many, and which gives way to another, is said in fair-places.ts.
 */
const CHOSEN_MAX = 256

/** A server that nobody asks for so long loses its place, and its answers with it. */
const IDLE_MS = 300_000

/** A bit of a word each says which were tried (forwarder.ts); config allows fewer. */
export const SERVERS_MAX = 31

interface Group {
  /** In order of preference. */
  readonly servers: readonly Server[]
  /** A hash over them; 0 for a server that a client chose. */
  readonly id: number
  /** Among those that clients chose; NO_PLACE: it is of the configuration. */
  readonly place: number
  readonly health: GroupHealth
  isConfigured: boolean
}

export class Routes {
  /** Called when a group's number is given back: nothing that is known of it holds any more. */
  onForget: (group: number, nowMs: number) => void = () => {}
  /** Servers of clients' choice: those that gave way to another, and those that got no place. */
  gaveWayCount = 0
  refusedCount = 0
  /** By number; null: it was given back. */
  readonly #groups: (Group | null)[] = []
  /** Groups that the configuration names now, each with one of its zones. */
  configured: readonly Zone[] = []
  /** Longest first. */
  #zones: readonly Zone[] = []
  #standIns: readonly Endpoint[] = []
  readonly #places = new FairPlaces(CHOSEN_MAX)
  /** By place: the group that has it. */
  readonly #placeGroups = new Uint16Array(CHOSEN_MAX)
  readonly #isIdle = (place: number): boolean =>
    isFree(this.#groups[this.#placeGroups[place]!]!, this.#nowMs)
  #nowMs = 0
  /** The group that `sweep` looks at next. */
  #swept = 0

  /**
   * Takes the configuration, at start and whenever it or a resolv.conf has changed. A group with
   * the same servers keeps its number, and with it what the cache holds of it.
   * @param groups  servers of each group, at most SERVERS_MAX
   * @param zones  `group` is an index into `groups`
   * @param standIns  whom we stand in for among the servers that questions are intercepted to
   * @param nowMs  from now on what is not configured any more is idle
   */
  configure(
    groups: readonly (readonly Server[])[],
    zones: readonly Zone[],
    standIns: readonly Endpoint[],
    nowMs: number,
  ): void {
    for (const group of this.#groups) {
      if (group?.isConfigured !== true) continue
      group.isConfigured = false
      group.health.usedMs = nowMs
    }
    const numbers = groups.map((servers) => this.#configured(servers, nowMs))
    this.#zones = zones
      .map((zone) => ({ name: zone.name, group: numbers[zone.group]! }))
      .sort((a, b) => b.name.length - a.name.length)
    this.configured = [...new Map(this.#zones.map((zone) => [zone.group, zone])).values()]
    this.#standIns = standIns
  }

  servers(group: number): readonly Server[] {
    return this.#groups[group]!.servers
  }

  health(group: number): GroupHealth {
    return this.#groups[group]!.health
  }

  /** Numbers of the groups that there are. */
  numbers(): number[] {
    return [...this.#groups.keys()].filter((group) => this.#groups[group] !== null)
  }

  /** The zones that are asked of it. */
  zonesOf(group: number): Uint8Array[] {
    return this.#zones.filter((zone) => zone.group === group).map(({ name }) => name)
  }

  /**
   * A hash over the servers of a configured group: the same in every process that has them,
   * whatever its numbers. 0 for a server that a client chose: whoever can choose an address can
   * choose one whose hash is another group's, so these are never spoken of.
   */
  groupId(group: number): number {
    return this.#groups[group]?.id ?? 0
  }

  /** The configured group with that id, or NO_GROUP. */
  groupOfId(id: number): number {
    if (id === 0) return NO_GROUP
    for (let group = 0; group < this.#groups.length; group++) {
      if (this.#groups[group]?.id === id) return group
    }
    return NO_GROUP
  }

  /** Looks at one group: unless it is configured, it has its number for as long as it is used. */
  sweep(nowMs: number): void {
    if (this.#swept >= this.#groups.length) this.#swept = 0
    const number = this.#swept++
    const group = this.#groups[number]
    if (group === undefined || group === null || group.isConfigured) return
    if (nowMs - group.health.usedMs > IDLE_MS && isFree(group, nowMs)) this.#forget(number, nowMs)
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
    nowMs: number,
  ): number {
    if (family === 0) return this.#zone(name, nameAt, nameBytes)
    for (const standIn of this.#standIns) {
      if (isServer(standIn, family, server, serverAt, serverPort)) {
        return this.#zone(name, nameAt, nameBytes)
      }
    }
    for (let group = 0; group < this.#groups.length; group++) {
      const known = this.#groups[group]!
      if (known === null || known.id !== 0) continue
      if (!isServer(known.servers[0]!, family, server, serverAt, serverPort)) continue
      known.health.usedMs = nowMs
      this.#places.use(known.place, nowMs)
      return group
    }
    const place = this.#makePlace(client, nowMs)
    if (place === NO_PLACE) return NO_GROUP
    const address = server.slice(serverAt, serverAt + (family === 4 ? 4 : 16))
    const chosen: Server = {
      family: family === 4 ? 4 : 6,
      address,
      port: serverPort,
      transport: 'udp',
    }
    const group = this.#add([chosen], 0, place, nowMs)
    this.#places.take(place, client, nowMs)
    this.#placeGroups[place] = group
    return group
  }

  /** A place for one more server of this client's choice, or NO_PLACE. */
  #makePlace(client: number, nowMs: number): number {
    this.#nowMs = nowMs
    const place = this.#places.find(client, this.#isIdle)
    if (place === NO_PLACE) this.refusedCount++
    else if (this.#places.isTaken(place)) {
      this.gaveWayCount++
      this.#forget(this.#placeGroups[place]!, nowMs)
    }
    return place
  }

  #configured(servers: readonly Server[], nowMs: number): number {
    assert(servers.length <= SERVERS_MAX, 'a group has a bounded number of servers')
    const id = idOf(servers)
    const known = this.groupOfId(id)
    const number = known === NO_GROUP ? this.#add(servers, id, NO_PLACE, nowMs) : known
    this.#groups[number]!.isConfigured = true
    return number
  }

  #add(servers: readonly Server[], id: number, place: number, nowMs: number): number {
    const health = new GroupHealth(servers.length, nowMs)
    const group: Group = { servers, id, place, health, isConfigured: false }
    const free = this.#groups.indexOf(null)
    if (free < 0) return this.#groups.push(group) - 1
    this.#groups[free] = group
    return free
  }

  #forget(group: number, nowMs: number): void {
    const { place } = this.#groups[group]!
    if (place !== NO_PLACE) this.#places.leave(place)
    this.#groups[group] = null
    this.onForget(group, nowMs)
  }

  #zone(name: Uint8Array, nameAt: number, nameBytes: number): number {
    for (const zone of this.#zones) {
      if (isInZone(name, nameAt, nameBytes, zone.name)) return zone.group
    }
    return NO_GROUP
  }
}

/** Whether nothing is under way, or was a moment ago, that would come back as the group's. */
function isFree({ health }: Group, nowMs: number): boolean {
  return health.inFlight === 0 && health.usedMs < nowMs
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
