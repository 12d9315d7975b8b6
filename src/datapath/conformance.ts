/**
 * The conformance suite: what every datapath must do, in the words of the promises.
 *
 * A driver's test makes a world and calls `datapathConformance`; there is nothing else to write.
 * The same sentences run against memory and against a kernel with real packets, so a fake that is
 * kinder than the kernel is found here.
 *
 * The world of every test: two governed clients and an ungoverned one, each with an IPv4 and an
 * IPv6 address, and servers that accept connections on CONFORMANCE_PORTS at the addresses below.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Facts, type Ruleset, compileRuleset } from '../grant/ruleset.ts'
import { TIMEOUT_CLASS_SECONDS, setPort } from '../grant/timeout-class.ts'
import { parseAddress } from '../identity/address.ts'
import type { Snapshot, Subject } from '../policy/snapshot.ts'
import type { Driver, GrantEntry, GrantWriter } from './driver.ts'

export interface World {
  readonly driver: Driver
  /** Interfaces of the clients; memory ignores them. */
  readonly facts: Facts
  /** A writer for a place of `facts.places`. */
  writer(place: number): GrantWriter
  /** Tries a connection from that client, and tells whether it came about. */
  isOpen(client: string, address: string, port: number): Promise<boolean>
  /** Lets time pass. */
  pass(ms: number): Promise<void>
  /** What somebody else's `nft flush ruleset` does. */
  flushByOther(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Client addresses; `world.facts.interfaceOf` knows where they are. */
export const ALICE = { v4: '10.0.0.7', v6: '2001:db8:1::7' } as const
export const BOB = { v4: '10.0.0.8', v6: '2001:db8:1::8' } as const
export const BYSTANDER = { v4: '10.0.0.9', v6: '2001:db8:1::9' } as const
/** Servers: three addresses of each family. */
export const SERVERS = {
  v4: ['192.0.2.10', '192.0.2.11', '192.0.2.12'],
  v6: ['2001:db8:2::10', '2001:db8:2::11', '2001:db8:2::12'],
} as const
export const CONFORMANCE_PORTS = [80, 443, 8080] as const

const WEB = 1
const ANY = 2
const SHORT_CLASS = 0
const LONG_CLASS = 2

/** @param makeWorld  a fresh one, with nothing applied, for each test */
export function datapathConformance(name: string, makeWorld: () => Promise<World>): void {
  const check = (sentence: string, body: (world: World) => Promise<void>): void => {
    test(`${name}: ${sentence}`, async () => {
      await using world = await makeWorld()
      await body(world)
    })
  }
  grantsOpen(check)
  grantsFail(check)
  structureChanges(check)
  somebodyElse(check)
  lossesShow(check)
}

type Check = (sentence: string, body: (world: World) => Promise<void>) => void

function grantsOpen(check: Check): void {
  check(
    'a grant opens its address for its client on its ports, and nothing else',
    async (world) => {
      await world.driver.apply(rulesetOf(world))
      const writer = aliveWriter(world, 1)
      for (const family of ['v4', 'v6'] as const) {
        const [first, second] = SERVERS[family]
        assert.equal(await world.isOpen(ALICE[family], first, 80), false, `${family} before`)
        write(writer, ALICE[family], first, WEB, LONG_CLASS)
        assert.equal(await world.isOpen(ALICE[family], first, 80), true, `${family} granted`)
        assert.equal(await world.isOpen(ALICE[family], first, 443), true, 'another port of the set')
        assert.equal(await world.isOpen(ALICE[family], first, 8080), false, 'no port of the set')
        assert.equal(await world.isOpen(ALICE[family], second, 80), false, 'another address')
        assert.equal(await world.isOpen(BOB[family], first, 80), false, 'another client')
      }
    },
  )

  check('an ungoverned client connects where it likes', async (world) => {
    await world.driver.apply(rulesetOf(world))
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(await world.isOpen(BYSTANDER[family], SERVERS[family][0], 8080), true)
    }
  })

  check('a port set without ports opens every port', async (world) => {
    await world.driver.apply(rulesetOf(world))
    write(aliveWriter(world, 1), BOB.v4, SERVERS.v4[0], ANY, LONG_CLASS)
    assert.equal(await world.isOpen(BOB.v4, SERVERS.v4[0], 8080), true)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 8080), false)
  })

  check(
    'a rule about addresses opens them without a grant, and a deny rule wins',
    async (world) => {
      await world.driver.apply(rulesetOf(world, { hasDestinations: true }))
      for (const family of ['v4', 'v6'] as const) {
        const [first, second, third] = SERVERS[family]
        assert.equal(await world.isOpen(ALICE[family], first, 8080), true, 'allowed')
        assert.equal(await world.isOpen(ALICE[family], first, 80), false, 'not that port')
        assert.equal(await world.isOpen(ALICE[family], second, 8080), false, 'an exception')
        write(aliveWriter(world, 1), ALICE[family], third, WEB, LONG_CLASS)
        assert.equal(await world.isOpen(ALICE[family], third, 80), false, 'denied and granted')
      }
    },
  )

  check('two timeout classes of one grant never shorten each other', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    write(writer, ALICE.v4, SERVERS.v4[0], WEB, LONG_CLASS)
    write(writer, ALICE.v4, SERVERS.v4[0], WEB, SHORT_CLASS)
    const longest = Math.max(
      ...(await world.driver.readGrants()).map(({ remainingMs }) => remainingMs),
    )
    const shouldMs = TIMEOUT_CLASS_SECONDS[LONG_CLASS] * 1000
    assert.ok(longest > shouldMs - 3000 && longest <= shouldMs, `${longest} ms are left`)
  })

  check('grants are read back with client, address, port set and time', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    write(writer, ALICE.v6, SERVERS.v6[0], WEB, SHORT_CLASS)
    write(writer, BOB.v4, SERVERS.v4[1], ANY, LONG_CLASS)
    const grants = (await world.driver.readGrants()).map(({ remainingMs, ...grant }) => {
      assert.ok(remainingMs > 10_000)
      return grant
    })
    assert.deepEqual(
      grants.toSorted((a, b) => (a.client < b.client ? -1 : 1)),
      [
        {
          client: BOB.v4,
          address: SERVERS.v4[1],
          portSet: ANY_ID,
          timeoutSeconds: TIMEOUT_CLASS_SECONDS[LONG_CLASS],
        },
        {
          client: ALICE.v6,
          address: SERVERS.v6[0],
          portSet: WEB_ID,
          timeoutSeconds: TIMEOUT_CLASS_SECONDS[SHORT_CLASS],
        },
      ],
    )
  })
}

