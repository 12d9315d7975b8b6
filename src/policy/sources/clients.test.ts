import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readClients } from './clients.ts'

function faultsOf(text: string): string[] {
  const { faults, inventory } = readClients(text, 'clients.yaml', null)
  if (faults.length > 0)
    assert.deepEqual(inventory.endpoints, [], 'a file with faults counts for nothing')
  return faults.map(({ line, column, field, message }) => `${line}:${column} ${field}: ${message}`)
}

const POD = `apiVersion: v1
kind: Pod
metadata:
  name: coredns-1
  namespace: kube-system
  uid: 5f0c
  labels:
    k8s-app: kube-dns
    io.kubernetes.pod.namespace: default
    io.cilium.k8s.policy.serviceaccount: admin
spec:
  nodeName: node-2
  serviceAccountName: coredns
  containers:
    - name: coredns
      ports:
        - {name: dns, containerPort: 53, protocol: UDP}
        - {containerPort: 9153}
status:
  phase: Running
  podIP: 10.0.0.53
  podIPs: [{ip: 10.0.0.53}, {ip: "2001:DB8::53"}]
`

test('the short form is read', () => {
  const { inventory, faults } = readClients(
    '- {name: web, namespace: team-a, labels: {app: web}, addresses: [10.0.0.7, "2001:db8::0:7"], interface: veth-web}\n- {name: plain, addresses: [10.0.0.8]}\n',
    'clients.yaml',
    null,
  )
  assert.deepEqual(faults, [])
  assert.deepEqual(inventory.endpoints, [
    {
      namespace: 'team-a',
      name: 'web',
      labels: { app: 'web' },
      addresses: ['10.0.0.7', '2001:db8::7'],
      interface: 'veth-web',
      isClient: true,
      ports: [],
    },
    {
      namespace: 'default',
      name: 'plain',
      labels: {},
      addresses: ['10.0.0.8'],
      interface: null,
      isClient: true,
      ports: [],
    },
  ])
})

test('a pod is read, and its labels cannot say where it lives or who it is', () => {
  const { inventory, faults } = readClients(POD, 'clients.yaml', 'node-1')
  assert.deepEqual(faults, [])
  assert.deepEqual(inventory.endpoints, [
    {
      namespace: 'kube-system',
      name: 'coredns-1',
      labels: { 'k8s-app': 'kube-dns', 'io.cilium.k8s.policy.serviceaccount': 'coredns' },
      addresses: ['10.0.0.53', '2001:db8::53'],
      interface: null,
      isClient: false,
      ports: [{ name: 'dns', port: 53, protocol: 'udp' }],
    },
  ])
  assert.equal(readClients(POD, 'clients.yaml', 'node-2').inventory.endpoints[0]?.isClient, true)
  assert.equal(readClients(POD, 'clients.yaml', null).inventory.endpoints[0]?.isClient, true)
})

test("a pod without a service account cannot give itself one, nor any of Cilium's labels", () => {
  const text = POD.replace('  serviceAccountName: coredns\n', '')
  const { inventory } = readClients(text, 'clients.yaml', null)
  assert.deepEqual(inventory.endpoints[0]?.labels, { 'k8s-app': 'kube-dns' })
})

test('pods without an address of their own are left out with a note', () => {
  const texts = [
    POD.replace('nodeName', 'hostNetwork: true\n  nodeName'),
    POD.replace('Running', 'Succeeded'),
    POD.replace('Running', 'Failed'),
    POD.replace(/ {2}podIP:.*\n.*\n/, ''),
  ]
  const notes = texts.flatMap((text) => {
    const { inventory, faults, notes } = readClients(text, 'clients.yaml', null)
    assert.deepEqual([inventory.endpoints, faults], [[], []])
    return notes
  })
  assert.deepEqual(notes, [
    "pod kube-system/coredns-1 is left out: it uses the node's own network",
    'pod kube-system/coredns-1 is left out: it has ended (Succeeded)',
    'pod kube-system/coredns-1 is left out: it has ended (Failed)',
    'pod kube-system/coredns-1 is left out: it has no address yet',
  ])
})

test('Services, EndpointSlices and Namespaces are read from a List', () => {
  const { inventory, faults } = readClients(
    `apiVersion: v1
kind: List
items:
  - kind: Namespace
    metadata: {name: kube-system, labels: {kubernetes.io/metadata.name: kube-system}}
  - kind: Service
    metadata: {name: kube-dns, namespace: kube-system}
    spec:
      clusterIP: 10.96.0.10
      clusterIPs: [10.96.0.10, "2001:db8:96::a"]
      selector: {k8s-app: kube-dns}
      ports:
        - {name: dns, port: 53, protocol: UDP, targetPort: 53}
        - {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns-tcp}
        - {name: metrics, port: 9153}
  - kind: Service
    metadata: {name: headless}
    spec: {clusterIP: None, clusterIPs: [None], ports: []}
  - kind: EndpointSlice
    metadata: {name: kube-dns-x, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
    addressType: IPv4
    endpoints:
      - {addresses: [10.0.0.53], conditions: {ready: true}}
      - {addresses: [10.0.0.54], conditions: {ready: false}}
      - {addresses: [10.0.0.55]}
    ports:
      - {name: dns, port: 53, protocol: UDP}
`,
    'clients.yaml',
    null,
  )
  assert.deepEqual(faults, [])
  assert.deepEqual(inventory.namespaces, [
    { name: 'kube-system', labels: { 'kubernetes.io/metadata.name': 'kube-system' } },
  ])
  assert.deepEqual(inventory.services, [
    {
      namespace: 'kube-system',
      name: 'kube-dns',
      selector: { 'k8s-app': 'kube-dns' },
      addresses: ['10.96.0.10', '2001:db8:96::a'],
      ports: [
        { name: 'dns', port: 53, protocol: 'udp', target: 53 },
        { name: 'dns-tcp', port: 53, protocol: 'tcp', target: 'dns-tcp' },
        { name: 'metrics', port: 9153, protocol: 'tcp', target: 9153 },
      ],
    },
    { namespace: 'default', name: 'headless', selector: null, addresses: [], ports: [] },
  ])
  assert.deepEqual(inventory.slices, [
    {
      namespace: 'kube-system',
      service: 'kube-dns',
      addresses: ['10.0.0.53', '10.0.0.55'],
      ports: [{ name: 'dns', port: 53, protocol: 'udp' }],
    },
  ])
})

