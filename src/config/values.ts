/**
 * Single values of the configuration file: text of one kind → the value that the program uses.
 *
 * Called by load.ts for every scalar and for the defaults of options.ts, so that a default passes
 * the same checks as what a user writes. A reader throws BadValue; its message is a clause about
 * the text ("is no size; write …"), to which load.ts adds file, line and key.
 */
import path from 'node:path'
import { assert } from '../assert.ts'
import { addressFault, canonicalAddress } from '../identity/address.ts'
import type { Option, OptionKind } from '../option.ts'

/** A value that cannot be used. */
export class BadValue extends Error {}

/** A packet mark: `value` has no bit outside `mask`. */
export interface Mark {
  readonly value: number
  readonly mask: number
}

/** One entry of `servers`: a server, or a file in the format of resolv.conf that lists some. */
export type UpstreamServer = WrittenServer<number>

/** As written: without a port, null; which one is meant depends on the transport. */
export type WrittenServer<Port = number | null> =
  | { readonly kind: 'address'; readonly address: string; readonly port: Port }
  | { readonly kind: 'file'; readonly path: string }

/** What a reader may need beside the text. */
export interface ValueContext {
  /** Directory of the configuration file: relative paths start there. */
  readonly directory: string
}

const READERS: Record<
  OptionKind,
  (text: string, option: Option, context: ValueContext) => unknown
> = {
  text: readText,
  path: (text, _option, context) => readPath(text, context),
  size: readSize,
  duration: readDuration,
  port: (text) => readInteger(text, 1, 65535),
  integer: (text, option) => readInteger(text, option.min, option.max),
  boolean: readBoolean,
  choice: readChoice,
  mark: readMark,
  address: readAddress,
  interface: readInterface,
  zone: readZone,
  server: (text, _option, context) => readServer(text, context),
  listener: readText,
}

/** The value that `text` stands for under `option`, one element of it for a list. */
export function readValue(text: string, option: Option, context: ValueContext): unknown {
  return READERS[option.kind](text, option, context)
}

const SIZE_UNITS: Record<string, number> = { KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 }
const DURATION_UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400 }

/** Text of a size for people: '32MiB'. */
export function formatSize(bytes: number): string {
  return formatUnit(bytes, SIZE_UNITS, 'B')
}

/** Text of a duration for people: '1h'. */
export function formatDuration(seconds: number): string {
  return formatUnit(seconds, DURATION_UNITS, 's')
}

/** Canonical text of an address. */
function readAddress(text: string): string {
  const address = canonicalAddress(text)
  if (address === null) throw new BadValue(addressFault(text))
  return address
}

function formatUnit(amount: number, units: Record<string, number>, smallest: string): string {
  if (amount === 0) return `0${smallest}`
  let best = `${amount}${smallest}`
  for (const [unit, factor] of Object.entries(units)) {
    if (amount % factor === 0) best = `${amount / factor}${unit}`
  }
  return best
}

function readText(text: string): string {
  if (text === '') throw new BadValue('is empty')
  return text
}

function readPath(text: string, context: ValueContext): string {
  if (text === '') throw new BadValue('is empty; write a path')
  return path.resolve(context.directory, text)
}

function readSize(text: string, option: Option): number {
  const bytes = readUnit(text, SIZE_UNITS)
  if (bytes < 0) {
    throw new BadValue(`'${text}' is no size; write a whole number and KiB, MiB or GiB: 32MiB`)
  }
  return within(bytes, text, option, formatSize)
}

function readDuration(text: string, option: Option): number {
  const seconds = readUnit(text, DURATION_UNITS)
  if (seconds < 0) {
    throw new BadValue(`'${text}' is no duration; write a whole number and s, m, h or d: 30s`)
  }
  return within(seconds, text, option, formatDuration)
}

/** A whole number and its unit, with no space; -1 when it is not that. 0 needs no unit. */
function readUnit(text: string, units: Record<string, number>): number {
  if (text === '0') return 0
  const match = /^(\d{1,10})([A-Za-z]+)$/.exec(text)
  if (!match || !Object.hasOwn(units, match[2]!)) return -1
  return Number(match[1]) * units[match[2]!]!
}

