import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { FLAG_AD, FLAG_CD, FLAG_RD } from '../wire/header.ts'
import { buildMessage } from '../wire/message.ts'
import { QUERY_OK, QUERY_OPCODE } from '../wire/query.ts'
import { formatName } from '../wire/text.ts'
import { Arrival, CHANNEL_TCP } from './arrival.ts'
import { ShareTable } from './share.ts'
import { NO_SLOT, OVER_SHARE, SlotTable } from './slot.ts'

const SEED = 0x5eed
/** Slots are all that is needed. */
const ROOMY = 1000

function makeSlots(count: number): SlotTable {
  return new SlotTable(count, new ShareTable({ seed: SEED, queriesPerSecond: 0, grantsMax: 1 }))
}

/** An arrival of a query, somewhere in a buffer that is used again. */
function arrive(
  message: Uint8Array,
  client = 7,
  code = QUERY_OK,
): { arrival: Arrival; forget: () => void } {
  const packet = new Uint8Array(1024)
  packet.set(message, 100)
  const addresses = Uint8Array.from({ length: 64 }, (_, index) => index + client)
  const arrival = new Arrival(SEED)
  arrival.channel = CHANNEL_TCP + client
  arrival.family = 6
  arrival.isIntercepted = true
  arrival.addresses = addresses
  arrival.sourceAt = 3
  arrival.destinationAt = 40
  arrival.sourcePort = 50_000 + client
  arrival.destinationPort = 53
  arrival.interfaceIndex = client
  arrival.receivedMs = 1000 + client
  arrival.share = client
  assert.equal(arrival.parse(packet, 100, 100 + message.length), code)
  const forget = (): void => {
    packet.fill(0xee)
    addresses.fill(0xee)
  }
  return { arrival, forget }
}

function query(name: string, edns?: { udpBytes: number; isDnssecOk: boolean }): Uint8Array {
  const flags = FLAG_RD | FLAG_CD | FLAG_AD
  return buildMessage({ id: 0xabcd, flags, question: `${name} AAAA`, ...(edns && { edns }) })
}

test('a kept query comes back as it was, when its packet is long gone', () => {
  const slots = makeSlots(4)
  const { arrival, forget } = arrive(
    query('wWw.eXample.com.', { udpBytes: 1400, isDnssecOk: true }),
  )
  const slot = slots.keep(arrival, ROOMY)
  forget()
  const back = new Arrival(SEED)
  slots.load(slot, back)
  const { channel, family, isIntercepted, sourcePort, destinationPort, interfaceIndex } = back
  assert.deepEqual(
    { channel, family, isIntercepted, sourcePort, destinationPort, interfaceIndex },
    {
      channel: CHANNEL_TCP + 7,
      family: 6,
      isIntercepted: true,
      sourcePort: 50_007,
      destinationPort: 53,
      interfaceIndex: 7,
    },
  )
  assert.equal(back.receivedMs, 1007)
  const addressAt = (at: number) => [...back.addresses.subarray(at, at + 16)]
  assert.deepEqual(
    addressAt(back.sourceAt),
    Array.from({ length: 16 }, (_, n) => 10 + n),
  )
  assert.deepEqual(
    addressAt(back.destinationAt),
    Array.from({ length: 16 }, (_, n) => 47 + n),
  )
  assert.equal(back.query.id, 0xabcd)
  assert.equal(back.query.flags, FLAG_RD | FLAG_CD)
  assert.equal(back.query.type, 28)
  assert.equal(back.query.udpBytes, 1400)
  assert.equal(back.query.isDnssecOk, true)
  assert.equal(formatName(back.name, 0, back.query.nameBytes), 'www.example.com.')
  // The question itself keeps its case: the answer repeats it.
  const questionAt = back.start + 12
  assert.equal(formatName(back.packet, questionAt, back.query.nameBytes), 'wWw.eXample.com.')
})

test('a keepalive is asked for by TCP alone, and still when the answer comes', () => {
  const plain = query('example.com.', { udpBytes: 1232, isDnssecOk: false })
  // RDLENGTH 4 and the option: code 11, no value.
  const asking = Uint8Array.from([...plain.subarray(0, -2), 0, 4, 0, 11, 0, 0])
  const { arrival } = arrive(asking)
  assert.equal(arrival.query.wantsKeepalive, true)
  const slots = makeSlots(2)
  const back = new Arrival(SEED)
  slots.load(slots.keep(arrival, ROOMY), back)
  assert.equal(back.query.wantsKeepalive, true)
  arrival.channel = CHANNEL_TCP - 1
  arrival.parse(asking, 0, asking.length)
  assert.equal(arrival.query.wantsKeepalive, false)
})

