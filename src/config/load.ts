/**
 * The configuration file → one typed, frozen Config, or every fault in it.
 *
 * bin/ reads it once at start and again on SIGHUP or when the file changes; a file with faults
 * changes nothing, the former Config stays in force. What the machine adds (user, home, host name)
 * comes in as MachineFacts, so that the same text gives the same Config everywhere.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parseDocument } from 'yaml'
import { canonicalAddress } from '../identity/address.ts'
import { readCertificates } from './certificates.ts'
import { type ConfigFault, ConfigDocument, type Values } from './document.ts'
import type { Mark, UpstreamServer, WrittenServer } from './values.ts'

export interface Config {
  /** Absolute path of the file this was read from. */
  readonly file: string
  readonly node: string
  /** Absolute paths of directories. */
  readonly state: string
  readonly run: string
  readonly listen: { readonly addresses: readonly string[]; readonly port: number }
  /** null: only what is sent to `listen` is served. */
  readonly intercept: InterceptConfig | null
  readonly upstreams: readonly UpstreamConfig[]
  readonly cache: CacheConfig
  readonly limits: LimitsConfig
  /** null: no policy, nobody is governed. */
  readonly policy: PolicyConfig | null
  readonly clients: { readonly file: string | null; readonly unknown: 'open' | 'closed' }
}

export interface InterceptConfig {
  /** Names of interfaces; a final '*' stands for any ending. */
  readonly interfaces: readonly string[]
  readonly mark: Mark
  readonly routingTable: number
  readonly rulePriority: number
  /** Addresses, canonical. */
  readonly servers: readonly string[]
  /** Whether processes of the node itself are among those who are intercepted. */
  readonly node: boolean
}

export interface UpstreamConfig {
  /** Lower case, no final dot; '.' is the root. No zone is in two upstreams. */
  readonly zones: readonly string[]
  readonly servers: readonly UpstreamServer[]
  readonly transport: 'udp' | 'tcp' | 'tls'
  /** With tls, and only then: whom to trust. */
  readonly identity: {
    readonly serverName: string | null
    readonly pins: readonly string[]
    /** What caFile holds: authorities in PEM. null: those that Node trusts. */
    readonly authorities: string | null
  } | null
}

/** The mapping as it was read. */
interface WrittenUpstream extends Pick<UpstreamConfig, 'zones' | 'transport'> {
  readonly servers: readonly WrittenServer[]
  readonly serverName: string | null
  readonly pins: readonly string[]
  readonly caFile: string | null
}

export interface CacheConfig {
  readonly sizeBytes: number
  readonly maxTtlSeconds: number
  readonly minTtlSeconds: number
  readonly maxNegativeTtlSeconds: number
  readonly serveStaleSeconds: number
  readonly prefetch: boolean
  readonly nothingBelowNxdomain: boolean
  readonly rotate: boolean
}

/** Of one client, in each process. */
export interface LimitsConfig {
  /** 0: no bound. */
  readonly queriesPerSecond: number
  /** New ones of one timeout class, in the time that such grants last. */
  readonly grants: number
}

export interface PolicyConfig {
  readonly directory: string
  readonly denyResponse: 'refused' | 'nxdomain' | 'nodata'
  readonly mode: 'enforce' | 'audit'
}

/** What the defaults depend on. */
export interface MachineFacts {
  readonly hostName: string
  readonly userId: number
  readonly homeDirectory: string
  /** $XDG_STATE_HOME and $XDG_RUNTIME_DIR; '' when unset. */
  readonly stateHome: string
  readonly runtimeDirectory: string
}

/** The file cannot be used; `faults` says all that is wrong, in the order of the file. */
export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly faults: readonly ConfigFault[]

  constructor(faults: readonly ConfigFault[]) {
    super(faults.map(formatFault).join('\n'))
    this.faults = faults
  }
}

/** 'namegate.yaml:3:5: cache.size: …' */
export function formatFault(fault: ConfigFault): string {
  const key = fault.key === '' ? '' : ` ${fault.key}:`
  return `${fault.file}:${fault.line}:${fault.column}:${key} ${fault.message}`
}

