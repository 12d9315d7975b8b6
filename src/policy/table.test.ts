import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import { parseAddress } from '../identity/address.ts'
import { isCovered, parsePrefix } from '../identity/prefix.ts'
import { EVERY_NAME, wireName } from './pattern.ts'
import { hasPort } from './port-set.ts'
import type {
  ClientEntry,
  NamePattern,
  PortRange,
  QuestionRule,
  Snapshot,
  Subject,
} from './snapshot.ts'
import { ScannedName, scanName } from './scanned-name.ts'
import { NO_STAND_INS, type StandIns } from './stand-ins.ts'
import { NONE, PolicyTable } from './table.ts'
import { encodeTable } from './table-encode.ts'
import {
  QUESTION_ALLOWED,
  QUESTION_DENIED_FAULTY,
  QUESTION_DENIED_NAME,
  QUESTION_DENIED_SERVER,
  QUESTION_DENIED_UNKNOWN,
  QUESTION_UNGOVERNED,
} from './verdict.ts'

const TCP = 6
const UDP = 17
const DNS: PortRange = { protocol: 'any', first: 53, last: 53 }

function makeSubject(parts: Partial<Subject>): Subject {
  return {
    id: '0'.repeat(12),
    policies: ['p'],
    isFaulty: false,
    questions: [],
    names: [],
    destinations: [],
    ...parts,
  }
}

function makeClient(addresses: string[], subject: number, link: string | null = null): ClientEntry {
  return {
    namespace: 'team-a',
    name: addresses[0]!,
    labels: {},
    addresses,
    interface: link,
    subject,
  }
}

function makeSnapshot(parts: Partial<Snapshot>): Snapshot {
  const empty = { clients: [], places: [], subjects: [], portSets: [], policies: [] }
  return {
    layout: 1,
    revision: 7,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
    ...empty,
    ...parts,
  }
}

function openTable(
  snapshot: Snapshot,
  standIns: StandIns = NO_STAND_INS,
  interfaceIndexes = new Map<string, number>(),
): PolicyTable {
  const words = encodeTable(snapshot, { standIns, interfaceIndexes })
  // In the middle of a larger region, with something behind it.
  const region = new Int32Array(words.length + 20).fill(-1)
  region.set(words, 8)
  const table = new PolicyTable()
  table.open(region.subarray(8))
  return table
}

function pattern(text: string): NamePattern {
  return { kind: 'pattern', text }
}

/** One governed client, 10.0.0.7, with these questions. */
function tableOf(questions: QuestionRule[], standIns = NO_STAND_INS): PolicyTable {
  return openTable(
    makeSnapshot({
      clients: [makeClient(['10.0.0.7'], 0)],
      subjects: [makeSubject({ questions })],
    }),
    standIns,
  )
}

function ask(
  table: PolicyTable,
  name: string,
  server = '10.96.0.10',
  port = 53,
  protocol = UDP,
  client = 0,
): number {
  const wire = wireName(name)
  const bytes = parseAddress(server)
  assert.ok(wire !== null && bytes !== null)
  const packet = Uint8Array.from([1, 2, 3, ...wire, 4])
  const family = bytes.length === 4 ? 4 : 6
  const scanned = new ScannedName()
  scanned.scan(packet, 3, wire.length)
  return table.decideQuestion(client, scanned, family, bytes, 0, port, protocol)
}

function grants(table: PolicyTable, name: string, subject = 0): number[] {
  const wire = wireName(name)!
  const out = new Int32Array(table.portSetsMax)
  const count = table.matchGrants(subject, scanName(wire), out)
  return [...out.subarray(0, count)].toSorted((a, b) => a - b)
}

