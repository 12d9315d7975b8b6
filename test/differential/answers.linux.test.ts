/**
 * Whole answers against Unbound: the same random questions to a proxy of ours and to an Unbound,
 * which both forward to a third server that knows a generated zone. Each question is asked twice, so
 * that the second is answered from the cache.
 *
 * Where the two differ on purpose, and who says so: DIFFERENCES. Everything else must be equal:
 * rcode, flags (AA, TC, RD, RA, AD, CD), the question as it comes back, the records of each section
 * (in any order: RFC 2181 §5 calls them a set), and whether there is an OPT record, with DO or not.
 * An answer that is too long has TC in both; what stands in it then is not looked at (RFC 2181 §9).
 */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { test } from 'node:test'
import { Random } from '../fuzz/random.ts'
import {
  FLAG_AD,
  FLAG_CD,
  FLAG_QR,
  FLAG_RD,
  FLAG_TC,
  RCODE_SERVFAIL,
} from '../../src/wire/header.ts'
import { buildMessage, type Message, parseMessage } from '../../src/wire/message.ts'
import { formatRecord, type ResourceRecord } from '../../src/wire/record-text.ts'
import { formatName, formatRcode } from '../../src/wire/text.ts'
import { LoneProxy, LOOPBACK } from '../support/e2e-lone.ts'
import { generateZone, type Question, someQuestion } from './generated-zone.ts'
import { missingUnbound, Unbound } from './unbound.ts'

const SEED = 20260821
const QUESTIONS = 1200
/** cache.maxTtl by default. */
const TTL_MAX = 3600
/** Ages are whole seconds, and each server begins to count within another one. */
const TTL_SLACK = 1

interface Compared {
  readonly question: Question
  readonly ours: Message
  readonly theirs: Message
  /** What the server behind both says to the same question, by TCP. */
  readonly truth: Message
}

/** Beside these: names in records are compared without case, and TTLs as wrongTtls says. */
const DIFFERENCES: readonly {
  readonly what: string
  readonly source: string
  readonly isAbout: (question: Question) => boolean
}[] = [
  {
    what: 'ANY gets one small record',
    source: 'RFC 8482 §4.2; Unbound gives what it has',
    isAbout: ({ type }) => type === 'ANY',
  },
  {
    what: 'a zone transfer is NOTIMP, by UDP too',
    source: 'RFC 5936 §4.2 leaves AXFR over UDP undefined; Unbound says REFUSED, without RA',
    isAbout: ({ type }) => type === 'AXFR',
  },
  {
    what: 'another class than IN is NOTIMP',
    source: 'RFC 1035 §4.1.1 (the name server does not support it); Unbound says REFUSED',
    isAbout: ({ class: qclass }) => qclass !== 'IN',
  },
  {
    what: 'a question without RD is answered like one with it',
    source: 'RFC 1034 §4.3.1 allows it; Unbound refuses what looks like snooping at its cache',
    isAbout: ({ isRecursionDesired }) => !isRecursionDesired,
  },
]

const options = { skip: missingUnbound(), timeout: 120_000 }

test('a proxy answers as an Unbound in its place would', options, async (t) => {
  const random = new Random(SEED)
  const zone = generateZone(random)
  await using upstream = await Unbound.withZones(zone.files)
  await using unbound = await Unbound.forwardingTo(upstream.port)
  await using proxy = await LoneProxy.start({ upstream: `${LOOPBACK}:${upstream.port}` })
  const explained = new Map<string, number>()
  const faults: string[] = []
  for (let count = 0; count < QUESTIONS; count++) {
    const question = someQuestion(zone, random)
    const packet = packetOf(question, count)
    const truth = await exchange(packet, upstream.port, true)
    for (const time of ['first', 'again']) {
      const [ours, theirs] = await Promise.all([
        exchange(packet, proxy.port, question.isTcp),
        exchange(packet, unbound.port, question.isTcp),
      ])
      assert.deepEqual([ours.id, theirs.id], [count, count])
      const compared = { question, ours, theirs, truth }
      for (const part of [...differingParts(compared), ...wrongTtls(compared)]) {
        const reason = DIFFERENCES.find(({ isAbout }) => isAbout(question))
        if (reason === undefined) faults.push(`${time} ${part}: ${describe(compared)}`)
        else explained.set(reason.what, (explained.get(reason.what) ?? 0) + 1)
      }
    }
  }
  for (const { what, source } of DIFFERENCES) {
    t.diagnostic(`${explained.get(what) ?? 0} times: ${what} (${source})`)
  }
  assert.deepEqual(faults.slice(0, 10), [], `${faults.length} differences that nobody explains`)
  const unused = DIFFERENCES.filter(({ what }) => !explained.has(what))
  assert.deepEqual(unused, [], 'a difference that is not there needs no explanation')
})

