/**
 * What a scenario file says, read: plain data that a world is made from and a runner goes through.
 * The words that it is written in are described in parse.ts.
 */
import type { Verdict } from '../../../src/flow/decode.ts'

export interface Scenario {
  /** As faults shall show it. */
  readonly file: string
  /** The first line: what is true when the scenario passes. */
  readonly title: string
  /** Why it can't run over real sockets and a real kernel; null: it can. */
  readonly onlyInProcess: string | null
  /** Why it can't pass yet; null: it must. One that passes although it says so is a failure. */
  readonly notYet: string | null
  /** Keys and values of the configuration, as written there. */
  readonly settings: ReadonlyMap<SettingKey, string>
  /** Never empty: DEFAULT_SERVER for '.' if nothing is said. */
  readonly groups: readonly ServerGroup[]
  readonly clients: readonly ScenarioClient[]
  /** YAML documents: the policies in force at the start. */
  readonly policies: readonly string[]
  readonly steps: readonly Step[]
}

/** Keys of namegate.yaml that a scenario may set. */
export const SETTING_KEYS = [
  'cache.maxTtl',
  'cache.minTtl',
  'cache.maxNegativeTtl',
  'cache.serveStale',
  'cache.prefetch',
  'cache.nothingBelowNxdomain',
  'cache.rotate',
  'limits.grants',
  'limits.queriesPerSecond',
  'policy.mode',
  'policy.denyResponse',
  'clients.unknown',
] as const
export type SettingKey = (typeof SETTING_KEYS)[number]

/** Where clients send their questions if they choose no other: a Service whose place we take. */
export const CLUSTER_DNS = { v4: '10.96.0.10', v6: '2001:db8:96::a' } as const
/** The upstream of scenarios that name none. */
export const DEFAULT_SERVER = '192.0.2.53'

export interface ServerGroup {
  /** Without final dot; '.' is everything. */
  readonly zones: readonly string[]
  /** Addresses, in order of preference. */
  readonly servers: readonly string[]
}

export interface ScenarioClient {
  /** At least one. A scenario may name the client by any of them. */
  readonly addresses: readonly string[]
  /** null: Namegate does not know it. */
  readonly labels: Readonly<Record<string, string>> | null
}

export type Step = { readonly line: number } & StepBody

export type StepBody =
  | { readonly kind: 'records'; readonly change: RecordChange }
  | { readonly kind: 'fault'; readonly server: string; readonly fault: ServerFault }
  | { readonly kind: 'policy'; readonly policies: readonly string[] }
  | { readonly kind: 'kernel'; readonly state: KernelState }
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'ask'; readonly question: AskedQuestion }
  | { readonly kind: 'send'; readonly sent: SentBytes }
  | { readonly kind: 'gets'; readonly client: string | null; readonly expected: ExpectedReply }
  | { readonly kind: 'grants'; readonly expected: ExpectedGrants }
  | { readonly kind: 'connects'; readonly connection: ExpectedConnection }
  | { readonly kind: 'first'; readonly addresses: readonly string[] }
  | { readonly kind: 'flow'; readonly verdict: Verdict; readonly reason: string }
  | { readonly kind: 'asked'; readonly expected: ExpectedCount }

/** What the upstreams know. A name that they don't know gets NXDOMAIN. */
export interface RecordChange {
  /** Takes the place of what is known of this name and type, instead of being added. */
  readonly isReplacing: boolean
  /** null: every server; an address: that one alone. */
  readonly server: string | null
  /** Without final dot. */
  readonly name: string
  readonly ttlSeconds: number
  /** MINIMUM of the SOA record with which a name or record is denied; null: as ttlSeconds. */
  readonly soaMinimum: number | null
  /** 'NXDOMAIN': there is no such name. */
  readonly type: string
  /** As in a zone file; null: the name exists and has no record of this type. */
  readonly rdata: string | null
}

