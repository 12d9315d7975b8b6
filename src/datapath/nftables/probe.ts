/**
 * Looks, at start, whether this machine can do what the nftables datapath needs, and what on it
 * would break us. The main thread calls it before the first ruleset.
 *
 * Each question has three answers: yes, no, cannot tell. The choice leaves its evidence in one line
 * (`decision`), which stands in the log. What must stay true: a finding never makes us pretend. A
 * blocking one keeps us from governing; the others are told, with what to do.
 *
 * Source of each finding: it was tried, see the comments.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { type InputDrop, type InterceptedMark, findInputDrops } from './firewall.ts'
import { DEFAULT_TOOLS, type Tools, runTool } from './tool.ts'

export interface NftablesProbe {
  readonly isUsable: boolean
  /** 'datapath: [nft=1.0.6 cap=net_admin,net_raw guard=xfrm ret=nftables]' */
  readonly decision: string
  readonly findings: readonly Finding[]
}

export interface Finding {
  /** Stable: a label. */
  readonly code: string
  /** True: clients can't be governed, or DNS can't be intercepted, as long as it is so. */
  readonly isBlocking: boolean
  /** What is wrong and what to do. */
  readonly text: string
}

/** What the probe reads; a test hands in its own. */
export interface ProbeSources {
  readonly tools: Tools
  /** The text of a file; null when it can't be read. */
  readonly readFile: (path: string) => string | null
  readonly listFolder: (path: string) => readonly string[]
}

export const MACHINE: ProbeSources = {
  tools: DEFAULT_TOOLS,
  readFile: (path) => {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return null
    }
  },
  listFolder: (path) => {
    try {
      return readdirSync(path)
    } catch {
      return []
    }
  },
}

const CAP_NET_ADMIN = 12
const CAP_NET_RAW = 13

/** @param mark  of intercepted packets */
export async function probeNftables(
  mark: InterceptedMark,
  sources: ProbeSources = MACHINE,
): Promise<NftablesProbe> {
  const version = await askTool(sources, sources.tools.nft, ['--version'], /v(\d[\w.]*)/)
  const iproute = await askTool(sources, sources.tools.ip, ['-V'], /iproute2-(\S+?),?(?:\s|$)/)
  const capabilities = readCapabilities(sources)
  const rules =
    version === 'no' ? null : await tryTool(sources, sources.tools.nft, ['list', 'tables'])
  const guard = await tryTool(sources, sources.tools.ip, ['xfrm', 'policy', 'count'])
  const findings = [
    ...toolFindings(version, iproute, missingCapabilities(sources), rules !== null),
    ...machineFindings(sources),
    ...(rules === null ? [] : await firewallFindings(sources, mark)),
    ...(guard === null ? [NO_GUARD] : []),
  ]
  const isUsable = !findings.some((finding) => finding.isBlocking && BASIC.has(finding.code))
  const words = [
    `nft=${version}`,
    `ip=${iproute}`,
    `cap=${capabilities.length === 0 ? 'no' : capabilities.join(',')}`,
    `guard=${guard === null ? 'no' : 'xfrm'}`,
    `ret=${isUsable ? 'nftables' : 'none'}`,
  ]
  return { isUsable, decision: `datapath: [${words.join(' ')}]`, findings }
}

/**
 * 'needs CAP_NET_ADMIN and CAP_NET_RAW, has neither'; null when nothing is missing. For whoever
 * opens sockets that need them before there is time for the probe.
 */
export function missingCapabilities(sources: ProbeSources = MACHINE): string | null {
  const capabilities = readCapabilities(sources)
  if (capabilities.length === 2) return null
  const has = capabilities.length === 0 ? 'neither' : `only ${capabilities[0]!}`
  return `needs CAP_NET_ADMIN and CAP_NET_RAW, has ${has}`
}

/** Without these nothing works at all; other blocking findings concern some clients. */
const BASIC: ReadonlySet<string> = new Set(['no-nft', 'no-ip', 'no-capability', 'no-nftables'])

const NO_GUARD: Finding = {
  code: 'no-guard',
  isBlocking: false,
  text: 'this kernel has no IPsec policies (CONFIG_XFRM_USER): after somebody else flushes nftables, governed clients are open until the table is back, up to a second',
}

