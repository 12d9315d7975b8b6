/**
 * The compiled table: a snapshot as the worker reads it, in one piece of memory.
 *
 * The main thread writes it (policy/table-encode.ts) into a region, the worker looks things up in
 * place (policy/table.ts). Nothing in it is changed after it was published; the next policy is
 * another table.
 *
 * LAYOUT: 32-bit words, then bytes (names, patterns, IPv6 and IPv4 addresses). "word" is an index
 * into the words, "byte" an offset into the bytes; both count from the start of their part. Words
 * are in the machine's byte order: a table never leaves its machine, the snapshot does.
 *
 *     header        HEADER_WORDS words, see HEADER_*
 *     clients       CLIENT_WORDS each, in the order of the snapshot
 *     client hash   one for each family: slots of 1 + CLIENT_INDEX words, 0 empty, else index + 1
 *     subjects      SUBJECT_WORDS each
 *     groups        GROUP_WORDS each: question rules with the same servers and ports, denying ones
 *                   first
 *     ports         PORT_WORDS each: protocol (0 any, else IP protocol number), first, last
 *     ranges        IPv4: 2 words, IPv6: 8 words; first and last address, sorted and disjoint, each
 *                   word with its top bit flipped so that signed comparison sorts addresses
 *     matcher       MATCHER_WORDS: patterns and what each of them opens
 *     slots         SLOT_WORDS each, a power of two of them: hash tables of exact names, and of
 *                   what follows the `*` or `**` of patterns that begin with one
 *     globs         GLOB_WORDS each: every other pattern, tried one after the other
 *     values        count, then that many port set numbers; for questions count is 0
 */

/** Counts up when a reader of the former layout would misread the new one. */
export const TABLE_MAGIC = 0x4e475402

export const HEADER_MAGIC = 0
export const HEADER_REVISION = 1
/** TABLE_FLAG_* */
export const HEADER_FLAGS = 2
/** Index into DENY_RESPONSES. */
export const HEADER_DENY_RESPONSE = 3
export const HEADER_CLIENT_COUNT = 4
export const HEADER_CLIENTS = 5
export const HEADER_SUBJECT_COUNT = 6
export const HEADER_SUBJECTS = 7
/** Word of the IPv4 client hash, and its slots - 1. */
export const HEADER_IPV4_HASH = 8
export const HEADER_IPV4_MASK = 9
export const HEADER_IPV6_HASH = 10
export const HEADER_IPV6_MASK = 11
/** Where the bytes begin, in words. */
export const HEADER_BYTES_AT = 12
/** Words of the whole table. */
export const HEADER_TOTAL_WORDS = 13
/** The most port sets that one subject's rules name. */
export const HEADER_PORT_SETS_MAX = 14
export const HEADER_WORDS = 16

export const TABLE_FLAG_AUDIT = 1
export const TABLE_FLAG_UNKNOWN_CLOSED = 2

export const DENY_RESPONSES = ['refused', 'nxdomain', 'nodata'] as const

export const CLIENT_SUBJECT = 0
/** The kernel's index of its interface; 0 unknown, -1 named in the snapshot but not there. */
export const CLIENT_INTERFACE = 1
export const CLIENT_IPV4_COUNT = 2
/** Byte of its first IPv4 address; the others follow. */
export const CLIENT_IPV4_AT = 3
export const CLIENT_IPV6_COUNT = 4
export const CLIENT_IPV6_AT = 5
export const CLIENT_WORDS = 6

/** A slot of the client hash: client + 1, then which of its addresses. */
export const CLIENT_SLOT_WORDS = 2

export const SUBJECT_FLAGS = 0
export const SUBJECT_GROUP_COUNT = 1
export const SUBJECT_GROUPS = 2
/** Word of the matcher of its name rules; 0: it has none. */
export const SUBJECT_NAMES = 3
export const SUBJECT_WORDS = 4

export const SUBJECT_FLAG_FAULTY = 1

export const GROUP_VERDICT = 0
export const GROUP_PORT_COUNT = 1
export const GROUP_PORTS = 2
/** RANGES_WORDS that groups with the same servers share as a part of their own. */
export const GROUP_IPV4_COUNT = 3
export const GROUP_IPV4 = 4
export const GROUP_IPV6_COUNT = 5
export const GROUP_IPV6 = 6
/** Word of its matcher; 0: every name. */
export const GROUP_NAMES = 7
export const GROUP_WORDS = 8
export const RANGES_WORDS = 4

export const GROUP_ALLOW = 0
export const GROUP_DENY = 1

export const PORT_WORDS = 3
export const IPV4_RANGE_WORDS = 2
export const IPV6_RANGE_WORDS = 8

/** Word of the values of `*`; 0: it is not among the patterns. */
export const MATCHER_ALL = 0
/** For exact names, one-label and several-label patterns: word of the slots, slots - 1. */
export const MATCHER_EXACT = 1
export const MATCHER_ONE_LABEL = 3
export const MATCHER_LABELS = 5
export const MATCHER_GLOB_COUNT = 7
export const MATCHER_GLOBS = 8
export const MATCHER_WORDS = 9

export const SLOT_HASH = 0
export const SLOT_NAME_AT = 1
/** 0: the slot is empty. */
export const SLOT_NAME_BYTES = 2
export const SLOT_VALUES = 3
export const SLOT_WORDS = 4

export const GLOB_AT = 0
export const GLOB_IS_DEEP = 1
export const GLOB_VALUES = 2
export const GLOB_WORDS = 3

export const PROTOCOL_ANY = 0
/** IP protocol numbers. */
export const PROTOCOL_NUMBERS = { any: PROTOCOL_ANY, tcp: 6, udp: 17, sctp: 132 } as const

/** Where in a hash table of `mask + 1` slots a hash begins to be looked for. */
export function firstSlot(hash: number, mask: number): number {
  return (hash ^ (hash >>> 15)) & mask
}

/** The hash of a client's address. */
export function hashAddress(bytes: Uint8Array, at: number, count: number): number {
  let hash = 0x811c9dc5 | 0
  for (let index = 0; index < count; index++) {
    hash = Math.imul(hash ^ bytes[at + index]!, 0x01000193)
  }
  return hash
}

/** Four bytes as a word that sorts as they do; see "ranges". */
export function sortableWord(bytes: Uint8Array, at: number): number {
  const word = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
  return word ^ 0x80000000
}