test('every name may be asked only by a rule without names, or one of nothing but stars', () => {
  const server = parseAddress('10.96.0.10')!
  const verdictOf = (names: NamePattern[] | null): number => {
    const rule = { policy: 'p', servers: ['10.96.0.10/32'], ports: [DNS], names }
    return tableOf([rule]).decideQuestion(0, scanName(EVERY_NAME), 4, server, 0, 53, UDP)
  }
  assert.equal(verdictOf(null), QUESTION_ALLOWED)
  for (const all of ['*', '**', '***']) {
    assert.equal(verdictOf([{ kind: 'name', text: 'example.com' }, pattern(all)]), QUESTION_ALLOWED)
  }
  const much = ['*.com', '**.com', '*.*', '**.*', '*.*.*', '*a*', '.', 'a*.*', '*-*', '*_*'].map(
    pattern,
  )
  const names = ['.', 'com', 'example.com'].map((text): NamePattern => ({ kind: 'name', text }))
  assert.equal(verdictOf([...much, ...names]), QUESTION_DENIED_NAME)
  assert.equal(verdictOf([]), QUESTION_DENIED_NAME)
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[-a-z0-9_.*]{1,12}$/)), (texts) => {
      const isAll = texts.some((text) => /^\*+$/.test(text))
      const expected = isAll ? QUESTION_ALLOWED : QUESTION_DENIED_NAME
      assert.equal(verdictOf(texts.map(pattern)), expected)
    }),
  )
})

test('a client is found by each of its addresses, and nobody by another', () => {
  const clients = [
    makeClient(['10.0.0.7', '10.0.0.9', '2001:db8::7'], 0, 'veth-7'),
    makeClient(['10.0.0.8'], NONE, 'gone'),
    makeClient(['2001:db8::8'], NONE),
  ]
  const table = openTable(
    makeSnapshot({ clients, subjects: [makeSubject({})] }),
    NO_STAND_INS,
    new Map([['veth-7', 42]]),
  )
  const find = (text: string) => {
    const bytes = parseAddress(text)!
    return table.findClient(bytes.length === 4 ? 4 : 6, Uint8Array.from([0, ...bytes]), 1)
  }
  assert.deepEqual(
    ['10.0.0.7', '10.0.0.9', '2001:db8::7', '10.0.0.8', '2001:db8::8'].map(find),
    [0, 0, 0, 1, 2],
  )
  assert.deepEqual(['10.0.0.6', '0.0.0.0', '2001:db8::9', '::', '10.0.0.255'].map(find), [
    NONE,
    NONE,
    NONE,
    NONE,
    NONE,
  ])
  assert.deepEqual(
    [0, 1, 2].map((client) => table.interfaceOf(client)),
    [42, -1, 0],
  )
  assert.deepEqual(
    [0, 1, 2, NONE].map((client) => table.isGoverned(client)),
    [true, false, false, false],
  )
  assert.deepEqual(
    [0, 1, 2].map((client) => [table.addressCount(client, 4), table.addressCount(client, 6)]),
    [
      [2, 1],
      [1, 0],
      [0, 1],
    ],
  )
  const at = table.addressAt(0, 4, 1)
  assert.deepEqual([...table.bytes.subarray(at, at + 4)], [10, 0, 0, 9])
  const at6 = table.addressAt(2, 6, 0)
  assert.deepEqual(table.bytes.slice(at6, at6 + 16), parseAddress('2001:db8::8'))
})

test('the table says what the snapshot says of the whole node', () => {
  const table = openTable(makeSnapshot({ mode: 'audit', denyResponse: 'nodata' }))
  assert.deepEqual(
    [table.revision, table.isAudit, table.denyResponse, table.clientCount],
    [7, true, 'nodata', 0],
  )
  assert.equal(ask(table, 'example.com', '10.96.0.10', 53, UDP, NONE), QUESTION_UNGOVERNED)
  const closed = openTable(makeSnapshot({ unknown: 'closed' }))
  assert.equal(ask(closed, 'example.com', '10.96.0.10', 53, UDP, NONE), QUESTION_DENIED_UNKNOWN)
})

