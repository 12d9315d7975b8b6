/**
 * The first two promises as a property: whatever policies, names, answers, faults of upstreams and
 * of the kernel come in whatever order, a reply with an address that a rule of its client opens
 * leaves only while the kernel holds the grant for at least the reply's TTL (held against every
 * reply by the world, test/support/scenario/promise.ts), and the kernel never holds a grant that no
 * rule and no answer to that client gave.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { InProcessWorld } from '../../test/support/scenario/in-process.ts'
import { policyOfRule } from '../../test/support/scenario/policy-text.ts'
import { openedBy } from '../../test/support/scenario/promise.ts'
import {
  CLUSTER_DNS,
  DEFAULT_SERVER,
  type KernelState,
  LIE_SUBJECTS,
  type RecordChange,
  type Scenario,
  type ServerFault,
} from '../../test/support/scenario/scenario.ts'
import { ServerRecords } from '../../test/support/scenario/server-script.ts'
import { FLAG_RD, RCODE_SERVFAIL } from '../wire/header.ts'
import { buildMessage, parseMessage } from '../wire/message.ts'
import { addressesOf } from '../../test/support/scenario/reply-text.ts'

const CLIENTS = [
  { addresses: ['10.0.0.1', '2001:db8:1::1'], labels: { team: 'a' } },
  { addresses: ['10.0.0.2', '2001:db8:1::2', '2001:db8:1::22'], labels: { team: 'a' } },
  { addresses: ['10.0.0.3'], labels: { team: 'b' } },
  { addresses: ['10.0.0.4', '2001:db8:1::4'], labels: null },
] as const
const NAMES = [
  'api.example.com',
  'www.example.com',
  'a.www.example.com',
  'example.net',
  'x.example.net',
]
const PATTERNS = ['*', '*.example.com', '**.example.com', 'api.example.com', 'example.net']
const TYPES = ['A', 'AAAA', 'HTTPS', 'CNAME'] as const
const TTLS = [0, 1, 4, 10, 11, 30, 60, 299, 300, 3599, 3600, 86_400, 0x7fffffff, 0xffffffff]
/** Of a name that nobody asks for. */
const FOREIGN = '192.0.2.77'

type Operation =
  | {
      readonly kind: 'ask'
      readonly client: number
      readonly isV6: boolean
      readonly name: string
      readonly type: string
      readonly isTcp: boolean
      readonly udpBytes: number | null
    }
  | { readonly kind: 'records'; readonly change: RecordChange }
  | { readonly kind: 'policy'; readonly rules: readonly string[] }
  | { readonly kind: 'fault'; readonly fault: ServerFault }
  | { readonly kind: 'kernel'; readonly state: KernelState }
  | { readonly kind: 'pass'; readonly ms: number }

const names = fc.constantFrom(...NAMES)
const hosts = fc.integer({ min: 10, max: 14 })
const rules = fc.array(
  fc
    .record({
      team: fc.constantFrom('a', 'b'),
      verb: fc.constantFrom('reach', 'reach', 'ask'),
      pattern: fc.constantFrom(...PATTERNS),
      ports: fc.constantFrom('', ' on 443/tcp', ' on 80/tcp, 443/tcp'),
    })
    .map(({ team, verb, pattern, ports }) =>
      verb === 'ask' ? `team=${team} may ask *` : `team=${team} may reach ${pattern}${ports}`,
    ),
  { minLength: 1, maxLength: 4 },
)
const changes = fc
  .record({
    name: names,
    type: fc.constantFrom(...TYPES, 'A', 'A', 'AAAA'),
    ttlSeconds: fc.constantFrom(...TTLS),
    isReplacing: fc.boolean(),
    host: hosts,
    target: names,
  })
  .map(({ name, type, ttlSeconds, isReplacing, host, target }): RecordChange => {
    const rdata = {
      A: `192.0.2.${host}`,
      AAAA: `2001:db8:2::${host}`,
      CNAME: `${target}.`,
      HTTPS: `1 . alpn=h2 ipv4hint=192.0.2.${host} ipv6hint=2001:db8:2::${host}`,
    }[type]
    return {
      isReplacing: isReplacing || type === 'CNAME',
      server: null,
      name,
      ttlSeconds,
      soaMinimum: null,
      type,
      rdata,
    }
  })
