/**
 * Phrases of a scenario's lines that several or long statements are made of: addresses, labels,
 * questions, replies, faults of servers. parse.ts says what they mean and calls them.
 */
import { canonicalAddress } from '../../../src/identity/address.ts'
import { nearestWord } from '../../../src/nearest.ts'
import { RCODE_NOERROR } from '../../../src/wire/header.ts'
import { parseRecord } from '../../../src/wire/record-text.ts'
import { parseClass, parseNameAsWritten, parseRcode, parseType } from '../../../src/wire/text.ts'
import {
  type AskedQuestion,
  type ExpectedReply,
  LIE_SUBJECTS,
  type SentBytes,
  type ServerFault,
} from './scenario.ts'
import type { Words } from './words.ts'

const DEFAULT_EDNS_BYTES = 1232
/** A server that drops without a number drops for good. */
const MANY = Number.MAX_SAFE_INTEGER

export function addressOf(text: string, words: Words): string {
  return canonicalAddress(text) ?? words.fault(`'${text}' is no address`)
}

export function labelsOf(text: string, fault: (message: string) => never): Record<string, string> {
  return Object.fromEntries(
    text.split(/,\s*/).map((pair) => {
      const [key = '', value, ...rest] = pair.split('=')
      if (key === '' || value === undefined || rest.length > 0) {
        fault(`'${pair}' is no label; write (team=web), or (unknown)`)
      }
      return [key, value]
    }),
  )
}

export function readFault(words: Words): ServerFault {
  const verb = words.oneOf([
    'answers',
    'drops',
    'refuses',
    'says',
    'truncates',
    'lies',
    'adds',
    'forwards',
  ] as const)
  switch (verb) {
    case 'answers':
      if (words.has('after')) return { kind: 'delays', ms: words.ms() }
      return words.has('twice') ? { kind: 'answers twice' } : { kind: 'none' }
    case 'drops':
      return { kind: 'drops', count: words.isAtEnd ? MANY : words.integer() }
    case 'forwards':
      words.expect('to')
      words.expect('us')
      return { kind: 'forwards' }
    case 'refuses':
      return { kind: 'refuses' }
    case 'says':
      return { kind: 'says', rcode: parseRcode(words.take()) }
    case 'truncates':
      return { kind: 'truncates', isAlways: words.has('always') }
    case 'lies': {
      words.expect('about')
      const about = words.oneOf(LIE_SUBJECTS)
      if (words.isAtEnd) return { kind: 'lies', about, count: 1 }
      const count = words.integer()
      words.expectOne(['times', 'time'])
      return { kind: 'lies', about, count }
    }
    case 'adds': {
      const record = words.rest()
      parseRecord(record)
      return { kind: 'adds', record }
    }
  }
}

/** `A`, or `A to B`: those that differ in the last byte. */
function readServers(words: Words): string[] {
  const first = addressOf(words.take(), words)
  if (!words.has('to')) return [first]
  const last = addressOf(words.take(), words)
  const [, prefix = '', from = ''] = /^(.*\.)(\d+)$/.exec(first) ?? []
  const count = Number(last.slice(prefix.length)) - Number(from) + 1
  if (!last.startsWith(prefix) || !(count > 0)) words.fault('A to B differ in the last byte')
  return Array.from({ length: count }, (_, index) => `${prefix}${Number(from) + index}`)
}