test('a governed client without question rules may ask nothing', () => {
  assert.equal(ask(tableOf([]), 'example.com'), QUESTION_DENIED_SERVER)
  assert.equal(
    ask(tableOf([{ policy: 'p', servers: [], ports: [DNS], names: null }]), 'example.com'),
    QUESTION_DENIED_SERVER,
  )
  assert.equal(
    ask(tableOf([{ policy: 'p', servers: ['0.0.0.0/0'], ports: [], names: null }]), 'example.com'),
    QUESTION_DENIED_SERVER,
  )
  assert.equal(
    ask(tableOf([{ policy: 'p', servers: ['0.0.0.0/0'], ports: [DNS], names: [] }]), 'example.com'),
    QUESTION_DENIED_NAME,
  )
})

test('server, port, protocol and name of a question must all be allowed by one rule', () => {
  const table = tableOf([
    {
      policy: 'p',
      servers: ['10.96.0.10/32', '2001:db8::/64'],
      ports: [{ protocol: 'udp', first: 53, last: 53 }],
      names: [pattern('*.example.com')],
    },
    { policy: 'p', servers: ['192.0.2.53/32'], ports: [DNS], names: null },
  ])
  assert.equal(ask(table, 'a.example.com'), QUESTION_ALLOWED)
  assert.equal(ask(table, 'a.example.com', '2001:db8::53'), QUESTION_ALLOWED)
  assert.equal(ask(table, 'a.example.com', '2001:db8:0:1::53'), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'a.example.com', '10.96.0.11'), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'a.example.com', '10.96.0.10', 5353), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'a.example.com', '10.96.0.10', 53, TCP), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'example.com'), QUESTION_DENIED_NAME)
  assert.equal(ask(table, 'example.com', '192.0.2.53', 53, TCP), QUESTION_ALLOWED)
})

test('a deny rule for a server wins over every allowing rule', () => {
  const table = tableOf([
    { policy: 'p', servers: ['0.0.0.0/0'], ports: [DNS], names: null },
    { policy: 'q', verdict: 'deny', servers: ['10.96.0.0/16'], ports: [DNS], names: null },
  ])
  assert.equal(ask(table, 'example.com'), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'example.com', '10.97.0.10'), QUESTION_ALLOWED)
})

test('a faulty subject is told so, but for what good policies let it ask', () => {
  const questions: QuestionRule[] = [
    { policy: 'p', servers: ['10.96.0.10/32'], ports: [DNS], names: [pattern('example.com')] },
  ]
  const table = openTable(
    makeSnapshot({
      clients: [makeClient(['10.0.0.7'], 0)],
      subjects: [makeSubject({ questions, isFaulty: true })],
    }),
  )
  assert.equal(ask(table, 'example.com'), QUESTION_ALLOWED)
  assert.equal(ask(table, 'example.org'), QUESTION_DENIED_FAULTY)
})

test('a rule about a server that we stand in for is about our own addresses too', () => {
  const standIns = {
    listen: ['169.254.20.10', '2001:db8::10'],
    listenPort: 5353,
    servers: ['10.96.0.10'],
  }
  const rule: QuestionRule = {
    policy: 'p',
    servers: ['10.96.0.10/32'],
    ports: [{ protocol: 'udp', first: 53, last: 53 }],
    names: [pattern('*.example.com')],
  }
  const table = tableOf([rule], standIns)
  assert.equal(ask(table, 'a.example.com', '169.254.20.10', 5353), QUESTION_ALLOWED)
  assert.equal(ask(table, 'a.example.com', '2001:db8::10', 5353), QUESTION_ALLOWED)
  assert.equal(ask(table, 'example.com', '169.254.20.10', 5353), QUESTION_DENIED_NAME)
  assert.equal(ask(table, 'a.example.com', '169.254.20.10', 53), QUESTION_DENIED_SERVER)
  assert.equal(ask(table, 'a.example.com', '169.254.20.10', 5353, TCP), QUESTION_DENIED_SERVER)
  const other = tableOf([{ ...rule, servers: ['192.0.2.53/32'] }], standIns)
  assert.equal(ask(other, 'a.example.com', '169.254.20.10', 5353), QUESTION_DENIED_SERVER)
  const denied = tableOf(
    [
      { ...rule, names: null },
      { ...rule, verdict: 'deny', names: null },
    ],
    standIns,
  )
  assert.equal(ask(denied, 'a.example.com', '169.254.20.10', 5353), QUESTION_DENIED_SERVER)
})

