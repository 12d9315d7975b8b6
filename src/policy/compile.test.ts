import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseAddress } from '../identity/address.ts'
import { isCovered, parsePrefix } from '../identity/prefix.ts'
import { compileSnapshot } from './compile.ts'
import { wireName } from './pattern.ts'
import type { PolicyDocument } from './rule.ts'
import type { PortSet, Snapshot, Subject } from './snapshot.ts'
import { scanName } from './scanned-name.ts'
import { readClients } from './sources/clients.ts'
import { readPolicies } from './sources/policies.ts'
import { NO_STAND_INS } from './stand-ins.ts'
import { PolicyTable } from './table.ts'
import { encodeTable } from './table-encode.ts'
import {
  QUESTION_ALLOWED,
  QUESTION_DENIED_FAULTY,
  QUESTION_DENIED_NAME,
  QUESTION_DENIED_SERVER,
} from './verdict.ts'

const CLIENTS = `
- {name: web, namespace: team-a, labels: {app: web}, addresses: [10.0.0.7, "2001:db8::7"]}
- {name: db, namespace: team-a, labels: {app: db}, addresses: [10.0.0.8]}
- {name: web, namespace: team-b, labels: {app: web}, addresses: [10.0.0.9]}
`
/** kube-dns as kubectl prints it: two pods, a Service, no EndpointSlice. */
const DNS_PODS = ['10.0.0.53', '10.0.0.54']
  .map(
    (address, index) => `---
kind: Pod
metadata: {name: coredns-${index}, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {containers: [{ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53, protocol: TCP}]}]}
status: {phase: Running, podIPs: [{ip: ${address}}]}
`,
  )
  .join('')
const DNS_SERVICE = `---
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIPs: [10.96.0.10]
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 53}, {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}]
`

/** A policy of team-a with this name for the pods with this app label. */
function policy(name: string, app: string, spec: string): string {
  return `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ${name}, namespace: team-a}
spec:
  endpointSelector: {matchLabels: {app: ${app}}}
${spec}`
}

const TO_DNS =
  'toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]'
const ASK_ALL = `    - ${TO_DNS}
      toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]
`
const GOOGLE = `    - toFQDNs: [{matchName: google.com}, {matchPattern: "*.google.com"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}, {port: "80", protocol: TCP}]}]
`

interface Parts {
  readonly policies?: string
  readonly clients?: string
  readonly former?: readonly PortSet[]
  readonly nodeAddresses?: readonly string[]
  /** Absent: every pod is of this node. */
  readonly node?: string
  readonly documents?: readonly PolicyDocument[]
}

function compile(parts: Parts): Snapshot {
  const { inventory, faults } = readClients(
    parts.clients ?? CLIENTS + DNS_PODS + DNS_SERVICE,
    'clients.yaml',
    parts.node ?? null,
  )
  assert.deepEqual(faults, [])
  return compileSnapshot({
    inventory,
    policies: parts.documents ?? readPolicies([{ file: 'p.yaml', text: parts.policies ?? '' }], []),
    nodeAddresses: parts.nodeAddresses ?? [],
    formerPortSets: parts.former ?? [],
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
  })
}

/** The subject of team-a/web, which has to be governed. */
function subjectOfWeb(snapshot: Snapshot): Subject {
  const client = snapshot.clients.find(
    ({ namespace, name }) => namespace === 'team-a' && name === 'web',
  )
  const subject = snapshot.subjects[client!.subject]
  assert.ok(subject !== undefined, 'team-a/web is governed')
  return subject
}

function governed(snapshot: Snapshot): string[] {
  return snapshot.clients
    .filter(({ subject }) => subject >= 0)
    .map(({ namespace, name }) => `${namespace}/${name}`)
}

/** What team-a/web is told when it asks this. */
function ask(snapshot: Snapshot, name: string, server: string, port = 53, protocol = 17): number {
  const table = new PolicyTable()
  table.open(encodeTable(snapshot, { standIns: NO_STAND_INS, interfaceIndexes: new Map() }))
  const wire = wireName(name)!
  const client = table.findClient(4, parseAddress('10.0.0.7')!, 0)
  const bytes = parseAddress(server)!
  return table.decideQuestion(
    client,
    scanName(wire),
    bytes.length === 4 ? 4 : 6,
    bytes,
    0,
    port,
    protocol,
  )
}

