import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseScenario } from './parse.ts'
import { type AskedQuestion, serversOf } from './scenario.ts'

const TITLE = '# Something holds.'

/** The fault of a scenario whose second line is `line`, without file and line. */
function faultOf(line: string): string {
  try {
    parseScenario(`${TITLE}\n${line}\n`, 'a.scn')
  } catch (error) {
    const message = (error as Error).message
    assert.match(message, /^a\.scn:2: /)
    return message.slice('a.scn:2: '.length)
  }
  return 'none'
}

function question(text: string): AskedQuestion {
  const { steps } = parseScenario(`${TITLE}\n10.0.0.7 (team=web) asks ${text}\n`, 'a.scn')
  assert(steps[0]?.kind === 'ask')
  return steps[0].question
}

test('an unknown word is refused with the nearest known one', () => {
  assert.match(faultOf('upstreem api.example.com A 192.0.2.10'), /did you mean 'upstream'\?/)
  assert.match(faultOf('10.0.0.7 (team=web) askz api.example.com A'), /did you mean 'asks'\?/)
  assert.match(faultOf('server 192.0.2.53 dropz'), /did you mean 'drops'\?/)
  assert.match(faultOf('kernel is fool'), /did you mean 'is full'\?/)
  assert.match(faultOf('setting cache.maxTTL 60s'), /did you mean 'cache.maxTtl'\?/)
  assert.match(
    faultOf('  flow FORWARDED ANSWERED_FROM_CASH'),
    /did you mean 'ANSWERED_FROM_CACHE'\?/,
  )
  assert.match(faultOf('  gets 192.0.2.10 tll 30'), /did you mean 'ttl'\?/)
})

test('a fault names file and line', () => {
  const text = `${TITLE}\n\npolicy team=web may reach *.example.com\n10.0.0.7 (team=web) asks\n`
  assert.throws(
    () => parseScenario(text, 'b.scn'),
    /^ScenarioError: b\.scn:4: something is missing/,
  )
})

test('what is missing, too much or no value is a fault', () => {
  assert.match(faultOf('30 s pass away'), /'away' is too much here/)
  assert.match(faultOf('30 pounds pass'), /'30pounds' is no time/)
  assert.match(faultOf('client 10.0.0.300 (team=web)'), /unknown|no address/)
  assert.match(faultOf('client 10.0.0.7 (team)'), /'team' is no label/)
  assert.match(faultOf('upstream api.example.com A 192.0.2.300'), /192\.0\.2\.300/)
  assert.match(faultOf('upstream api.example.com B 192.0.2.1'), /"B" is not a record type/)
  assert.match(faultOf('policy team=web may fly *.example.com'), /no rule/)
  assert.match(faultOf('policy team=web may ask *.example.com on 53/udp'), /'on' goes with reach/)
  assert.match(faultOf('policy'), /indented below it/)
  assert.match(faultOf('10.0.0.7 (unknown) sends abc'), /pairs of hex digits/)
  assert.match(faultOf('10.0.0.7 (unknown) connects to 192.0.2.1 allowed'), /no ADDRESS:PORT/)
})

test('a client that nobody introduced is a fault, and so is one introduced twice', () => {
  assert.match(faultOf('10.0.0.7 asks api.example.com A'), /who is 10\.0\.0\.7\?/)
  assert.match(faultOf('  kernel 10.0.0.7 -> nothing'), /who is 10\.0\.0\.7\?/)
  const twice = `${TITLE}\nclient 10.0.0.7 (team=web)\n10.0.0.7 (team=db) asks a A\n`
  assert.throws(() => parseScenario(twice, 'a.scn'), /a\.scn:3: 10\.0\.0\.7 was introduced before/)
})

test('what a line is about stands above it: gets and flow are indented', () => {
  assert.match(faultOf('gets 192.0.2.10'), /indent 'gets'/)
  assert.match(faultOf('flow FORWARDED ANSWERED_FROM_CACHE'), /indent 'flow'/)
})

test('the first line is a sentence', () => {
  assert.throws(() => parseScenario('policy team=web may ask *\n', 'a.scn'), /a\.scn:1: the first/)
})

test('a question says how it is asked', () => {
  assert.deepEqual(question('aPi.example.com A'), {
    clients: ['10.0.0.7'],
    times: 1,
    name: 'aPi.example.com',
    type: 'A',
    class: 'IN',
    servers: [],
    isTcp: false,
    ednsBytes: 1232,
    isDnssecOk: false,
    isCheckingDisabled: false,
  })
  const { servers, isTcp, ednsBytes, isDnssecOk, isCheckingDisabled } = question(
    'example.com TXT of 192.0.2.99 over tcp without edns do cd',
  )
  assert.deepEqual(
    { servers, isTcp, ednsBytes, isDnssecOk, isCheckingDisabled },
    {
      servers: ['192.0.2.99'],
      isTcp: true,
      ednsBytes: null,
      isDnssecOk: true,
      isCheckingDisabled: true,
    },
  )
  const walk = ['192.0.2.9', '192.0.2.10', '192.0.2.11']
  assert.deepEqual(question('example.com A of 192.0.2.9 to 192.0.2.11').servers, walk)
  assert.match(faultOf('10.0.0.7 (a=b) asks a A of 192.0.2.9 to 192.0.2.8'), /the last byte/)
  assert.equal(question('version.bind CH TXT').class, 'CH')
  assert.equal(question('example.com ANY').type, 'ANY')
  assert.equal(question('3 times example.com A').times, 3)
})

test('policies are the YAML below them, or made of a line', () => {
  const text = [
    TITLE,
    'policy',
    '  kind: Other',
    '  spec:',
    '    a: 1',
    'policy team=web, tier=front may reach *.example.com on 443/tcp, 53/udp',
    '10.0.0.7 (unknown) asks a A',
    'policy changes to team=web may ask a',
    'policy changes to team=web may ask b',
    '1 s passes',
    'policy changes to nothing',
  ].join('\n')
  const { policies, steps } = parseScenario(text, 'a.scn')
  assert.equal(policies[0], 'kind: Other\nspec:\n  a: 1\n')
  const made = JSON.parse(policies[1]!) as {
    spec: { endpointSelector: unknown; egress: unknown[] }
  }
  assert.deepEqual(made.spec.endpointSelector, { matchLabels: { team: 'web', tier: 'front' } })
  assert.deepEqual(made.spec.egress[1], {
    toFQDNs: [{ matchPattern: '*.example.com' }],
    toPorts: [
      {
        ports: [
          { port: '443', protocol: 'TCP' },
          { port: '53', protocol: 'UDP' },
        ],
      },
    ],
  })
  const changes = steps.flatMap((step) => (step.kind === 'policy' ? [step.policies.length] : []))
  assert.deepEqual(changes, [2, 0])
})

test('the servers of a scenario are those it names anywhere', () => {
  const text = [
    TITLE,
    'servers 192.0.2.53, 192.0.2.54',
    'servers 192.0.2.55 for example.net',
    '10.0.0.7 (unknown) asks a A of 192.0.2.99',
    '  server 192.0.2.98 was asked a 0 times',
  ].join('\n')
  assert.deepEqual(serversOf(parseScenario(text, 'a.scn')).toSorted(), [
    '192.0.2.53',
    '192.0.2.54',
    '192.0.2.55',
    '192.0.2.98',
    '192.0.2.99',
  ])
})
