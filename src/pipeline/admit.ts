/**
 * Admit: opens in the kernel what an answer names, before the answer leaves.
 *
 * For a governed client each address in the answer is granted on each port set that its policy
 * gives the question's name, for each address that the client has in that family. What is known to
 * be in force for long enough (grant/table.ts) is not written again. The writer is synchronous: after
 * `flush` the kernel holds a grant, or the answer must not leave.
 *
 * A grant covers the TTL that the client is given: that of the record which the address lies in,
 * whether it is an A or AAAA record or a hint inside an SVCB or HTTPS record.
 */
import { assert } from '../assert.ts'
import { NO_ENTRY } from '../cache/cache.ts'
import { PORT_SETS_MAX } from '../policy/snapshot.ts'
import { REASON_GRANT_LIMIT, REASON_GRANT_REFUSED } from '../flow/reason.ts'
import { setPort, TIMEOUT_CLASS_SECONDS, timeoutClass } from '../grant/timeout-class.ts'
import { getTtl } from '../wire/bytes.ts'
import type { Context } from './context.ts'
import { counterIndex } from './counters.ts'

const GRANTS_WRITTEN = counterIndex('grantsWritten')
const GRANTS_REFUSED = counterIndex('grantsRefused')
const GRANT_LIMIT = counterIndex('grantLimit')

/** admit(): every grant is in force. */
export const ADMITTED = 0

/** Grants written by one call of the kernel; what GrantWriter.capacity must be at least. */
export const GRANT_BATCH = 64

/**
 * A grant that was written before must outlast the TTL by this much to do for another answer: the
 * client counts its TTL from when the answer arrives, and may connect in the last moment of it. Two
 * of SLACK_SECONDS; the rest is for ages, which are whole seconds, so that a cached answer finds its
 * grant in force for as long as it lives.
 */
const SLACK_LEFT_MS = 2000

/**
 * Makes every grant of the answer, which lies in `message` at `at` with its TTLs as the client will
 * see them. What a cached answer opens for its client is looked for once; from then on, that it was
 * (grant/table.ts). This is so because a grant that covers what is left of the TTLs now covers what
 * will be left of them later: both are the same moment, but for the rounding to whole seconds that
 * SLACK_LEFT_MS is for.
 * @param entry  of the cache, whose TTLs run down and nothing else; NO_ENTRY when that is not so
 * @returns ADMITTED, or the reason (flow/reason.ts) why one of them is not in force
 */
export function admit(
  context: Context,
  entry: number,
  message: Uint8Array,
  at: number,
  nowMs: number,
): number {
  if (entry === NO_ENTRY) return admitAnswer(context, message, at, nowMs)
  if (isAdmitted(context, entry)) return ADMITTED
  const { cache, grants } = context.parts
  const fault = admitAnswer(context, message, at, nowMs)
  if (fault === ADMITTED) grants.noteAdmitted(context.arrival.client, entry, cache.serial(entry))
  return fault
}

/** Whether giving the cached answer to the client opens nothing that it does not have, as far as we know. */
export function isAdmitted(context: Context, entry: number): boolean {
  if (!isGrantable(context)) return true
  const { cache, grants } = context.parts
  return grants.isAdmitted(context.arrival.client, entry, cache.serial(entry))
}

function admitAnswer(context: Context, message: Uint8Array, at: number, nowMs: number): number {
  const setCount = setsToOpen(context)
  if (setCount === 0) return ADMITTED
  // Some of its addresses are not known to us, so they can't be granted.
  if (!context.meta.isWhole) return REASON_GRANT_REFUSED
  pendingCount = 0
  const fault = visit(context, message, at, setCount, true, nowMs)
  if (fault !== ADMITTED) return fault
  return settle(context, message) ? ADMITTED : REASON_GRANT_REFUSED
}

/**
 * Whether the client was granted all that the answer opens, by us and until `sinceMs` or longer:
 * admitting it gives the client back what it had, and nothing else. Nothing is written.
 */
export function wasAdmitted(
  context: Context,
  message: Uint8Array,
  at: number,
  sinceMs: number,
): boolean {
  const setCount = setsToOpen(context)
  if (setCount === 0) return true
  if (!context.meta.isWhole) return false
  return visit(context, message, at, setCount, false, sinceMs) === ADMITTED
}

/** Whether answers open anything for this client: it is governed, and its connections are. */
function isGrantable(context: Context): boolean {
  return context.parts.grantWriter !== null && context.arrival.isGoverned
}

/** How many port sets each address is to be granted on; they are in portSets. */
function setsToOpen(context: Context): number {
  const { arrival, meta, policy } = context
  if (!isGrantable(context)) return 0
  if (meta.addressCount === 0 && meta.isWhole) return 0
  return policy.matchGrants(policy.subjectOf(arrival.client), arrival.scanned, portSets)
}

/**
 * Opens each grant of the answer, or asks whether it was given.
 * @returns ADMITTED, or the reason at the first that is not
 */
