/**
 * Why a question or a connection ended as it did: every reason, declared once.
 *
 * The pipeline writes the number (FLOW_REASON), `observe` and `explain` print the id and the
 * sentence, metrics use the id as a label. Numbers and ids are promises: they lie in histories, on
 * disk and in other people's alerts, and two releases exchange them. One is never reused or given
 * another meaning; a new one gets the next free number. 0 is no reason: a record that nobody
 * finished.
 *
 * `drop` is what Hubble calls it: the texts of Cilium's DropReason 133 and 181. Only connections
 * have one; a DNS flow in Hubble carries no drop reason, also when it is DROPPED.
 */
import { VERDICT_DENIED, VERDICT_ERROR, VERDICT_FORWARDED } from './record.ts'

/** Questions: 1 to 63. */
export const REASON_ANSWERED_FROM_CACHE = 1
export const REASON_ANSWERED_BY_UPSTREAM = 2
export const REASON_ANSWERED_STALE = 3
export const REASON_POLICY_DENIED_NAME = 4
export const REASON_POLICY_DENIED_SERVER = 5
export const REASON_POLICY_FAULTY = 6
export const REASON_UNKNOWN_CLIENT = 7
export const REASON_MALFORMED = 8
export const REASON_NOT_IMPLEMENTED = 9
export const REASON_UPSTREAM_TIMEOUT = 10
export const REASON_UPSTREAM_FAILURE = 11
export const REASON_NO_UPSTREAM = 12
export const REASON_SLOTS_FULL = 13
export const REASON_CLIENT_LIMIT = 14
export const REASON_GRANT_REFUSED = 15
export const REASON_WORKER_AWAY = 16
export const REASON_UPSTREAM_LOOP = 17
export const REASON_UPSTREAM_FULL = 18
export const REASON_ANSWERED_LOCALLY = 19
export const REASON_RATE_LIMIT = 20
export const REASON_GRANT_LIMIT = 21
export const REASON_RELAYED = 22
/** Connections: from 64. */
export const REASON_CONNECTION_ALLOWED = 64
export const REASON_NO_GRANT = 65
export const REASON_ADDRESS_NOT_GRANTED = 66
export const REASON_GRANT_EXPIRED = 67
export const REASON_PORT_NOT_OPEN = 68
export const REASON_POLICY_DENIED_ADDRESS = 69
export const REASON_POLICY_FAULTY_CONNECTION = 70
export const REASON_FOREIGN_SOURCE = 71
export const REASON_CLIENT_UNPLACED = 72
export const REASON_UNKNOWN_CLIENT_CONNECTION = 73

export interface Reason {
  /** FLOW_REASON. */
  readonly code: number
  /** What people grep for: upper case, words joined by '_'. */
  readonly id: string
  readonly about: 'question' | 'connection'
  /** VERDICT_*; in audit mode what is denied gets VERDICT_AUDIT and keeps its reason. */
  readonly verdict: number
  /** Hubble's word for a dropped connection; '' when Hubble has none. */
  readonly drop: string
  /** Hubble's policy_match_type of a connection; '' for questions. */
  readonly match: string
  /** One sentence for `explain`: what happened and, where there is one, what changes it. */
  readonly sentence: string
}

const POLICY_DENIED = 'Policy denied'
const POLICY_DENY = 'Policy denied by denylist'

