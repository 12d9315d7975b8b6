import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { viewOf } from '../wire/bytes.ts'
import { FlowHistory } from './history.ts'
import { appendAnswer, appendDrop, appendRefusal } from './history-fixture.ts'
import { NAMES_MAX, NameIndex } from './name-index.ts'

const WEB = [{ address: '10.0.0.7', sinceMs: 0 }]
const ADDRESS = '192.0.2.1'

test('names are known as soon as somebody asks, the latest first', async () => {
  const history = new FlowHistory()
  const index = new NameIndex(history)
  appendAnswer(history, '10.0.0.7', 'a.example.com.', [ADDRESS, '192.0.2.2'], { timeMs: 1 })
  appendAnswer(history, '10.0.0.7', 'b.example.com.', [ADDRESS], { timeMs: 2 })
  appendDrop(history, '10.0.0.7', ADDRESS)
  appendRefusal(history, '10.0.0.7', 'c.example.com.')
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), ['b.example.com', 'a.example.com'])
  assert.deepEqual(index.names(WEB, '192.0.2.2'), ['a.example.com'])
  assert.deepEqual(index.names(WEB, '192.0.2.3'), [])
  appendAnswer(history, '10.0.0.7', 'a.example.com.', [ADDRESS], { timeMs: 3 })
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), ['a.example.com', 'b.example.com'])
})

test('who asks while another reads gets everything that was there when he asked', async () => {
  const history = new FlowHistory()
  const index = new NameIndex(history)
  for (let number = 0; number < 5000; number++) {
    appendAnswer(history, '10.0.0.7', `n${number}.example.com.`, ['192.0.2.2'])
  }
  const first = index.follow()
  appendAnswer(history, '10.0.0.7', 'late.example.com.', [ADDRESS])
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), ['late.example.com'])
  await first
})

test('what the history has forgotten is forgotten', async () => {
  const history = new FlowHistory(1 << 18)
  const index = new NameIndex(history)
  appendAnswer(history, '10.0.0.7', 'first.example.com.', [ADDRESS])
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), ['first.example.com'])
  // The last of the records among which the first lay leaves with the 2,048th after it.
  for (let number = 0; history.start <= 2048; number++) {
    appendAnswer(history, '10.0.0.8', `n${number}.example.com.`, ['192.0.2.2'])
    if (number % 500 === 0) await index.follow()
  }
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), [])
})

test('the index is bounded, whatever clients look up', async () => {
  const history = new FlowHistory()
  const index = new NameIndex(history)
  const addresses = Array.from({ length: 20 }, (_, last) => `192.0.2.${100 + last}`)
  const clients = Array.from({ length: 2000 }, (_, index) => `10.1.${index >> 8}.${index & 255}`)
  for (const [number, client] of clients.entries()) {
    appendAnswer(history, client, `n${number}.example.com.`, addresses)
  }
  await index.follow()
  const known: string[] = clients.flatMap((address) =>
    addresses.flatMap((to) => index.names([{ address, sinceMs: 0 }], to)),
  )
  assert.equal(known.length, 4096)
  for (let number = 0; number < 2 * NAMES_MAX; number++) {
    appendAnswer(history, clients[0]!, `m${number}.example.com.`, addresses)
  }
  await index.follow()
  const names = index.names([{ address: clients[0]!, sinceMs: 0 }], addresses[0]!)
  assert.equal(names.length, NAMES_MAX)
})

test('the index knows what a look at every record would find', async () => {
  const answer = fc.record({
    client: fc.constantFrom('10.0.0.7', '10.0.0.8', '2001:db8::7'),
    name: fc.constantFrom('a.example.com', 'b.example.com', 'c.example.com', '.'),
    addresses: fc.constantFrom<string[]>([ADDRESS], ['192.0.2.2', ADDRESS], ['2001:db8:2::1'], []),
    hasLook: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(answer, { maxLength: 80 }), async (answers) => {
      const history = new FlowHistory(16 * 1024)
      const index = new NameIndex(history)
      for (const { client, name, addresses, hasLook } of answers) {
        appendAnswer(history, client, name === '.' ? name : `${name}.`, addresses)
        if (hasLook) await index.follow()
      }
      await index.follow()
      for (const client of ['10.0.0.7', '10.0.0.8', '2001:db8::7']) {
        for (const address of [ADDRESS, '192.0.2.2', '2001:db8:2::1']) {
          const isIt = (one: (typeof answers)[number]) =>
            one.client === client && one.addresses.includes(address)
          const here = answers.slice(history.start).filter(isIt)
          const ever = answers.filter(isIt)
          const found = new Set(index.names([{ address: client, sinceMs: 0 }], address))
          for (const { name } of here) assert.ok(found.has(name), `${client} ${address} ${name}`)
          for (const name of found) assert.ok(ever.some((one) => one.name === name))
        }
      }
    }),
    { numRuns: 60 },
  )
})

test('records that are cut, or of a later release, are passed over', async () => {
  const history = new FlowHistory()
  appendAnswer(history, '10.0.0.7', 'a.example.com.', [ADDRESS])
  const whole = history.cursor(0)
  assert.ok(whole.next())
  const bytes = whole.bytes.slice(whole.recordAt, whole.recordAt + whole.recordBytes)
  for (let length = 0; length < bytes.length; length++) history.append(viewOf(bytes), 0, length)
  const index = new NameIndex(history)
  await index.follow()
  assert.deepEqual(index.names(WEB, ADDRESS), ['a.example.com'])
})