/** Whether the destination rules of team-a/web open this, deny before allow. */
function opens(snapshot: Snapshot, address: string, port: number): boolean {
  const bytes = parseAddress(address)!
  const covers = (texts: readonly string[]) =>
    isCovered(
      bytes,
      texts.map((text) => parsePrefix(text)!),
    )
  const about = subjectOfWeb(snapshot).destinations.filter(
    ({ prefixes, except, ports }) =>
      covers(prefixes) &&
      !covers(except) &&
      (ports.length === 0 || ports.some(({ first, last }) => first <= port && port <= last)),
  )
  return about.length > 0 && about.every(({ verdict }) => verdict === 'allow')
}

test('the story: lookups by the cluster DNS, connections to google.com only', () => {
  const snapshot = compile({
    policies: policy('allow-google', 'web', `  egress:\n${ASK_ALL}${GOOGLE}`),
  })
  assert.deepEqual(governed(snapshot), ['team-a/web'])
  const subject = subjectOfWeb(snapshot)
  assert.deepEqual(subject.policies, ['team-a/allow-google'])
  assert.equal(subject.isFaulty, false)
  assert.deepEqual(subject.names, [
    { policy: 'team-a/allow-google', pattern: { kind: 'name', text: 'google.com' }, portSet: 1 },
    {
      policy: 'team-a/allow-google',
      pattern: { kind: 'pattern', text: '*.google.com' },
      portSet: 1,
    },
  ])
  assert.deepEqual(
    snapshot.portSets.map(({ number, ports }) => ({ number, ports })),
    [
      {
        number: 1,
        ports: [
          { protocol: 'tcp', first: 80, last: 80 },
          { protocol: 'tcp', first: 443, last: 443 },
        ],
      },
    ],
  )
  assert.deepEqual(subject.destinations, [], 'rules.dns opens no connection')
  for (const server of ['10.96.0.10', '10.0.0.53', '10.0.0.54']) {
    assert.equal(ask(snapshot, 'bbc.co.uk', server), QUESTION_ALLOWED, server)
    assert.equal(ask(snapshot, 'bbc.co.uk', server, 53, 6), QUESTION_ALLOWED, server)
  }
  assert.equal(ask(snapshot, 'bbc.co.uk', '192.0.2.53'), QUESTION_DENIED_SERVER)
  assert.equal(ask(snapshot, 'bbc.co.uk', '10.96.0.10', 5353), QUESTION_DENIED_SERVER)
  assert.deepEqual(
    snapshot.policies.map(({ name, clientCount, faults }) => [name, clientCount, faults.length]),
    [['team-a/allow-google', 1, 0]],
  )
})

test('a client that no policy selects is ungoverned, and one that any selects is not', () => {
  assert.deepEqual(governed(compile({})), [])
  const deny = policy('deny', 'db', '  egress: [{}]\n')
  const snapshot = compile({ policies: deny + policy('all', 'web', '  egress: [{}]\n') })
  assert.deepEqual(governed(snapshot), ['team-a/db', 'team-a/web'])
  const subject = subjectOfWeb(snapshot)
  assert.deepEqual([subject.questions, subject.names, subject.destinations], [[], [], []])
})

test('rules of several policies add up, and clients under the same ones share a subject', () => {
  const all =
    policy('a', 'web', `  egress:\n${ASK_ALL}`) + policy('b', 'web', `  egress:\n${GOOGLE}`)
  const clients = `${CLIENTS}- {name: web-2, namespace: team-a, labels: {app: web}, addresses: [10.0.0.17]}\n${DNS_PODS}${DNS_SERVICE}`
  const snapshot = compile({ policies: all, clients })
  assert.equal(snapshot.subjects.length, 1)
  const subject = subjectOfWeb(snapshot)
  assert.deepEqual(subject.policies, ['team-a/a', 'team-a/b'])
  assert.equal(subject.names.length, 2)
  assert.equal(ask(snapshot, 'bbc.co.uk', '10.96.0.10'), QUESTION_ALLOWED)
  assert.match(subject.id, /^[0-9a-f]{12}$/)
  assert.match(snapshot.portSets[0]!.id, /^[0-9a-f]{8}$/)
})