function visit(
  context: Context,
  message: Uint8Array,
  at: number,
  setCount: number,
  isOpening: boolean,
  timeMs: number,
): number {
  const { arrival, meta, policy } = context
  const { grants } = context.parts
  const clients = policy.bytes
  for (let index = 0; index < meta.addressCount; index++) {
    const offset = meta.addressOffsets[index]!
    const to = at + offset
    const family = meta.addressFamilies[index]!
    const ttl = getTtl(message, at + ttlOffsetBefore(context, offset))
    const clientAddresses = policy.addressCount(arrival.client, family)
    for (let own = 0; own < clientAddresses; own++) {
      const clientAt = policy.addressAt(arrival.client, family, own)
      for (let set = 0; set < setCount; set++) {
        const portSet = portSets[set]!
        if (isOpening) {
          const fault = open(context, family, clientAt, message, to, portSet, ttl, timeMs)
          if (fault !== ADMITTED) return fault
        } else if (!grants.wasGiven(family, clients, clientAt, message, to, portSet, timeMs)) {
          return REASON_GRANT_REFUSED
        }
      }
    }
  }
  return ADMITTED
}

// The open batch of the grant writer, so that what it took can be noted.
const portSets = new Int32Array(PORT_SETS_MAX)
const pendingFamily = new Uint8Array(GRANT_BATCH)
const pendingClientAt = new Int32Array(GRANT_BATCH)
const pendingAddressAt = new Int32Array(GRANT_BATCH)
const pendingPortSet = new Int32Array(GRANT_BATCH)
const pendingEndMs = new Float64Array(GRANT_BATCH)
let pendingCount = 0

/**
 * Puts one grant into the batch unless it is in force. Not ADMITTED when a full batch was refused, or
 * the client may have no more: then what of the answer was in the batch already is written, so that
 * its next question needs less.
 */
function open(
  context: Context,
  family: number,
  clientAt: number,
  message: Uint8Array,
  addressAt: number,
  portSet: number,
  ttl: number,
  nowMs: number,
): number {
  const { grants, grantWriter } = context.parts
  const clients = context.policy.bytes
  const untilMs = nowMs + ttl * 1000 + SLACK_LEFT_MS
  if (grants.isInForce(family, clients, clientAt, message, addressAt, portSet, untilMs)) {
    return ADMITTED
  }
  if (pendingCount === GRANT_BATCH && !settle(context, message)) return REASON_GRANT_REFUSED
  const timeout = timeoutClass(ttl)
  if (!context.shares.paceGrant(context.arrival.share, timeout, nowMs)) {
    context.parts.counters.add(GRANT_LIMIT, 1)
    return settle(context, message) ? REASON_GRANT_LIMIT : REASON_GRANT_REFUSED
  }
  grantWriter!.push(family, clients, clientAt, message, addressAt, setPort(portSet, timeout))
  pendingFamily[pendingCount] = family
  pendingClientAt[pendingCount] = clientAt
  pendingAddressAt[pendingCount] = addressAt
  pendingPortSet[pendingCount] = portSet
  pendingEndMs[pendingCount] = nowMs + TIMEOUT_CLASS_SECONDS[timeout]! * 1000
  pendingCount++
  return ADMITTED
}

/**
 * Writes the batch and notes what the kernel took; false when it did not take all. What was noted
 * before is believed as long as our rules judge: that one client's set is full must not make every
 * cached answer of every client pay for its grants anew. When nothing of ours judged the batch, the
 * kernel has lost its tables, and the grants in them.
 */
function settle(context: Context, message: Uint8Array): boolean {
  const { grants, grantWriter, counters } = context.parts
  const count = pendingCount
  if (count === 0) return true
  pendingCount = 0
  const refused = grantWriter!.flush()
  counters.add(GRANTS_WRITTEN, count - refused)
  counters.add(GRANTS_REFUSED, refused)
  if (grantWriter!.isUnproven) grants.clear()
  const clients = context.policy.bytes
  for (let index = 0; index < count; index++) {
    if (!grantWriter!.isInForce(index)) continue
    grants.note(
      pendingFamily[index]!,
      clients,
      pendingClientAt[index]!,
      message,
      pendingAddressAt[index]!,
      pendingPortSet[index]!,
      pendingEndMs[index]!,
    )
  }
  return refused === 0
}

/**
 * Offset of the TTL of the record that lies around `offset`: the last TTL before it, since a
 * record's TTL stands before its RDATA and the next record's behind it. The offsets rise.
 */
function ttlOffsetBefore(context: Context, offset: number): number {
  const { ttlOffsets, ttlCount } = context.meta
  let low = 0
  let high = ttlCount
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ttlOffsets[middle]! < offset) low = middle + 1
    else high = middle
  }
  assert(low > 0, 'an address lies in a record')
  return ttlOffsets[low - 1]!
}
