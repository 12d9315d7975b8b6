import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocatesNothing } from '../../../test/support/allocation.ts'
import { compileMarks } from '../../grant/ruleset.ts'
import { rulesetOf } from '../conformance.ts'
import { ALIVE_MS } from '../driver.ts'
import { NftablesDriver } from './driver.ts'
import { FACTS, inNode, onNode } from '../../../test/support/datapath/world.ts'
import { PacketGrantWriter } from './writer.ts'

const MARK = compileMarks(FACTS.mark).write
const WEB_LONG = (1 << 4) | 2
const V4 = Uint8Array.of(10, 0, 0, 7, 192, 0, 2, 10)
const V6 = new Uint8Array(32).fill(0x20)
const BATCH = 64

if (inNode(import.meta.url, 120_000)) {
  const driver = new NftablesDriver()
  await driver.apply(rulesetOf({ facts: { ...FACTS, grantsMax: 65536 } }))

  test('a packet that writes leaves neither a conntrack entry nor the machine', () => {
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    const sent = (): string => onNode('cat', '/sys/class/net/v-net/statistics/tx_packets')
    const before = sent()
    writer.refreshAlive()
    for (let n = 0; n < BATCH; n++) pushOne(writer, 4, n)
    assert.equal(writer.flush(), 0)
    assert.equal(sent(), before)
    assert.doesNotMatch(onNode('conntrack', '-L'), /192\.0\.2/)
    writer[Symbol.dispose]()
  })

  test('a table without our last rule is noticed: nothing counts as in force', () => {
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    writer.refreshAlive()
    assert.equal(writer.refreshAlive(), true)
    onNode('nft', 'flush', 'chain', 'inet', 'namegate', 'output')
    for (const family of [4, 6]) {
      pushOne(writer, family, 1)
      assert.equal(writer.flush(), 1)
      assert.equal(writer.isInForce(0), false)
      assert.equal(writer.isUnproven, true)
    }
    assert.equal(writer.refreshAlive(), false)
    assert.equal(writer.tableLosses, 1)
    assert.equal(writer.aliveFailures, 0)
    writer[Symbol.dispose]()
  })

  test('a change of structure is no loss', async () => {
    await driver.apply(rulesetOf({ facts: FACTS }))
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    writer.refreshAlive()
    let isLost = false
    let lastMs = performance.now()
    const timer = setInterval(() => {
      // Late ourselves, on a busy machine: then it rightly says so.
      const isLate = performance.now() - lastMs > ALIVE_MS - 20
      lastMs = performance.now()
      if (!writer.refreshAlive() && !isLate) isLost = true
    }, 10)
    for (const variant of [
      { hasAny: false },
      { hasDestinations: true },
      { unknown: 'closed' },
    ] as const) {
      await driver.apply(rulesetOf({ facts: FACTS }, variant))
    }
    clearInterval(timer)
    assert.equal(isLost, false)
    writer[Symbol.dispose]()
  })

  test("a stranger's rule that drops our packets reads as a refusal", async () => {
    await driver.apply(rulesetOf({ facts: { ...FACTS, grantsMax: 65536 } }))
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    const stranger = ['inet', 'stranger']
    onNode('nft', 'add', 'table', ...stranger)
    onNode('nft', 'add chain inet stranger o { type filter hook output priority -310; }')
    onNode('nft', 'add rule inet stranger o meta l4proto udp drop')
    assert.equal(writer.refreshAlive(), false)
    assert.equal(writer.aliveFailures, 1)
    pushOne(writer, 4, 1)
    assert.equal(writer.flush(), 1)
    assert.equal(writer.isUnproven, false)
    onNode('nft', 'delete', 'table', ...stranger)
    writer[Symbol.dispose]()
  })

  test('the cost of a grant', (t) => {
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    for (const round of [1, 2]) {
      for (const family of [4, 6]) {
        for (const size of [1, 8, BATCH]) {
          const perGrant = measure(writer, family, size)
          if (round === 2) t.diagnostic(`IPv${family}, ${size} a batch: ${perGrant} µs a grant`)
        }
      }
    }
    t.diagnostic(`IPv4, refresh: ${measureRefresh(writer)} µs`)
    writer[Symbol.dispose]()
  })

  allocatesNothing('saying that we are alive allocates nothing', () => {
    const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
    return () => Number(writer.refreshAlive())
  })

  for (const family of [4, 6]) {
    allocatesNothing(`writing IPv${family} grants allocates nothing`, () => {
      const writer = new PacketGrantWriter({ mark: MARK, place: 1, capacity: BATCH })
      return (call) => {
        if (call % 100 === 0) writer.refreshAlive()
        pushOne(writer, family, call & 63)
        return writer.flush() + Number(writer.isInForce(0))
      }
    })
  }
}

function pushOne(writer: PacketGrantWriter, family: number, last: number): void {
  const bytes = family === 4 ? V4 : V6
  bytes[bytes.length - 1] = last
  writer.push(family, bytes, 0, bytes, family === 4 ? 4 : 16, WEB_LONG)
}

function measureRefresh(writer: PacketGrantWriter): string {
  const rounds = 2000
  const start = performance.now()
  for (let round = 0; round < rounds; round++) writer.refreshAlive()
  return (((performance.now() - start) * 1000) / rounds).toFixed(1)
}

function measure(writer: PacketGrantWriter, family: number, size: number): string {
  const rounds = Math.ceil(4000 / size)
  let took = 0
  for (let round = 0; round < rounds; round++) {
    if (round % 20 === 0) writer.refreshAlive()
    const start = performance.now()
    for (let n = 0; n < size; n++) pushOne(writer, family, n)
    assert.equal(writer.flush(), 0)
    took += performance.now() - start
  }
  return ((took * 1000) / rounds / size).toFixed(1)
}