function within(
  value: number,
  text: string,
  option: Option,
  format: (value: number) => string,
): number {
  const { min, max } = option
  if (min !== undefined && value < min) {
    throw new BadValue(`${text} is too little: at least ${format(min)}`)
  }
  if (max !== undefined && value > max) {
    throw new BadValue(`${text} is too much: at most ${format(max)}`)
  }
  return value
}

function readInteger(text: string, min: number | undefined, max: number | undefined): number {
  assert(min !== undefined && max !== undefined, 'an integer option declares its bounds')
  const value = /^\d{1,10}$/.test(text) ? Number(text) : -1
  if (value < min || value > max) {
    throw new BadValue(`'${text}' is no whole number from ${min} to ${max}`)
  }
  return value
}

function readBoolean(text: string): boolean {
  if (text === 'true') return true
  if (text === 'false') return false
  throw new BadValue(`'${text}' is neither true nor false`)
}

function readChoice(text: string, option: Option): string {
  const values = option.values ?? []
  if (values.includes(text)) return text
  throw new BadValue(`'${text}' is none of ${values.join(', ')}`)
}

/** Four purposes need a value each: intercepted, own socket, grant write, owner of a connection. */
const MARK_BITS_MIN = 4

function readMark(text: string): Mark {
  const match = /^(0x[0-9a-fA-F]{1,8}|\d{1,10})\/(0x[0-9a-fA-F]{1,8}|\d{1,10})$/.exec(text)
  if (!match) throw new BadValue(`'${text}' is no mark; write value/mask: 0x4e470000/0xffff0000`)
  const value = Number(match[1])
  const mask = Number(match[2])
  if (value > 0xffffffff || mask > 0xffffffff) {
    throw new BadValue(`'${text}' has more than 32 bits`)
  }
  if ((value & ~mask) !== 0) throw new BadValue(`'${text}' has bits of the value outside the mask`)
  if (value === 0) throw new BadValue(`'${text}' marks nothing: its value is 0`)
  let bits = 0
  for (let rest = mask; rest !== 0; rest >>>= 1) bits += rest & 1
  if (bits < MARK_BITS_MIN) {
    throw new BadValue(`'${text}' has too small a mask: at least ${MARK_BITS_MIN} bits`)
  }
  return { value, mask }
}

/** The kernel's IFNAMSIZ, without the final zero. */
const INTERFACE_BYTES_MAX = 15

function readInterface(text: string): string {
  if (!/^[A-Za-z0-9_.:@-]*\*?$/.test(text) || text === '') {
    throw new BadValue(`'${text}' is no interface name; a * may only stand at its end: veth*`)
  }
  if (text.length > INTERFACE_BYTES_MAX) {
    throw new BadValue(`'${text}' is longer than an interface name: ${INTERFACE_BYTES_MAX}`)
  }
  return text
}

/** Lower case, no final dot; '.' for the root. */
function readZone(text: string): string {
  if (text === '.') return text
  const zone = text.toLowerCase().replace(/\.$/, '')
  const isGood =
    zone.length <= 253 && zone.split('.').every((label) => /^[a-z0-9_-]{1,63}$/.test(label))
  if (!isGood) throw new BadValue(`'${text}' is no zone name; write one such as cluster.local`)
  return zone
}

function readServer(text: string, context: ValueContext): WrittenServer {
  if (text.includes('/')) return { kind: 'file', path: readPath(text, context) }
  const match = /^\[([^\]]*)\](?::(\d+))?$/.exec(text) ?? /^([^:]*)(?::(\d+))?$/.exec(text)
  const bare = canonicalAddress(text)
  if (bare !== null) return { kind: 'address', address: bare, port: null }
  if (!match || canonicalAddress(match[1]!) === null) {
    throw new BadValue(
      `'${text}' is no server; write address, address:port, [address]:port, or the path of a file (with a /)`,
    )
  }
  const port = match[2] === undefined ? null : readInteger(match[2], 1, 65535)
  return { kind: 'address', address: readAddress(match[1]!), port }
}