function grantsFail(check: Check): void {
  check('a worker that is not alive can open nothing', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = world.writer(1)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), false, 'never was alive')
    writer.refreshAlive()
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), true)
    await world.pass(300)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[1]), false, 'was alive 300 ms ago')
    assert.equal(tryWrite(writer, ALICE.v6, SERVERS.v6[1]), false, 'nor over IPv6')
    const other = aliveWriter(world, 2)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[1]), false, 'another one is alive')
    assert.equal(tryWrite(other, ALICE.v4, SERVERS.v4[1]), true)
  })

  check('who leaves may write grants for as long as it says so', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    for (let round = 0; round < 3; round++) {
      await world.pass(80)
      assert.equal(writer.refreshAlive(true), true)
      assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), true)
    }
    assert.deepEqual(await world.driver.readAlive(), [1])
    await world.pass(300)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[1]), false)
  })

  check('of a batch that does not fit, exactly those that did not fit fail', async (world) => {
    await world.driver.apply(rulesetOf(world, { grantsMax: 3 }))
    const writer = aliveWriter(world, 1)
    const names = ['192.0.2.101', '192.0.2.102', '192.0.2.103', '192.0.2.104', '192.0.2.105']
    const indexes = names.map((address) => push(writer, ALICE.v4, address, WEB, SHORT_CLASS))
    const again = push(writer, ALICE.v4, names[0]!, WEB, SHORT_CLASS)
    const elsewhere = push(writer, ALICE.v4, names[4]!, WEB, LONG_CLASS)
    assert.equal(writer.flush(), 2)
    assert.deepEqual(
      indexes.map((index) => writer.isInForce(index)),
      [true, true, true, false, false],
    )
    assert.ok(writer.isInForce(again), 'what is there is extended')
    assert.ok(writer.isInForce(elsewhere), 'another set has room')
  })

  check('a refusal is no loss: only a batch that no rule judged is one', async (world) => {
    await world.driver.apply(rulesetOf(world, { grantsMax: 1 }))
    const writer = aliveWriter(world, 1)
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(tryWrite(writer, ALICE[family], SERVERS[family][0]), true)
      assert.equal(tryWrite(writer, ALICE[family], SERVERS[family][1]), false, 'the set is full')
      assert.equal(writer.isUnproven, false)
    }
    await world.pass(300)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), false, 'was alive 300 ms ago')
    assert.equal(writer.isUnproven, false)
    await world.flushByOther()
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(tryWrite(writer, ALICE[family], SERVERS[family][0]), false, 'nobody took it')
      assert.equal(writer.isUnproven, true)
    }
    await world.driver.apply(rulesetOf(world))
    writer.refreshAlive()
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), true)
    assert.equal(writer.isUnproven, false)
  })

  check('a grant for a port set that nobody knows is not in force', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    const known = push(writer, ALICE.v4, SERVERS.v4[0], WEB, SHORT_CLASS)
    const unknown = push(writer, ALICE.v4, SERVERS.v4[0], 99, SHORT_CLASS)
    const last = push(writer, ALICE.v6, SERVERS.v6[0], WEB, SHORT_CLASS)
    assert.equal(writer.flush(), 1)
    assert.deepEqual(
      [known, unknown, last].map((index) => writer.isInForce(index)),
      [true, false, true],
    )
  })

  check('a revoked grant is closed at once, and may be granted anew', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    for (const family of ['v4', 'v6'] as const) {
      const [first, second] = SERVERS[family]
      write(writer, ALICE[family], first, WEB, LONG_CLASS)
      write(writer, ALICE[family], second, WEB, LONG_CLASS)
      const mine = {
        client: ALICE[family],
        address: first,
        portSet: WEB_ID,
        timeoutSeconds: TIMEOUT_CLASS_SECONDS[LONG_CLASS],
        remainingMs: 0,
      }
      const missing = { ...mine, address: SERVERS[family][2] }
      await world.driver.revoke([missing, mine])
      assert.equal(await world.isOpen(ALICE[family], first, 80), false, `${family} revoked`)
      assert.equal(await world.isOpen(ALICE[family], second, 80), true, `${family} untouched`)
      write(aliveWriter(world, 1), ALICE[family], first, WEB, LONG_CLASS)
      assert.equal(await world.isOpen(ALICE[family], first, 80), true, `${family} granted anew`)
    }
  })

  check(
    'a grant is revoked in the timeout class it was read from, and in no other',
    async (world) => {
      await world.driver.apply(rulesetOf(world))
      const writer = aliveWriter(world, 1)
      for (const classIndex of [SHORT_CLASS, LONG_CLASS]) {
        write(writer, ALICE.v4, SERVERS.v4[0], WEB, classIndex)
      }
      const secondsOf = (grant: GrantEntry): number => grant.timeoutSeconds
      const [short, long] = (await world.driver.readGrants()).toSorted(
        (a, b) => secondsOf(a) - secondsOf(b),
      )
      await world.driver.revoke([short!])
      assert.deepEqual((await world.driver.readGrants()).map(secondsOf), [long!.timeoutSeconds])
      assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), true)
      await world.driver.revoke([long!])
      assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), false)
    },
  )
}

