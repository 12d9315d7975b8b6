/**
 * Resource records as a zone file writes them, one a line: what tests, fixtures and the CLI read
 * and show. Cold; throws TextError.
 *
 *     api.example.com. 30 IN A 192.0.2.10
 *     _8443._https.example.com. HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.10
 *     odd.example.com. TYPE65280 \# 3 0a0b0c
 *
 * Names are absolute with or without a final dot. TTL and class may be left out (300 and IN) and
 * stand in either order. There is no $ORIGIN, no parenthesis and no comment.
 * Source: RFC 1035 §5, RFC 3597 §5, RFC 9460 §2.1.
 */
import { copyBytes, getU16, getU32, putU16, putU32 } from './bytes.ts'
import {
  CLASS_IN,
  SVCB_ALPN,
  SVCB_IPV4HINT,
  SVCB_IPV6HINT,
  SVCB_PORT,
  TYPE_A,
  TYPE_AAAA,
  TYPE_CNAME,
  TYPE_DNAME,
  TYPE_HINFO,
  TYPE_HTTPS,
  TYPE_MX,
  TYPE_NS,
  TYPE_PTR,
  TYPE_SOA,
  TYPE_SRV,
  TYPE_SVCB,
  TYPE_TXT,
} from './header.ts'
import { BAD_NAME, LABEL_BYTES_MAX, skipName } from './name.ts'
import {
  escapeByte,
  formatClass,
  formatName,
  formatType,
  parseClass,
  parseNameAsWritten,
  parseType,
  TextError,
} from './text.ts'

export interface ResourceRecord {
  /** Wire form, uncompressed, with the case it was written in. */
  readonly name: Uint8Array
  readonly type: number
  readonly class: number
  readonly ttl: number
  /** Names in it are uncompressed. */
  readonly rdata: Uint8Array
}

const DEFAULT_TTL_SECONDS = 300

export function parseRecord(line: string): ResourceRecord {
  const words = splitWords(line)
  const owner = words.shift()
  if (owner === undefined) throw new TextError('a record is empty')
  let ttl: number | null = null
  let class_: number | null = null
  for (;;) {
    const word = words.shift()
    if (word === undefined) throw new TextError(`"${line}" has no record type`)
    const asClass = parseClass(word)
    if (ttl === null && /^\d+$/.test(word)) ttl = parseUnsigned(word, 0xffffffff)
    else if (class_ === null && asClass !== null) class_ = asClass
    else {
      return {
        name: parseNameAsWritten(owner),
        type: parseType(word),
        class: class_ ?? CLASS_IN,
        ttl: ttl ?? DEFAULT_TTL_SECONDS,
        rdata: parseRdata(parseType(word), words, line),
      }
    }
  }
}

export function formatRecord(record: ResourceRecord): string {
  const { name, ttl, type, rdata } = record
  const head = `${formatName(name)} ${ttl} ${formatClass(record.class)} ${formatType(type)}`
  return `${head} ${formatKnownRdata(type, rdata) ?? formatUnknownRdata(rdata)}`
}

/** Words between blanks; "…" keeps blanks together. Escapes stay for whoever reads the word. */
function splitWords(line: string): string[] {
  return line.match(/(?:"(?:[^"\\]|\\.)*"|\\.|[^\s"\\])+/g) ?? []
}

function parseRdata(type: number, words: string[], line: string): Uint8Array {
  if (words[0] === '\\#') return parseUnknownRdata(words, line)
  const expect = (count: number) => {
    if (words.length === count) return
    throw new TextError(`"${line}": ${formatType(type)} takes ${count} words, not ${words.length}`)
  }
  switch (type) {
    case TYPE_A:
      expect(1)
      return parseIpv4(words[0]!)
    case TYPE_AAAA:
      expect(1)
      return parseIpv6(words[0]!)
    case TYPE_NS:
    case TYPE_CNAME:
    case TYPE_PTR:
    case TYPE_DNAME:
      expect(1)
      return parseNameAsWritten(words[0]!)
    case TYPE_MX:
      expect(2)
      return join(u16(words[0]!), parseNameAsWritten(words[1]!))
    case TYPE_SRV:
      expect(4)
      return join(...words.slice(0, 3).map(u16), parseNameAsWritten(words[3]!))
    case TYPE_SOA:
      expect(7)
      return join(
        parseNameAsWritten(words[0]!),
        parseNameAsWritten(words[1]!),
        ...words.slice(2).map(u32),
      )
    case TYPE_HINFO:
    case TYPE_TXT:
      return join(...words.map(parseString))
    case TYPE_SVCB:
    case TYPE_HTTPS:
      return parseSvcb(words, line)
    default:
      throw new TextError(`"${line}": write the data of ${formatType(type)} as \\# LENGTH HEX`)
  }
}