export function readQuestion(clients: readonly string[], words: Words): AskedQuestion {
  const count = /^\d+$/.test(words.peek()) ? words.integer() : 1
  if (count > 1) words.expect('times')
  const name = words.take()
  parseNameAsWritten(name)
  const class_ = parseClass(words.peek()) === null || words.peek() === 'ANY' ? 'IN' : words.take()
  const type = words.take()
  parseType(type)
  let servers: readonly string[] = []
  let isTcp = false
  let ednsBytes: number | null = DEFAULT_EDNS_BYTES
  let isDnssecOk = false
  let isCheckingDisabled = false
  while (!words.isAtEnd) {
    switch (words.oneOf(['of', 'over', 'edns', 'without', 'do', 'cd'] as const)) {
      case 'of':
        servers = readServers(words)
        break
      case 'over':
        isTcp = words.oneOf(['tcp', 'udp'] as const) === 'tcp'
        break
      case 'edns':
        ednsBytes = words.integer()
        break
      case 'without':
        words.expect('edns')
        ednsBytes = null
        break
      case 'do':
        isDnssecOk = true
        break
      case 'cd':
        isCheckingDisabled = true
    }
  }
  return {
    clients,
    times: count,
    name,
    type,
    class: class_,
    servers,
    isTcp,
    ednsBytes,
    isDnssecOk,
    isCheckingDisabled,
  }
}

export function readSent(clients: readonly string[], words: Words): SentBytes {
  const bytes = readHex(words)
  let server: string | null = null
  let isTcp = false
  while (!words.isAtEnd) {
    if (words.oneOf(['of', 'over'] as const) === 'of') server = addressOf(words.take(), words)
    else isTcp = words.oneOf(['tcp', 'udp'] as const) === 'tcp'
  }
  return { clients, bytes, server, isTcp }
}

function readHex(words: Words): Uint8Array {
  let text = ''
  while (!words.isAtEnd && !['of', 'over'].includes(words.peek())) text += words.take()
  if (!/^([0-9a-f]{2})+$/i.test(text)) words.fault('bytes are written as pairs of hex digits')
  return Uint8Array.from(text.match(/../g)!, (pair) => Number.parseInt(pair, 16))
}

export function readReply(words: Words): ExpectedReply {
  const what = readOutcome(words)
  let ttlSeconds: number | null = null
  let ede: number | null = null
  let withinMs: number | null = null
  let name: string | null = null
  while (!words.isAtEnd) {
    switch (words.oneOf(['ttl', 'ede', 'within', 'name'] as const)) {
      case 'ttl':
        ttlSeconds = words.integer()
        break
      case 'ede':
        ede = words.integer()
        break
      case 'within':
        withinMs = words.ms()
        break
      case 'name':
        name = words.take()
    }
  }
  return { ...what, ttlSeconds, ede, withinMs, name }
}

type Outcome = Pick<ExpectedReply, 'what' | 'rcode' | 'bytes' | 'addresses' | 'targets'>

function readOutcome(words: Words): Outcome {
  const none = { rcode: RCODE_NOERROR, bytes: null, addresses: null, targets: [] }
  const first = words.peek()
  if (words.has('nothing')) return { ...none, what: 'nothing' }
  if (words.has('bytes')) return { ...none, what: 'bytes', bytes: readHex(words) }
  if (words.has('truncation')) return { ...none, what: 'truncation' }
  if (words.has('records')) return { ...none, what: 'records' }
  if (words.has('no')) {
    words.expect('records')
    return { ...none, what: 'no records' }
  }
  if (/^[A-Z0-9]+$/.test(first) && /[A-Z]/.test(first)) {
    return { ...none, what: 'error', rcode: parseRcode(words.take()) }
  }
  const list = words.list((text) => text)
  const strange = list.find((text) => canonicalAddress(text) === null && !text.includes('.'))
  if (strange !== undefined) {
    words.fault(unknown(strange, ['nothing', 'truncation', 'records', 'REFUSED', 'SERVFAIL']))
  }
  const addresses = list.flatMap((text) => canonicalAddress(text) ?? [])
  const targets = list.filter((text) => canonicalAddress(text) === null)
  return { ...none, what: 'records', addresses, targets }
}

/** What to say of a word that is not among the known ones. */
export function unknown(word: string, known: readonly string[]): string {
  const near = nearestWord(word, known)
  return `unknown: '${word}'${near === null ? `; known: ${known.join(', ')}` : `; did you mean '${near}'?`}`
}