function structureChanges(check: Check): void {
  check('grants stay when the structure changes', async (world) => {
    await world.driver.apply(rulesetOf(world))
    write(aliveWriter(world, 1), ALICE.v4, SERVERS.v4[0], WEB, LONG_CLASS)
    const changed = rulesetOf(world, { hasDestinations: true, unknown: 'closed' })
    await world.driver.apply(changed)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), true)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 8080), true, 'the new rule holds')
    await world.driver.apply(rulesetOf(world))
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), true)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 8080), false, 'the rule is gone')
    assert.equal(await world.driver.verify(rulesetOf(world)), 'same')
  })

  check('grants of a port set go with it', async (world) => {
    await world.driver.apply(rulesetOf(world))
    write(aliveWriter(world, 1), BOB.v4, SERVERS.v4[0], ANY, LONG_CLASS)
    await world.driver.apply(rulesetOf(world, { hasAny: false }))
    assert.deepEqual(await world.driver.readGrants(), [])
    await world.driver.apply(rulesetOf(world))
    assert.equal(await world.isOpen(BOB.v4, SERVERS.v4[0], 80), false)
  })

  check('a client that comes and goes is governed from its first packet', async (world) => {
    await world.driver.apply(rulesetOf(world, { hasBob: false }))
    assert.equal(await world.isOpen(BOB.v4, SERVERS.v4[0], 80), true)
    await world.driver.apply(rulesetOf(world))
    assert.equal(await world.isOpen(BOB.v4, SERVERS.v4[0], 80), false)
    await world.driver.apply(rulesetOf(world, { hasBob: false }))
    assert.equal(await world.isOpen(BOB.v4, SERVERS.v4[0], 80), true)
  })

  check('a governed client whose interface nobody knows is closed', async (world) => {
    const facts = { ...world.facts, interfaceOf: { ...world.facts.interfaceOf } }
    delete (facts.interfaceOf as Record<string, string>)[ALICE.v4]
    await world.driver.apply(rulesetOf({ ...world, facts }))
    write(aliveWriter(world, 1), ALICE.v4, SERVERS.v4[0], WEB, LONG_CLASS)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), false)
    assert.equal(await world.isOpen(BYSTANDER.v4, SERVERS.v4[0], 80), true)
  })

  check('audit mode denies nothing', async (world) => {
    await world.driver.apply(rulesetOf(world, { mode: 'audit', hasDestinations: true }))
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(await world.isOpen(ALICE[family], SERVERS[family][0], 80), true)
      assert.equal(await world.isOpen(ALICE[family], SERVERS[family][2], 80), true, 'a deny rule')
    }
  })
}

