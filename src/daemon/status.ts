/** The daemon's report on itself: observe/status.ts, filled. */
import { monotonicMs } from '../linux/process.ts'
import { formatAddress } from '../identity/address.ts'
import type {
  Aliveness,
  ClientsStatus,
  Degradation,
  KernelStatus,
  PolicyState,
  StatusReport,
  UpstreamStatus,
} from '../observe/status.ts'
import { formatName } from '../wire/text.ts'
import type { ClientEntry } from '../policy/snapshot.ts'
import type { UpstreamRow } from '../worker/message.ts'
import type { DaemonView } from './view.ts'

export async function statusOf(daemon: DaemonView): Promise<StatusReport> {
  const { role, version, config } = daemon
  const gauges = daemon.dataPlane.gauges()
  const kernel = await kernelStatus(daemon)
  const upstreams = await upstreamStatus(daemon)
  const peer = peerAliveness(daemon)
  const own: Aliveness = daemon.dataPlane.isServing ? 'alive' : 'silent'
  return {
    role,
    node: config.node,
    version,
    pid: process.pid,
    uptimeSeconds: Math.floor((monotonicMs() - daemon.startedMs) / 1000),
    degraded: degradations(daemon, kernel, upstreams, peer),
    alive: role === 'agent' ? { agent: own, proxy: peer } : { agent: peer, proxy: own },
    sockets: {
      generation: daemon.socketSet?.generation ?? 0,
      addresses: socketAddresses(daemon),
      isShared: daemon.link.peer?.isLinked ?? false,
    },
    policy: {
      revision: daemon.snapshot.revision,
      from: daemon.policyFrom,
      mode: daemon.snapshot.mode,
      policies: policyStates(daemon),
    },
    clients: clientsStatus(daemon),
    kernel,
    upstreams,
    cache: {
      entries: gauges.cacheEntries,
      bytes: gauges.cacheKib * 1024,
      bytesMax: config.cache.sizeBytes,
    },
    flows: { recorded: daemon.history.end, lost: gauges.recordsLost },
    counters: daemon.dataPlane.counters(),
  }
}

export function policyStates(daemon: DaemonView): PolicyState[] {
  const isInKernel = daemon.structure === null || daemon.structure.state === 'same'
  return daemon.snapshot.policies.map((policy) => ({
    ...policy,
    state: policy.faults.length > 0 ? 'faulty' : isInKernel ? 'enforced' : 'accepted',
  }))
}

function degradations(
  daemon: DaemonView,
  kernel: KernelStatus,
  upstreams: readonly UpstreamStatus[],
  peer: Aliveness,
): Degradation[] {
  const found: Degradation[] = []
  const other = daemon.role === 'agent' ? 'proxy' : 'agent'
  if (peer === 'silent') {
    found.push({ code: 'peer-silent', message: `the ${other} is there and does not answer` })
  }
  if (!daemon.dataPlane.isServing) {
    const isWaiting = daemon.config.policy !== null && daemon.snapshot.revision === 0
    const message = isWaiting
      ? 'it has no policy yet; a proxy gets its first one from the agent'
      : 'the data plane reads no questions now'
    found.push({ code: 'not-serving', message })
  }
  if (kernel.state === 'differs' || kernel.state === 'unknown') {
    found.push({ code: 'kernel', message: `the ruleset is not in force: ${kernel.detail}` })
  }
  for (const { name, faults } of daemon.snapshot.policies) {
    if (faults.length === 0) continue
    found.push({ code: 'policy-faulty', message: `${name}: ${faults[0]!.message}` })
  }
  // That a server does not answer which a client chose is that client's trouble.
  const asked = upstreams.filter(({ state, isChosen }) => state !== 'unused' && !isChosen)
  if (asked.length > 0 && asked.every(({ state }) => state !== 'well')) {
    found.push({ code: 'upstreams', message: 'no upstream answers' })
  }
  for (const { server, state } of asked) {
    if (state !== 'loop') continue
    const message = `${server} hands our questions back to us: it forwards to this node, or is this node`
    found.push({ code: 'upstream-loop', message })
  }
  for (const { client, why } of clientsStatus(daemon).ungovernable) {
    found.push({ code: 'ungovernable', message: `${client} cannot be governed: ${why}` })
  }
  return found
}

async function kernelStatus(daemon: DaemonView): Promise<KernelStatus> {
  const { structure } = daemon
  if (structure === null) return { state: 'off', detail: '', grantCount: null }
  const grants = await structure.readGrants().catch(() => null)
  return {
    state: structure.state,
    detail: structure.detail,
    grantCount: grants === null ? null : grants.length,
  }
}

async function upstreamStatus(daemon: DaemonView): Promise<UpstreamStatus[]> {
  const { rows } = await daemon.dataPlane.ask({ kind: 'upstream-health' })
  return rows.map((row) => {
    const address = formatAddress(row.address, 0, row.address.length === 4 ? 4 : 6)
    return {
      zones: row.zones.map((zone) => formatName(zone)),
      isChosen: row.isChosen,
      server: address.includes(':') ? `[${address}]:${row.port}` : `${address}:${row.port}`,
      transport: row.transport,
      state: upstreamState(row),
      roundTripMs: row.smoothedMs,
      queries: row.queries,
      failures: row.failures,
    }
  })
}

function upstreamState(row: UpstreamRow): UpstreamStatus['state'] {
  if (row.isLoop) return 'loop'
  if (row.isPaused) return 'paused'
  return row.queries === 0 ? 'unused' : 'well'
}

function clientsStatus(daemon: DaemonView): ClientsStatus {
  const { clients } = daemon.snapshot
  const nameOf = ({ namespace, name }: ClientEntry): string => `${namespace}/${name}`
  return {
    governed: clients.filter((client) => client.subject >= 0).map(nameOf),
    ungoverned: clients.filter((client) => client.subject < 0).map(nameOf),
    ungovernable: (daemon.structure?.unplaced ?? []).map(({ name, address, reason }) => ({
      client: `${name} (${address})`,
      why: reason,
    })),
  }
}

function socketAddresses(daemon: DaemonView): string[] {
  const { listen } = daemon.config
  return listen.addresses.map((address) =>
    address.includes(':') ? `[${address}]:${listen.port}` : `${address}:${listen.port}`,
  )
}

function peerAliveness(daemon: DaemonView): Aliveness {
  const { peer } = daemon.link
  if (peer === null || !peer.isLinked) return daemon.link.isAnybodyThere() ? 'silent' : 'absent'
  return peer.isMute ? 'silent' : 'alive'
}
