/**
 * Writes a snapshot as the table that the worker reads (policy/table-layout.ts). Called by the main
 * thread for each new policy; what it costs is paid there and not for packets.
 *
 * What must stay true: a rule that cannot be expressed is left out only if leaving it out denies
 * more. Prefixes and addresses in a snapshot are canonical, so one that cannot be read is a fault
 * of ours.
 */
import { assert } from '../assert.ts'
import { familyOf, parseAddress } from '../identity/address.ts'
import { mergeRanges, parsePrefix, rangeOfPrefix } from '../identity/prefix.ts'
import {
  compilePattern,
  FORM_ALL,
  FORM_EXACT,
  FORM_LABELS,
  FORM_LABELS_GLOB,
  FORM_NEVER,
  FORM_ONE_LABEL,
} from './pattern.ts'
import { hashWireName } from './scanned-name.ts'
import type { ClientEntry, NamePattern, QuestionRule, Snapshot, Subject } from './snapshot.ts'
import { type StandIns, withStandIns } from './stand-ins.ts'
import * as layout from './table-layout.ts'

export interface EncodeOptions {
  readonly standIns: StandIns
  /** Kernel indexes of the interfaces that are there now, by name. */
  readonly interfaceIndexes: ReadonlyMap<string, number>
}

/** The table: HEADER_TOTAL_WORDS words, to be copied to the start of a region. */
export function encodeTable(snapshot: Snapshot, options: EncodeOptions): Int32Array {
  const out = new TableWriter()
  const header = out.reserve(layout.HEADER_WORDS)
  assert(header === 0, 'the header comes first')
  writeClients(out, snapshot.clients, options.interfaceIndexes)
  writeSubjects(out, snapshot.subjects, options.standIns)
  out.set(layout.HEADER_MAGIC, layout.TABLE_MAGIC)
  out.set(layout.HEADER_REVISION, snapshot.revision)
  const audit = snapshot.mode === 'audit' ? layout.TABLE_FLAG_AUDIT : 0
  const closed = snapshot.unknown === 'closed' ? layout.TABLE_FLAG_UNKNOWN_CLOSED : 0
  out.set(layout.HEADER_FLAGS, audit | closed)
  out.set(layout.HEADER_DENY_RESPONSE, layout.DENY_RESPONSES.indexOf(snapshot.denyResponse))
  return out.finish()
}

/** Words and bytes that grow as they are written. */
class TableWriter {
  #words = new Int32Array(1024)
  #wordCount = 0
  #bytes = new Uint8Array(4096)
  #byteCount = 0
  readonly #parts = new Map<string, number>()