function somebodyElse(check: Check): void {
  check('governed clients stay closed when somebody else flushes the rules', async (world) => {
    const ruleset = rulesetOf(world)
    await world.driver.apply(ruleset)
    const writer = aliveWriter(world, 1)
    write(writer, ALICE.v4, SERVERS.v4[0], WEB, LONG_CLASS)
    assert.equal(await world.driver.verify(ruleset), 'same')
    await world.flushByOther()
    writer.refreshAlive()
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[1]), false, 'a grant nobody took')
    assert.equal(tryWrite(writer, ALICE.v6, SERVERS.v6[1]), false, 'a grant nobody took, IPv6')
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(await world.isOpen(ALICE[family], SERVERS[family][0], 80), false)
      assert.equal(await world.isOpen(BYSTANDER[family], SERVERS[family][0], 80), true)
    }
    assert.notEqual(await world.driver.verify(ruleset), 'same')
    await world.driver.apply(ruleset)
    assert.equal(await world.driver.verify(ruleset), 'same')
    write(aliveWriter(world, 1), ALICE.v4, SERVERS.v4[0], WEB, LONG_CLASS)
    assert.equal(await world.isOpen(ALICE.v4, SERVERS.v4[0], 80), true)
  })

  check('after remove everybody connects where they like', async (world) => {
    const ruleset = rulesetOf(world)
    await world.driver.apply(ruleset)
    assert.equal(await world.isOpen(ALICE.v6, SERVERS.v6[0], 80), false)
    await world.driver.remove()
    await world.driver.remove()
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(await world.isOpen(ALICE[family], SERVERS[family][0], 8080), true)
    }
    assert.notEqual(await world.driver.verify(ruleset), 'same')
    assert.deepEqual(await world.driver.readGrants(), [])
  })
}

/** What GrantWriter.refreshAlive says: whether remembered grants may still be relied on. */
function lossesShow(check: Check): void {
  check('a refresh that follows another finds everything as it was', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = world.writer(1)
    assert.equal(writer.refreshAlive(), false, 'the first one')
    assert.equal(writer.refreshAlive(), true)
    await world.pass(300)
    assert.equal(writer.refreshAlive(), false, 'the former one is too long ago')
    assert.equal(writer.refreshAlive(), true)
    const other = world.writer(2)
    assert.equal(other.refreshAlive(), false, 'each worker is told for itself')
  })

  check('a flush by somebody else shows at the next refresh', async (world) => {
    await world.driver.apply(rulesetOf(world))
    const writer = aliveWriter(world, 1)
    assert.equal(writer.refreshAlive(), true)
    await world.flushByOther()
    assert.equal(writer.refreshAlive(), false)
    assert.equal(writer.refreshAlive(), false, 'for as long as it lasts')
  })

  check('a flush shows also when all was put back before the next refresh', async (world) => {
    const ruleset = rulesetOf(world)
    await world.driver.apply(ruleset)
    const writer = aliveWriter(world, 1)
    assert.equal(writer.refreshAlive(), true)
    await world.flushByOther()
    await world.driver.apply(ruleset)
    assert.equal(await world.driver.verify(ruleset), 'same')
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), false, 'nor is a grant taken before it')
    assert.equal(writer.refreshAlive(), false)
    assert.equal(writer.refreshAlive(), true)
    assert.equal(tryWrite(writer, ALICE.v4, SERVERS.v4[0]), true)
  })
}

