/**
 * Connections that the kernel denied and reported: each becomes a flow.
 *
 * The kernel's text says which subject's chain denied it (datapath/denial.ts). Whether the client
 * ever got the address in an answer is found out when somebody asks (observe/, explain): it is a
 * look into the history, too dear for every SYN of a client that tries and tries.
 */
import { type Denial, parseDenial } from '../datapath/denial.ts'
import { encodeFlow } from '../flow/decode.ts'
import {
  REASON_CLIENT_UNPLACED,
  REASON_FOREIGN_SOURCE,
  REASON_NO_GRANT,
  REASON_POLICY_DENIED_ADDRESS,
  REASON_UNKNOWN_CLIENT_CONNECTION,
} from '../flow/reason.ts'
import { FLOW_CONNECTION, VERDICT_AUDIT, VERDICT_DENIED } from '../flow/record.ts'
import type { LoggedPacket } from '../linux/nflog.ts'

/** The flow record of a logged packet; null when its prefix is none of ours. */
export function flowOfDenial(packet: LoggedPacket, timeMs: number): Uint8Array | null {
  const denial = parseDenial(packet.prefix)
  if (denial === null) return null
  return encodeFlow({
    timeMs,
    type: FLOW_CONNECTION,
    verdict: denial.isAudit ? VERDICT_AUDIT : VERDICT_DENIED,
    reason: reasonOf(denial),
    protocol: packet.protocol,
    flags: packet.tcpFlags,
    source: packet.source,
    sourcePort: packet.sourcePort,
    destination: packet.destination,
    destinationPort: packet.destinationPort,
    interfaceIndex: packet.interfaceIndex,
  })
}

function reasonOf(denial: Denial): number {
  switch (denial.reason) {
    case 'policy':
      return REASON_NO_GRANT
    case 'rule':
      return REASON_POLICY_DENIED_ADDRESS
    case 'source':
      return REASON_FOREIGN_SOURCE
    case 'unplaced':
      return REASON_CLIENT_UNPLACED
    case 'unknown':
      return REASON_UNKNOWN_CLIENT_CONNECTION
  }
}
