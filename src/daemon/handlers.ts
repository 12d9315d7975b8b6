/**
 * What a daemon answers on its control socket: the rows of `status`, `observe` and the lists. Made
 * on request from what the parts know; nothing is kept for it. What walks over flows or grants does
 * so in slices (observe/turns.ts), as the control server does with rows: the worker ends the process
 * when this thread stands still.
 */
import { decodeFlow, type Flow } from '../flow/decode.ts'
import { FLOW_VERDICT, VERDICT_DENIED } from '../flow/record.ts'
import { formatAddress } from '../identity/address.ts'
import { ControlError, type Handler } from '../observe/control.ts'
import type { HistoryCursor } from '../observe/history.ts'
import { observeHandler } from '../observe/observe.ts'
import type { CacheRow, ClearedRow, ExplainCause, ExplainRow, GrantRow } from '../observe/rows.ts'
import { filterInSlices, Slice } from '../observe/turns.ts'
import { explain, parseTarget, type Target } from '../policy/explain.ts'
import { formatPorts } from '../policy/port-set.ts'
import type { PortRange } from '../policy/snapshot.ts'
import { Answer, KIND_NODATA, KIND_NXDOMAIN, KIND_POSITIVE, parseAnswer } from '../wire/answer.ts'
import { QUESTION_AT } from '../wire/header.ts'
import { isInZone } from '../wire/name.ts'
import { formatName, formatType, parseName } from '../wire/text.ts'
import type { CacheRow as StoredAnswer } from '../worker/message.ts'
import type { DaemonView } from './view.ts'
import { policyStates, statusOf } from './status.ts'

export function handlersOf(daemon: DaemonView): Readonly<Record<string, Handler>> {
  return {
    status: async function* () {
      yield await statusOf(daemon)
    },
    observe: observeHandler(daemon.history, daemon.directory, daemon.config.node),
    'policy-list': async function* () {
      yield* policyStates(daemon)
    },
    'cache-list': (args) => listCache(daemon, textOf(args, 'name')),
    'cache-clear': (args) => clearCache(daemon, textOf(args, 'name')),
    'grants-list': (args) => listGrants(daemon, textOf(args, 'client')),
    explain: (args) => explainTarget(daemon, textOf(args, 'client'), textOf(args, 'target')),
  }
}

function textOf(args: Readonly<Record<string, unknown>>, key: string): string | null {
  const value = args[key]
  if (value === undefined) return null
  if (typeof value === 'string') return value
  throw new ControlError('bad-request', `'${key}' is a text`)
}

/** The answers for a name and those below it, or all. */
async function* storedAnswers(
  daemon: DaemonView,
  below: string | null,
): AsyncGenerator<StoredAnswer> {
  const zone = below === null ? null : parseZone(below)
  let cursor = 0
  while (cursor >= 0) {
    const reply = await daemon.dataPlane.ask({ kind: 'cache-list', cursor })
    cursor = reply.cursor
    for (const row of reply.rows)
      if (zone === null || isInZone(row.name, 0, row.name.length, zone)) yield row
  }
}

async function* listCache(daemon: DaemonView, below: string | null): AsyncGenerator<CacheRow> {
  for await (const stored of storedAnswers(daemon, below)) {
    yield {
      name: formatName(stored.name),
      type: formatType(stored.type),
      kind: kindText(stored.kind),
      ttlSeconds: stored.remainingSeconds,
      addresses: addressesOf(stored),
      bytes: stored.message.length,
    }
  }
}

async function* clearCache(daemon: DaemonView, below: string | null): AsyncGenerator<ClearedRow> {
  if (below === null) {
    const { count } = await daemon.dataPlane.ask({ kind: 'cache-clear', name: null })
    yield { cleared: count }
    return
  }
  // First all names, then the clearing: a cursor does not outlive changes.
  const names = new Map<string, Uint8Array>()
  for await (const { name } of storedAnswers(daemon, below)) names.set(formatName(name), name)
  let cleared = 0
  for (const name of names.values()) {
    const { count } = await daemon.dataPlane.ask({ kind: 'cache-clear', name })
    cleared += count
  }
  yield { cleared }
}

async function* listGrants(daemon: DaemonView, client: string | null): AsyncGenerator<GrantRow> {
  if (daemon.structure === null) return
  const portSets = new Map(daemon.snapshot.portSets.map((set) => [set.id, portsText(set.ports)]))
  const grants = await daemon.structure.readGrants()
  const namesOf = await daemon.directory.names()
  for (const grant of grants) {
    const known = daemon.directory.endpoint(grant.client)
    const name = known === null ? grant.client : `${known.namespace}/${known.name}`
    if (client !== null && client !== name && client !== grant.client) continue
    yield {
      client: name,
      clientAddress: grant.client,
      address: grant.address,
      names: namesOf(grant.client, grant.address),
      ports: portSets.get(grant.portSet) ?? `port set ${grant.portSet}`,
      remainingSeconds: Math.ceil(grant.remainingMs / 1000),
    }
  }
}