const faults: fc.Arbitrary<ServerFault> = fc.oneof(
  { weight: 5, arbitrary: fc.constant<ServerFault>({ kind: 'none' }) },
  fc.constant<ServerFault>({ kind: 'drops', count: 1 }),
  // For as long as it takes for answers to be stale and clients to be tired of waiting.
  { weight: 2, arbitrary: fc.constant<ServerFault>({ kind: 'drops', count: 1000 }) },
  fc.constant<ServerFault>({ kind: 'says', rcode: RCODE_SERVFAIL }),
  fc.constant<ServerFault>({ kind: 'delays', ms: 700 }),
  fc.boolean().map((isAlways): ServerFault => ({ kind: 'truncates', isAlways })),
  fc
    .record({ about: fc.constantFrom(...LIE_SUBJECTS), count: fc.integer({ min: 1, max: 12 }) })
    .map((lie): ServerFault => ({ kind: 'lies', ...lie })),
  fc.constant<ServerFault>({ kind: 'adds', record: `other.example.org. 300 IN A ${FOREIGN}` }),
)
const operations: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      client: fc.constantFrom(0, 0, 1, 1, 2, 3),
      isV6: fc.boolean(),
      name: names,
      type: fc.constantFrom('A', 'A', 'A', 'AAAA', 'AAAA', 'HTTPS', 'HTTPS', 'ANY', 'TXT'),
      isTcp: fc.boolean(),
      udpBytes: fc.constantFrom(null, 512, 1232, 4096),
    }),
  },
  { weight: 4, arbitrary: changes.map((change): Operation => ({ kind: 'records', change })) },
  { weight: 1, arbitrary: rules.map((changed): Operation => ({ kind: 'policy', rules: changed })) },
  { weight: 2, arbitrary: faults.map((fault): Operation => ({ kind: 'fault', fault })) },
  {
    weight: 3,
    arbitrary: fc
      .oneof(
        { weight: 3, arbitrary: fc.constant<KernelState>('takes grants') },
        fc.constantFrom<KernelState>('refuses grants', 'is full', 'vanishes'),
      )
      .map((state): Operation => ({ kind: 'kernel', state })),
  },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom(1, 300, 999, 4000, 10_000, 14_999, 15_001, 29_500, 35_000, 66_000)
      .map((ms): Operation => ({ kind: 'pass', ms })),
  },
)

/** What may be granted, told from what was asked, said and allowed so far. */
class Expectation {
  readonly #records = new ServerRecords()
  readonly #addresses = new Map<string, Set<string>>()
  /** 'address of a client, name' */
  readonly #asked = new Set<string>()
  /** 'address of a client, name, id of a port set' */
  readonly #allowed = new Set<string>()

  change(change: RecordChange): void {
    this.#records.change(change)
    for (const name of NAMES) {
      const known = this.#addresses.getOrInsertComputed(name, () => new Set())
      for (const type of ['A', 'AAAA', 'HTTPS']) {
        const answers = this.#records.find(name, type).answers
        const message = parseMessage(buildMessage({ question: `${name}. ${type}`, answers }))!
        for (const address of addressesOf(message)) known.add(address)
      }
    }
  }

  allow({ snapshot }: InProcessWorld): void {
    for (const { addresses, subject } of snapshot.clients) {
      if (subject < 0) continue
      for (const name of NAMES) {
        for (const number of openedBy(snapshot.subjects[subject]!, name)) {
          const { id } = snapshot.portSets.find((portSet) => portSet.number === number)!
          for (const address of addresses) this.#allowed.add(`${address} ${name} ${id}`)
        }
      }
    }
  }