test('without default deny a client stays ungoverned; its deny rules then close only what they name', () => {
  const off = '  enableDefaultDeny: {egress: false}\n'
  assert.deepEqual(
    governed(compile({ policies: policy('a', 'web', `${off}  egress:\n${ASK_ALL}`) })),
    [],
  )
  const snapshot = compile({
    policies: policy('a', 'web', `${off}  egressDeny: [{toCIDR: [192.0.2.0/24]}]\n`),
  })
  assert.equal(opens(snapshot, '198.51.100.1', 80), true)
  assert.equal(opens(snapshot, '10.0.0.8', 80), true)
  assert.equal(opens(snapshot, '192.0.2.1', 80), false)
  assert.equal(ask(snapshot, 'example.com', '10.96.0.10'), QUESTION_ALLOWED)
  assert.equal(ask(snapshot, 'example.com', '192.0.2.53'), QUESTION_DENIED_SERVER)
  const both = compile({
    policies:
      policy('a', 'web', `${off}  egressDeny: [{toCIDR: [192.0.2.0/24]}]\n`) +
      policy('b', 'web', '  egress: [{}]\n'),
  })
  assert.equal(opens(both, '198.51.100.1', 80), false)
})

test('a deny rule wins over every rule that allows', () => {
  const snapshot = compile({
    policies: policy(
      'a',
      'web',
      '  egress: [{toCIDR: [192.0.2.0/24]}]\n  egressDeny: [{toCIDR: [192.0.2.128/25], toPorts: [{ports: [{port: "53"}]}]}]\n',
    ),
  })
  assert.equal(opens(snapshot, '192.0.2.129', 53), false)
  assert.equal(opens(snapshot, '192.0.2.129', 80), true)
  assert.equal(ask(snapshot, 'example.com', '192.0.2.1'), QUESTION_ALLOWED)
  assert.equal(ask(snapshot, 'example.com', '192.0.2.129'), QUESTION_DENIED_SERVER)
})

test('port 53 without rules.dns lets every name be asked, and other ports none', () => {
  const rule = (ports: string) =>
    compile({ policies: policy('a', 'web', `  egress: [{toCIDR: [192.0.2.53/32]${ports}}]\n`) })
  assert.equal(ask(rule(''), 'x.example.com', '192.0.2.53'), QUESTION_ALLOWED)
  assert.equal(
    ask(rule(', toPorts: [{ports: [{port: "50", endPort: 60}]}]'), 'x.example.com', '192.0.2.53'),
    QUESTION_ALLOWED,
  )
  assert.equal(
    ask(rule(', toPorts: [{ports: [{port: "80"}]}]'), 'x.example.com', '192.0.2.53'),
    QUESTION_DENIED_SERVER,
  )
  assert.equal(opens(rule(''), '192.0.2.53', 80), true)
})

test('names of the same server add up, and one rule without names lifts them', () => {
  const names = (list: string) =>
    `    - ${TO_DNS}\n      toPorts: [{ports: [{port: "53"}], rules: {dns: [${list}]}}]\n`
  const two = names('{matchName: a.example.com}') + names('{matchPattern: "*.example.org"}')
  const snapshot = compile({ policies: policy('a', 'web', `  egress:\n${two}`) })
  assert.equal(ask(snapshot, 'a.example.com', '10.96.0.10'), QUESTION_ALLOWED)
  assert.equal(ask(snapshot, 'b.example.org', '10.96.0.10'), QUESTION_ALLOWED)
  assert.equal(ask(snapshot, 'b.example.com', '10.96.0.10'), QUESTION_DENIED_NAME)
  const lifted = compile({ policies: policy('a', 'web', `  egress:\n${two}    - ${TO_DNS}\n`) })
  assert.equal(ask(lifted, 'b.example.com', '10.96.0.10'), QUESTION_ALLOWED)
})