function toolFindings(
  version: string,
  iproute: string,
  missing: string | null,
  canList: boolean,
): Finding[] {
  const findings: Finding[] = []
  const add = (code: string, text: string): number =>
    findings.push({ code, isBlocking: true, text })
  if (version === 'no') add('no-nft', 'nft is not installed: install nftables 1.0.6 or newer')
  if (iproute === 'no') add('no-ip', 'ip is not installed: install iproute2')
  if (missing !== null) add('no-capability', missing)
  else if (version !== 'no' && !canList) {
    add('no-nftables', 'nft can not talk to the kernel: it needs CONFIG_NF_TABLES')
  }
  return findings
}

function machineFindings(sources: ProbeSources): Finding[] {
  const findings: Finding[] = []
  const bridged = ['iptables', 'ip6tables'].some(
    (tool) => sources.readFile(`/proc/sys/net/bridge/bridge-nf-call-${tool}`)?.trim() === '1',
  )
  const bridges = sources
    .listFolder('/sys/class/net')
    .filter((name) => sources.listFolder(`/sys/class/net/${name}/bridge`).length > 0)
  if (bridged && bridges.length > 0) {
    // Tried: intercepted UDP 0 of 4, because the socket is orphaned on the way up through a bridge.
    findings.push({
      code: 'bridge',
      isBlocking: true,
      text: `packets of the bridges ${bridges.join(', ')} pass iptables (net.bridge.bridge-nf-call-iptables=1): their clients can't be intercepted or governed`,
    })
  }
  if (sources.readFile('/proc/net/ip_vs') !== null) {
    findings.push({
      code: 'ipvs',
      isBlocking: false,
      text: 'IPVS is in use: it takes packets to service addresses before us; only clients that ask other addresses are sure to be intercepted',
    })
  }
  const marked = sources
    .listFolder('/proc/sys/net/ipv4/conf')
    .filter((name) => name !== 'default')
    .filter(
      (name) => sources.readFile(`/proc/sys/net/ipv4/conf/${name}/src_valid_mark`)?.trim() === '1',
    )
  if (marked.length > 0) {
    // Tried: without the rule for `iif lo` of routing.ts all intercepted IPv4 is lost.
    findings.push({
      code: 'src-valid-mark',
      isBlocking: false,
      text: `src_valid_mark is on (${marked.join(', ')}: WireGuard, Calico): our first routing rule, for marked packets from lo, keeps intercepted IPv4 alive; who removes it stops that until it is back, up to a second`,
    })
  }
  const cilium = sources.listFolder('/sys/class/net').filter((name) => /^cilium_/.test(name))
  if (cilium.length > 0) {
    findings.push({
      code: 'ebpf',
      isBlocking: true,
      text: `Cilium routes packets of its pods past netfilter (${cilium.join(', ')}): they can't be governed from here`,
    })
  }
  return findings
}

/** A drop of somebody else's can't be overridden: only told, with what helps. */
async function firewallFindings(sources: ProbeSources, mark: InterceptedMark): Promise<Finding[]> {
  let drops: InputDrop[]
  try {
    drops = await findInputDrops(sources.tools, mark)
  } catch {
    // Nobody can say; that nft works has been asked already.
    return []
  }
  return drops.map(({ where, cure }) => ({
    code: 'firewall',
    isBlocking: false,
    text: `a host firewall drops DNS on its way to us, which is untracked and has our mark: ${where}; accept it there: ${cure}`,
  }))
}

function readCapabilities(sources: ProbeSources): string[] {
  const status = sources.readFile('/proc/self/status') ?? ''
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'
  // The low 32 bits: both have small numbers.
  const low = Number.parseInt(effective.slice(-8), 16)
  const names: string[] = []
  if ((low >>> CAP_NET_ADMIN) & 1) names.push('net_admin')
  if ((low >>> CAP_NET_RAW) & 1) names.push('net_raw')
  return names
}

/** 'no' when the tool is missing, '?' when it says no version. */
async function askTool(
  sources: ProbeSources,
  tool: readonly string[],
  words: readonly string[],
  version: RegExp,
): Promise<string> {
  const printed = await tryTool(sources, tool, words)
  if (printed === null) return 'no'
  return version.exec(printed)?.[1] ?? '?'
}

async function tryTool(
  sources: ProbeSources,
  tool: readonly string[],
  words: readonly string[],
): Promise<string | null> {
  try {
    return await runTool(tool, words, '', 'look at this machine', sources.tools.timeoutMs)
  } catch {
    return null
  }
}