test('bytes that are no whole name are denied', () => {
  const table = tableOf([{ policy: 'p', servers: ['0.0.0.0/0'], ports: [DNS], names: null }])
  const server = parseAddress('10.96.0.10')!
  assert.equal(
    table.decideQuestion(0, scanName(Uint8Array.from([3, 97, 0])), 4, server, 0, 53, UDP),
    QUESTION_DENIED_NAME,
  )
})

test('a name opens every port set that one of its patterns names, each once', () => {
  const names = (
    [
      ['*', 1],
      ['**.example.com', 2],
      ['*.example.com', 3],
      ['www.example.com', 4],
      ['www.example.com', 5],
      ['w*.example.com', 4],
      ['**.ex*.com', 6],
      ['**.com', 2],
    ] as const
  ).map(([text, portSet]) => ({ policy: 'p', pattern: pattern(text), portSet }))
  const table = openTable(
    makeSnapshot({ clients: [makeClient(['10.0.0.7'], 0)], subjects: [makeSubject({ names })] }),
  )
  assert.equal(table.portSetsMax, 6)
  assert.deepEqual(grants(table, 'www.example.com'), [1, 2, 3, 4, 5, 6])
  assert.deepEqual(grants(table, 'a.b.example.com'), [1, 2, 6])
  assert.deepEqual(grants(table, 'example.com'), [1, 2])
  assert.deepEqual(grants(table, 'com'), [1])
  assert.deepEqual(grants(table, '.'), [1])
  assert.deepEqual(grants(table, 'www.example.com', NONE), [])
})

test('a label with a dot or an odd byte in it is no two labels, and only the star of rules.dns means it', () => {
  const texts = [
    'a.example.com',
    '*.example.com',
    '**.example.com',
    '**.com',
    'a*.example.com',
    '*',
  ]
  const rules = texts.map((text, index) => ({
    policy: 'p',
    pattern: pattern(text),
    portSet: index + 1,
  }))
  const questions: QuestionRule[] = [
    { policy: 'p', servers: ['0.0.0.0/0'], ports: [DNS], names: texts.slice(0, -1).map(pattern) },
    { policy: 'p', servers: ['192.0.2.53/32'], ports: [DNS], names: [pattern('*')] },
  ]
  const table = openTable(
    makeSnapshot({
      clients: [makeClient(['10.0.0.7'], 0)],
      subjects: [makeSubject({ questions, names: rules })],
    }),
  )
  for (const label of ['a.example', 'a\0', 'a*', 'A']) {
    const wire = Buffer.from(
      `${String.fromCharCode(label.length)}${label}\x07example\x03com\0`,
      'latin1',
    )
    const out = new Int32Array(table.portSetsMax)
    assert.equal(table.matchGrants(0, scanName(wire), out), 0, label)
    const verdictAt = (server: string) =>
      table.decideQuestion(0, scanName(wire), 4, parseAddress(server)!, 0, 53, UDP)
    assert.equal(verdictAt('10.96.0.10'), QUESTION_DENIED_NAME, label)
    assert.equal(verdictAt('192.0.2.53'), QUESTION_ALLOWED, label)
  }
})

