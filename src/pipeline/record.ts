/**
 * Record: one flow for each query that got a reply, into the ring to the main thread. Nobody waits
 * for it; a full ring drops the record and counts (flow/ring.ts).
 */
import {
  FLAG_CACHED,
  FLOW_DESTINATION,
  FLOW_DESTINATION_PORT,
  FLOW_DURATION_US,
  FLOW_FAMILY,
  FLOW_FLAGS,
  FLOW_HEADER_BYTES,
  FLOW_INTERFACE,
  FLOW_MESSAGE_BYTES,
  FLOW_MILLISECONDS,
  FLOW_NAME_BYTES,
  FLOW_PROTOCOL,
  FLOW_QCLASS,
  FLOW_QTYPE,
  FLOW_QUESTION,
  FLOW_REASON,
  FLOW_SECONDS,
  FLOW_SOURCE,
  FLOW_SOURCE_PORT,
  FLOW_TYPE,
  FLOW_VERDICT,
  MESSAGE_BYTES_MAX,
  RECORD_FLOW,
} from '../flow/record.ts'
import { REASON_ANSWERED_FROM_CACHE } from '../flow/reason.ts'
import { copyBytes } from '../wire/bytes.ts'
import { CHANNEL_PROOF, CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'

const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17
const ADDRESS_BYTES = 16

/**
 * @param verdict  VERDICT_* of flow/record.ts
 * @param message  the reply as sent, at `at`; `bytes` is 0 when none was
 */
export function record(
  context: Context,
  verdict: number,
  reason: number,
  message: Uint8Array,
  at: number,
  bytes: number,
  nowMs: number,
): void {
  const arrival = context.arrival
  if (arrival.channel === CHANNEL_PROOF) return
  const records = context.parts.records
  const nameBytes = arrival.query.nameBytes
  const kept = bytes < MESSAGE_BYTES_MAX ? bytes : MESSAGE_BYTES_MAX
  const to = records.reserve(RECORD_FLOW, FLOW_HEADER_BYTES + nameBytes + kept)
  if (to < 0) return
  const out = records.bytes
  const timeMs = context.options.epochMs + nowMs
  putU32(out, to + FLOW_SECONDS, Math.floor(timeMs / 1000))
  putU16(out, to + FLOW_MILLISECONDS, Math.floor(timeMs % 1000))
  out[to + FLOW_TYPE] = FLOW_QUESTION
  out[to + FLOW_VERDICT] = verdict
  out[to + FLOW_REASON] = reason
  out[to + FLOW_FAMILY] = arrival.family
  out[to + FLOW_PROTOCOL] = arrival.channel >= CHANNEL_TCP ? PROTOCOL_TCP : PROTOCOL_UDP
  out[to + FLOW_FLAGS] = reason === REASON_ANSWERED_FROM_CACHE ? FLAG_CACHED : 0
  putU16(out, to + FLOW_SOURCE_PORT, arrival.sourcePort)
  putU16(out, to + FLOW_DESTINATION_PORT, arrival.destinationPort)
  const addressBytes = arrival.family === 4 ? 4 : ADDRESS_BYTES
  for (let index = 0; index < ADDRESS_BYTES; index++) {
    const isUsed = index < addressBytes
    out[to + FLOW_SOURCE + index] = isUsed ? arrival.addresses[arrival.sourceAt + index]! : 0
    out[to + FLOW_DESTINATION + index] = isUsed
      ? arrival.addresses[arrival.destinationAt + index]!
      : 0
  }
  putU16(out, to + FLOW_QTYPE, arrival.query.type)
  putU16(out, to + FLOW_QCLASS, arrival.query.class)
  putU32(out, to + FLOW_DURATION_US, Math.floor((nowMs - arrival.receivedMs) * 1000))
  putU16(out, to + FLOW_NAME_BYTES, nameBytes)
  putU16(out, to + FLOW_MESSAGE_BYTES, kept)
  putU32(out, to + FLOW_INTERFACE, arrival.interfaceIndex)
  copyBytes(arrival.name, 0, nameBytes, out, to + FLOW_HEADER_BYTES)
  copyBytes(message, at, kept, out, to + FLOW_HEADER_BYTES + nameBytes)
  records.commit()
}

function putU16(out: Uint8Array, at: number, value: number): void {
  out[at] = value
  out[at + 1] = value >>> 8
}

function putU32(out: Uint8Array, at: number, value: number): void {
  out[at] = value
  out[at + 1] = value >>> 8
  out[at + 2] = value >>> 16
  out[at + 3] = value >>> 24
}