/** Sorted by code. */
export const REASONS: readonly Reason[] = [
  question(
    REASON_ANSWERED_FROM_CACHE,
    'ANSWERED_FROM_CACHE',
    VERDICT_FORWARDED,
    'The answer was in the cache and still fresh.',
  ),
  question(
    REASON_ANSWERED_BY_UPSTREAM,
    'ANSWERED_BY_UPSTREAM',
    VERDICT_FORWARDED,
    'The answer came from an upstream just then.',
  ),
  question(
    REASON_ANSWERED_STALE,
    'ANSWERED_STALE',
    VERDICT_FORWARDED,
    'No upstream answered in time, so the client got the expired answer that the cache still had.',
  ),
  question(
    REASON_POLICY_DENIED_NAME,
    'POLICY_DENIED_NAME',
    VERDICT_DENIED,
    'No rule that selects this client lets it ask for this name; add the name to rules.dns. Opcodes other than QUERY want a rule for every name.',
  ),
  question(
    REASON_POLICY_DENIED_SERVER,
    'POLICY_DENIED_SERVER',
    VERDICT_DENIED,
    'No rule that selects this client lets it ask this server; rules.dns stands beside the servers it is about.',
  ),
  question(
    REASON_POLICY_FAULTY,
    'POLICY_FAULTY',
    VERDICT_DENIED,
    'A policy that selects this client has a fault, and what it would allow is unknown; repair it (namegate policy list).',
  ),
  question(
    REASON_UNKNOWN_CLIENT,
    'UNKNOWN_CLIENT',
    VERDICT_DENIED,
    'The source address belongs to no known client, and clients.unknown is closed.',
  ),
  question(
    REASON_MALFORMED,
    'MALFORMED',
    VERDICT_ERROR,
    'The packet is no DNS query that can be read.',
  ),
  question(
    REASON_NOT_IMPLEMENTED,
    'NOT_IMPLEMENTED',
    VERDICT_ERROR,
    'Not served: classes other than IN, zone transfers, and stateful operations (DSO).',
  ),
  question(
    REASON_UPSTREAM_TIMEOUT,
    'UPSTREAM_TIMEOUT',
    VERDICT_ERROR,
    'No upstream of this zone answered before the deadline (namegate status shows their health).',
  ),
  question(
    REASON_UPSTREAM_FAILURE,
    'UPSTREAM_FAILURE',
    VERDICT_ERROR,
    'Every upstream of this zone that answered said something unusable or could not be reached.',
  ),
  question(
    REASON_NO_UPSTREAM,
    'NO_UPSTREAM',
    VERDICT_ERROR,
    "No upstream is configured for this name; add one with zones: ['.'].",
  ),
  question(
    REASON_SLOTS_FULL,
    'SLOTS_FULL',
    VERDICT_ERROR,
    'As many questions as this process can hold were already waiting for upstreams.',
  ),
  question(
    REASON_CLIENT_LIMIT,
    'CLIENT_LIMIT',
    VERDICT_ERROR,
    'This client had as many questions waiting for upstreams as there was room left for others.',
  ),
  question(
    REASON_GRANT_REFUSED,
    'GRANT_REFUSED',
    VERDICT_ERROR,
    'The kernel did not take a grant for an address in the answer, so the answer was withheld (namegate status shows the kernel state).',
  ),
  question(
    REASON_WORKER_AWAY,
    'WORKER_AWAY',
    VERDICT_ERROR,
    "The process stood still past the question's deadline and no longer knew what had changed.",
  ),
  question(
    REASON_UPSTREAM_LOOP,
    'UPSTREAM_LOOP',
    VERDICT_ERROR,
    'Every upstream of this zone hands our questions back to us; it forwards to this node, or is this node (namegate status names it).',
  ),
  question(
    REASON_UPSTREAM_FULL,
    'UPSTREAM_FULL',
    VERDICT_ERROR,
    'As many questions as one zone may have were already waiting for its upstreams.',
  ),
  question(
    REASON_ANSWERED_LOCALLY,
    'ANSWERED_LOCALLY',
    VERDICT_FORWARDED,
    'The name means something on this machine only, or nothing at all (localhost, invalid, onion, alt, resolver.arpa): no server was asked.',
  ),
  question(
    REASON_RATE_LIMIT,
    'RATE_LIMIT',
    VERDICT_ERROR,
    'This client asked more questions in a second than limits.queriesPerSecond lets one client ask.',
  ),
  question(
    REASON_GRANT_LIMIT,
    'GRANT_LIMIT',
    VERDICT_ERROR,
    'The answer would have opened more new addresses than limits.grants lets one client have, so it was withheld.',
  ),
  question(
    REASON_RELAYED,
    'RELAYED',
    VERDICT_FORWARDED,
    'A message of another opcode than QUERY (NOTIFY, UPDATE, …): an upstream got it as it came, and what it said was passed back.',
  ),
  {
    code: REASON_CONNECTION_ALLOWED,
    id: 'CONNECTION_ALLOWED',
    about: 'connection',
    verdict: VERDICT_FORWARDED,
    drop: '',
    match: 'L3-L4',
    sentence: 'A grant or a rule about addresses opens this address and port for this client.',
  },
  denied(
    REASON_NO_GRANT,
    'NO_GRANT',
    'This client never got this address in an answer, and no rule about addresses opens it.',
  ),
  denied(
    REASON_ADDRESS_NOT_GRANTED,
    'ADDRESS_NOT_GRANTED',
    'This client got the address under a name that no toFQDNs rule of its policies allows.',
  ),
  denied(
    REASON_GRANT_EXPIRED,
    'GRANT_EXPIRED',
    'The answer that opened this address has run out; the client must look the name up again.',
  ),
  denied(
    REASON_PORT_NOT_OPEN,
    'PORT_NOT_OPEN',
    'The address is open for this client, but not on this port and protocol; see toPorts.',
  ),
  {
    code: REASON_POLICY_DENIED_ADDRESS,
    id: 'POLICY_DENIED_ADDRESS',
    about: 'connection',
    verdict: VERDICT_DENIED,
    drop: POLICY_DENY,
    match: 'L3-Only',
    sentence: 'A deny rule of a policy that selects this client names this address.',
  },
  denied(
    REASON_POLICY_FAULTY_CONNECTION,
    'POLICY_FAULTY_CONNECTION',
    'A policy that selects this client has a fault, so only what its other policies allow is open (namegate policy list).',
  ),
  denied(
    REASON_FOREIGN_SOURCE,
    'FOREIGN_SOURCE',
    "The source address is not one of the governed client's whose interface the packet came by.",
  ),
  denied(
    REASON_CLIENT_UNPLACED,
    'CLIENT_UNPLACED',
    'A policy selects this client, but the interface it comes by is not known, so it cannot be governed and is closed.',
  ),
  denied(
    REASON_UNKNOWN_CLIENT_CONNECTION,
    'UNKNOWN_CLIENT_CONNECTION',
    'The source address belongs to no known client, and clients.unknown is closed.',
  ),
]

const BY_CODE = new Map(REASONS.map((reason) => [reason.code, reason]))
const BY_ID = new Map(REASONS.map((reason) => [reason.id, reason]))

/** The reason with this number; null for one of another release. */
export function reasonOfCode(code: number): Reason | null {
  return BY_CODE.get(code) ?? null
}

/** The reason with this id; null when there is none. */
export function reasonOfId(id: string): Reason | null {
  return BY_ID.get(id) ?? null
}

function question(code: number, id: string, verdict: number, sentence: string): Reason {
  return { code, id, about: 'question', verdict, drop: '', match: '', sentence }
}

/** A connection that nothing opened: Hubble's default deny. */
function denied(code: number, id: string, sentence: string): Reason {
  const verdict = VERDICT_DENIED
  return { code, id, about: 'connection', verdict, drop: POLICY_DENIED, match: 'none', sentence }
}