  ask(client: number, name: string): void {
    for (const address of CLIENTS[client]!.addresses) this.#asked.add(`${address} ${name}`)
  }

  async check(world: InProcessWorld): Promise<void> {
    for (const { client, address, portSet } of await world.grants()) {
      const isGiven = NAMES.some(
        (name) =>
          this.#asked.has(`${client} ${name}`) &&
          this.#allowed.has(`${client} ${name} ${portSet}`) &&
          this.#addresses.get(name)?.has(address) === true,
      )
      assert(isGiven, `${client} can connect to ${address} and nothing gave it that`)
    }
  }
}

async function play(first: readonly string[], script: readonly Operation[]): Promise<number> {
  const scenario: Scenario = {
    file: 'property',
    title: '',
    onlyInProcess: null,
    notYet: null,
    settings: new Map([
      ['cache.serveStale', '10m'],
      ['cache.prefetch', 'true'],
    ]),
    groups: [{ zones: ['.'], servers: [DEFAULT_SERVER] }],
    clients: CLIENTS,
    policies: policiesOf(first),
    steps: [],
  }
  await using world = new InProcessWorld(scenario)
  const expectation = new Expectation()
  expectation.allow(world)
  let id = 0
  let given = 0
  for (const operation of script) {
    switch (operation.kind) {
      case 'ask': {
        expectation.ask(operation.client, operation.name)
        const reply = await ask(world, operation, ++id)
        const message = reply === null ? null : parseMessage(reply)
        if (message !== null && addressesOf(message).length > 0) given++
        break
      }
      case 'records':
        expectation.change(operation.change)
        await world.changeRecords(operation.change)
        break
      case 'policy':
        await world.setPolicies(policiesOf(operation.rules))
        expectation.allow(world)
        break
      case 'fault':
        await world.setFault(DEFAULT_SERVER, operation.fault)
        break
      case 'kernel':
        await world.setKernel(operation.state)
        // Until the main thread has looked, grants made before are believed in: see FAILURES.md.
        if (operation.state === 'vanishes') await world.pass(1000)
        break
      case 'pass':
        await world.pass(operation.ms)
    }
    await expectation.check(world)
  }
  return given
}

async function ask(
  world: InProcessWorld,
  operation: Extract<Operation, { kind: 'ask' }>,
  id: number,
): Promise<Uint8Array | null> {
  const { addresses } = CLIENTS[operation.client]!
  const [v4, v6 = v4] = addresses
  const client = operation.isV6 ? v6 : v4
  const { udpBytes } = operation
  const [exchange] = await world.send([
    {
      client,
      server: client.includes(':') ? CLUSTER_DNS.v6 : CLUSTER_DNS.v4,
      isTcp: operation.isTcp,
      bytes: buildMessage({
        id,
        flags: FLAG_RD,
        question: `${operation.name}. ${operation.type}`,
        ...(udpBytes === null ? {} : { edns: { udpBytes } }),
      }),
    },
  ])
  // Now and then not waited for: then it ends while other things happen.
  const reply = await world.reply(exchange!, id % 5 === 0 ? 1 : 6000)
  return reply?.bytes ?? null
}

function policiesOf(texts: readonly string[]): string[] {
  return texts.map((text, index) =>
    policyOfRule(text, index + 1, (message) => assert.fail(message)),
  )
}

test('no reply opens more or less than rules and answers say, whatever fails', async () => {
  let given = 0
  await fc.assert(
    fc.asyncProperty(
      rules,
      fc.array(changes, { minLength: 6, maxLength: 16 }),
      fc.array(operations, { minLength: 5, maxLength: 30 }),
      async (first, records, script) => {
        const start = records.map((change): Operation => ({ kind: 'records', change }))
        given += await play(first, [...start, ...script])
      },
    ),
    { numRuns: 100 },
  )
  assert(given > 50, `it was about something: ${given} replies gave addresses`)
})
