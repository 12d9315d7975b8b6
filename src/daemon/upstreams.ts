/**
 * Upstream groups from the configuration, with the servers that resolv.conf files name; the files
 * are watched, because they change when a node gets another network.
 */
import { readFileSync } from 'node:fs'
import type { Config, UpstreamConfig } from '../config/load.ts'
import { formatAddress, parseAddress } from '../identity/address.ts'
import { lookEvery } from '../linux/looks.ts'
import type { Log } from '../log.ts'
import { parseResolvConf } from '../upstream/resolv-conf.ts'
import { type Endpoint, type Server, SERVERS_MAX } from '../upstream/routes.ts'
import { parseName } from '../wire/text.ts'
import type { UpstreamTable } from '../worker/message.ts'

const DNS_PORT = 53
const TLS_PORT = 853
const LOOK_MS = 1000

export class UpstreamSource {
  readonly #log: Log
  #config: Config
  #texts = new Map<string, string>()
  #looks: Disposable | null = null

  constructor(config: Config, log: Log) {
    this.#config = config
    this.#log = log
    this.#read()
  }

  table(): UpstreamTable {
    const { upstreams, listen, intercept } = this.#config
    return {
      groups: upstreams.map((upstream) => this.#servers(upstream)),
      zones: upstreams.flatMap(({ zones }, group) =>
        zones.map((zone) => ({ name: parseName(zone === '.' ? '.' : `${zone}.`), group })),
      ),
      standIns: [
        ...listen.addresses.map((address) => endpoint(address, listen.port)),
        ...(intercept?.servers ?? []).map((address) => endpoint(address, DNS_PORT)),
      ],
    }
  }

  /** Who is asked for names of no other zone. */
  rootServers(): { address: string; port: number }[] {
    const root = this.#config.upstreams.find(({ zones }) => zones.includes('.'))
    if (root === undefined) return []
    return this.#servers(root).map(({ family, address, port }) => {
      return { address: formatAddress(address, 0, family), port }
    })
  }

  /** Another configuration holds from now on. */
  configure(config: Config): void {
    this.#config = config
    this.#read()
  }

  /** Calls `changed` when a file names other servers. */
  watch(changed: (table: UpstreamTable) => void): void {
    this.#looks = lookEvery(LOOK_MS, () => {
      if (this.#read()) changed(this.table())
    })
  }

  close(): void {
    this.#looks?.[Symbol.dispose]()
  }

  /** Reads every file anew; true when one says something else than before. */
  #read(): boolean {
    let hasChanged = false
    for (const path of filesOf(this.#config)) {
      const text = this.#readFile(path)
      // A file that is being replaced may be missing or empty for a moment: what it said stays.
      if (text === null || text === this.#texts.get(path)) continue
      const { servers, faults } = parseResolvConf(text)
      for (const { line, message } of faults) this.#log.warn({ file: path, line }, message)
      if (servers.length === 0 && this.#texts.has(path)) {
        this.#log.warn({ file: path }, 'names no server any more: the ones before are kept')
        continue
      }
      this.#texts.set(path, text)
      hasChanged = true
      this.#log.info(
        { file: path, servers: servers.map(({ address }) => address) },
        'upstreams read',
      )
    }
    return hasChanged
  }

  #readFile(path: string): string | null {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      if (!this.#texts.has(path)) {
        this.#log.warn({ file: path, error: (error as Error).message }, 'upstreams cannot be read')
        this.#texts.set(path, '')
      }
      return null
    }
  }

  #servers({ servers, transport, identity }: UpstreamConfig): Server[] {
    const found: Server[] = []
    for (const server of servers) {
      const ends =
        server.kind === 'address'
          ? [server]
          : parseResolvConf(this.#texts.get(server.path) ?? '').servers
      for (const { address, port } of ends) {
        if (identity === null) found.push({ ...endpoint(address, port), transport })
        // A resolv.conf does not know of TLS: it means the server, not the port.
        else {
          const tlsPort = server.kind === 'file' && port === DNS_PORT ? TLS_PORT : port
          found.push({ ...endpoint(address, tlsPort), transport, identity })
        }
      }
    }
    return found.slice(0, SERVERS_MAX)
  }
}

function filesOf(config: Config): Set<string> {
  const files = config.upstreams.flatMap(({ servers }) =>
    servers.flatMap((server) => (server.kind === 'file' ? [server.path] : [])),
  )
  return new Set(files)
}

function endpoint(text: string, port: number): Endpoint {
  const address = parseAddress(text)!
  return { family: address.length === 4 ? 4 : 6, address, port }
}
