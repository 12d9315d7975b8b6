/**
 * The messages of the peer link as bytes: sync/protocol.md says what they are for and in which
 * order they may come. Nothing here sends or decides.
 *
 * What must stay true: readers never throw and keep nothing of what they read; whatever bytes a
 * peer of another release sends, they give a value that fits its type, or null. The first byte of
 * a message, HELLO's `protocol` and `protocolSince`, and GOODBYE are the same in all releases.
 */
import type { ListenSocket } from '../linux/listen-socket.ts'
import type { SocketSet } from './peer.ts'

/** Counts up with every message that an older release would misread; we speak all since … */
export const PROTOCOL = 1
export const PROTOCOL_SINCE = 1

/** The first byte of a message. */
export const HELLO = 1
export const BEAT = 2
export const ASK = 3
export const DONE = 4
export const SOCKETS = 5
export const POLICY = 6
export const ANSWERS = 7
export const FLOWS = 8
export const GOODBYE = 9

/** A message with its first byte; unix.ts says why 128 KiB pass everywhere. */
export const MESSAGE_BYTES_MAX = 128 * 1024
/** What is cut is cut to this: small enough that others get their turn. */
export const CHUNK_BYTES = 64 * 1024
/** Control messages are JSON of a few hundred bytes; sockets take 80 bytes each. */
const JSON_BYTES_MAX = 16 * 1024
/** As text. A snapshot of 1,000 clients takes about 5 MB, and the worker's table has 64 MiB. */
export const POLICY_BYTES_MAX = 64 * 1024 * 1024
/** Of a set, over all its messages: 64 addresses, UDP and TCP. */
export const SOCKETS_MAX = 128
const REVISION_MAX = 0xffff_ffff

/** What a process holds of what is synced; in HELLO, BEAT and ASK. */
export interface Holding {
  /** Of the policy that is in force; 0: none. */
  readonly revision: number
  /** SHA-256 of its text in hexadecimal; '': none. */
  readonly digest: string
  /** Of the sockets; -1: none. */
  readonly generation: number
  /** Takes queries from them and goes on to. False from a release that does not say it. */
  readonly isReading: boolean
}

export interface Hello extends Holding {
  readonly protocol: number
  readonly role: string
  readonly pid: number
  readonly instance: string
  readonly place: number
  readonly version: string
}

export interface Beat extends Holding {
  readonly isReplyWanted: boolean
}

/** 'changes': policy and sockets if they are newer, and answers if some were lost. */
export type Want = 'everything' | 'changes'

export interface Ask extends Holding {
  readonly id: number
  readonly want: Want
}

/** Why a connection ends. Others may come with later releases. */
export type GoodbyeReason = 'stopping' | 'spare' | 'protocol' | 'role'

/** One message of a set of sockets; its descriptors come along in the order of `sockets`. */
export interface SocketsPart {
  readonly generation: number
  readonly addresses: SocketSet['addresses']
  /** Index of this message's first socket in the set. */
  readonly first: number
  /** Sockets of the whole set. */
  readonly count: number
  readonly sockets: readonly Omit<ListenSocket, 'fd'>[]
}

/** 'other' with the peer's own words for a protocol that we do not speak. */
export type HelloReading = Hello | { readonly otherProtocol: string } | null

export function readHello(body: Uint8Array): HelloReading {
  const value = readJson(body)
  if (value === null) return null
  const { protocol, protocolSince } = value
  if (!isCount(protocol) || !isCount(protocolSince)) return null
  if (protocol < PROTOCOL_SINCE || protocolSince > PROTOCOL) {
    return { otherProtocol: `${protocolSince} to ${protocol}` }
  }
  const holding = readHolding(value)
  const { role, pid, instance, place, version } = value
  if (holding === null || !isCount(pid) || !isCount(place)) return null
  if (!isShortText(role) || !isShortText(instance) || !isShortText(version)) return null
  return {
    ...holding,
    protocol: Math.min(protocol, PROTOCOL),
    role,
    pid,
    instance,
    place,
    version,
  }
}

export function readBeat(body: Uint8Array): Beat | null {
  const value = readJson(body)
  const holding = value && readHolding(value)
  if (!value || !holding || typeof value['isReplyWanted'] !== 'boolean') return null
  return { ...holding, isReplyWanted: value['isReplyWanted'] }
}

