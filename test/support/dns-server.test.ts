import { test } from 'node:test'
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { FLAG_RD, FLAG_TC } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { formatRecord } from '../../src/wire/record-text.ts'
import { formatRcode } from '../../src/wire/text.ts'
import { DnsServer } from './dns-server.ts'

const RECORDS = [
  'www.example.com. 60 A 192.0.2.10',
  'www.example.com. 60 AAAA 2001:db8::10',
  ...Array.from({ length: 60 }, (_, index) => `many.example.com. 60 A 192.0.2.${index}`),
]

function makeServer(): DnsServer {
  return new DnsServer({ records: RECORDS, fresh: ['example.net.'] })
}

function query(question: string): Uint8Array {
  return buildMessage({ id: 7, flags: FLAG_RD, question })
}

/** 'NOERROR www.example.com. 60 IN A 192.0.2.10' */
function ask(server: DnsServer, question: string): string {
  const answer = server.answer(query(question), 'udp')
  if (answer === null) return 'nothing'
  const { rcode, answers } = parseMessage(answer)!
  return [formatRcode(rcode), ...answers.map(formatRecord)].join(' ')
}

test('a name is answered with its records of the type that was asked', () => {
  const server = makeServer()
  assert.equal(ask(server, 'www.example.com. A'), 'NOERROR www.example.com. 60 IN A 192.0.2.10')
  assert.equal(ask(server, 'www.example.com. TXT'), 'NOERROR')
  assert.equal(ask(server, 'no.example.com. A'), 'NXDOMAIN')
})

test('the case of the question comes back, and does not matter', () => {
  assert.equal(
    ask(makeServer(), 'wWw.eXample.com. A'),
    'NOERROR wWw.eXample.com. 60 IN A 192.0.2.10',
  )
})

test('each name below a fresh domain exists and has addresses that no other has', () => {
  const server = makeServer()
  const one = ask(server, 'one.example.net. A')
  assert.equal(one, 'NOERROR one.example.net. 300 IN A 198.18.0.1')
  assert.equal(
    ask(server, 'two.example.net. AAAA'),
    'NOERROR two.example.net. 300 IN AAAA 2001:db8:2:1::2',
  )
  assert.equal(ask(server, 'one.example.net. A'), one)
  assert.equal(ask(server, 'example.net. A'), 'NXDOMAIN')
})

test('questions are counted, also while it is cut off and answers none', () => {
  const server = makeServer()
  ask(server, 'www.example.com. A')
  server.isCut = true
  assert.equal(ask(server, 'WWW.example.com. A'), 'nothing')
  assert.deepEqual(Object.fromEntries(server.counts), { 'www.example.com. A': 2 })
  server.isCut = false
  assert.match(ask(server, 'www.example.com. A'), /^NOERROR/)
})

test('by UDP and TCP; what is too long for UDP is cut short and whole by TCP', async () => {
  const server = makeServer()
  await server.listen('127.0.0.1', 0)
  try {
    const { udpPort, tcpPort } = server.ports[0]!
    const udp = createSocket('udp4')
    udp.send(query('many.example.com. A'), udpPort, '127.0.0.1')
    const [short] = (await once(udp, 'message')) as [Buffer]
    udp.close()
    assert.notEqual(parseMessage(short)!.flags & FLAG_TC, 0)

    const tcp = connect(tcpPort, '127.0.0.1')
    const packet = query('many.example.com. A')
    // In two pieces: a length prefix says nothing about segments.
    tcp.write(Uint8Array.of(0))
    tcp.write(Buffer.concat([Uint8Array.of(packet.length), packet]))
    const [whole] = (await once(tcp, 'data')) as [Buffer]
    tcp.destroy()
    assert.equal(parseMessage(whole.subarray(2))!.answers.length, 60)
  } finally {
    server.close()
  }
})
