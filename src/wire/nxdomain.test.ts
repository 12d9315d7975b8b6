import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { FLAG_QR, RCODE_NXDOMAIN } from './header.ts'
import { buildMessage, type MessageParts, parseMessage } from './message.ts'
import { NO_NXDOMAIN, NXDOMAIN_BYTES_MAX, nxdomainTtlAt, writeNxdomain } from './nxdomain.ts'
import { formatRecord } from './record-text.ts'
import { formatName, parseName } from './text.ts'

const SOA_RDATA = 'ns.Example.com. hostmaster.example.net. 7 3600 600 86400 300'

/** Where names and replies lie in their buffers: not at 0. */
const AT = 9

function denialOf(denied: string, parts: Partial<MessageParts> = {}): Uint8Array {
  return buildMessage({
    id: 1,
    flags: FLAG_QR,
    rcode: RCODE_NXDOMAIN,
    question: `${denied} A`,
    authority: [`example.com. 60 IN SOA ${SOA_RDATA}`],
    ...parts,
  })
}

/** What is written for `asked`, read back with the question filled in; null for nothing. */
function below(asked: string, denied: string, source: Uint8Array) {
  const name = Uint8Array.of(...new Uint8Array(AT), ...parseName(asked))
  const nameBytes = name.length - AT
  const out = new Uint8Array(AT + NXDOMAIN_BYTES_MAX + 1).fill(0xdd)
  const deniedAt = name.length - parseName(denied).length
  const length = writeNxdomain(out, AT, source, source.length, name, AT, nameBytes, deniedAt)
  if (length === NO_NXDOMAIN) return null
  assert(out.every((byte, at) => (at >= AT && at < AT + length) || byte === 0xdd))
  out.set(name.subarray(AT), AT + 12)
  out.set([0, 28, 0, 1], AT + 12 + nameBytes)
  const message = parseMessage(out, AT, AT + length)
  assert(message?.isWhole)
  return { message, ttl: out.subarray(AT + nxdomainTtlAt(nameBytes)).slice(0, 4) }
}

test('the NXDOMAIN for a name below has the SOA record of the one above, and nothing else', () => {
  for (const isCompressed of [true, false]) {
    const made = below(
      'a.b.gone.example.com.',
      'gone.example.com.',
      denialOf('gone.example.com.', { isCompressed }),
    )
    assert(made !== null)
    const { message, ttl } = made
    assert.equal(message.rcode, RCODE_NXDOMAIN)
    assert.equal(formatName(message.question!.name), 'a.b.gone.example.com.')
    assert.deepEqual(message.authority.map(formatRecord), [
      `example.com. 60 IN SOA ${SOA_RDATA.toLowerCase()}`,
    ])
    assert.deepEqual([message.answers, message.additional], [[], []])
    assert.deepEqual([...ttl], [0, 0, 0, 60])
  }
})

test('the SOA record may be of the denied name, or of the root, and stand behind others', () => {
  for (const zone of ['gone.example.com.', 'com.', '.']) {
    const soa = `${zone} 60 IN SOA ${SOA_RDATA}`
    const source = denialOf('gone.example.com.', {
      authority: [`${zone} 60 IN NS ns.example.com.`, soa],
    })
    const made = below('a.gone.example.com.', 'gone.example.com.', source)
    assert.equal(formatName(made!.message.authority[0]!.name), zone)
  }
})

test('the longest name, with the longest names in the SOA record, fits the room that is promised', () => {
  const long = (letter: string): string =>
    `${[63, 63, 63, 61].map((count) => letter.repeat(count)).join('.')}.`
  const authority = [`com. 60 IN SOA ${long('m')} ${long('r')} 7 3600 600 86400 300`]
  const asked = `${[63, 63, 63, 57].map((count) => 'a'.repeat(count)).join('.')}.com.`
  assert.equal(parseName(asked).length, 255)
  assert(below(asked, 'com.', denialOf('com.', { authority })) !== null)
})

test('an NXDOMAIN behind a CNAME record denies nothing below the name that was asked', () => {
  const answers = ['www.example.com. 60 IN CNAME gone.example.com.']
  const authority = [`SOA ${SOA_RDATA}`, 'NS ns.example.com.'].map(
    (rest) => `example.com. 60 IN ${rest}`,
  )
  const source = denialOf('www.example.com.', { answers, authority })
  assert.equal(below('a.www.example.com.', 'www.example.com.', source), null)
})

test('an NXDOMAIN without a SOA record, or with that of a zone that the name is not in, denies nothing below', () => {
  const zones = ['example.net.', 'b.gone.example.com.', 'one.example.com.', 'ne.example.com.']
  for (const authority of [[], ...zones.map((zone) => [`${zone} 60 IN SOA ${SOA_RDATA}`])]) {
    const source = denialOf('gone.example.com.', { authority })
    assert.equal(below('b.gone.example.com.', 'gone.example.com.', source), null, authority.join())
  }
})

test('a message that was cut short denies nothing', () => {
  const source = denialOf('gone.example.com.')
  for (let bytes = 12; bytes < source.length; bytes++) {
    assert.equal(below('a.gone.example.com.', 'gone.example.com.', source.slice(0, bytes)), null)
  }
})

allocatesNothing('writing an NXDOMAIN for a name below allocates nothing', () => {
  const source = denialOf('gone.example.com.')
  const name = parseName('a.b.gone.example.com.')
  const out = new Uint8Array(NXDOMAIN_BYTES_MAX)
  return () => writeNxdomain(out, 0, source, source.length, name, 0, name.length, 4)
})
