/**
 * A datapath in memory: what the kernel does with a ruleset and grants, without a kernel.
 *
 * In-process scenario tests use it, with a clock that they move and faults that they ask for. It
 * passes the same conformance suite as the real one (datapath/conformance.ts): where the two would
 * differ, the suite gets a test.
 *
 * What must stay true: it is strict where the kernel is. A grant is written only by a worker whose
 * alive element stands; it opens for its client alone, on its ports alone, until its class's time is
 * over; a ruleset that is gone opens nothing for governed clients (the guard).
 */
import { assert } from '../../assert.ts'
import type { PlacedClient, Ruleset, RulesetDestination } from '../../grant/ruleset.ts'
import { CLASS_COUNT, TIMEOUT_CLASS_SECONDS } from '../../grant/timeout-class.ts'
import { formatAddress, parseAddress } from '../../identity/address.ts'
import { isCovered, parsePrefix } from '../../identity/prefix.ts'
import type { PortRange } from '../../policy/snapshot.ts'
import { ALIVE_MS, type Driver, type GrantEntry, type GrantWriter } from '../driver.ts'

const CAPACITY = 64

export interface Clock {
  readonly nowMs: number
}

export type Protocol = 'tcp' | 'udp' | 'sctp'

/** What became of a DNS query on its way: to our sockets, on to the server, or nowhere. */
export type DnsWay = 'us' | 'server' | 'nowhere'

/**
 * What the writer meets. 'failing': the kernel takes nothing. 'full': it extends what is there and
 * takes nothing new.
 */
export type Fault = 'none' | 'failing' | 'full'

export class MemoryDatapath implements Driver {
  fault: Fault = 'none'
  readonly #clock: Clock
  #ruleset: Ruleset | null = null
  /** The last ruleset that was applied: the guard's. Survives `vanish`, not `remove`. */
  #guard: Ruleset | null = null
  /** 'port set|class|client|address' → ms when it ends. */
  readonly #grants = new Map<string, number>()
  readonly #alive = new Map<number, number>()
  /** Until when questions are intercepted for somebody's sake. */
  #anybodyMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  apply(ruleset: Ruleset): Promise<void> {
    this.#ruleset = ruleset
    this.#guard = ruleset
    const ids = new Set(ruleset.portSets.map((portSet) => portSet.id))
    for (const key of this.#grants.keys())
      if (!ids.has(key.split('|')[0]!)) this.#grants.delete(key)
    return Promise.resolve()
  }