async function* explainTarget(
  daemon: DaemonView,
  client: string | null,
  text: string | null,
): AsyncGenerator<ExplainRow> {
  const target = text === null ? null : parseTarget(text)
  if (client === null || target === null) {
    throw new ControlError('bad-request', 'explain takes a client and a name or address')
  }
  const { snapshot, standIns } = daemon
  const explanation = explain(snapshot, client, target, standIns)
  const entry = explanation.client
  const causes: ExplainCause[] = explanation.causes.map((cause) => ({ ...cause, since: null }))
  let { isAllowed } = explanation
  if (target.address !== null && entry !== null && entry.subject >= 0) {
    const seen = await grantCauses(daemon, entry.addresses, target.address, target.port)
    causes.push(...seen.causes)
    isAllowed ||= seen.isOpen
  }
  if (!isAllowed) {
    const last = await lastDenial(daemon, entry?.addresses ?? [client], target)
    if (last !== null) causes.push(last)
  }
  yield {
    client: entry === null ? client : `${entry.namespace}/${entry.name}`,
    target: text!,
    isAllowed,
    causes,
  }
}

/** What answers have opened: the kernel knows, not the policy. */
async function grantCauses(
  daemon: DaemonView,
  clients: readonly string[],
  address: string,
  port: number | null,
): Promise<{ isOpen: boolean; causes: ExplainCause[] }> {
  if (daemon.structure === null) return { isOpen: false, causes: [] }
  const portSets = new Map(daemon.snapshot.portSets.map((set) => [set.id, set.ports]))
  const causes: ExplainCause[] = []
  let isOpen = false
  const grants = await filterInSlices(
    await daemon.structure.readGrants(),
    (grant) => grant.address === address && clients.includes(grant.client),
  )
  const namesOf = await daemon.directory.names()
  for (const grant of grants) {
    const ports = portSets.get(grant.portSet) ?? []
    const isPort = port === null || ports.length === 0 || ports.some((range) => has(range, port))
    const names = namesOf(grant.client, address)
    const by = names.length === 0 ? 'an answer' : `the answer to ${names.join(', ')}`
    const left = Math.ceil(grant.remainingMs / 1000)
    isOpen ||= isPort
    causes.push({
      code: isPort ? 'granted' : 'port-not-open',
      policy: '',
      text: `${by} opened ${address} for ports ${portsText(ports)}; ${left} s are left`,
      since: null,
    })
  }
  if (causes.length === 0) {
    const names = namesOf(clients[0]!, address)
    const text =
      names.length === 0
        ? 'this client got the address in no answer that is still known'
        : `this client got the address for ${names.join(', ')}, which opens nothing or has run out`
    causes.push({ code: 'not-granted', policy: '', text, since: null })
  }
  return { isOpen, causes }
}

/** The latest flow in which exactly this was refused. */
async function lastDenial(
  { history }: DaemonView,
  clients: readonly string[],
  target: Target,
): Promise<ExplainCause | null> {
  const { end } = history
  const cursor = history.cursor(0)
  const slice = new Slice()
  let found: Flow | null = null
  while (cursor.sequence < end && cursor.next()) {
    const flow = denialAt(cursor)
    const isIt = flow !== null && clients.includes(flow.source.address) && isAbout(flow, target)
    if (isIt) found = flow
    if (slice.isOver) await slice.next()
  }
  if (found === null) return null
  const text = `it was refused last from port ${found.source.port}`
  return { code: found.reason, policy: '', text, since: new Date(found.timeMs).toISOString() }
}

/** Decodes only what was denied: it is little, as a rule. */
function denialAt({ bytes, recordAt, recordBytes }: HistoryCursor): Flow | null {
  const isDenied = recordBytes > FLOW_VERDICT && bytes[recordAt + FLOW_VERDICT] === VERDICT_DENIED
  return isDenied ? decodeFlow(bytes, recordAt, recordBytes) : null
}

function isAbout(flow: Flow, { name, address }: Target): boolean {
  return flow.type === 'question'
    ? name !== null && flow.name === `${name}.`
    : flow.destination.address === address
}

function addressesOf(stored: StoredAnswer): string[] {
  const { message } = stored
  const answer = new Answer()
  const questionBytes = stored.name.length + 4
  if (parseAnswer(message, 0, message.length, message, QUESTION_AT, questionBytes, answer) !== 0) {
    return []
  }
  const addresses: string[] = []
  for (let index = 0; index < answer.addressCount; index++) {
    const family = answer.addressFamilies[index] === 4 ? 4 : 6
    addresses.push(formatAddress(message, answer.addressOffsets[index]!, family))
  }
  return addresses
}

function kindText(kind: number): CacheRow['kind'] {
  switch (kind) {
    case KIND_POSITIVE:
      return 'positive'
    case KIND_NXDOMAIN:
      return 'nxdomain'
    case KIND_NODATA:
      return 'nodata'
    default:
      return 'failure'
  }
}

function portsText(ports: readonly PortRange[]): string {
  return ports.length === 0 ? 'all' : formatPorts(ports)
}

function has(range: PortRange, port: number): boolean {
  return port >= range.first && port <= range.last
}

function parseZone(text: string): Uint8Array {
  try {
    return parseName(text.endsWith('.') ? text : `${text}.`)
  } catch (error) {
    throw new ControlError('bad-request', (error as Error).message)
  }
}
