/**
 * Rotate: the addresses of an answer take turns at the first place, since many clients connect to
 * the first and to no other (cache.rotate).
 *
 * What is moved is the RDATA, not the records: records of one owner, type and length differ in
 * nothing else, so the message stays byte for byte as long and every compression pointer in it
 * leads where it led. CNAME records stay in front. Hints in SVCB and HTTPS records are left alone:
 * their order is the zone's.
 *
 * What must stay true: an address keeps the TTL that its owner gave it. Records of one set have one
 * TTL (RFC 2181 §5.2); where they differ nothing is moved.
 */
import { RECORDS_MAX } from '../wire/answer.ts'
import { getU32, putU32 } from '../wire/bytes.ts'
import type { MessageMeta } from './meta.ts'

/** Between a record's TTL and its RDATA: the TTL itself and RDLENGTH. */
const TTL_TO_RDATA = 6

/** Where the addresses lie that are to be moved, and what they are before that, as words. */
const places = new Uint16Array(RECORDS_MAX)
const taken = new Uint32Array(RECORDS_MAX * 4)

/**
 * Moves the addresses of one family round by `turn` places.
 * @param message  the answer at `at`, as `meta` describes it
 * @param family  4 or 6
 * @param turn  any number from 0
 */
export function rotate(
  message: Uint8Array,
  at: number,
  meta: MessageMeta,
  family: number,
  turn: number,
): void {
  if (meta.addressCount < 2) return
  const words = family === 4 ? 1 : 4
  const count = findPlaces(meta, family)
  const shift = turn % (count === 0 ? 1 : count)
  if (shift === 0) return
  const ttl = getU32(message, at + places[0]! - TTL_TO_RDATA)
  for (let index = 0; index < count; index++) {
    const from = at + places[index]!
    if (getU32(message, from - TTL_TO_RDATA) !== ttl) return
    for (let word = 0; word < words; word++) {
      taken[index * words + word] = getU32(message, from + word * 4)
    }
  }
  for (let index = 0; index < count; index++) {
    const next = index + shift
    const from = next < count ? next : next - count
    for (let word = 0; word < words; word++) {
      putU32(message, at + places[index]! + word * 4, taken[from * words + word]!)
    }
  }
}

/**
 * The addresses that are a record's whole RDATA, in the order of the message: right behind a TTL and
 * RDLENGTH. (A hint stands behind a priority, a name and a key.) They come first and rise, as TTLs do.
 */
function findPlaces(meta: MessageMeta, family: number): number {
  let count = 0
  let ttl = 0
  for (let index = 0; index < meta.addressCount; index++) {
    if (meta.addressFamilies[index] !== family) continue
    const ttlAt = meta.addressOffsets[index]! - TTL_TO_RDATA
    while (ttl < meta.ttlCount && meta.ttlOffsets[ttl]! < ttlAt) ttl++
    if (ttl === meta.ttlCount) break
    if (meta.ttlOffsets[ttl] === ttlAt) places[count++] = meta.addressOffsets[index]!
  }
  return count
}
