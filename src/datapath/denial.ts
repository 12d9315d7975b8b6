/**
 * What the kernel says about a packet that it denied: the text that goes with it through NFLOG.
 *
 * A driver writes it into its rules, the main thread reads it back from each logged packet and
 * makes a flow of both. It names the subject, from which the last snapshot knows the policies.
 *
 *     namegate denied policy 0123456789ab
 *     namegate audit rule 0123456789ab 3
 *
 * Far below the 127 characters that the kernel keeps (NF_LOG_PREFIXLEN).
 */

/** Why the kernel denied a packet. */
export type DenialReason =
  /** A governed client's packet that nothing opens. */
  | 'policy'
  /** A deny rule about addresses; `destination` is its index in Subject.destinations. */
  | 'rule'
  /** A source address that does not belong to the governed client on this interface. */
  | 'source'
  /** A governed client that the kernel can't tell by interface and address. */
  | 'unplaced'
  /** No known client, and `clients.unknown` is closed. */
  | 'unknown'

const REASONS: readonly string[] = ['policy', 'rule', 'source', 'unplaced', 'unknown']

export interface Denial {
  /** True in audit mode: the packet went on its way. */
  readonly isAudit: boolean
  readonly reason: DenialReason
  /** Subject.id; '' when none is concerned. */
  readonly subject: string
  /** Index into Subject.destinations for 'rule'; else -1. */
  readonly destination: number
}

export function formatDenial(denial: Denial): string {
  const words = ['namegate', denial.isAudit ? 'audit' : 'denied', denial.reason]
  if (denial.subject !== '') words.push(denial.subject)
  if (denial.destination >= 0) words.push(String(denial.destination))
  return words.join(' ')
}

/** null: the prefix is somebody else's, or of a release that says it differently. */
export function parseDenial(prefix: string): Denial | null {
  const match = /^namegate (denied|audit) ([a-z]+)(?: ([0-9a-f]{12}))?(?: (\d{1,5}))?$/.exec(prefix)
  if (match === null || !REASONS.includes(match[2]!)) return null
  return {
    isAudit: match[1] === 'audit',
    reason: match[2] as DenialReason,
    subject: match[3] ?? '',
    destination: match[4] === undefined ? -1 : Number(match[4]),
  }
}