export function readAsk(body: Uint8Array): Ask | null {
  const value = readJson(body)
  const holding = value && readHolding(value)
  if (!value || !holding || !isCount(value['id'])) return null
  // A wish of a later release that we do not know: everything contains it, as far as we can tell.
  return {
    ...holding,
    id: value['id'],
    want: value['want'] === 'changes' ? 'changes' : 'everything',
  }
}

/** The id of the question that is answered, or null. */
export function readDone(body: Uint8Array): number | null {
  const id = readJson(body)?.['id']
  return isCount(id) ? id : null
}

/** Any text: a reason of a later release is shown as it is. */
export function readGoodbye(body: Uint8Array): string {
  const reason = readJson(body)?.['reason']
  return isShortText(reason) ? reason : 'unknown'
}

export function readSockets(body: Uint8Array): SocketsPart | null {
  const value = readJson(body)
  if (value === null) return null
  const { generation, addresses, first, count, sockets } = value
  if (!isCount(generation) || !isCount(first) || !isCount(count) || count > SOCKETS_MAX) return null
  if (!isRecord(addresses) || !Array.isArray(sockets) || first + sockets.length > count) return null
  const { v4, v6 } = addresses
  if (!isTextOrNull(v4) || !isTextOrNull(v6) || !sockets.every(isSocket)) return null
  return { generation, addresses: { v4, v6 }, first, count, sockets: sockets.map(socketOf) }
}

/**
 * POLICY is binary, numbers little-endian:
 *      0  u32  revision
 *      4  u32  bytes of the whole text, 1 to POLICY_BYTES_MAX
 *      8  u32  offset of this chunk in it
 *     12  32B  SHA-256 of the whole text
 *     44       the chunk: UTF-8, at least a byte
 */
export const POLICY_HEADER_BYTES = 44

export interface PolicyChunk {
  readonly revision: number
  readonly digest: string
  readonly textBytes: number
  readonly offset: number
  /** A view of the message. */
  readonly bytes: Uint8Array
}

export function readPolicy(body: Uint8Array): PolicyChunk | null {
  if (body.length <= POLICY_HEADER_BYTES) return null
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const chunk: PolicyChunk = {
    revision: view.getUint32(0, true),
    textBytes: view.getUint32(4, true),
    offset: view.getUint32(8, true),
    digest: Buffer.from(body.subarray(12, POLICY_HEADER_BYTES)).toString('hex'),
    bytes: body.subarray(POLICY_HEADER_BYTES),
  }
  const { revision, textBytes, offset, bytes } = chunk
  if (revision === 0 || textBytes > POLICY_BYTES_MAX) return null
  return offset + bytes.length <= textBytes ? chunk : null
}

export function policyChunk(chunk: PolicyChunk): Uint8Array {
  const body = new Uint8Array(POLICY_HEADER_BYTES + chunk.bytes.length)
  const view = new DataView(body.buffer)
  view.setUint32(0, chunk.revision, true)
  view.setUint32(4, chunk.textBytes, true)
  view.setUint32(8, chunk.offset, true)
  body.set(Buffer.from(chunk.digest, 'hex'), 12)
  body.set(chunk.bytes, POLICY_HEADER_BYTES)
  return body
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export function json(value: object): Uint8Array {
  return encoder.encode(JSON.stringify(value))
}

/** Text from UTF-8, or null for bytes that are none. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes)
  } catch {
    return null
  }
}

function readJson(body: Uint8Array): Record<string, unknown> | null {
  if (body.length > JSON_BYTES_MAX) return null
  const text = textOf(body)
  if (text === null) return null
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

function readHolding(value: Record<string, unknown>): Holding | null {
  const { revision, digest, generation } = value
  if (!isCount(revision) || revision > REVISION_MAX) return null
  if (typeof digest !== 'string' || !/^([0-9a-f]{64})?$/.test(digest)) return null
  if (generation !== -1 && !isCount(generation)) return null
  return { revision, digest, generation, isReading: value['isReading'] === true }
}

function isSocket(value: unknown): value is Omit<ListenSocket, 'fd'> {
  if (!isRecord(value)) return false
  const { kind, family, port, isTransparent } = value
  if (kind !== 'udp' && kind !== 'tcp') return false
  if (family !== 4 && family !== 6) return false
  return isCount(port) && port <= 65535 && typeof isTransparent === 'boolean'
}

/** Only what we know of it: a later release may say more about a socket. */
function socketOf(socket: Omit<ListenSocket, 'fd'>): Omit<ListenSocket, 'fd'> {
  const { kind, family, port, isTransparent } = socket
  return { kind, family, port, isTransparent }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isShortText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 64
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || isShortText(value)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
