/**
 * Timeout classes: for how long the kernel keeps a grant.
 *
 * Kernel sets carry their timeout as a constant, one set for each port set and class, because an
 * update with a shorter time would shorten what another writer gave (datapath: two writers, 300 s
 * became 5 s). With the time fixed by the set, an update can only extend.
 *
 * The packet that writes a grant names its set by UDP destination port:
 *
 *     bit  15        4 3        0
 *         | port set  | class   |     port set 1..4095, class 0..CLASS_COUNT-1
 *
 * Changing a class's seconds changes what a running peer means by it: that is a new layout.
 */
import { assert } from '../assert.ts'

/**
 * Seconds, rising. Each is a round TTL and SLACK_SECONDS more: a client may count the TTL from
 * the moment the answer arrives and open its connection in the last second of it.
 */
export const TIMEOUT_CLASS_SECONDS = [15, 35, 65, 305, 3605, 86405] as const
export const CLASS_COUNT = TIMEOUT_CLASS_SECONDS.length

/** What a class lasts longer than the longest TTL that it covers. */
export const SLACK_SECONDS = 5

/** The longest TTL that a grant can cover; answers that open something are clamped to it. */
export const GRANT_TTL_SECONDS_MAX = 86400

/** Index of the shortest class that covers `ttlSeconds`, 0 to GRANT_TTL_SECONDS_MAX. */
export function timeoutClass(ttlSeconds: number): number {
  assert(ttlSeconds <= GRANT_TTL_SECONDS_MAX, 'a TTL that opens something is clamped before')
  let index = 0
  while (TIMEOUT_CLASS_SECONDS[index]! < ttlSeconds + SLACK_SECONDS) index++
  return index
}

/** The UDP destination port that stands for a kernel set. */
export function setPort(portSet: number, classIndex: number): number {
  return (portSet << 4) | classIndex
}
