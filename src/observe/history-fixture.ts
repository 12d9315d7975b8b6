/** Flows for the tests of those who read the history. */
import { encodeFlow } from '../flow/decode.ts'
import { REASON_NO_GRANT } from '../flow/reason.ts'
import {
  FLOW_CONNECTION,
  FLOW_QUESTION,
  VERDICT_DENIED,
  VERDICT_FORWARDED,
} from '../flow/record.ts'
import { parseAddress } from '../identity/address.ts'
import { viewOf } from '../wire/bytes.ts'
import { FLAG_QR, TYPE_A, TYPE_AAAA } from '../wire/header.ts'
import { buildMessage } from '../wire/message.ts'
import { parseName } from '../wire/text.ts'
import type { FlowHistory } from './history.ts'

const RESOLVER = { 4: '10.96.0.10', 6: '2001:db8:96::a' }

/** `client` was answered `addresses`, all of one family, for `name` (with its final dot). */
export function appendAnswer(
  history: FlowHistory,
  client: string,
  name: string,
  addresses: readonly string[],
  times: { readonly timeMs: number; readonly durationUs?: number } = { timeMs: 0 },
): void {
  const isV6 = addresses[0]?.includes(':') ?? false
  const type = isV6 ? 'AAAA' : 'A'
  const bytes = encodeFlow({
    timeMs: times.timeMs,
    type: FLOW_QUESTION,
    verdict: VERDICT_FORWARDED,
    reason: 0,
    protocol: 17,
    flags: 0,
    source: parseAddress(client)!,
    sourcePort: 40_000,
    destination: parseAddress(RESOLVER[client.includes(':') ? 6 : 4])!,
    destinationPort: 53,
    interfaceIndex: 0,
    question: {
      name: new Uint8Array(0),
      qtype: isV6 ? TYPE_AAAA : TYPE_A,
      qclass: 1,
      durationUs: times.durationUs ?? 0,
      message: buildMessage({
        flags: FLAG_QR,
        question: `${name} ${type}`,
        answers: addresses.map((address) => `${name} 60 ${type} ${address}`),
      }),
    },
  })
  history.append(viewOf(bytes), 0, bytes.length)
}

/** `client` was refused `name`. */
export function appendRefusal(history: FlowHistory, client: string, name: string): void {
  const bytes = encodeFlow({
    timeMs: 0,
    type: FLOW_QUESTION,
    verdict: VERDICT_DENIED,
    reason: 0,
    protocol: 17,
    flags: 0,
    source: parseAddress(client)!,
    sourcePort: 40_000,
    destination: parseAddress(RESOLVER[4])!,
    destinationPort: 53,
    interfaceIndex: 0,
    question: {
      name: parseName(name),
      qtype: TYPE_A,
      qclass: 1,
      durationUs: 0,
      message: new Uint8Array(0),
    },
  })
  history.append(viewOf(bytes), 0, bytes.length)
}

/** A connection of `client` to port 443 of `address` was dropped. */
export function appendDrop(history: FlowHistory, client: string, address: string): void {
  const bytes = encodeFlow({
    timeMs: 0,
    type: FLOW_CONNECTION,
    verdict: VERDICT_DENIED,
    reason: REASON_NO_GRANT,
    protocol: 6,
    flags: 2,
    source: parseAddress(client)!,
    sourcePort: 40_000,
    destination: parseAddress(address)!,
    destinationPort: 443,
    interfaceIndex: 0,
  })
  history.append(viewOf(bytes), 0, bytes.length)
}
