/**
 * Names, types, classes and rcodes as people write them. For configuration, the CLI, `observe`
 * and tests: cold, it may allocate and throws TextError on text that is none.
 *
 * Text is never compared to decide anything: two texts can be one name (`a\.b`, `a\046b`) and
 * what looks like a dot may lie inside a label. Decisions are made on bytes (name.ts).
 */
import { BAD_NAME, foldName, LABEL_BYTES_MAX, NAME_BYTES_MAX, skipName } from './name.ts'

/** Text that a person wrote and that does not say what it should. */
export class TextError extends Error {
  override name = 'TextError'
}

/** Assigned by IANA, as far as one meets them; the others are TYPE123 (RFC 3597 §5). */
const TYPES: ReadonlyMap<string, number> = new Map([
  ['A', 1],
  ['NS', 2],
  ['CNAME', 5],
  ['SOA', 6],
  ['NULL', 10],
  ['PTR', 12],
  ['HINFO', 13],
  ['MX', 15],
  ['TXT', 16],
  ['RP', 17],
  ['AFSDB', 18],
  ['AAAA', 28],
  ['LOC', 29],
  ['SRV', 33],
  ['NAPTR', 35],
  ['CERT', 37],
  ['DNAME', 39],
  ['OPT', 41],
  ['DS', 43],
  ['SSHFP', 44],
  ['RRSIG', 46],
  ['NSEC', 47],
  ['DNSKEY', 48],
  ['NSEC3', 50],
  ['NSEC3PARAM', 51],
  ['TLSA', 52],
  ['CDS', 59],
  ['CDNSKEY', 60],
  ['OPENPGPKEY', 61],
  ['ZONEMD', 63],
  ['SVCB', 64],
  ['HTTPS', 65],
  ['SPF', 99],
  ['TKEY', 249],
  ['TSIG', 250],
  ['IXFR', 251],
  ['AXFR', 252],
  ['ANY', 255],
  ['URI', 256],
  ['CAA', 257],
])
const CLASSES: ReadonlyMap<string, number> = new Map([
  ['IN', 1],
  ['CH', 3],
  ['HS', 4],
  ['NONE', 254],
  ['ANY', 255],
])
const RCODES: ReadonlyMap<string, number> = new Map([
  ['NOERROR', 0],
  ['FORMERR', 1],
  ['SERVFAIL', 2],
  ['NXDOMAIN', 3],
  ['NOTIMP', 4],
  ['REFUSED', 5],
  ['YXDOMAIN', 6],
  ['YXRRSET', 7],
  ['NXRRSET', 8],
  ['NOTAUTH', 9],
  ['NOTZONE', 10],
  ['BADVERS', 16],
  ['BADCOOKIE', 23],
])
/** Source: IANA's registry of DNS OpCodes. */
const OPCODES: ReadonlyMap<number, string> = new Map([
  [0, 'QUERY'],
  [1, 'IQUERY'],
  [2, 'STATUS'],
  [4, 'NOTIFY'],
  [5, 'UPDATE'],
  [6, 'DSO'],
])
const TYPE_TEXTS = swap(TYPES)
const CLASS_TEXTS = swap(CLASSES)
const RCODE_TEXTS = swap(RCODES)

/** Characters that a zone file reads as something else. Source: RFC 1035 §5.1; `@`, `$` by custom. */
const SPECIAL = '.\\"();@$'

/**
 * The name that a text means: wire form, lower case. A final dot may be left out; '.' is the root.
 * `\.` is a dot inside a label, `\065` the byte 65; other than ASCII must be written as an A-label.
 */
export function parseName(text: string): Uint8Array {
  const name = parseNameAsWritten(text)
  foldName(name, 0, name.length)
  return name
}