/** Reads `file`; throws ConfigError for what is wrong in it, or when it cannot be read. */
export function loadConfig(file: string, machine: MachineFacts): Config {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const message = `cannot be read: ${(error as Error).message}; give the path with -c FILE`
    throw new ConfigError([{ file, line: 1, column: 1, key: '', message }])
  }
  return readConfig(text, file, machine)
}

/** Like loadConfig, with the text at hand. */
export function readConfig(text: string, file: string, machine: MachineFacts): Config {
  const absolute = path.resolve(file)
  const document = new ConfigDocument(text, file, { directory: path.dirname(absolute) })
  const values = document.read()
  const authorities = new Map<string, string>()
  if (document.faults.length === 0) checkTogether(values, authorities, document)
  if (document.faults.length > 0) {
    throw new ConfigError(
      [...document.faults].sort((a, b) => a.line - b.line || a.column - b.column),
    )
  }
  return freeze(assemble(values, authorities, absolute, machine))
}

/**
 * Where `run` is by a file that need not be good otherwise: commands ask the daemons, which go on
 * with the last good file while this one is being repaired.
 */
export function readRun(text: string, file: string, machine: MachineFacts): string {
  const run: unknown = parseDocument(text).get('run')
  if (typeof run !== 'string') return defaultRun(machine)
  return path.resolve(path.dirname(path.resolve(file)), run)
}

/** Where `run` is when the file does not say. */
export function defaultRun(machine: MachineFacts): string {
  if (machine.userId === 0) return '/run/namegate'
  if (machine.runtimeDirectory !== '') return path.join(machine.runtimeDirectory, 'namegate')
  return `/tmp/namegate-${machine.userId}`
}

function defaultState(machine: MachineFacts): string {
  if (machine.userId === 0) return '/var/lib/namegate'
  const home = machine.stateHome || path.join(machine.homeDirectory, '.local', 'state')
  return path.join(home, 'namegate')
}

/** Gives the values of options.ts their types and units. */
function assemble(
  values: Values,
  authorities: Authorities,
  file: string,
  machine: MachineFacts,
): Config {
  const cache = values['cache'] as Record<string, number | boolean>
  const clients = values['clients'] as Values
  return {
    file,
    node: (values['node'] as string | null) ?? machine.hostName,
    state: (values['state'] as string | null) ?? defaultState(machine),
    run: (values['run'] as string | null) ?? defaultRun(machine),
    listen: values['listen'] as Config['listen'],
    intercept: values['intercept'] as Config['intercept'],
    upstreams: (values['upstreams'] as WrittenUpstream[]).map((written) =>
      assembleUpstream(written, authorities),
    ),
    cache: {
      sizeBytes: cache['size'] as number,
      maxTtlSeconds: cache['maxTtl'] as number,
      minTtlSeconds: cache['minTtl'] as number,
      maxNegativeTtlSeconds: cache['maxNegativeTtl'] as number,
      serveStaleSeconds: cache['serveStale'] as number,
      prefetch: cache['prefetch'] as boolean,
      nothingBelowNxdomain: cache['nothingBelowNxdomain'] as boolean,
      rotate: cache['rotate'] as boolean,
    },
    limits: values['limits'] as Config['limits'],
    policy: values['policy'] as Config['policy'],
    clients: {
      file: clients['file'] as string | null,
      unknown: clients['unknown'] as 'open' | 'closed',
    },
  }
}

function assembleUpstream(written: WrittenUpstream, authorities: Authorities): UpstreamConfig {
  const { zones, transport, serverName, pins, caFile } = written
  const servers = written.servers.map((server) =>
    server.kind === 'file' ? server : { ...server, port: server.port ?? PORTS[transport] },
  )
  if (transport !== 'tls') return { zones, servers, transport, identity: null }
  const trusted = caFile === null ? null : authorities.get(caFile)!
  return { zones, servers, transport, identity: { serverName, pins, authorities: trusted } }
}

const PORTS = { udp: 53, tcp: 53, tls: 853 } as const

/** What is in each caFile, by its path. */
type Authorities = ReadonlyMap<string, string>

