import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ConnectionFlow, QuestionFlow } from '../flow/decode.ts'
import { compactLines, stampMilli } from './compact.ts'
import { type Directory, flowRow } from './flow-row.ts'

const DIRECTORY: Directory = {
  endpoint: (address) => {
    if (address === '10.0.0.7' || address === '2001:db8::7') {
      return { namespace: 'default', name: 'web', identity: 27541 }
    }
    if (address === '10.96.0.10') {
      return { namespace: 'kube-system', name: 'kube-dns', identity: 22342 }
    }
    if (address === '10.0.0.1') return { namespace: '', name: 'worker-1', identity: 1 }
    return null
  },
  names: async () => () => [],
}

const COMMON = {
  timeMs: Date.UTC(2026, 8, 1, 2, 36, 13, 439),
  verdict: 'FORWARDED',
  source: { address: '10.0.0.7', port: 34034 },
  interfaceIndex: 7,
} as const

const QUESTION: QuestionFlow = {
  ...COMMON,
  type: 'question',
  reason: 'ANSWERED_BY_UPSTREAM',
  protocol: 'udp',
  destination: { address: '10.96.0.10', port: 53 },
  name: 'support.example.com.',
  qtype: 'A',
  qclass: 1,
  opcode: 'QUERY',
  durationUs: 8000,
  isCached: false,
  isStale: false,
  isShared: false,
  answer: {
    rcode: 0,
    addresses: ['192.0.2.133', '192.0.2.134'],
    cnames: ['map.example.net.'],
    types: ['CNAME', 'A', 'A'],
    ttlSeconds: 300,
    isCut: false,
  },
}

const NOTHING = { rcode: 0, addresses: [], cnames: [], types: [], ttlSeconds: null, isCut: false }

const CONNECTION: ConnectionFlow = {
  ...COMMON,
  type: 'connection',
  verdict: 'DROPPED',
  reason: 'NO_GRANT',
  protocol: 'tcp',
  destination: { address: '192.0.2.1', port: 443 },
  tcpFlags: ['SYN'],
}

function lines(flow: QuestionFlow | ConnectionFlow): string[] {
  const isKnown = flow.destination.address === '192.0.2.99'
  const names = isKnown ? ['www.example.com', 'example.com'] : []
  return compactLines(flowRow(flow, names, DIRECTORY, 'worker-1'))
}

const CLIENT = 'default/web:34034 (ID:27541)'
const DNS = 'kube-system/kube-dns:53 (ID:22342)'

test('a question and its answer are two lines, at the times of each', () => {
  assert.deepEqual(lines(QUESTION), [
    `Sep  1 02:36:13.431: ${CLIENT} -> ${DNS} dns-request proxy FORWARDED (DNS Query support.example.com. A)`,
    `Sep  1 02:36:13.439: ${CLIENT} <- ${DNS} dns-response proxy FORWARDED (DNS Answer "192.0.2.133,192.0.2.134" CNAMEs: "map.example.net." TTL: 300 (Proxy support.example.com. A))`,
  ])
})

test('an empty answer has two spaces where the addresses would be, and the largest TTL', () => {
  assert.equal(
    lines({ ...QUESTION, qtype: 'AAAA', answer: NOTHING })[1],
    `Sep  1 02:36:13.439: ${CLIENT} <- ${DNS} dns-response proxy FORWARDED (DNS Answer  TTL: 4294967295 (Proxy support.example.com. AAAA))`,
  )
})