  verify(ruleset: Ruleset): Promise<'same' | string> {
    if (this.#ruleset === null) return Promise.resolve('the ruleset is missing')
    const isSame = JSON.stringify(this.#ruleset) === JSON.stringify(ruleset)
    return Promise.resolve(isSame ? 'same' : 'another ruleset is there')
  }

  readGrants(): Promise<GrantEntry[]> {
    const grants: GrantEntry[] = []
    for (const [key, endMs] of this.#grants) {
      const [portSet = '', classIndex, client = '', address = ''] = key.split('|')
      const timeoutSeconds = TIMEOUT_CLASS_SECONDS[Number(classIndex)]!
      const remainingMs = endMs - this.#clock.nowMs
      if (remainingMs > 0) grants.push({ client, address, portSet, timeoutSeconds, remainingMs })
    }
    return Promise.resolve(grants)
  }

  async readAlive(): Promise<number[]> {
    const { nowMs } = this.#clock
    return [...this.#alive].filter(([, endMs]) => endMs > nowMs).map(([place]) => place)
  }

  revoke(grants: readonly GrantEntry[]): Promise<void> {
    for (const { portSet, timeoutSeconds, client, address } of grants) {
      const classIndex = TIMEOUT_CLASS_SECONDS.findIndex((seconds) => seconds === timeoutSeconds)
      this.#grants.delete(grantKey(portSet, classIndex, client, address))
    }
    return Promise.resolve()
  }

  remove(): Promise<void> {
    this.#guard = null
    this.vanish()
    return Promise.resolve()
  }

  /** Somebody else flushed the rules: grants and alive elements are gone with them. */
  vanish(): void {
    this.#ruleset = null
    this.#grants.clear()
    this.#alive.clear()
    this.#anybodyMs = 0
  }

  /** The writer of the process at `place`. */
  writer(place: number): GrantWriter {
    return new MemoryGrantWriter(this, place)
  }

  /** Whether the client can connect there now. Addresses as text, the client's own source. */
  isOpen(client: string, address: string, protocol: Protocol, port: number): boolean {
    const ruleset = this.#ruleset
    if (ruleset === null) return !isGoverned(this.#guard, client)
    if (ruleset.mode === 'audit') return true
    if (ruleset.unplaced.some((unplaced) => unplaced.address === client)) return false
    const placed = placedClient(ruleset, client)
    if (placed === undefined) return ruleset.unknown === 'open'
    if (placed.subject === null) return true
    const subject = ruleset.subjects.find((candidate) => candidate.id === placed.subject)!
    const rule = subject.destinations.find((destination) =>
      isDestination(destination, address, protocol, port),
    )
    if (rule !== undefined) return rule.verdict === 'allow'
    return subject.opens.some((opened) => {
      const { ports } = ruleset.portSets.find((portSet) => portSet.id === opened.portSet)!
      return hasPort(ports, protocol, port) && this.#hasGrant(opened.portSet, client, address)
    })
  }

  /** Where a query from this client to this server goes now. */
  wayOfDns(client: string, server: string): DnsWay {
    const ruleset = this.#ruleset
    if (ruleset === null) return isGoverned(this.#guard, client) ? 'nowhere' : 'server'
    const isV6 = server.includes(':')
    const hasSocket = (isV6 ? ruleset.sockets.v6 : ruleset.sockets.v4) !== null
    const anybody = this.#anybodyMs > this.#clock.nowMs
    const placed = placedClient(ruleset, client)
    const isClosed = placed === undefined ? ruleset.unknown === 'closed' : placed.subject !== null
    if (ruleset.mode === 'enforce') {
      if (ruleset.unplaced.some((unplaced) => unplaced.address === client)) return 'nowhere'
      if (isClosed) return hasSocket ? 'us' : 'nowhere'
    }
    const isMeant = isClosed || ruleset.servers.includes(server)
    return isMeant && anybody && hasSocket ? 'us' : 'server'
  }

  /** For writers: whether there are rules that judge a grant. */
  get hasRules(): boolean {
    return this.#ruleset !== null
  }

  /** For writers: whether the kernel took it. */
  write(place: number, client: string, address: string, setPort: number): boolean {
    const ruleset = this.#ruleset
    const nowMs = this.#clock.nowMs
    if (ruleset === null || this.fault === 'failing') return false
    if ((this.#alive.get(place) ?? 0) <= nowMs) return false
    const portSet = ruleset.portSets.find((candidate) => candidate.number === setPort >>> 4)
    const classIndex = setPort & 15
    if (portSet === undefined || classIndex >= CLASS_COUNT) return false
    const key = grantKey(portSet.id, classIndex, client, address)
    const isThere = (this.#grants.get(key) ?? 0) > nowMs
    if (!isThere && this.#isFull(ruleset, key)) return false
    this.#grants.set(key, nowMs + TIMEOUT_CLASS_SECONDS[classIndex]! * 1000)
    return true
  }

  /** For writers: whether what they said last still stood. */
  refreshAlive(place: number, isLeaving: boolean): boolean {
    if (this.#ruleset === null || !this.#ruleset.places.includes(place)) return false
    const { nowMs } = this.#clock
    const stood = (this.#alive.get(place) ?? 0) > nowMs
    this.#alive.set(place, nowMs + ALIVE_MS)
    if (!isLeaving) this.#anybodyMs = nowMs + ALIVE_MS
    return stood
  }

  #isFull(ruleset: Ruleset, key: string): boolean {
    if (this.fault === 'full') return true
    const set = setOf(key)
    let count = 0
    for (const [other, endMs] of this.#grants) {
      if (endMs > this.#clock.nowMs && setOf(other) === set) count++
    }
    return count >= ruleset.grantsMax
  }

  #hasGrant(portSet: string, client: string, address: string): boolean {
    for (let classIndex = 0; classIndex < CLASS_COUNT; classIndex++) {
      const endMs = this.#grants.get(grantKey(portSet, classIndex, client, address))
      if (endMs !== undefined && endMs > this.#clock.nowMs) return true
    }
    return false
  }
}

class MemoryGrantWriter implements GrantWriter {
  readonly capacity = CAPACITY
  isUnproven = false
  readonly #datapath: MemoryDatapath
  readonly #place: number
  readonly #batch: { client: string; address: string; setPort: number }[] = []
  #isInForce: boolean[] = []

  constructor(datapath: MemoryDatapath, place: number) {
    this.#datapath = datapath
    this.#place = place
  }

  push(
    family: number,
    client: Uint8Array,
    clientAt: number,
    address: Uint8Array,
    addressAt: number,
    setPort: number,
  ): number {
    assert(this.#batch.length < this.capacity, 'a batch takes no more than its capacity')
    assert(family === 4 || family === 6, 'a family is 4 or 6')
    this.#batch.push({
      client: formatAddress(client, clientAt, family),
      address: formatAddress(address, addressAt, family),
      setPort,
    })
    return this.#batch.length - 1
  }

  flush(): number {
    this.isUnproven = this.#batch.length > 0 && !this.#datapath.hasRules
    this.#isInForce = this.#batch.map(({ client, address, setPort }) =>
      this.#datapath.write(this.#place, client, address, setPort),
    )
    this.#batch.length = 0
    return this.#isInForce.filter((isInForce) => !isInForce).length
  }

  isInForce(index: number): boolean {
    assert(index >= 0 && index < this.#isInForce.length, 'a grant is asked about after its flush')
    return this.#isInForce[index]!
  }

  refreshAlive(isLeaving = false): boolean {
    return this.#datapath.refreshAlive(this.#place, isLeaving)
  }
}

function isGoverned(ruleset: Ruleset | null, client: string): boolean {
  if (ruleset === null || ruleset.mode === 'audit') return false
  if (ruleset.unplaced.some((unplaced) => unplaced.address === client)) return true
  return (placedClient(ruleset, client)?.subject ?? null) !== null
}

function placedClient(ruleset: Ruleset, address: string): PlacedClient | undefined {
  return ruleset.clients.find((client) => client.address === address)
}

function isDestination(
  rule: RulesetDestination,
  address: string,
  protocol: Protocol,
  port: number,
): boolean {
  const bytes = parseAddress(address)
  assert(bytes !== null, 'a destination is an address')
  const prefixes = (bytes.length === 4 ? rule.v4 : rule.v6).map((text) => parsePrefix(text)!)
  return isCovered(bytes, prefixes) && hasPort(rule.ports, protocol, port)
}

function hasPort(ports: readonly PortRange[], protocol: Protocol, port: number): boolean {
  if (ports.length === 0) return true
  return ports.some(
    (range) =>
      (range.protocol === 'any' || range.protocol === protocol) &&
      range.first <= port &&
      port <= range.last,
  )
}

function grantKey(portSet: string, classIndex: number, client: string, address: string): string {
  return `${portSet}|${classIndex}|${client}|${address}`
}

/** Port set, class and family: what is one set in the kernel. */
function setOf(key: string): string {
  const [portSet, classIndex, client = ''] = key.split('|')
  return `${portSet}|${classIndex}|${client.includes(':') ? 6 : 4}`
}