function parseUnknownRdata(words: string[], line: string): Uint8Array {
  const hex = words.slice(2).join('')
  if (!/^(?:[0-9a-f]{2})*$/i.test(hex) || hex.length !== 2 * Number(words[1])) {
    throw new TextError(`"${line}": after \\# come the length and as many bytes in hexadecimal`)
  }
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}

function parseSvcb(words: string[], line: string): Uint8Array {
  const [priority, target, ...params] = words
  if (priority === undefined || target === undefined) {
    throw new TextError(`"${line}": a priority and a target come first`)
  }
  const parsed = params.map((word) => {
    const [, key, value] = /^([^=]+)(?:=(.*))?$/.exec(word) ?? []
    return parseSvcbParam(key ?? word, (value ?? '').replace(/^"(.*)"$/, '$1'), line)
  })
  parsed.sort((a, b) => getU16(a, 0) - getU16(b, 0)) // wire order, whatever was written
  return join(u16(priority), parseNameAsWritten(target), ...parsed)
}

function parseSvcbParam(key: string, value: string, line: string): Uint8Array {
  const values = value.split(',')
  const parts: [number, Uint8Array] | null =
    key === 'alpn'
      ? [SVCB_ALPN, join(...values.map(parseString))]
      : key === 'port'
        ? [SVCB_PORT, u16(value)]
        : key === 'ipv4hint'
          ? [SVCB_IPV4HINT, join(...values.map(parseIpv4))]
          : key === 'ipv6hint'
            ? [SVCB_IPV6HINT, join(...values.map(parseIpv6))]
            : /^key\d+$/.test(key)
              ? [parseUnsigned(key.slice(3), 0xffff), parseString(value).subarray(1)]
              : null
  if (parts === null) {
    throw new TextError(`"${line}": "${key}" is none of alpn, port, ipv4hint, ipv6hint, key123`)
  }
  return join(u16(String(parts[0])), u16(String(parts[1].length)), parts[1])
}

/** The RDATA of a type we know as text; null when it is another type or malformed. */
function formatKnownRdata(type: number, rdata: Uint8Array): string | null {
  const isNameTo = (at: number, end: number) => nameEnd(rdata, at) === end
  switch (type) {
    case TYPE_A:
      return rdata.length === 4 ? rdata.join('.') : null
    case TYPE_AAAA:
      return rdata.length === 16 ? formatIpv6(rdata) : null
    case TYPE_NS:
    case TYPE_CNAME:
    case TYPE_PTR:
    case TYPE_DNAME:
      return isNameTo(0, rdata.length) ? formatName(rdata) : null
    case TYPE_MX:
      if (!isNameTo(2, rdata.length)) return null
      return `${getU16(rdata, 0)} ${formatName(rdata, 2)}`
    case TYPE_SRV:
      if (!isNameTo(6, rdata.length)) return null
      return `${[0, 2, 4].map((at) => getU16(rdata, at)).join(' ')} ${formatName(rdata, 6)}`
    case TYPE_SOA: {
      const second = nameEnd(rdata, 0)
      const end = rdata.length - 20
      if (second === BAD_NAME || !isNameTo(second, end)) return null
      const names = `${formatName(rdata, 0, second)} ${formatName(rdata, second, end - second)}`
      return `${names} ${[0, 4, 8, 12, 16].map((at) => getU32(rdata, end + at)).join(' ')}`
    }
    case TYPE_HINFO:
    case TYPE_TXT:
      return (
        formatStrings(rdata, 0, rdata.length)
          ?.map((text) => `"${text}"`)
          .join(' ') ?? null
      )
    case TYPE_SVCB:
    case TYPE_HTTPS:
      return formatSvcb(rdata)
    default:
      return null
  }
}

/** Offset behind the uncompressed name at `at`, or BAD_NAME. */
function nameEnd(rdata: Uint8Array, at: number): number {
  const end = skipName(rdata, at, rdata.length)
  for (let label = at; label < end - 1; label += 1 + rdata[label]!) {
    if (rdata[label]! > LABEL_BYTES_MAX) return BAD_NAME // it ends in a pointer
  }
  return end
}