function packetOf(question: Question, id: number): Uint8Array {
  const ad = question.wantsAd ? FLAG_AD : 0
  const cd = question.isCheckingDisabled ? FLAG_CD : 0
  const rd = question.isRecursionDesired ? FLAG_RD : 0
  const { udpBytes, isDnssecOk } = question
  return buildMessage({
    id,
    flags: rd | ad | cd,
    question: `${question.name} ${question.class} ${question.type}`,
    ...(udpBytes === null ? {} : { edns: { udpBytes, isDnssecOk } }),
  })
}

/** What differs: 'rcode', 'flags', 'question', 'opt', 'answer', 'answer ttl' … */
function differingParts({ question, ours, theirs }: Compared): string[] {
  const parts: string[] = []
  if (ours.rcode !== theirs.rcode) parts.push('rcode')
  if (ours.flags !== theirs.flags) parts.push('flags')
  if (String(ours.question?.name) !== String(theirs.question?.name)) parts.push('question')
  if ((ours.edns === null) !== (theirs.edns === null)) parts.push('opt')
  if (question.isDnssecOk !== (ours.edns?.isDnssecOk ?? false)) parts.push('do')
  // What was cut away is not compared, nor how far a failure got (RFC 2308 §7 asks for no records).
  if ((ours.flags & theirs.flags & FLAG_TC) !== 0 || ours.rcode === RCODE_SERVFAIL) return parts
  for (const section of SECTIONS) {
    const own = ours[section].map(withoutTtl).toSorted()
    const other = theirs[section].map(withoutTtl).toSorted()
    if (String(own) !== String(other)) parts.push(section)
  }
  return parts
}

const SECTIONS = ['answers', 'authority', 'additional'] as const

/**
 * An answer of ours is kept whole, for as long as the shortest TTL in it says, and no TTL in it is
 * longer; Unbound keeps each set of records by itself. TTLs are maxima, so both are right (RFC 2181
 * §8): ours are held against the server's own.
 */
function wrongTtls({ ours, truth }: Compared): string[] {
  const parts: string[] = []
  const shortest = Math.min(...truth.answers.map(({ ttl }) => ttl), TTL_MAX)
  for (const section of SECTIONS) {
    const known = new Map(truth[section].map((one) => [withoutTtl(one), one.ttl]))
    const isWrong = ours[section].some((one) => {
      return one.ttl > Math.min(known.get(withoutTtl(one)) ?? TTL_MAX, shortest) + TTL_SLACK
    })
    if (isWrong) parts.push(`${section} ttl`)
  }
  return parts
}

/** Case travels with whoever asked first (RFC 4343 §4.1): only the question's is the client's own. */
function withoutTtl(record: ResourceRecord): string {
  return formatRecord({ ...record, ttl: 0 }).toLowerCase()
}

function describe({ question, ours, theirs, truth }: Compared): string {
  return [JSON.stringify(question), ...[ours, theirs, truth].map(text)].join('\n  ')
}

function text({ flags, rcode, question, answers, authority, additional, edns }: Message): string {
  const sections = [answers, authority, additional].map((one) => one.map(formatRecord).join(' · '))
  const name = question === null ? '' : formatName(question.name)
  const head = `${formatRcode(rcode)} ${flags.toString(16)} ${name} ${JSON.stringify(edns)}`
  return `${head} | ${sections.join(' | ')}`.slice(0, 600)
}

async function exchange(packet: Uint8Array, port: number, isTcp: boolean): Promise<Message> {
  const reply = await (isTcp ? exchangeTcp(packet, port) : exchangeUdp(packet, port))
  const message = parseMessage(reply)
  assert.ok(message?.isWhole && (message.flags & FLAG_QR) !== 0)
  return message
}

async function exchangeUdp(packet: Uint8Array, port: number): Promise<Uint8Array> {
  const socket = createSocket('udp4')
  try {
    const reply = once(socket, 'message', { signal: AbortSignal.timeout(8000) })
    socket.send(packet, port, LOOPBACK)
    const [bytes] = await reply
    return bytes
  } catch (error) {
    throw new Error(`port ${port} did not answer: ${text(parseMessage(packet)!)}`, { cause: error })
  } finally {
    socket.close()
  }
}

async function exchangeTcp(packet: Uint8Array, port: number): Promise<Uint8Array> {
  const socket = createConnection({ host: LOOPBACK, port })
  try {
    socket.write(Uint8Array.of(packet.length >> 8, packet.length & 0xff, ...packet))
    let bytes = Buffer.alloc(0)
    for await (const more of socket) {
      bytes = Buffer.concat([bytes, more])
      if (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE()) break
    }
    return bytes.subarray(2)
  } finally {
    socket.destroy()
  }
}