test('Services and pods of other nodes are known by their addresses, and are no clients', () => {
  const elsewhere = DNS_PODS.replaceAll('spec: {', 'spec: {nodeName: worker-2, ')
  const headless = DNS_SERVICE.replace('kube-dns', 'headless').replace('10.96.0.10', 'None')
  const both = DNS_SERVICE.replace('[10.96.0.10]', '["2001:db8:96::a", 10.96.0.10]')
  const clients = CLIENTS + elsewhere + headless + both
  const snapshot = compile({ clients, node: 'worker-1' })
  assert.deepEqual(
    snapshot.clients.map(({ name }) => name),
    ['db', 'web', 'web'],
  )
  const namespace = 'kube-system'
  assert.deepEqual(snapshot.places, [
    { namespace, name: 'coredns-0', addresses: ['10.0.0.53'] },
    { namespace, name: 'coredns-1', addresses: ['10.0.0.54'] },
    {
      namespace,
      name: 'kube-dns',
      addresses: ['10.96.0.10', '2001:db8:96::a'],
      dns: [
        { address: '10.0.0.53', port: 53 },
        { address: '10.0.0.54', port: 53 },
      ],
    },
  ])
  assert.deepEqual(compile({ clients: CLIENTS }).places, [])
})

test('a ClusterIP is covered only when every backend behind it is', () => {
  const policies = policy('a', 'web', `  egress:\n${ASK_ALL}`)
  const slice = (...addresses: string[]) => `---
kind: EndpointSlice
metadata: {name: s, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [${addresses.map((address) => `{addresses: [${address}]}`).join(', ')}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
`
  const unselected = DNS_SERVICE.replace('  selector: {k8s-app: kube-dns}\n', '')
  const at = (clients: string) =>
    ask(compile({ policies, clients: CLIENTS + clients }), 'example.com', '10.96.0.10')
  assert.equal(at(DNS_PODS + unselected + slice('10.0.0.53', '10.0.0.54')), QUESTION_ALLOWED)
  assert.equal(at(DNS_PODS + unselected + slice('10.0.0.53', '10.0.0.8')), QUESTION_DENIED_SERVER)
  assert.equal(
    at(DNS_PODS + unselected + slice('10.0.0.53', '10.0.0.99')),
    QUESTION_DENIED_SERVER,
    'nobody knows 10.0.0.99',
  )
  assert.equal(at(DNS_PODS + unselected), QUESTION_DENIED_SERVER)
  assert.equal(
    at(DNS_SERVICE),
    QUESTION_ALLOWED,
    'the Service asks its pods for the labels that the rule asks for',
  )
  assert.equal(at(DNS_SERVICE + slice('10.0.0.99')), QUESTION_ALLOWED)
  assert.equal(
    at(DNS_SERVICE.replace('{k8s-app: kube-dns}', '{app: other}')),
    QUESTION_DENIED_SERVER,
  )
})

test('a rule about the backend port is about the port of the Service', () => {
  const on = (port: string) =>
    policy(
      'a',
      'web',
      `  egress:\n    - ${TO_DNS}\n      toPorts: [{ports: [{port: ${port}}], rules: {dns: [{matchName: example.com}]}}]\n`,
    )
  const clients =
    CLIENTS +
    DNS_PODS.replaceAll('containerPort: 53', 'containerPort: 5353') +
    DNS_SERVICE.replaceAll('targetPort: 53', 'targetPort: 5353')
  const at = (port: string) =>
    ask(compile({ policies: on(port), clients }), 'example.com', '10.96.0.10')
  assert.equal(at('"5353"'), QUESTION_ALLOWED)
  assert.equal(at('"53"'), QUESTION_DENIED_SERVER)
  assert.equal(at('dns'), QUESTION_ALLOWED)
  assert.equal(
    ask(compile({ policies: on('dns'), clients }), 'example.com', '10.96.0.10', 53, 6),
    QUESTION_DENIED_SERVER,
    'dns is the UDP port',
  )
})

test('a named port that no selected endpoint has is a fault, and closes', () => {
  const policies = policy(
    'a',
    'web',
    `  egress:\n    - ${TO_DNS}\n      toPorts: [{ports: [{port: dnss, protocol: UDP}]}]\n`,
  )
  const snapshot = compile({ policies })
  assert.deepEqual(snapshot.policies[0]?.faults, [
    {
      file: 'p.yaml',
      line: 9,
      column: 33,
      field: 'spec.egress[0].toPorts[0].ports[0].port',
      message: "no endpoint that this rule selects has a port named 'dnss'; write the number",
    },
  ])
  assert.equal(subjectOfWeb(snapshot).isFaulty, true)
  assert.deepEqual(
    compile({ policies, clients: CLIENTS }).policies[0]?.faults,
    [],
    'the pods may come later',
  )
})