test('a query without EDNS stays without it', () => {
  const slots = makeSlots(1)
  const back = new Arrival(SEED)
  slots.load(slots.keep(arrive(query('example.com.')).arrival, ROOMY), back)
  assert.equal(back.query.hasEdns, false)
  assert.equal(back.query.udpBytes, 512)
})

test('of another opcode the header and the question are kept, as far as they are there', () => {
  const slots = makeSlots(2)
  const back = new Arrival(SEED)
  const notify = buildMessage({ id: 7, flags: 0x2400, question: 'Example.com. SOA', edns: {} })
  slots.load(slots.keep(arrive(notify, 7, QUERY_OPCODE).arrival, ROOMY), back)
  assert.deepEqual([back.query.id, back.query.opcode, back.query.type], [7, 4, 6])
  assert.equal(formatName(back.packet, back.start + 12, back.query.nameBytes), 'Example.com.')
  const status = buildMessage({ id: 8, flags: 0x1000, question: null })
  slots.load(slots.keep(arrive(status, 8, QUERY_OPCODE).arrival, ROOMY), back)
  assert.deepEqual([back.query.id, back.query.opcode, back.query.questionBytes], [8, 2, 0])
  assert.equal(formatName(back.name, 0, back.query.nameBytes), '.')
})

test('the longest name fits', () => {
  const label = 'a'.repeat(61)
  const name = `${label}.${label}.${label}.${label}.aaaaa.`
  const slots = makeSlots(4)
  const kept = [0, 1].map(() =>
    slots.keep(arrive(query(name, { udpBytes: 1232, isDnssecOk: true })).arrival, ROOMY),
  )
  const back = new Arrival(SEED)
  for (const slot of kept) {
    slots.load(slot, back)
    assert.equal(back.query.nameBytes, 255)
  }
})

test('when all slots are taken none is given, until one is freed', () => {
  const slots = makeSlots(2)
  const { arrival } = arrive(query('example.com.'))
  const other = arrive(query('example.com.'), 8).arrival
  const first = slots.keep(arrival, ROOMY)
  const second = slots.keep(other, ROOMY)
  assert.notEqual(first, second)
  assert.equal(slots.keep(arrival, ROOMY), NO_SLOT)
  assert.equal(slots.usedCount, 2)
  slots.free(first)
  assert.equal(slots.keep(arrival, ROOMY), first)
})

test('a client keeps no more queries than there is room left, of whatever is scarcest', () => {
  const slots = makeSlots(8)
  const { arrival } = arrive(query('example.com.'))
  const other = arrive(query('example.com.'), 8).arrival
  const kept = [0, 1, 2, 3].map(() => slots.keep(arrival, ROOMY))
  assert.equal(slots.keep(arrival, ROOMY), OVER_SHARE)
  assert.equal(slots.keep(other, 0), NO_SLOT)
  assert(slots.keep(other, 1) >= 0)
  assert.equal(slots.keep(other, 1), OVER_SHARE)
  slots.free(kept[0]!)
  slots.free(kept[1]!)
  assert(slots.keep(arrival, ROOMY) >= 0)
})

test('a slot that is used again waits for nobody else', () => {
  const slots = makeSlots(2)
  const { arrival } = arrive(query('example.com.'))
  const slot = slots.keep(arrival, ROOMY)
  slots.next[slot] = 1
  slots.free(slot)
  assert.equal(slots.next[slots.keep(arrival, ROOMY)], NO_SLOT)
})

test('freeing more slots than there are is a mistake of ours', () => {
  const slots = makeSlots(1)
  slots.free(slots.keep(arrive(query('example.com.')).arrival, ROOMY))
  assert.throws(() => slots.free(0), /exactly once/)
})

allocatesNothing('keeping, loading and freeing a slot allocates nothing', () => {
  const slots = makeSlots(16)
  const { arrival } = arrive(query('www.example.com.', { udpBytes: 1232, isDnssecOk: true }))
  const back = new Arrival(SEED)
  return () => {
    const slot = slots.keep(arrival, ROOMY)
    slots.load(slot, back)
    slots.free(slot)
    return slot
  }
})
