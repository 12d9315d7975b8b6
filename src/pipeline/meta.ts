/**
 * What is known of the message that is being given out: where its TTLs and addresses lie. Filled
 * from a parsed answer or from a cache entry, so that both go the same way from there on. One
 * object, reused; offsets count from the message's first byte.
 */
import { RECORDS_MAX } from '../wire/answer.ts'

export class MessageMeta {
  readonly ttlOffsets = new Uint16Array(RECORDS_MAX)
  ttlCount = 0
  readonly addressOffsets = new Uint16Array(RECORDS_MAX)
  readonly addressFamilies = new Uint8Array(RECORDS_MAX)
  addressCount = 0
  /** False when the message may name addresses that are not listed here: its chain has no end, or
   * it has too many records. */
  isWhole = true
  /** For how long the message may be kept, by us and by clients; 0: this once. */
  ttlSeconds = 0
}