function formatUnknownRdata(rdata: Uint8Array): string {
  const hex = Array.from(rdata, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return rdata.length === 0 ? '\\# 0' : `\\# ${rdata.length} ${hex}`
}

function formatSvcb(rdata: Uint8Array): string | null {
  const paramsAt = nameEnd(rdata, 2)
  if (paramsAt === BAD_NAME) return null
  const words = [String(getU16(rdata, 0)), formatName(rdata, 2, paramsAt - 2)]
  let lastKey = -1
  for (let at = paramsAt; at < rdata.length; ) {
    const end = at + 4 + getU16(rdata, at + 2)
    // In another order they would come back in the right one: such data is shown as bytes.
    if (at + 4 > rdata.length || end > rdata.length || getU16(rdata, at) <= lastKey) return null
    lastKey = getU16(rdata, at)
    words.push(formatSvcbParam(getU16(rdata, at), rdata.subarray(at + 4, end)))
    at = end
  }
  return words.join(' ')
}

function formatSvcbParam(key: number, value: Uint8Array): string {
  const alpn = key === SVCB_ALPN ? formatStrings(value, 0, value.length) : null
  // A comma or blank inside an ALPN id would need two levels of escapes: shown as bytes instead.
  if (alpn?.length && alpn.every((id) => /^[\w./+-]+$/.test(id))) return `alpn=${alpn.join(',')}`
  if (key === SVCB_PORT && value.length === 2) return `port=${getU16(value, 0)}`
  if (key === SVCB_IPV4HINT && value.length % 4 === 0 && value.length > 0) {
    return `ipv4hint=${chunks(value, 4, (address) => address.join('.'))}`
  }
  if (key === SVCB_IPV6HINT && value.length % 16 === 0 && value.length > 0) {
    return `ipv6hint=${chunks(value, 16, formatIpv6)}`
  }
  const bytes = Array.from(value, (byte) => escapeByte(byte, '"\\,;()')).join('')
  return value.length === 0 ? `key${key}` : `key${key}="${bytes}"`
}

function chunks(bytes: Uint8Array, size: number, format: (part: Uint8Array) => string): string {
  const texts: string[] = []
  for (let at = 0; at < bytes.length; at += size) texts.push(format(bytes.subarray(at, at + size)))
  return texts.join(',')
}

/** A character-string: its length, then its bytes. Source: RFC 1035 §3.3, §5.1. */
function parseString(word: string): Uint8Array {
  const text = word.replace(/^"(.*)"$/s, '$1')
  const bytes: number[] = []
  for (const [part, digits, escaped] of text.matchAll(/\\(\d{3})|\\(.)|[^\\]/gs)) {
    const byte = digits !== undefined ? Number(digits) : (escaped ?? part).charCodeAt(0)
    if (byte > 255) throw new TextError(`"${word}" holds something other than bytes: "${part}"`)
    bytes.push(byte)
  }
  if (bytes.length > 255) throw new TextError(`"${word}" has more than 255 bytes`)
  return Uint8Array.of(bytes.length, ...bytes)
}

function formatStrings(bytes: Uint8Array, at: number, end: number): string[] | null {
  const texts: string[] = []
  while (at < end) {
    const next = at + 1 + bytes[at]!
    if (next > end) return null
    const escaped = Array.from(bytes.subarray(at + 1, next), (byte) =>
      byte === 0x20 ? ' ' : escapeByte(byte, '"\\'),
    )
    texts.push(escaped.join(''))
    at = next
  }
  return texts
}

function parseIpv4(text: string): Uint8Array {
  const parts = text.split('.')
  const isSound = parts.length === 4 && parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part))
  if (!isSound || parts.some((part) => Number(part) > 255)) {
    throw new TextError(`"${text}" is not an IPv4 address`)
  }
  return Uint8Array.from(parts, Number)
}

function parseIpv6(text: string): Uint8Array {
  const bad = new TextError(`"${text}" is not an IPv6 address`)
  const halves = text.split('::')
  if (halves.length > 2) throw bad
  const [head, tail] = halves.map((half) => {
    const groups = half === '' ? [] : half.split(':')
    const last = groups.at(-1)
    if (last?.includes('.')) {
      const v4 = parseIpv4(last)
      groups.splice(-1, 1, getU16(v4, 0).toString(16), getU16(v4, 2).toString(16))
    }
    if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) throw bad
    return groups.map((group) => Number.parseInt(group, 16))
  })
  const zeros = 8 - head!.length - (tail?.length ?? 0)
  if (tail === undefined ? zeros !== 0 : zeros < 1) throw bad
  const bytes = new Uint8Array(16)
  const groups = [...head!, ...new Array<number>(zeros).fill(0), ...(tail ?? [])]
  groups.forEach((group, index) => putU16(bytes, 2 * index, group))
  return bytes
}

/** Source: RFC 5952 §4. */
function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, index) => getU16(bytes, 2 * index).toString(16))
  let best = { at: 0, count: 1 }
  for (let at = 0; at < 8; at++) {
    let count = 0
    while (groups[at + count] === '0') count++
    if (count > best.count) best = { at, count }
  }
  if (best.count === 1) return groups.join(':')
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.count).join(':')}`
}

function parseUnsigned(text: string, max: number): number {
  if (!/^\d+$/.test(text) || Number(text) > max) {
    throw new TextError(`"${text}" is not a number from 0 to ${max}`)
  }
  return Number(text)
}

function u16(text: string): Uint8Array {
  const bytes = new Uint8Array(2)
  putU16(bytes, 0, parseUnsigned(text, 0xffff))
  return bytes
}

function u32(text: string): Uint8Array {
  const bytes = new Uint8Array(4)
  putU32(bytes, 0, parseUnsigned(text, 0xffffffff))
  return bytes
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0))
  let at = 0
  for (const part of parts) {
    copyBytes(part, 0, part.length, joined, at)
    at += part.length
  }
  return joined
}
