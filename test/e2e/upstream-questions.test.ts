/**
 * What leaves for the upstream: questions that nobody can guess, and nothing of the client's in them
 * but its question. A proxy alone on the loopback interface, and a server that writes down what it
 * is asked. The numbers are those of the rows in docs/SECURITY.md.
 */
import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { getU16, putU16 } from '../../src/wire/bytes.ts'
import {
  ANCOUNT_AT,
  ARCOUNT_AT,
  FLAG_CD,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAGS_AT,
  HEADER_BYTES,
  NSCOUNT_AT,
} from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatRecord } from '../../src/wire/record-text.ts'
import { formatName } from '../../src/wire/text.ts'
import { LoneProxy, LOOPBACK } from '../support/e2e-lone.ts'

const COUNT = 300
const OPT_BYTES = 11

interface Asked {
  readonly port: number
  readonly bytes: Uint8Array
}

/** Options of a client, RFC 7871, 7873, 7828, 7830, and one that nobody knows. */
const OPTIONS = Buffer.concat([
  Buffer.from('0008000700011800c00002', 'hex'),
  Buffer.from('000a00080123456789abcdef', 'hex'),
  Buffer.from('000b0000', 'hex'),
  Buffer.from('000c000400000000', 'hex'),
  Buffer.from('fde9000401020304', 'hex'),
])

describe('what leaves for the upstream', () => {
  const asked: Asked[] = []
  let upstream: Socket
  let proxy: LoneProxy

  before(async () => {
    upstream = createSocket('udp4').bind(0, LOOPBACK)
    await once(upstream, 'listening')
    upstream.on('message', (bytes, from) => {
      // A process that starts asks for the root, to see whether somebody answers.
      if (parseMessage(bytes)?.question?.name.length !== 1) asked.push({ port: from.port, bytes })
      upstream.send(replyTo(bytes), from.port, from.address)
    })
    const { port } = upstream.address()
    proxy = await LoneProxy.start({ upstream: `${LOOPBACK}:${port}` })
  })

  after(async () => {
    await proxy?.[Symbol.asyncDispose]()
    upstream?.close()
  })

  test('#2 #31 each question has a port and an ID of its own, and none follows from the one before', async () => {
    asked.length = 0
    for (let number = 0; number < COUNT; number++) {
      await ask({ id: 7, flags: FLAG_RD, question: `name-${number}.example.com. A` })
    }
    assert.equal(asked.length, COUNT)
    const ids = asked.map(({ bytes }) => getU16(bytes, 0))
    for (const numbers of [ids, asked.map(({ port }) => port)]) {
      assert.ok(new Set(numbers).size > COUNT * 0.9, 'few come twice')
      const near = numbers.filter((one, index) => Math.abs(one - (numbers[index - 1] ?? -99)) <= 8)
      assert.ok(near.length < COUNT * 0.1, 'few are near the one before')
    }
    for (let bit = 0; bit < 16; bit++) {
      const set = ids.filter((id) => (id >>> bit) & 1).length
      assert.ok(
        set > COUNT * 0.3 && set < COUNT * 0.7,
        `bit ${bit} of the IDs is as good as random`,
      )
    }
  })

  test('#3 no option of a client goes on: no client subnet, no cookie, no padding; nor do its other records', async () => {
    asked.length = 0
    const question = 'www.example.com. A'
    const plain = buildMessage({
      id: 9,
      flags: FLAG_RD | FLAG_CD,
      question,
      edns: { udpBytes: 4096 },
    })
    const query = Buffer.concat([plain, OPTIONS])
    putU16(query, plain.length - 2, OPTIONS.length)
    const reply = parseMessage((await proxy.ask(query))!)
    assert.deepEqual(reply?.answers.map(formatRecord), ['www.example.com. 60 IN A 192.0.2.1'])
    const opt = (await proxy.ask(query))!.subarray(-OPT_BYTES)
    assert.deepEqual([...opt.subarray(-2)], [0, 0], 'nor does one come back')
    assert.equal(asked.length, 1)
    const { bytes } = asked[0]!
    assert.equal(getU16(bytes, FLAGS_AT), FLAG_RD | FLAG_CD)
    const counts = [ANCOUNT_AT, NSCOUNT_AT, ARCOUNT_AT].map((at) => getU16(bytes, at))
    assert.deepEqual(counts, [0, 0, 1])
    assert.equal(bytes.length, HEADER_BYTES + 'www.example.com.'.length + 1 + 4 + OPT_BYTES)
  })

  test('#36 upstreams are offered 1232 bytes by UDP, which no path fragments, whatever a client takes', async () => {
    asked.length = 0
    await ask({ question: 'large.example.com. TXT', edns: { udpBytes: 65_535, isDnssecOk: true } })
    await ask({ question: 'small.example.com. TXT' })
    const offers = asked.map(({ bytes }) => parseMessage(bytes)?.edns)
    assert.deepEqual(offers, [
      { udpBytes: 1232, isDnssecOk: true, version: 0, ede: null },
      { udpBytes: 1232, isDnssecOk: false, version: 0, ede: null },
    ])
  })

  async function ask(parts: Parameters<typeof buildMessage>[0]): Promise<void> {
    assert.notEqual(await proxy.ask(buildMessage(parts)), null)
  }
})

function replyTo(query: Uint8Array): Uint8Array {
  const { id, question, flags } = parseMessage(query)!
  const name = formatName(question!.name)
  const isAddress = question!.type === 1
  return buildMessage({
    id,
    flags: FLAG_QR | FLAG_RA | (flags & FLAG_RD),
    question: `${name} TYPE${question!.type}`,
    answers: isAddress ? [`${name} 60 A 192.0.2.1`] : [`${name} 60 TXT "x"`],
    edns: {},
  })
}