/** The same with the case as written: for messages, where case travels. */
export function parseNameAsWritten(text: string): Uint8Array {
  if (text === '.') return Uint8Array.of(0)
  const name: number[] = [0]
  let labelAt = 0
  for (let at = 0; at < text.length; ) {
    const character = text[at]!
    if (character === '.') {
      endLabel(text, name, labelAt)
      labelAt = name.length
      name.push(0)
      at++
    } else if (character === '\\') {
      const escape = /^\\(?:(\d{3})|([^\d]))/.exec(text.slice(at, at + 4))
      const byte = escape?.[1] === undefined ? escape?.[2]?.charCodeAt(0) : Number(escape[1])
      if (escape === null || byte === undefined || byte > 255) {
        throw new TextError(
          `"${text}" is not a name: after \\ comes a character or 3 digits to 255`,
        )
      }
      name.push(byte)
      at += escape[0].length
    } else {
      const byte = character.charCodeAt(0)
      if (byte <= 0x20 || byte >= 0x7f) {
        throw new TextError(`"${text}" is not a name: write "${character}" as an A-label (xn--…)`)
      }
      name.push(byte)
      at++
    }
  }
  if (name.length > labelAt + 1) {
    endLabel(text, name, labelAt)
    name.push(0)
  } else if (name.length === 1) {
    throw new TextError('a name is empty; the root is written "."')
  }
  if (name.length > NAME_BYTES_MAX) {
    throw new TextError(`"${text}" is not a name: it has more than ${NAME_BYTES_MAX} bytes`)
  }
  return Uint8Array.from(name)
}

function endLabel(text: string, name: number[], labelAt: number): void {
  const bytes = name.length - labelAt - 1
  if (bytes === 0) throw new TextError(`"${text}" is not a name: it has an empty label`)
  if (bytes > LABEL_BYTES_MAX) {
    throw new TextError(`"${text}" is not a name: a label has more than ${LABEL_BYTES_MAX} bytes`)
  }
  name[labelAt] = bytes
}

/**
 * A name as text, with its final dot. Whatever bytes it has, the text is printable ASCII without
 * blanks and reads back as the same name; so it can go into a log line or on a terminal.
 * @param length  bytes of the uncompressed name at `at`; what is no name gives '(bad name)'
 */
export function formatName(bytes: Uint8Array, at = 0, length = bytes.length - at): string {
  if (length <= 0 || skipName(bytes, at, at + length) === BAD_NAME) return '(bad name)'
  if (bytes[at] === 0) return '.'
  let text = ''
  while (bytes[at] !== 0) {
    const label = bytes[at]!
    if (label > LABEL_BYTES_MAX) return '(bad name)' // a pointer: not uncompressed
    for (let index = 1; index <= label; index++) text += escapeByte(bytes[at + index]!, SPECIAL)
    text += '.'
    at += 1 + label
  }
  return text
}

/** A byte as text that reads back: escaped where it is in `special`, blank or not printable. */
export function escapeByte(byte: number, special: string): string {
  if (byte <= 0x20 || byte >= 0x7f) return `\\${String(byte).padStart(3, '0')}`
  const character = String.fromCharCode(byte)
  return special.includes(character) ? `\\${character}` : character
}

/** 'HTTPS', or 'TYPE65280' for a type without a name here. */
export function formatType(type: number): string {
  return TYPE_TEXTS.get(type) ?? `TYPE${type}`
}

export function parseType(text: string): number {
  const type = TYPES.get(text.toUpperCase()) ?? parseNumbered(text, 'TYPE')
  if (type === null) throw new TextError(`"${text}" is not a record type, like AAAA or TYPE65`)
  return type
}

export function formatClass(class_: number): string {
  return CLASS_TEXTS.get(class_) ?? `CLASS${class_}`
}

/** The class that a text means; null when it means none, so that it may be left out. */
export function parseClass(text: string): number | null {
  return CLASSES.get(text.toUpperCase()) ?? parseNumbered(text, 'CLASS')
}

/** 'NXDOMAIN', or 'RCODE11' for one without a name. */
export function formatRcode(rcode: number): string {
  return RCODE_TEXTS.get(rcode) ?? `RCODE${rcode}`
}

export function parseRcode(text: string): number {
  const rcode = RCODES.get(text.toUpperCase()) ?? parseNumbered(text, 'RCODE')
  if (rcode === null) throw new TextError(`"${text}" is not an rcode, like NXDOMAIN`)
  return rcode
}

/** 'NOTIFY', or 'OPCODE9' for one without a name. */
export function formatOpcode(opcode: number): string {
  return OPCODES.get(opcode) ?? `OPCODE${opcode}`
}

/** 65 of 'TYPE65'; null for anything else. Source: RFC 3597 §5. */
function parseNumbered(text: string, word: string): number | null {
  const number = text.toUpperCase().startsWith(word) ? text.slice(word.length) : ''
  return /^\d{1,5}$/.test(number) && Number(number) <= 0xffff ? Number(number) : null
}

function swap(map: ReadonlyMap<string, number>): ReadonlyMap<number, string> {
  return new Map([...map].map(([text, number]) => [number, text]))
}