test('10,000 exact names and 1,000 patterns of a subject are each found', () => {
  const exact = Array.from({ length: 10_000 }, (_, index) => `n${index}.example.com`)
  const suffixes = Array.from({ length: 1000 }, (_, index) => `*.s${index}.example.org`)
  const names = [...exact, ...suffixes].map((text, index) => ({
    policy: 'p',
    pattern: pattern(text),
    portSet: 1 + (index % 4095),
  }))
  const table = openTable(makeSnapshot({ subjects: [makeSubject({ names })] }))
  for (const [index, text] of exact.entries())
    assert.deepEqual(grants(table, text), [1 + (index % 4095)])
  for (const [index, text] of suffixes.entries()) {
    assert.deepEqual(grants(table, text.replace('*', 'x')), [1 + ((index + 10_000) % 4095)])
  }
  assert.deepEqual(grants(table, 'n10000.example.com'), [])
  assert.deepEqual(grants(table, 'n1.example.org'), [])
})

/** What a table should say, from the snapshot itself, with texts and regular expressions. */
function matchesText({ text }: NamePattern, name: string, use: 'grant' | 'question'): boolean {
  const word = '[-a-z0-9_]'
  if (/^\*+$/.test(text)) return use === 'question' || new RegExp(`^(${word}+(\\.|$))*$`).test(name)
  const deep = /^\*\*+\./.exec(text)
  const rest = text
    .slice(deep?.[0].length ?? 0)
    .replaceAll('.', '\\.')
    .replace(/\*+/g, `${word}*`)
  return new RegExp(`^${deep === null ? '' : `(${word}+\\.)+`}${rest}$`).test(name)
}

function modelVerdict(subject: Subject, name: string, server: string, port: number): number {
  const bytes = parseAddress(server)!
  const about = subject.questions.filter(
    ({ servers, ports }) =>
      isCovered(
        bytes,
        servers.map((text) => parsePrefix(text)!),
      ) && hasPort(ports, 'udp', port),
  )
  const isDenied = about.length === 0 || about.some(({ verdict }) => verdict === 'deny')
  const isAllowed = about.some(
    ({ names }) => names === null || names.some((one) => matchesText(one, name, 'question')),
  )
  if (!isDenied && isAllowed) return QUESTION_ALLOWED
  if (subject.isFaulty) return QUESTION_DENIED_FAULTY
  return isDenied ? QUESTION_DENIED_SERVER : QUESTION_DENIED_NAME
}

const patterns = fc
  .array(fc.stringMatching(/^(a|b|\*|\*\*|a\*)$/), { minLength: 1, maxLength: 3 })
  .map((labels) => pattern(labels.join('.')))
const names = fc
  .array(fc.stringMatching(/^(a|b|ab)$/), { minLength: 1, maxLength: 4 })
  .map((labels) => labels.join('.'))
const servers = fc.constantFrom(
  '10.0.0.0',
  '10.0.0.1',
  '10.0.0.128',
  '255.255.255.255',
  '0.0.0.0',
  '2001:db8::',
  '2001:db8::1',
  'ffff::',
  '::',
)
const serverPrefixes = fc.constantFrom(
  '10.0.0.0/32',
  '10.0.0.0/25',
  '10.0.0.128/25',
  '10.0.0.1/32',
  '0.0.0.0/0',
  '128.0.0.0/1',
  '255.255.255.255/32',
  '2001:db8::/32',
  '2001:db8::/128',
  '::/0',
  '8000::/1',
)
const ports = fc.array(
  fc.constantFrom<PortRange>(
    DNS,
    { protocol: 'tcp', first: 0, last: 65535 },
    { protocol: 'udp', first: 54, last: 60 },
  ),
  { maxLength: 2 },
)
const questionRules = fc
  .record({
    servers: fc.array(serverPrefixes, { maxLength: 3 }),
    ports,
    names: fc.option(fc.array(patterns, { maxLength: 4 })),
    isDeny: fc.integer({ min: 0, max: 5 }),
  })
  .map(
    ({ isDeny, ...rest }): QuestionRule =>
      isDeny === 0
        ? { policy: 'p', verdict: 'deny', ...rest, names: null }
        : { policy: 'p', ...rest },
  )