test('a name that does not exist, and a refusal by an upstream, are answers with an rcode', () => {
  const nxdomain = { ...NOTHING, rcode: 3 }
  assert.equal(
    lines({ ...QUESTION, name: 'api.example.com.default.svc.cluster.local.', answer: nxdomain })[1],
    `Sep  1 02:36:13.439: ${CLIENT} <- ${DNS} dns-response proxy FORWARDED (DNS Answer RCode: Non-Existent Domain TTL: 4294967295 (Proxy api.example.com.default.svc.cluster.local. A))`,
  )
  assert.match(
    lines({ ...QUESTION, answer: { ...NOTHING, rcode: 5 } })[1]!,
    /dns-response proxy FORWARDED \(DNS Answer RCode: Query Refused TTL: 4294967295 \(Proxy/,
  )
})

test('a message of another opcode is told by its opcode', () => {
  const notify = { opcode: 'NOTIFY', qtype: 'SOA', name: 'example.com.', reason: 'RELAYED' }
  assert.deepEqual(
    lines({ ...QUESTION, ...notify, answer: NOTHING }).map((line) =>
      line.replace(/^.* (dns-)/, '$1'),
    ),
    [
      'dns-request proxy FORWARDED (DNS NOTIFY example.com. SOA)',
      'dns-response proxy FORWARDED (DNS Answer  TTL: 4294967295 (Proxy example.com. SOA))',
    ],
  )
})

test('a denied question is one line, and its REFUSED is none', () => {
  const denied = { verdict: 'DROPPED', reason: 'POLICY_DENIED_NAME', durationUs: 0 } as const
  assert.deepEqual(lines({ ...QUESTION, ...denied, answer: { ...NOTHING, rcode: 5 } }), [
    `Sep  1 02:36:13.439: ${CLIENT} -> ${DNS} dns-request proxy DROPPED (DNS Query support.example.com. A)`,
  ])
})

test('a question that only audit mode let pass is marked, its answer is not', () => {
  const [request, response] = lines({ ...QUESTION, verdict: 'AUDIT', reason: 'POLICY_DENIED_NAME' })
  assert.match(request!, /dns-request proxy AUDIT \(DNS Query support\.example\.com\. A\)$/)
  assert.match(response!, /dns-response proxy FORWARDED \(/)
})

test('an upstream that fails is an error in the answer; a full table is one in the question', () => {
  const failed = { ...NOTHING, rcode: 2 }
  const timeout = { verdict: 'ERROR', reason: 'UPSTREAM_TIMEOUT', answer: failed } as const
  assert.deepEqual(
    lines({ ...QUESTION, ...timeout }).map((line) => line.replace(/^.* (dns-)/, '$1')),
    [
      'dns-request proxy FORWARDED (DNS Query support.example.com. A)',
      'dns-response proxy ERROR (DNS Answer RCode: Server Failure TTL: 4294967295 (Proxy support.example.com. A))',
    ],
  )
  const full = { verdict: 'ERROR', reason: 'SLOTS_FULL', answer: failed } as const
  assert.deepEqual(
    lines({ ...QUESTION, ...full }).map((line) => line.replace(/^.* (dns-)/, '$1')),
    ['dns-request proxy ERROR (DNS Query support.example.com. A)'],
  )
})

test('a dropped connection is the verdict and the drop, to an address outside', () => {
  assert.deepEqual(lines({ ...CONNECTION, timeMs: Date.UTC(2026, 8, 1, 2, 36, 16, 250) }), [
    `Sep  1 02:36:16.250: ${CLIENT} <> 192.0.2.1:443 (world) policy-verdict:none EGRESS DENIED (TCP Flags: SYN)`,
    `Sep  1 02:36:16.250: ${CLIENT} <> 192.0.2.1:443 (world) Policy denied DROPPED (TCP Flags: SYN)`,
  ])
})

test('an allowed connection is one line', () => {
  const allowed = {
    verdict: 'FORWARDED',
    reason: 'CONNECTION_ALLOWED',
    protocol: 'udp',
    tcpFlags: [],
    destination: { address: '10.96.0.10', port: 53 },
  } as const
  assert.deepEqual(lines({ ...CONNECTION, ...allowed }), [
    `Sep  1 02:36:13.439: ${CLIENT} -> ${DNS} policy-verdict:L3-L4 EGRESS ALLOWED (UDP)`,
  ])
})

test('parties are named by pod, else by the names looked up, else by address', () => {
  const to = (address: string, port = 443) =>
    lines({ ...CONNECTION, destination: { address, port } })[0]!.replace(
      /^.*<> (.*) policy.*$/,
      '$1',
    )
  assert.equal(to('192.0.2.99'), 'www.example.com,example.com:443 (world)')
  assert.equal(to('2001:db8:1::1'), '[2001:db8:1::1]:443 (world)')
  assert.equal(to('2001:db8:1::1', 0), '2001:db8:1::1 (world)')
  assert.equal(to('10.0.0.1'), 'worker-1:443 (host)')
})

test('a name cannot send escape sequences to the terminal', () => {
  const evil: Directory = {
    ...DIRECTORY,
    endpoint: () => ({ namespace: 'a', name: 'b\u001b[2J\rc', identity: 300 }),
  }
  const [line] = compactLines(flowRow(CONNECTION, [], evil, 'n'))
  assert.ok(line!.includes('a/b^[[2J\\rc:34034 (ID:300)'))
})

test('days below ten are padded with a space, times are UTC', () => {
  assert.equal(stampMilli(Date.UTC(2026, 0, 9, 0, 0, 0, 5)), 'Jan  9 00:00:00.005')
  assert.equal(stampMilli(Date.UTC(2026, 11, 31, 23, 59, 59, 999)), 'Dec 31 23:59:59.999')
})