test('a network rule is never about endpoints, nor about a ClusterIP for its own sake', () => {
  const to = (rule: string) => compile({ policies: policy('a', 'web', `  egress: [{${rule}}]\n`) })
  const network = to('toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]')
  assert.equal(opens(network, '10.2.0.1', 80), true)
  assert.equal(opens(network, '10.1.0.1', 80), false)
  assert.equal(opens(network, '10.0.0.8', 80), false)
  assert.equal(ask(network, 'example.com', '10.2.0.1'), QUESTION_ALLOWED)
  assert.equal(ask(network, 'example.com', '10.96.0.10'), QUESTION_DENIED_SERVER)
  assert.equal(ask(network, 'example.com', '10.0.0.53'), QUESTION_DENIED_SERVER)
  assert.deepEqual(subjectOfWeb(to('toCIDR: [10.0.0.8/32]')).destinations, [])
  const everything = to('toEntities: [all]')
  assert.equal(ask(everything, 'example.com', '10.96.0.10'), QUESTION_ALLOWED)
  assert.equal(opens(everything, '10.0.0.8', 80), true)
  const external = compile({
    policies: policy('a', 'web', '  egress: [{toCIDR: [192.0.2.0/24]}]\n'),
    clients: `${CLIENTS}${DNS_SERVICE.replace('  selector: {k8s-app: kube-dns}\n', '')}---
kind: EndpointSlice
metadata: {name: s, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.53]}]
ports: [{name: dns, port: 53, protocol: UDP}]
`,
  })
  assert.equal(
    ask(external, 'example.com', '10.96.0.10'),
    QUESTION_ALLOWED,
    'its backend is outside',
  )
})

test('the world is every address but those of endpoints, Services and this node', () => {
  const policies = policy('a', 'web', '  egress: [{toEntities: [world]}]\n')
  const snapshot = compile({
    policies,
    nodeAddresses: ['192.0.2.77', '169.254.20.10', '2001:db8::77'],
  })
  assert.equal(opens(snapshot, '198.51.100.1', 80), true)
  assert.equal(opens(snapshot, '2001:db8::1', 80), true)
  for (const address of ['10.0.0.8', '192.0.2.77', '2001:db8::77', '2001:db8::7'])
    assert.equal(opens(snapshot, address, 80), false, address)
  assert.equal(ask(snapshot, 'example.com', '198.51.100.53'), QUESTION_ALLOWED)
  for (const server of ['10.96.0.10', '10.0.0.53', '169.254.20.10'])
    assert.equal(ask(snapshot, 'example.com', server), QUESTION_DENIED_SERVER, server)
})

test('a deny rule covers a ClusterIP as soon as it covers one backend', () => {
  const deny = `  egressDeny: [{toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, one: "1"}}]}]\n`
  const clients =
    CLIENTS + DNS_PODS.replace('k8s-app: kube-dns', 'k8s-app: kube-dns, one: "1"') + DNS_SERVICE
  const snapshot = compile({
    policies: policy('a', 'web', `${deny}  egress:\n${ASK_ALL}`),
    clients,
  })
  assert.equal(ask(snapshot, 'example.com', '10.96.0.10'), QUESTION_DENIED_SERVER)
  assert.equal(ask(snapshot, 'example.com', '10.0.0.53'), QUESTION_DENIED_SERVER)
  assert.equal(ask(snapshot, 'example.com', '10.0.0.54'), QUESTION_ALLOWED)
})