const subjects = fc
  .record({
    questions: fc.array(questionRules, { maxLength: 4 }),
    isFaulty: fc.boolean(),
    names: fc.array(
      fc.record({
        policy: fc.constant('p'),
        pattern: patterns,
        portSet: fc.integer({ min: 1, max: 4 }),
      }),
    ),
  })
  .map((parts) => makeSubject(parts))

test('the table says what its snapshot says, read plainly', () => {
  const queries = fc.array(fc.tuple(names, servers, fc.constantFrom(53, 54, 60, 61)), {
    minLength: 20,
    maxLength: 40,
  })
  fc.assert(
    fc.property(fc.array(subjects, { minLength: 1, maxLength: 3 }), queries, (all, asked) => {
      const clients = all.map((_, index) => makeClient([`10.0.1.${index}`], index))
      const table = openTable(makeSnapshot({ clients, subjects: all }))
      for (const [name, server, port] of asked) {
        for (const [index, subject] of all.entries()) {
          assert.equal(
            ask(table, name, server, port, UDP, index),
            modelVerdict(subject, name, server, port),
          )
          const opened = subject.names.filter((rule) => matchesText(rule.pattern, name, 'grant'))
          const expected = [...new Set(opened.map(({ portSet }) => portSet))].toSorted(
            (a, b) => a - b,
          )
          assert.deepEqual(grants(table, name, index), expected)
        }
      }
    }),
    { numRuns: 200 },
  )
})

/** A table in which a look-up has something to do. */
function busyTable(): PolicyTable {
  const texts = [
    '*',
    '**.example.com',
    '*.example.com',
    'www.example.com',
    'w*.example.com',
    '**.ex*.com',
  ]
  const clients = Array.from({ length: 200 }, (_, index) =>
    makeClient([`10.0.0.${index}`, `2001:db8::${index}`], index % 2),
  )
  const rules = texts.map((text, index) => ({
    policy: 'p',
    pattern: pattern(text),
    portSet: index + 1,
  }))
  const questions: QuestionRule[] = [
    {
      policy: 'p',
      verdict: 'deny',
      servers: ['192.0.2.0/24', 'fe80::/10'],
      ports: [DNS],
      names: null,
    },
    {
      policy: 'p',
      servers: ['10.96.0.10/32', '200.0.0.0/8', '2001:db8::/64'],
      ports: [DNS],
      names: texts.slice(1).map(pattern),
    },
  ]
  return openTable(
    makeSnapshot({
      clients,
      subjects: [
        makeSubject({ questions, names: rules }),
        makeSubject({ questions: questions.slice(0, 1) }),
      ],
    }),
  )
}

allocatesNothing('deciding a question allocates nothing', () => {
  const table = busyTable()
  const bytes = wireName('www.example.com')!
  const name = scanName(bytes)
  const ipv4 = parseAddress('200.96.0.10')!
  const ipv6 = parseAddress('2001:db8::a')!
  return (call) => {
    name.scan(bytes, 0, bytes.length)
    return (call & 1) === 0
      ? table.decideQuestion(call % 200, name, 4, ipv4, 0, 53, UDP)
      : table.decideQuestion(call % 200, name, 6, ipv6, 0, 53, TCP)
  }
})

allocatesNothing('finding a client and its addresses allocates nothing', () => {
  const table = busyTable()
  const address = parseAddress('10.0.0.0')!
  return (call) => {
    address[3] = call & 0xff
    const client = table.findClient(4, address, 0)
    return client < 0
      ? 0
      : table.addressAt(client, 6, table.addressCount(client, 6) - 1) + table.subjectOf(client)
  }
})

allocatesNothing('finding what a name opens allocates nothing', () => {
  const table = busyTable()
  const name = scanName(wireName('www.example.com')!)
  const out = new Int32Array(table.portSetsMax)
  return (call) => table.matchGrants(call & 1, name, out)
})
