/**
 * Flows as lines of `hubble observe`, so that eyes, scripts and dashboards made for Cilium read
 * them: `<time>: <source> <identity> <arrow> <destination> <identity> <type> <verdict> (<summary>)`.
 *
 * Hubble writes two events where we keep one record: a question and its answer, the verdict about
 * a connection and its drop. So one row makes one or two lines. What is refused has no answer line:
 * Hubble shows a denied question as one `dns-request proxy DROPPED`.
 *
 * Source: Hubble's printer (pkg/hubble/printer) and Cilium's DNS summary (pkg/hubble/parser/seven),
 * 1.19. The double spaces in summaries are theirs.
 */
import type { AnswerSummary, ConnectionFlow, Flow, QuestionFlow, Verdict } from '../flow/decode.ts'
import { reasonOfId } from '../flow/reason.ts'
import { printable } from '../printable.ts'
import { type FlowRow, type Party, RESERVED_IDENTITIES } from './flow-row.ts'

/** The lines for one flow, without line ends; safe to print on a terminal. */
export function compactLines(row: FlowRow): string[] {
  const { flow } = row
  const lines = flow.type === 'question' ? questionLines(row, flow) : connectionLines(row, flow)
  return lines.map(printable)
}

/** 'Sep  1 02:36:13.430', UTC: Go's time.StampMilli. */
export function stampMilli(timeMs: number): string {
  const iso = new Date(timeMs).toISOString()
  const month = MONTHS[Number(iso.slice(5, 7)) - 1]!
  const day = String(Number(iso.slice(8, 10))).padStart(2)
  return `${month} ${day} ${iso.slice(11, 23)}`
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')

/** Reasons of an error that came up after an upstream was asked: the question did go out. */
const ASKED = new Set(['UPSTREAM_TIMEOUT', 'UPSTREAM_FAILURE', 'GRANT_REFUSED', 'WORKER_AWAY'])

function questionLines(row: FlowRow, flow: QuestionFlow): string[] {
  const { answer, verdict } = flow
  const isAsked = verdict !== 'ERROR' || ASKED.has(flow.reason)
  const hasResponse = answer !== null && verdict !== 'DROPPED' && isAsked
  // The record's time is that of the reply.
  const askedMs = flow.timeMs - Math.round(flow.durationUs / 1000)
  const requestVerdict = verdict === 'ERROR' && hasResponse ? 'FORWARDED' : verdict
  const query = [flow.name || '(unreadable)', flow.qtype].join(' ')
  // Hubble knows no other opcode.
  const operation = flow.opcode === 'QUERY' ? 'Query' : flow.opcode
  const request = `dns-request proxy ${requestVerdict} (DNS ${operation} ${query})`
  const lines = [line(row, askedMs, '->', request)]
  if (!hasResponse) return lines
  const responseVerdict: Verdict = verdict === 'AUDIT' ? 'FORWARDED' : verdict
  const response = `dns-response proxy ${responseVerdict} (${answerText(answer, query)})`
  return [...lines, line(row, flow.timeMs, '<-', response)]
}

/** What Hubble prints where there is no TTL: the largest. */
const NO_TTL = 4294967295

function answerText(answer: AnswerSummary, query: string): string {
  const end = `TTL: ${answer.ttlSeconds ?? NO_TTL} (Proxy ${query})`
  if (answer.rcode !== 0)
    return `DNS Answer RCode: ${RCODE_WORDS[answer.rcode] ?? 'Unknown'} ${end}`
  const addresses = answer.addresses.length > 0 ? `"${answer.addresses.join(',')}"` : ''
  const cnames = answer.cnames.length > 0 ? ` CNAMEs: "${answer.cnames.join(',')}"` : ''
  return `DNS Answer ${addresses}${cnames} ${end}`
}

/** The descriptions of IANA's registry, which are what Hubble prints. */
const RCODE_WORDS: readonly string[] = [
  'No Error',
  'Format Error',
  'Server Failure',
  'Non-Existent Domain',
  'Not Implemented',
  'Query Refused',
  'Name Exists when it should not',
  'RR Set Exists when it should not',
  'RR Set that should exist does not',
  'Server Not Authoritative for zone',
  'Name not contained in zone',
]

const VERDICT_EVENTS: Record<Verdict, string> = {
  FORWARDED: 'ALLOWED',
  DROPPED: 'DENIED',
  ERROR: 'DENIED',
  AUDIT: 'AUDITED',
}

function connectionLines(row: FlowRow, flow: ConnectionFlow): string[] {
  const reason = reasonOfId(flow.reason)
  const summary = connectionText(flow)
  const verdict = VERDICT_EVENTS[flow.verdict]
  // Of what is dropped Hubble does not know whether it was a reply.
  const arrow = flow.verdict === 'DROPPED' ? '<>' : '->'
  const event = `policy-verdict:${reason?.match || 'none'} EGRESS ${verdict} (${summary})`
  const lines = [line(row, flow.timeMs, arrow, event)]
  if (flow.verdict !== 'DROPPED') return lines
  const drop = `${reason?.drop || 'Policy denied'} DROPPED (${summary})`
  return [...lines, line(row, flow.timeMs, arrow, drop)]
}

function connectionText(flow: ConnectionFlow): string {
  if (flow.protocol === 'tcp') return `TCP Flags: ${flow.tcpFlags.join(', ')}`
  return PROTOCOL_TEXTS[flow.protocol] ?? `Protocol: ${flow.protocol}`
}

const PROTOCOL_TEXTS: Record<string, string> = {
  udp: 'UDP',
  sctp: 'SCTP',
  icmp: 'ICMPv4',
  icmpv6: 'ICMPv6',
}

function line(row: FlowRow, timeMs: number, arrow: string, event: string): string {
  const { flow } = row
  const source = `${partyText(row.source, flow.source)} ${identityText(row.source)}`
  const target = `${partyText(row.destination, flow.destination)} ${identityText(row.destination)}`
  return `${stampMilli(timeMs)}: ${source} ${arrow} ${target} ${event}`
}

function partyText(party: Party, peer: Flow['source']): string {
  const port = peer.port === 0 ? '' : `:${peer.port}`
  if (party.name !== '') {
    return `${party.namespace === '' ? '' : `${party.namespace}/`}${party.name}${port}`
  }
  if (party.names.length > 0) return `${party.names.join(',')}${port}`
  return peer.address.includes(':') && port !== ''
    ? `[${peer.address}]${port}`
    : peer.address + port
}

function identityText(party: Party): string {
  const word = RESERVED_IDENTITIES[party.identity]
  return word === undefined ? `(ID:${party.identity})` : `(${word})`
}