test('a policy with a fault closes whom it selects; names may be asked as the good policies say', () => {
  const good = policy(
    'good',
    'web',
    `  egress:\n${ASK_ALL.replace('"*"', '"*.example.com"')}${GOOGLE}    - toCIDR: [192.0.2.0/24]\n`,
  )
  const bad = policy('bad', 'web', '  egress: [{toFQDNs: [{matchName: "*"}]}]\n')
  const snapshot = compile({ policies: good + bad })
  const subject = subjectOfWeb(snapshot)
  assert.equal(subject.isFaulty, true)
  assert.deepEqual([subject.names, subject.destinations], [[], []])
  assert.equal(ask(snapshot, 'a.example.com', '10.96.0.10'), QUESTION_ALLOWED)
  assert.equal(ask(snapshot, 'bbc.co.uk', '10.96.0.10'), QUESTION_DENIED_FAULTY)
  const alone = compile({ policies: bad })
  assert.deepEqual(governed(alone), ['team-a/web'])
  assert.deepEqual(
    alone.policies.map(({ name, clientCount, faults }) => [name, clientCount, faults.length]),
    [['team-a/bad', 1, 1]],
  )
})

test('a policy whose selector cannot be read closes nothing and is reported', () => {
  const snapshot = compile({
    policies: policy('bad', 'web', '  egress: [{}]\n').replace('matchLabels', 'matchLabel'),
  })
  assert.deepEqual(governed(snapshot), [])
  assert.equal(snapshot.policies[0]?.faults.length, 1)
})

test('a rule without any port opens nothing and lets nothing be asked', () => {
  const text = policy('a', 'web', `  egress:\n${RULES.join('')}`)
  const documents = readPolicies([{ file: 'p.yaml', text }], []).map((document) => ({
    ...document,
    rules: document.rules.map((rule) => ({
      ...rule,
      egress: rule.egress.map((egress) => ({ ...egress, ports: [] })),
    })),
  }))
  const subject = subjectOfWeb(compile({ documents }))
  assert.deepEqual([subject.questions, subject.names, subject.destinations], [[], [], []])
})

test('a port set keeps its number and id for as long as anybody knows it', () => {
  const on = (port: number) =>
    `    - toFQDNs: [{matchName: a.example.com}]\n      toPorts: [{ports: [{port: "${port}"}]}]\n`
  const first = compile({ policies: policy('a', 'web', `  egress:\n${on(80)}${on(443)}`) })
  assert.deepEqual(
    first.portSets.map(({ number }) => number),
    [1, 2],
  )
  const second = compile({
    policies: policy('a', 'web', `  egress:\n${on(8080)}${on(443)}`),
    former: first.portSets,
  })
  const kept = first.portSets.find(({ ports }) => ports[0]?.first === 443)!
  assert.deepEqual(second.portSets, [kept, second.portSets[1]])
  assert.equal(
    second.portSets[1]?.number,
    3,
    'the number of a set that is gone may still stand in the kernel',
  )
})

test('more sets of ports than there are numbers make their policies faulty', () => {
  const former = Array.from(
    { length: 4095 },
    (_, index): PortSet => ({
      number: index + 1,
      id: String(index).padStart(8, '0'),
      ports: [{ protocol: 'tcp', first: index + 1, last: index + 1 }],
    }),
  )
  const snapshot = compile({ policies: policy('a', 'web', `  egress:\n${GOOGLE}`), former })
  assert.equal(subjectOfWeb(snapshot).isFaulty, true)
  assert.deepEqual(
    snapshot.policies[0]?.faults.map(({ message }) => message),
    ['all 4095 sets of ports are taken; use the same ports in more rules'],
  )
})

test('a snapshot is plain JSON', () => {
  const snapshot = compile({ policies: policy('a', 'web', `  egress:\n${ASK_ALL}${GOOGLE}`) })
  assert.deepEqual(JSON.parse(JSON.stringify(snapshot)), snapshot)
})

const RULES = [
  ASK_ALL,
  GOOGLE,
  '    - {}\n',
  '    - toCIDR: [192.0.2.0/24, 10.0.0.0/8]\n',
  '    - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/16]}]\n      toPorts: [{ports: [{port: "53"}]}]\n',
  `    - ${TO_DNS}\n      toPorts: [{ports: [{port: dns}, {port: "80"}]}]\n`,
  '    - toEndpoints: [{}]\n',
  '    - toEndpoints: [{matchLabels: {app: db}}]\n      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]\n',
  '    - toEntities: [world]\n      toPorts: [{ports: [{port: "443"}]}]\n',
  '    - toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.example.com}, {}]}}]\n',
  '    - toFQDNs: [{matchPattern: "**.example.com"}, {}]\n',
]
const rules = fc.subarray(RULES, { minLength: 1 })

