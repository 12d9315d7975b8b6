/**
 * Record: one flow for each query that got a reply, into the ring to the main thread. Nobody waits
 * for it; a full ring drops the record and counts (flow/ring.ts).
 */
import { REASON_ANSWERED_FROM_CACHE, REASON_ANSWERED_STALE } from '../flow/reason.ts'
import {
  FLAG_CACHED,
  FLAG_STALE,
  FLAGS_OPCODE_SHIFT,
  FLOW_HEADER_BYTES,
  FLOW_QUESTION,
  MESSAGE_BYTES_MAX,
  RECORD_FLOW,
} from '../flow/record.ts'
import { copyBytes, copyToWords } from '../wire/bytes.ts'
import { CHANNEL_PROOF, CHANNEL_TCP } from './arrival.ts'
import type { Context } from './context.ts'

const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17

// The header's fields (flow/record.ts) as 32-bit words, so that it is written by 16 stores. The
// machines that we run on are little-endian, as the record is.
const SECONDS = 0
const TIME_AND_VERDICT = 1
const REASON_AND_KIND = 2
const PORTS = 3
const SOURCE = 4
const DESTINATION = 8
const TYPE_AND_CLASS = 12
const DURATION_US = 13
const LENGTHS = 14
const INTERFACE = 15

/**
 * @param verdict  VERDICT_* of flow/record.ts
 * @param bytes    of the reply that was sent last, 0 when none was. The question in it says the name,
 *   which is written apart only when there is no message.
 */
export function record(
  context: Context,
  verdict: number,
  reason: number,
  bytes: number,
  nowMs: number,
): void {
  const arrival = context.arrival
  if (arrival.channel === CHANNEL_PROOF) return
  const query = arrival.query
  const { records, replies } = context.parts
  const nameBytes = bytes === 0 ? query.nameBytes : 0
  const kept = bytes < MESSAGE_BYTES_MAX ? bytes : MESSAGE_BYTES_MAX
  const to = records.reserve(RECORD_FLOW, FLOW_HEADER_BYTES + nameBytes + kept)
  if (to < 0) return
  const words = records.words
  const word = to >>> 2
  const timeMs = context.epochMs + nowMs
  const protocol = arrival.channel >= CHANNEL_TCP ? PROTOCOL_TCP : PROTOCOL_UDP
  const isStale = reason === REASON_ANSWERED_STALE
  const isCached = isStale || reason === REASON_ANSWERED_FROM_CACHE
  const flags =
    (isCached ? FLAG_CACHED : 0) | (isStale ? FLAG_STALE : 0) | (query.opcode << FLAGS_OPCODE_SHIFT)
  words[word + SECONDS] = timeMs / 1000
  words[word + TIME_AND_VERDICT] = (timeMs % 1000) | (FLOW_QUESTION << 16) | (verdict << 24)
  words[word + REASON_AND_KIND] = reason | (arrival.family << 8) | (protocol << 16) | (flags << 24)
  words[word + PORTS] = arrival.sourcePort | (arrival.destinationPort << 16)
  const addressWords = arrival.family === 4 ? 1 : 4
  putAddress(words, word + SOURCE, arrival.addresses, arrival.sourceAt, addressWords)
  putAddress(words, word + DESTINATION, arrival.addresses, arrival.destinationAt, addressWords)
  words[word + TYPE_AND_CLASS] = query.type | (query.class << 16)
  words[word + DURATION_US] = (nowMs - arrival.receivedMs) * 1000
  words[word + LENGTHS] = nameBytes | (kept << 16)
  words[word + INTERFACE] = arrival.interfaceIndex
  copyBytes(arrival.name, 0, nameBytes, records.bytes, to + FLOW_HEADER_BYTES)
  if (kept > 0) {
    const body = (to + FLOW_HEADER_BYTES) >>> 2
    copyToWords(replies.view, replies.at, kept, words, body)
  }
  records.commit()
}

/** Four words: the address in the order of its bytes, then zeros. */
function putAddress(
  words: Int32Array,
  word: number,
  bytes: Uint8Array,
  at: number,
  count: number,
): void {
  for (let index = 0; index < count; index++) {
    const from = at + index * 4
    words[word + index] =
      bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24)
  }
  for (let index = count; index < 4; index++) words[word + index] = 0
}
