/**
 * Nothing below (cache.nothingBelowNxdomain): a fresh NXDOMAIN that was asked for any type answers
 * for its name with every type, and for all names below it (RFC 8020, RFC 2308 §5). After the cache
 * had nothing for the question itself, before an upstream is asked.
 *
 * Off by default, because we do not validate: a server that says NXDOMAIN where it should say NODATA
 * (for a name that has no records and names below it) would take those names from all clients.
 *
 * What must stay true:
 * - Only what is fresh, and of the same class, upstream group and CD bit, denies anything.
 * - A name that a fresh answer shows to exist ends the search: nothing above it is believed to have
 *   nothing below.
 * - A question with DO is asked upstream: whoever validates needs records that prove the denial.
 * - Policy has decided about the name that was asked, before. What is denied above it may be a name
 *   that this client may not ask; that there is nothing below is what an upstream would say too.
 */
import { EXISTS } from '../cache/cache.ts'
import { KEY_DO, Question } from '../cache/question.ts'
import { hashName, parentAt } from '../wire/name.ts'
import { NO_NXDOMAIN, NXDOMAIN_BYTES_MAX, nxdomainTtlAt, writeNxdomain } from '../wire/nxdomain.ts'
import { giveDenial } from './answer.ts'
import type { Context } from './context.ts'

/** One SOA record with its names is far from this; a longer NXDOMAIN is not looked at. */
const SOURCE_BYTES_MAX = 4096

// Reused by every call.
const source = new Uint8Array(SOURCE_BYTES_MAX)
const denial = new Uint8Array(NXDOMAIN_BYTES_MAX)
const ancestor = new Question()

/** Answers that the name does not exist; false when nothing in the cache says so. */
export function answerNothingBelow(context: Context, nowMs: number): boolean {
  const { cache } = context.parts
  const { question } = context.arrival
  const { name, nameAt, nameBytes } = question
  if ((question.keyFlags & KEY_DO) !== 0) return false
  ancestor.name = name
  ancestor.class = question.class
  ancestor.keyFlags = question.keyFlags
  ancestor.group = question.group
  const end = nameAt + nameBytes
  // Not for the root, which exists.
  for (let at = nameAt; at < end - 1; at = parentAt(name, at)) {
    ancestor.nameAt = at
    ancestor.nameBytes = end - at
    ancestor.hash = hashName(name, at, end - at, context.options.nameSeed)
    const entry = cache.findNxdomain(ancestor, nowMs)
    if (entry === EXISTS) return false
    if (entry >= 0) return deny(context, entry, at, nowMs)
  }
  return false
}

/** False when the entry does not say it of the name itself: then that name exists. */
function deny(context: Context, entry: number, deniedAt: number, nowMs: number): boolean {
  const { cache } = context.parts
  const { name, nameAt, nameBytes } = context.arrival.question
  if (cache.messageBytes(entry) > SOURCE_BYTES_MAX) return false
  const bytes = cache.copyMessage(entry, source, 0)
  const length = writeNxdomain(denial, 0, source, bytes, name, nameAt, nameBytes, deniedAt)
  if (length === NO_NXDOMAIN) return false
  context.meta.ttlOffsets[0] = nxdomainTtlAt(nameBytes)
  context.meta.ttlCount = 1
  context.meta.addressCount = 0
  context.meta.isWhole = true
  giveDenial(context, entry, denial, length, nowMs)
  return true
}