test('the same inputs give the same snapshot in whatever order they are read', () => {
  const objects = (DNS_PODS + DNS_SERVICE).split('---').slice(1)
  // Another Service for the same pods, and another pod whose dns is another port.
  objects.push(objects[2]!.replace('name: kube-dns,', 'name: more-dns,').replace('.0.10', '.0.11'))
  objects.push(
    objects[0]!
      .replace('coredns-0', 'coredns-2')
      .replace('10.0.0.53', '10.0.0.55')
      .replaceAll('containerPort: 53', 'containerPort: 5353'),
  )
  const policyTexts = fc
    .array(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'd'),
        app: fc.constantFrom('web', 'db'),
        rules,
        isBroken: fc.boolean(),
      }),
      { maxLength: 5 },
    )
    .map((all) =>
      all.map(({ name, app, rules: own, isBroken }, index) => ({
        file: `${index}.yaml`,
        text: policy(
          name,
          app,
          `  egress:\n${own.join('')}${isBroken ? '    - toFQDN: []\n' : ''}`,
        ),
      })),
    )
  fc.assert(
    fc.property(
      policyTexts.chain((files) =>
        fc.tuple(fc.constant(files), fc.shuffledSubarray(files, { minLength: files.length })),
      ),
      fc.shuffledSubarray(CLIENTS.trim().split('\n'), { minLength: 3 }),
      fc.shuffledSubarray(objects, { minLength: objects.length }),
      ([files, shuffled], lines, others) => {
        const clients = (entries: readonly string[], rest: readonly string[]) =>
          `${entries.join('\n')}\n${rest.map((text) => `---${text}`).join('')}`
        const one = compile({
          documents: readPolicies(files, []),
          clients: clients(CLIENTS.trim().split('\n'), objects),
        })
        const other = compile({
          documents: readPolicies(shuffled, []).toReversed(),
          clients: clients(lines, others),
        })
        assert.equal(JSON.stringify(other), JSON.stringify(one))
      },
    ),
    { numRuns: 60 },
  )
})

/** Every list in a policy, made empty one after the other, but for the list of exceptions. */
function emptied(text: string): string[] {
  const lists = [...text.matchAll(/(?<!except: )\[[^[\]]*\]/g)]
  return lists.map(
    ({ index, 0: list }) => `${text.slice(0, index)}[]${text.slice(index + list.length)}`,
  )
}

test('making a list empty never allows more', () => {
  const names = ['a.example.com', 'google.com', 'www.google.com', 'bbc.co.uk', '.']
  const servers = ['10.96.0.10', '10.0.0.53', '192.0.2.1', '10.0.0.8', '10.97.0.1']
  const allowed = (snapshot: Snapshot) => {
    const subject = subjectOfWeb(snapshot)
    const questions = names.flatMap((name) =>
      servers
        .filter((server) => ask(snapshot, name, server) === QUESTION_ALLOWED)
        .map((server) => `${name}@${server}`),
    )
    const open = servers.flatMap((server) =>
      [53, 80, 443, 5432]
        .filter((port) => opens(snapshot, server, port))
        .map((port) => `${server}:${port}`),
    )
    const opening = subject.names.flatMap(({ pattern, portSet }) => {
      const { ports } = snapshot.portSets.find(({ number }) => number === portSet)!
      return (ports.length === 0 ? ['every'] : ports.map(({ first }) => String(first))).map(
        (port) => `${pattern.text}:${port}`,
      )
    })
    return new Set([...questions, ...open, ...opening])
  }
  fc.assert(
    fc.property(rules, (own) => {
      const text = policy('a', 'web', `  egress:\n${own.join('')}`)
      const before = allowed(compile({ policies: text }))
      for (const shorter of emptied(text)) {
        for (const what of allowed(compile({ policies: shorter })))
          assert.ok(before.has(what), `${what} is allowed by\n${shorter}`)
      }
    }),
    { numRuns: 25 },
  )
})
