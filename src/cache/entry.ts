/**
 * What the first block of a cache entry holds. The entry's number is that block's.
 *
 * LAYOUT, in 32-bit words
 *      0        next block of the entry's chain (cache/blocks.ts)
 *      1        hash of the name, seeded by the caller
 *      2        next entry of the same bucket, 0 none
 *      3, 4     neighbours in the eviction queue: the one inserted after, before; 0 none
 *      5        state: bits  0–7   name bytes
 *                           8–11  kind, KIND_*
 *                          12–15  key flags, KEY_*
 *                          16–23  failures in a row since the last answer, 255 and more
 *                          24     visited since the eviction hand came by
 *                          25     the peer's: it asked for it, and told us
 *      6        type | class << 16
 *      7        upstream group | address count << 16
 *      8, 9     double: when it was stored, monotonic milliseconds
 *     10        TTL, seconds: fresh until stored + TTL
 *     11        milliseconds after `stored` before which no refresh should be tried again
 *     12        message bytes | TTL count << 16
 *     13        serial: another one each time that an answer is written here or anywhere (mod 2³²)
 *     14        name, TTL offsets, address offsets, message: a stream (cache/blocks.ts), each part
 *               beginning at a whole word. A TTL offset is 16 bits, an address offset has a word:
 *               offset | family << 16.
 *
 * The time is a double, not seconds from some base: an entry must end at the millisecond that its
 * grants were promised for, a copy in the peer must end with it, and nothing wraps.
 */
export const ENTRY_HASH = 1
export const ENTRY_CHAIN = 2
export const ENTRY_NEWER = 3
export const ENTRY_OLDER = 4
export const ENTRY_STATE = 5
export const ENTRY_QUESTION = 6
export const ENTRY_GROUP = 7
/** Index among a block's doubles. */
export const ENTRY_STORED = 4
export const ENTRY_TTL = 10
export const ENTRY_RETRY = 11
export const ENTRY_SIZES = 12
export const ENTRY_SERIAL = 13
export const ENTRY_CONTENT = 14

/**
 * Kinds beside those of wire/answer.ts: no upstream gave an answer in time, or none could be
 * reached. Like KIND_ERROR they are *failures*, and have no message.
 */
export const KIND_TIMEOUT = 7
export const KIND_UNREACHABLE = 8

export const STATE_KIND_SHIFT = 8
export const STATE_FLAGS_SHIFT = 12
export const STATE_FAILURES_SHIFT = 16
export const STATE_VISITED = 1 << 24
export const STATE_PEERS = 1 << 25
/** The part of the state that belongs to the key: name bytes and key flags. */
export const STATE_KEY = 0xf0ff
export const FAILURES_MAX = 255
