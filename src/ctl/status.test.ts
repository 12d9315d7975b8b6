import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StatusReport } from '../observe/status.ts'
import { NoAnswer } from './client.ts'
import { statusLines, summarize } from './status.ts'

const AGENT: StatusReport = {
  role: 'agent',
  node: 'worker-1',
  version: '0.1.0',
  pid: 41,
  uptimeSeconds: 7500,
  degraded: [],
  alive: { agent: 'alive', proxy: 'alive' },
  sockets: { generation: 1, addresses: ['169.254.20.10:53'], isShared: true },
  policy: {
    revision: 41,
    from: 'files',
    mode: 'enforce',
    policies: [
      {
        name: 'team-a/allow-example',
        kind: 'CiliumNetworkPolicy',
        file: 'p.yaml',
        state: 'enforced',
        clientCount: 1,
        faults: [],
      },
    ],
  },
  clients: {
    governed: ['team-a/web'],
    ungoverned: ['default/bystander'],
    ungovernable: [{ client: 'team-a/host', why: 'it has no interface of its own' }],
  },
  kernel: { state: 'same', detail: '', grantCount: 1200 },
  upstreams: [
    {
      zones: ['.'],
      isChosen: false,
      server: '192.0.2.53:53',
      transport: 'udp',
      state: 'well',
      roundTripMs: 1.24,
      queries: 1500,
      failures: 0,
    },
  ],
  cache: { entries: 900, bytes: 1 << 20, bytesMax: 1 << 25 },
  flows: { recorded: 12_000, lost: 0 },
  counters: {
    queries: 12_000,
    answersCached: 10_500,
    answersStale: 7,
    denied: 3,
    answersFailed: 0,
    clientLimit: 7,
  },
}
const PROXY: StatusReport = {
  ...AGENT,
  role: 'proxy',
  pid: 42,
  policy: { ...AGENT.policy, from: 'peer' },
}
const ABSENT = new NoAnswer('agent', 'agent (/run/a.sock): is not running', false)
const HANGING = new NoAnswer('agent', 'agent (/run/a.sock): it hangs', false)

test('when all is well the page says so, and shows both processes', () => {
  assert.deepEqual(statusLines(summarize([AGENT, PROXY], true)), [
    'worker-1: all is well',
    '',
    'PROCESS  STATE  PID    UP  POLICY  FROM   SOCKETS                                  KERNEL  VERSION',
    'agent    alive   41  2h5m      41  files  169.254.20.10:53 (shared, generation 1)  same    0.1.0',
    'proxy    alive   42  2h5m      41  peer   169.254.20.10:53 (shared, generation 1)  same    0.1.0',
    '',
    'PROCESS  QUERIES  CACHED  STALE  DENIED  FAILED  LIMITED  ANSWERS           CACHE  GRANTS   FLOWS  LOST',
    'agent     12,000  10,500      7       3       0        7      900  1.0MiB/32.0MiB   1,200  12,000     0',
    'proxy     12,000  10,500      7       3       0        7      900  1.0MiB/32.0MiB   1,200  12,000     0',
    '',
    'UPSTREAM       ZONES  BY   PROCESS  STATE  ROUND TRIP  ASKED  FAILED',
    '192.0.2.53:53  .      udp  agent    well        1.2ms  1,500       0',
    '192.0.2.53:53  .      udp  proxy    well        1.2ms  1,500       0',
    '',
    'POLICY                IN AGENT (enforce)  IN PROXY (enforce)',
    'team-a/allow-example  enforced            enforced',
    '',
    '1 governed client, 1 ungoverned (default/bystander)',
    '  NOT GOVERNED: team-a/host: it has no interface of its own',
  ])
})

test('servers of clients’ choice are counted, not listed', () => {
  const server = AGENT.upstreams[0]!
  const upstreams = [server, { ...server, zones: [], isChosen: true, server: '192.0.2.99:53' }]
  const agent = { ...AGENT, upstreams, counters: { ...AGENT.counters, serversGaveWay: 1300 } }
  const lines = statusLines(summarize([agent], false))
  assert.equal(lines.filter((line) => line.includes('192.0.2.')).length, 1)
  assert(lines.includes("agent: 1 server of clients' choice, 1,300 gave way to others, 0 refused"))
})

test('what is wrong comes first, with a code for alerts', () => {
  const reason = { code: 'kernel-differs', message: 'the ruleset was changed by somebody else' }
  const output = summarize([HANGING, { ...PROXY, degraded: [reason] }], true)
  assert.deepEqual(output.degraded, [
    { process: 'agent', code: 'silent', message: 'agent (/run/a.sock): it hangs' },
    { process: 'proxy', ...reason },
  ])
  assert.deepEqual(statusLines(output).slice(0, 3), [
    'worker-1: DEGRADED',
    '  agent (/run/a.sock): it hangs [silent]',
    '  proxy: the ruleset was changed by somebody else [kernel-differs]',
  ])
})

test('one process is enough for a cache, and too few where clients are governed', () => {
  assert.deepEqual(summarize([ABSENT, PROXY], false).degraded, [])
  assert.equal(summarize([ABSENT, PROXY], true).degraded[0]?.code, 'absent')
  assert.equal(summarize([HANGING, PROXY], false).degraded[0]?.code, 'silent')
})
