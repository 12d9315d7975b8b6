import { test } from 'node:test'
import assert from 'node:assert/strict'
import { encodeFlow } from '../flow/decode.ts'
import { FLOW_QUESTION, VERDICT_FORWARDED } from '../flow/record.ts'
import { parseAddress } from '../identity/address.ts'
import { FlowHistory } from '../observe/history.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import { FLAG_QR, TYPE_AAAA } from '../wire/header.ts'
import { buildMessage } from '../wire/message.ts'
import { parseName } from '../wire/text.ts'
import { NodeDirectory } from './directory.ts'

const CLIENT = { namespace: 'team-a', labels: {}, interface: null, subject: -1 }

/** Clients web (10.0.0.7, 2001:db8::7) and job (10.0.0.8); web's question for www is on record. */
function makeDirectory(): NodeDirectory {
  const history = new FlowHistory()
  const directory = new NodeDirectory(history)
  directory.use({
    clients: [
      { ...CLIENT, name: 'job', addresses: ['10.0.0.8'] },
      { ...CLIENT, name: 'web', addresses: ['10.0.0.7', '2001:db8::7'] },
    ],
  } as unknown as Snapshot)
  const message = buildMessage({
    flags: FLAG_QR,
    question: 'www.example.com. AAAA',
    answers: ['www.example.com. 60 AAAA 2001:db8:2::10'],
  })
  const flow = encodeFlow({
    timeMs: 0,
    type: FLOW_QUESTION,
    verdict: VERDICT_FORWARDED,
    reason: 0,
    protocol: 17,
    flags: 0,
    source: parseAddress('10.0.0.7')!,
    sourcePort: 40_000,
    destination: parseAddress('10.96.0.10')!,
    destinationPort: 53,
    interfaceIndex: 0,
    question: {
      name: parseName('www.example.com.'),
      qtype: TYPE_AAAA,
      qclass: 1,
      durationUs: 0,
      message,
    },
  })
  history.append(flow, 0, flow.length)
  return directory
}

test("an address is known by each of its client's addresses", () => {
  const directory = makeDirectory()
  const known = directory.endpoint('10.0.0.7')
  assert.deepEqual([known?.namespace, known?.name], ['team-a', 'web'])
  assert.deepEqual(directory.endpoint('2001:db8::7'), known)
  assert.equal(directory.endpoint('192.0.2.1'), null)
})

// A pod asks its resolver by IPv4 for the AAAA record and connects by IPv6: the name must be found
// though the connection comes from another address than the question.
test("a client's name for an address is found whichever of its addresses asked", () => {
  const directory = makeDirectory()
  assert.deepEqual(directory.names('10.0.0.7', '2001:db8:2::10'), ['www.example.com'])
  assert.deepEqual(directory.names('2001:db8::7', '2001:db8:2::10'), ['www.example.com'])
})

test('what another client was answered says nothing', () => {
  const directory = makeDirectory()
  assert.deepEqual(directory.names('10.0.0.8', '2001:db8:2::10'), [])
  assert.deepEqual(directory.names('2001:db8::8', '2001:db8:2::10'), [])
  // An IPv6 address that begins with the bytes of 10.0.0.7.
  assert.deepEqual(directory.names('a00:7::', '2001:db8:2::10'), [])
})