/** How a server behaves from now on; one fault replaces the one before. */
export type ServerFault =
  | { readonly kind: 'none' }
  /** Questions are lost; the first `count` of them, or all. */
  | { readonly kind: 'drops'; readonly count: number }
  /** Nobody listens: an ICMP error comes back. */
  | { readonly kind: 'refuses' }
  | { readonly kind: 'says'; readonly rcode: number }
  | { readonly kind: 'delays'; readonly ms: number }
  /** Over UDP, or over TCP too. */
  | { readonly kind: 'truncates'; readonly isAlways: boolean }
  /** `count` replies with one thing wrong and LIE as address, then the true one. */
  | { readonly kind: 'lies'; readonly about: LieSubject; readonly count: number }
  | { readonly kind: 'answers twice' }
  /** It asks us what we ask it, and says what we say. */
  | { readonly kind: 'forwards' }
  /** A record of another name in the answer section, as a zone-file line. */
  | { readonly kind: 'adds'; readonly record: string }

export const LIE_SUBJECTS = ['id', 'question', 'case'] as const
export type LieSubject = (typeof LIE_SUBJECTS)[number]
/** What a lying server wants to have connected to. */
export const LIE = { v4: '192.0.2.66', v6: '2001:db8::66' } as const

export type KernelState =
  | 'takes grants'
  | 'refuses grants'
  /** What is there is extended, nothing new is taken. */
  | 'is full'
  /** Somebody flushed the tables; our process puts them back when it looks, once a second. */
  | 'vanishes'

export interface AskedQuestion {
  /** All ask at once; `times` each. */
  readonly clients: readonly string[]
  readonly times: number
  /** As written: case travels. */
  readonly name: string
  readonly type: string
  readonly class: string
  /** One after the other has answered; none: CLUSTER_DNS of the client's family. */
  readonly servers: readonly string[]
  readonly isTcp: boolean
  /** null: without EDNS. */
  readonly ednsBytes: number | null
  readonly isDnssecOk: boolean
  readonly isCheckingDisabled: boolean
}

export interface SentBytes {
  readonly clients: readonly string[]
  readonly bytes: Uint8Array
  /** null: CLUSTER_DNS of the client's family. */
  readonly server: string | null
  readonly isTcp: boolean
}

/** What each client of the question gets. */
export interface ExpectedReply {
  readonly what: 'nothing' | 'bytes' | 'truncation' | 'records' | 'no records' | 'error'
  readonly rcode: number
  /** With 'bytes': the whole message. */
  readonly bytes: Uint8Array | null
  /**
   * With 'records': addresses of the answer section (hints included) in any order, and the targets
   * of its CNAME records in theirs; null: whatever they are.
   */
  readonly addresses: readonly string[] | null
  readonly targets: readonly string[]
  /** The longest TTL in the answer section, or of the authority's if that is empty. */
  readonly ttlSeconds: number | null
  readonly ede: number | null
  readonly withinMs: number | null
  /** The question as it comes back, case included. */
  readonly name: string | null
}

export interface ExpectedGrants {
  /** Address of a client. */
  readonly client: string
  /** Exactly these are granted to that address. */
  readonly addresses: readonly string[]
  /** For at least this long. */
  readonly seconds: number
}

export interface ExpectedConnection {
  readonly client: string
  readonly address: string
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
  readonly isAllowed: boolean
}

export interface ExpectedCount {
  readonly server: string
  readonly name: string
  /** Since the scenario began. */
  readonly count: number
  /** null: both. */
  readonly isTcp: boolean | null
}

/** Every server that a world needs: upstreams, and those that clients choose themselves. */
export function serversOf(scenario: Scenario): string[] {
  const chosen = scenario.steps.flatMap((step): (string | null)[] => {
    switch (step.kind) {
      case 'ask':
        return [...step.question.servers]
      case 'send':
        return [step.sent.server]
      case 'fault':
        return [step.server]
      case 'records':
        return [step.change.server]
      case 'asked':
        return [step.expected.server]
      default:
        return []
    }
  })
  const own: string[] = Object.values(CLUSTER_DNS)
  const all = [...scenario.groups.flatMap(({ servers }) => servers), ...chosen]
  return [...new Set(all.filter((server) => server !== null && !own.includes(server)))] as string[]
}