const WEB_ID = '00000080'
const ANY_ID = '0000000a'

export interface RulesetVariant {
  readonly mode?: 'enforce' | 'audit'
  readonly unknown?: 'open' | 'closed'
  readonly grantsMax?: number
  /** Rules about addresses for Alice: everything on 8080 but the second server, never the third. */
  readonly hasDestinations?: boolean
  /** Bob is governed. Default true. */
  readonly hasBob?: boolean
  /** Port set ANY is in use. Default true. */
  readonly hasAny?: boolean
}

/** The ruleset of the suite's world; Alice may open WEB, Bob WEB and ANY. */
export function rulesetOf(world: Pick<World, 'facts'>, variant: RulesetVariant = {}): Ruleset {
  const { hasAny = true, hasBob = true, hasDestinations = false } = variant
  const client = (name: string, who: { v4: string; v6: string }, subject: number) => ({
    namespace: 'team-a',
    name,
    labels: {},
    addresses: [who.v4, who.v6],
    interface: null,
    subject,
  })
  const rule = (portSet: number) => ({
    policy: 'team-a/web',
    pattern: { kind: 'pattern', text: '*.example.com' } as const,
    portSet,
  })
  const alice: Subject = {
    id: hasDestinations ? 'a00000000002' : 'a00000000001',
    policies: ['team-a/web'],
    isFaulty: false,
    questions: [],
    names: [rule(WEB)],
    destinations: hasDestinations ? destinations() : [],
  }
  const names = hasAny ? [rule(WEB), rule(ANY)] : [rule(WEB)]
  const bob: Subject = {
    ...alice,
    id: hasAny ? 'b00000000001' : 'b00000000002',
    names,
    destinations: [],
  }
  const web = { number: WEB, id: WEB_ID, ports: [port(80), port(443)] }
  const snapshot: Snapshot = {
    layout: 1,
    revision: 1,
    mode: variant.mode ?? 'enforce',
    denyResponse: 'refused',
    unknown: variant.unknown ?? 'open',
    clients: [
      client('alice', ALICE, 0),
      client('bob', BOB, hasBob ? 1 : -1),
      client('bystander', BYSTANDER, -1),
    ],
    places: [],
    subjects: [alice, bob],
    portSets: hasAny ? [web, { number: ANY, id: ANY_ID, ports: [] }] : [web],
    policies: [],
  }
  const { grantsMax = world.facts.grantsMax } = variant
  return compileRuleset(snapshot, { ...world.facts, grantsMax })
}

function destinations(): Subject['destinations'] {
  const policy = 'team-a/addresses'
  const whole = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`
  return [
    {
      policy,
      verdict: 'allow',
      prefixes: ['192.0.2.0/24', '::/0'],
      except: [whole(SERVERS.v4[1]), whole(SERVERS.v6[1])],
      ports: [port(8080)],
    },
    {
      policy,
      verdict: 'deny',
      prefixes: [whole(SERVERS.v4[2]), whole(SERVERS.v6[2])],
      except: [],
      ports: [],
    },
  ]
}

function port(number: number) {
  return { protocol: 'tcp', first: number, last: number } as const
}

function aliveWriter(world: World, place: number): GrantWriter {
  const writer = world.writer(place)
  writer.refreshAlive()
  return writer
}

/** Writes one grant that must work; the worker says so before each, as its loop does. */
function write(
  writer: GrantWriter,
  client: string,
  address: string,
  portSet: number,
  classIndex: number,
): void {
  writer.refreshAlive()
  const index = push(writer, client, address, portSet, classIndex)
  assert.equal(writer.flush(), 0, `the grant of ${address} for ${client} was refused`)
  assert.ok(writer.isInForce(index))
}

function tryWrite(writer: GrantWriter, client: string, address: string): boolean {
  const index = push(writer, client, address, WEB, SHORT_CLASS)
  const failed = writer.flush()
  assert.equal(failed, writer.isInForce(index) ? 0 : 1)
  return writer.isInForce(index)
}

export function push(
  writer: GrantWriter,
  client: string,
  address: string,
  portSet: number,
  classIndex: number,
): number {
  const family = client.includes(':') ? 6 : 4
  const from = parseAddress(client)!
  const to = parseAddress(address)!
  return writer.push(family, from, 0, to, 0, setPort(portSet, classIndex))
}