  /** Word of the first of `count` new words, all 0. */
  reserve(count: number): number {
    const at = this.#wordCount
    this.#wordCount += count
    if (this.#wordCount > this.#words.length) {
      const larger = new Int32Array(Math.max(this.#words.length * 2, this.#wordCount))
      larger.set(this.#words)
      this.#words = larger
    }
    return at
  }

  set(word: number, value: number): void {
    this.#words[word] = value
  }

  get(word: number): number {
    return this.#words[word]!
  }

  append(values: readonly number[]): number {
    const at = this.reserve(values.length)
    this.#words.set(values, at)
    return at
  }

  /** Byte of the copy. */
  appendBytes(bytes: Uint8Array): number {
    const at = this.#byteCount
    this.#byteCount += bytes.length
    if (this.#byteCount > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#byteCount))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes.set(bytes, at)
    return at
  }

  /**
   * Writes a part once, however many rules have the same one; returns its word.
   * @param key  its kind and its content
   */
  share(key: string, write: () => number): number {
    const known = this.#parts.get(key)
    if (known !== undefined) return known
    const at = write()
    this.#parts.set(key, at)
    return at
  }

  finish(): Int32Array {
    const total = this.#wordCount + ((this.#byteCount + 3) >>> 2)
    const table = new Int32Array(total)
    table.set(this.#words.subarray(0, this.#wordCount))
    new Uint8Array(table.buffer).set(this.#bytes.subarray(0, this.#byteCount), this.#wordCount * 4)
    table[layout.HEADER_BYTES_AT] = this.#wordCount
    table[layout.HEADER_TOTAL_WORDS] = total
    return table
  }
}

function writeClients(
  out: TableWriter,
  clients: readonly ClientEntry[],
  interfaceIndexes: ReadonlyMap<string, number>,
): void {
  const addresses = clients.map((client) => client.addresses.map(addressBytes))
  const at = out.reserve(clients.length * layout.CLIENT_WORDS)
  out.set(layout.HEADER_CLIENT_COUNT, clients.length)
  out.set(layout.HEADER_CLIENTS, at)
  for (const [index, client] of clients.entries()) {
    const record = at + index * layout.CLIENT_WORDS
    const link = client.interface === null ? 0 : (interfaceIndexes.get(client.interface) ?? -1)
    out.set(record + layout.CLIENT_SUBJECT, client.subject)
    out.set(record + layout.CLIENT_INTERFACE, link)
    const ipv4 = addresses[index]!.filter((bytes) => familyOf(bytes) === 4)
    const ipv6 = addresses[index]!.filter((bytes) => familyOf(bytes) === 6)
    out.set(record + layout.CLIENT_IPV4_COUNT, ipv4.length)
    out.set(record + layout.CLIENT_IPV4_AT, appendAll(out, ipv4))
    out.set(record + layout.CLIENT_IPV6_COUNT, ipv6.length)
    out.set(record + layout.CLIENT_IPV6_AT, appendAll(out, ipv6))
  }
  writeClientHash(out, addresses, 4, layout.HEADER_IPV4_HASH)
  writeClientHash(out, addresses, 6, layout.HEADER_IPV6_HASH)
}

/** Writes the hash's word and mask at `header` and behind it. */
function writeClientHash(
  out: TableWriter,
  addresses: readonly (readonly Uint8Array[])[],
  family: 4 | 6,
  header: number,
): void {
  const own = addresses.map((all) => all.filter((bytes) => familyOf(bytes) === family))
  const slotCount = slotCountFor(own.flat().length)
  const at = out.reserve(slotCount * layout.CLIENT_SLOT_WORDS)
  const mask = slotCount - 1
  out.set(header, at)
  out.set(header + 1, mask)
  for (const [client, all] of own.entries()) {
    for (const [index, bytes] of all.entries()) {
      let slot = layout.firstSlot(layout.hashAddress(bytes, 0, bytes.length), mask)
      while (out.get(at + slot * layout.CLIENT_SLOT_WORDS) !== 0) slot = (slot + 1) & mask
      out.set(at + slot * layout.CLIENT_SLOT_WORDS, client + 1)
      out.set(at + slot * layout.CLIENT_SLOT_WORDS + 1, index)
    }
  }
}

function writeSubjects(out: TableWriter, subjects: readonly Subject[], standIns: StandIns): void {
  const at = out.reserve(subjects.length * layout.SUBJECT_WORDS)
  let portSetsMax = 0
  for (const [index, subject] of subjects.entries()) {
    const record = at + index * layout.SUBJECT_WORDS
    const groups = groupQuestions(withStandIns(subject.questions, standIns))
    const first = out.reserve(groups.length * layout.GROUP_WORDS)
    for (const [place, group] of groups.entries()) {
      writeGroup(out, first + place * layout.GROUP_WORDS, group)
    }
    out.set(record + layout.SUBJECT_FLAGS, subject.isFaulty ? layout.SUBJECT_FLAG_FAULTY : 0)
    out.set(record + layout.SUBJECT_GROUP_COUNT, groups.length)
    out.set(record + layout.SUBJECT_GROUPS, first)
    const names = subject.names.map(({ pattern, portSet }) => ({ pattern, value: portSet }))
    const matcher = names.length === 0 ? 0 : writeMatcher(out, names)
    out.set(record + layout.SUBJECT_NAMES, matcher)
    portSetsMax = Math.max(portSetsMax, new Set(names.map(({ value }) => value)).size)
  }
  out.set(layout.HEADER_SUBJECT_COUNT, subjects.length)
  out.set(layout.HEADER_SUBJECTS, at)
  out.set(layout.HEADER_PORT_SETS_MAX, portSetsMax)
}

/** Rules about the same servers and ports become one, denying ones first. */
function groupQuestions(rules: readonly QuestionRule[]): QuestionRule[] {
  const groups = new Map<string, QuestionRule>()
  for (const rule of rules) {
    const key = JSON.stringify([rule.verdict ?? 'allow', rule.servers, rule.ports])
    const before = groups.get(key)
    const isAny = rule.names === null || before?.names === null
    const names = isAny ? null : [...(before?.names ?? []), ...(rule.names ?? [])]
    groups.set(key, { ...rule, names })
  }
  const all = [...groups.values()]
  return [
    ...all.filter((group) => group.verdict === 'deny'),
    ...all.filter((group) => group.verdict !== 'deny'),
  ]
}

function writeGroup(out: TableWriter, record: number, group: QuestionRule): void {
  const ports = group.ports.flatMap(({ protocol, first, last }) => [
    layout.PROTOCOL_NUMBERS[protocol],
    first,
    last,
  ])
  const ranges = out.share(`ranges ${JSON.stringify(group.servers)}`, () =>
    writeRanges(out, group.servers),
  )
  const isDeny = group.verdict === 'deny'
  out.set(record + layout.GROUP_VERDICT, isDeny ? layout.GROUP_DENY : layout.GROUP_ALLOW)
  out.set(record + layout.GROUP_PORT_COUNT, group.ports.length)
  out.set(record + layout.GROUP_PORTS, out.append(ports))
  for (let index = 0; index < layout.RANGES_WORDS; index++) {
    out.set(record + layout.GROUP_IPV4_COUNT + index, out.get(ranges + index))
  }
  const names = group.names?.map((pattern) => ({ pattern, value: null })) ?? null
  out.set(record + layout.GROUP_NAMES, names === null ? 0 : writeMatcher(out, names))
}

/** Counts and words of the ranges of both families, in the order in which a group has them. */
function writeRanges(out: TableWriter, servers: readonly string[]): number {
  const ranges = servers.map((text) => {
    const prefix = parsePrefix(text)
    assert(prefix !== null, 'the servers of a snapshot are prefixes')
    return rangeOfPrefix(prefix)
  })
  const ipv4 = mergeRanges(ranges, 4)
  const ipv6 = mergeRanges(ranges, 6)
  const ipv4At = out.append(ipv4.flatMap(rangeWords))
  const ipv6At = out.append(ipv6.flatMap(rangeWords))
  return out.append([ipv4.length, ipv4At, ipv6.length, ipv6At])
}

interface MatcherEntry {
  readonly pattern: NamePattern
  /** A port set's number; null for questions. */
  readonly value: number | null
}

/** Word of the matcher. */
function writeMatcher(out: TableWriter, entries: readonly MatcherEntry[]): number {
  return out.share(`matcher ${JSON.stringify(entries)}`, () => {
    const all: (number | null)[] = []
    const tables = new Map(
      [FORM_EXACT, FORM_ONE_LABEL, FORM_LABELS].map((form) => [form, new Suffixes()]),
    )
    const globs = new Suffixes()
    const deepGlobs = new Suffixes()
    for (const { pattern, value } of entries) {
      const { form, bytes } = compilePattern(pattern)
      if (form === FORM_ALL) all.push(value)
      else if (form !== FORM_NEVER) {
        const glob = form === FORM_LABELS_GLOB ? deepGlobs : globs
        const table = tables.get(form) ?? glob
        table.add(bytes, value)
      }
    }
    const at = out.reserve(layout.MATCHER_WORDS)
    out.set(at + layout.MATCHER_ALL, all.length === 0 ? 0 : writeValues(out, all))
    writeSlots(out, at + layout.MATCHER_EXACT, tables.get(FORM_EXACT)!)
    writeSlots(out, at + layout.MATCHER_ONE_LABEL, tables.get(FORM_ONE_LABEL)!)
    writeSlots(out, at + layout.MATCHER_LABELS, tables.get(FORM_LABELS)!)
    writeGlobs(out, at, globs, deepGlobs)
    return at
  })
}

/** Bytes of patterns, and the values of each. */
class Suffixes {
  readonly entries = new Map<string, { bytes: Uint8Array; values: (number | null)[] }>()

  add(bytes: Uint8Array, value: number | null): void {
    const key = bytes.join()
    const entry = this.entries.get(key) ?? { bytes, values: [] }
    entry.values.push(value)
    this.entries.set(key, entry)
  }
}

/** Writes the word of the slots and their mask at `header`; 0 and 0 when there are none. */
function writeSlots(out: TableWriter, header: number, suffixes: Suffixes): void {
  const entries = [...suffixes.entries.values()]
  if (entries.length === 0) return
  const slotCount = slotCountFor(entries.length)
  const mask = slotCount - 1
  const slots = out.reserve(slotCount * layout.SLOT_WORDS)
  for (const { bytes, values } of entries) {
    const hash = hashWireName(bytes)
    let slot = layout.firstSlot(hash, mask)
    while (out.get(slots + slot * layout.SLOT_WORDS + layout.SLOT_NAME_BYTES) !== 0) {
      slot = (slot + 1) & mask
    }
    const at = slots + slot * layout.SLOT_WORDS
    out.set(at + layout.SLOT_HASH, hash)
    out.set(at + layout.SLOT_NAME_AT, out.appendBytes(bytes))
    out.set(at + layout.SLOT_NAME_BYTES, bytes.length)
    out.set(at + layout.SLOT_VALUES, writeValues(out, values))
  }
  out.set(header, slots)
  out.set(header + 1, mask)
}

function writeGlobs(out: TableWriter, matcher: number, plain: Suffixes, deep: Suffixes): void {
  const entries = [
    ...[...plain.entries.values()].map((entry) => ({ ...entry, isDeep: 0 })),
    ...[...deep.entries.values()].map((entry) => ({ ...entry, isDeep: 1 })),
  ]
  const globs = out.reserve(entries.length * layout.GLOB_WORDS)
  for (const [index, { bytes, values, isDeep }] of entries.entries()) {
    const at = globs + index * layout.GLOB_WORDS
    out.set(at + layout.GLOB_AT, out.appendBytes(bytes))
    out.set(at + layout.GLOB_IS_DEEP, isDeep)
    out.set(at + layout.GLOB_VALUES, writeValues(out, values))
  }
  out.set(matcher + layout.MATCHER_GLOB_COUNT, entries.length)
  out.set(matcher + layout.MATCHER_GLOBS, globs)
}

/** Word of the values. It is never 0, which means "not found": the header comes first. */
function writeValues(out: TableWriter, values: readonly (number | null)[]): number {
  const numbers = [...new Set(values.filter((value) => value !== null))]
  return out.append([numbers.length, ...numbers])
}

function appendAll(out: TableWriter, addresses: readonly Uint8Array[]): number {
  const ats = addresses.map((bytes) => out.appendBytes(bytes))
  return ats[0] ?? 0
}

function rangeWords(range: { first: Uint8Array; last: Uint8Array }): number[] {
  const words: number[] = []
  for (const bytes of [range.first, range.last]) {
    for (let at = 0; at < bytes.length; at += 4) words.push(layout.sortableWord(bytes, at))
  }
  return words
}

/** A power of two that leaves at least every third slot empty, and always one. */
function slotCountFor(entries: number): number {
  let count = 2
  while (count * 2 < entries * 3) count *= 2
  return count
}

function addressBytes(text: string): Uint8Array {
  const bytes = parseAddress(text)
  assert(bytes !== null, 'the addresses of a snapshot are canonical')
  return bytes
}