const FAULTS: readonly (readonly [string, string])[] = [
  ['- {addresses: [10.0.0.7]}\n', '1:3 [0]: name is missing'],
  ['- {name: web}\n', '1:3 [0]: addresses must name at least one address'],
  [
    '- {name: web, addresses: []}\n',
    '1:26 [0].addresses: addresses must name at least one address',
  ],
  ['- {name: web, addresses: 10.0.0.7}\n', '1:26 [0].addresses: must be a list'],
  [
    '- {name: web, addresses: [10.0.0.07]}\n',
    "1:27 [0].addresses[0]: '10.0.0.07' is no IP address",
  ],
  [
    '- {name: web, addresses: ["::ffff:10.0.0.7"]}\n',
    "1:27 [0].addresses[0]: '::ffff:10.0.0.7' is an IPv4 address in IPv6 form; write 10.0.0.7",
  ],
  [
    '- {name: web, adresses: [10.0.0.7]}\n',
    "1:15 [0].adresses: unknown key 'adresses'; did you mean 'addresses'?",
  ],
  [
    '- {name: web, addresses: [10.0.0.7], labels: {a: 1}}\n',
    '1:50 [0].labels.a: must be text; write "1" in quotes',
  ],
  [
    '- {name: web, addresses: [10.0.0.7], interface: "veth 0"}\n',
    "1:49 [0].interface: 'veth 0' is no name of an interface",
  ],
  [
    '- {name: a, addresses: [10.0.0.7]}\n- {name: b, addresses: [10.0.0.7]}\n',
    '2:3 [1]: address 10.0.0.7 already belongs to default/a',
  ],
  [
    '- {name: a, addresses: ["2001:db8::7"]}\n- {name: b, addresses: ["2001:0DB8::7"]}\n',
    '2:3 [1]: address 2001:db8::7 already belongs to default/a',
  ],
  [
    '- {name: a, addresses: [10.0.0.7]}\n- {name: a, addresses: [10.0.0.8]}\n',
    '2:3 [1]: default/a is already in line 1',
  ],
  [
    '- {name: a, namespace: Team A, addresses: [10.0.0.7]}\n',
    "1:24 [0].namespace: 'Team A' can't be the name of a namespace: at most 63 lower-case letters, digits and '-'",
  ],
  [
    '- {name: team-a/web, addresses: [10.0.0.7]}\n',
    "1:10 [0].name: 'team-a/web' can't be the name of an object: lower-case letters, digits, '-' and '.'",
  ],
  ['- {name: a, name: b, addresses: [10.0.0.7]}\n', "1:13 [0].name: key 'name' appears twice"],
  [
    'kind: ConfigMap\n',
    "1:7 kind: kind 'ConfigMap' says nothing about clients; known here: Pod, Namespace, Service, EndpointSlice, List",
  ],
  ['kind: pod\n', "1:7 kind: kind 'pod' says nothing about clients; did you mean 'Pod'?"],
  [
    'name: web\n',
    '1:1 : kind is missing; a list of {name, addresses} or a Kubernetes object is expected',
  ],
  ['kind: Pod\nmetadata: {}\n', '1:1 : metadata.name is missing'],
  [
    POD.replace('namespace: kube-system', 'namespace: Kube_System'),
    "5:14 metadata.namespace: 'Kube_System' can't be the name of a namespace: at most 63 lower-case letters, digits and '-'",
  ],
  [
    POD.replace('ip: 10.0.0.53', 'ip: 10.0.0'),
    "22:17 status.podIPs[0].ip: '10.0.0' is no IP address",
  ],
]

test('a fault names its line, its field and what to do', () => {
  for (const [text, fault] of FAULTS)
    assert.ok(faultsOf(text).includes(fault), `${text}\n${faultsOf(text).join('\n')}`)
})

test('no text makes the reader throw', () => {
  const words = fc.constantFrom(
    'kind: Pod',
    'status',
    'podIPs',
    'name',
    'addresses',
    'kind: Service',
    'spec',
    'metadata',
    '- ',
    ':',
    '{',
    '}',
    '[',
    ']',
    ' ',
    '\n',
    '  ',
    '1',
    '~',
    '10.0.0.1',
  )
  fc.assert(
    fc.property(fc.array(words), (parts) => {
      readClients(parts.join(''), 'clients.yaml', null)
    }),
    { numRuns: 500 },
  )
})
