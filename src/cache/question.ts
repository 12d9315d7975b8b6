/**
 * What an answer answers: the key of the cache and of flights (cache.ts says why each part of it is
 * one). Whoever looks something up owns one object of this, fills it and hands it on; it is read
 * during the call and never kept.
 */

/** Key flags: what besides the question decides which answer is right. */
export const KEY_DO = 1
export const KEY_CD = 2

/** Group numbers have 16 bits, here and in flights. */
export const GROUPS_MAX = 65_536

const NO_NAME = new Uint8Array(0)

export class Question {
  /** Wire form, lower case, `nameBytes` from `nameAt`. */
  name: Uint8Array = NO_NAME
  nameAt = 0
  /** 1 to 255. */
  nameBytes = 0
  /**
   * 32 bits of the name, seeded; the same for every type and group. Signed: a number above 2³¹ in a
   * field is an object.
   */
  hash = 0
  type = 0
  class = 0
  /** KEY_DO, KEY_CD */
  keyFlags = 0
  /** Upstream group, below GROUPS_MAX. */
  group = 0
}