/** What must hold between keys that are each fine alone. */
function checkTogether(
  values: Values,
  authorities: Map<string, string>,
  document: ConfigDocument,
): void {
  const cache = values['cache'] as { minTtl: number; maxTtl: number }
  if (cache.minTtl > cache.maxTtl) document.faultAt('cache.minTtl', 'is more than cache.maxTtl')

  const listen = values['listen'] as Config['listen']
  for (const [index, address] of listen.addresses.entries()) {
    if (address === '0.0.0.0' || address === '::') {
      const why =
        'a wildcard would serve DNS to everybody who reaches this node; name the addresses'
      document.faultAt(`listen.addresses[${index}]`, why)
    }
    if (listen.addresses.indexOf(address) !== index) {
      document.faultAt(`listen.addresses[${index}]`, 'is listed twice')
    }
  }
  const zones = new Map<string, string>()
  for (const [index, upstream] of (values['upstreams'] as WrittenUpstream[]).entries()) {
    checkUpstream(upstream, `upstreams[${index}]`, listen, zones, document)
    readAuthorities(upstream, `upstreams[${index}].caFile`, authorities, document)
  }
}

/** @param zones  zones seen so far, and where */
function checkUpstream(
  upstream: WrittenUpstream,
  key: string,
  listen: Config['listen'],
  zones: Map<string, string>,
  document: ConfigDocument,
): void {
  for (const [index, zone] of upstream.zones.entries()) {
    const place = `${key}.zones[${index}]`
    const other = zones.get(zone)
    if (other !== undefined) document.faultAt(place, `'${zone}' stands already at ${other}`)
    else zones.set(zone, place)
  }
  checkIdentity(upstream, key, document)
  for (const [index, server] of upstream.servers.entries()) {
    if (server.kind !== 'address') continue
    if ((server.port ?? PORTS[upstream.transport]) !== listen.port) continue
    if (listen.addresses.includes(server.address)) {
      const why = 'is our own listen address: questions would go round in a circle'
      document.faultAt(`${key}.servers[${index}]`, why)
    }
  }
}

/** Whom to trust must be said with tls (never "whoever answers"), and means nothing without. */
function checkIdentity(upstream: WrittenUpstream, key: string, document: ConfigDocument): void {
  const { transport, serverName, pins } = upstream
  if (transport !== 'tls') {
    const stray = serverName !== null ? 'serverName' : pins.length > 0 ? 'pins' : null
    if (stray !== null) document.faultAt(`${key}.${stray}`, 'means nothing without transport: tls')
    return
  }
  if (serverName === null && pins.length === 0) {
    const why = 'needs serverName, pins or both: without, whoever answers would be trusted'
    document.faultAt(`${key}.transport`, why)
  }
  if (serverName !== null && !isServerName(serverName)) {
    document.faultAt(`${key}.serverName`, `'${serverName}' is no host name and no address`)
  }
  for (const [index, pin] of pins.entries()) {
    if (/^[A-Za-z0-9+/]{43}=$/.test(pin)) continue
    const why = 'is no pin; write SHA-256 of the public key in base64, 44 characters'
    document.faultAt(`${key}.pins[${index}]`, why)
  }
}

/** Reads a caFile, with the configuration: one that can't be used is a fault in it like any other. */
function readAuthorities(
  { caFile, transport, serverName }: WrittenUpstream,
  key: string,
  authorities: Map<string, string>,
  document: ConfigDocument,
): void {
  if (caFile === null || authorities.has(caFile)) return
  if (transport !== 'tls' || serverName === null) {
    document.faultAt(key, 'means nothing without transport: tls and serverName')
    return
  }
  try {
    authorities.set(caFile, readCertificates(caFile))
  } catch (error) {
    document.faultAt(key, `cannot be used: ${caFile}: ${(error as Error).message}`)
  }
}

function isServerName(text: string): boolean {
  if (canonicalAddress(text) !== null) return true
  return text.length <= 253 && text.split('.').every((label) => /^[\w-]{1,63}$/.test(label))
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) freeze(part)
    Object.freeze(value)
  }
  return value
}
