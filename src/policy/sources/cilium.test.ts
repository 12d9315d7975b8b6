import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { PolicyDocument } from '../rule.ts'
import { readCiliumPolicies } from './cilium.ts'

const HEAD = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: team-a}
`

/** The faults as `policy check` prints them. */
function faultsOf(text: string): string[] {
  return readCiliumPolicies(text, 'web.yaml').flatMap((document) =>
    document.faults.map(
      ({ line, column, field, message }) => `${line}:${column} ${field}: ${message}`,
    ),
  )
}

/** Faults of one policy whose spec, from line 5 on, is this. */
function specFaults(spec: string): string[] {
  return faultsOf(`${HEAD}spec:\n${spec}`)
}

function ruleFaults(rule: string): string[] {
  return specFaults(`  endpointSelector: {}\n  egress:\n${rule}`)
}

function readOne(text: string): PolicyDocument {
  const documents = readCiliumPolicies(text, 'web.yaml')
  assert.equal(documents.length, 1)
  assert.deepEqual(documents[0]!.faults, [])
  return documents[0]!
}

test('a policy as people write it is read whole', () => {
  const document = readOne(`${HEAD}spec:
  description: lookups by the cluster's DNS, connections to google.com
  endpointSelector:
    matchLabels: {app: web, "k8s:tier": front}
    matchExpressions:
      - {key: any:stage, operator: NotIn, values: [test, "on"]}
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s-app: kube-dns
      toPorts:
        - ports:
            - {port: "53", protocol: ANY}
          rules:
            dns:
              - matchPattern: "*.Google.com."
              - matchName: google.com
    - toFQDNs: [{matchPattern: "*.google.com"}, {matchName: google.com}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}, {port: "8000", endPort: 8100}]
    - toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]
`)
  assert.equal(document.name, 'team-a/web')
  const [rule] = document.rules
  assert.deepEqual(rule?.subject?.requirements, [
    { key: 'app', operator: 'in', values: ['web'] },
    { key: 'tier', operator: 'in', values: ['front'] },
    { key: 'stage', operator: 'notIn', values: ['test', 'on'] },
    { key: 'io.kubernetes.pod.namespace', operator: 'in', values: ['team-a'] },
  ])
  const [dns, names] = rule?.egress ?? []
  assert.deepEqual(dns?.to.kind === 'endpoints' && dns.to.selectors[0]?.requirements, [
    { key: 'io.kubernetes.pod.namespace', operator: 'in', values: ['kube-system'] },
    { key: 'k8s-app', operator: 'in', values: ['kube-dns'] },
  ])
  const asked = dns?.ports?.[0]?.dns?.patterns?.map(({ pattern }) => pattern)
  assert.deepEqual(asked, [
    { kind: 'pattern', text: '*.google.com' },
    { kind: 'name', text: 'google.com' },
  ])
  assert.deepEqual(names?.ports?.[0]?.ports, [
    { protocol: 'tcp', first: 80, last: 80 },
    { protocol: 'any', first: 8000, last: 8100 },
  ])
})

test('a rule for endpoints stays in the namespace of its policy unless it speaks of namespaces', () => {
  const read = (selector: string) => {
    const document = readOne(
      `${HEAD}spec: {endpointSelector: {}, egress: [{toEndpoints: [${selector}]}]}`,
    )
    const to = document.rules[0]!.egress[0]!.to
    return to.kind === 'endpoints'
      ? to.selectors[0]!.requirements.map(({ key, values }) => `${key}=${values.join()}`)
      : []
  }
  assert.deepEqual(read('{}'), ['io.kubernetes.pod.namespace=team-a'])
  assert.deepEqual(
    read('{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]}'),
    ['io.kubernetes.pod.namespace='],
  )
  assert.deepEqual(read('{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.team": a}}'), [
    'io.cilium.k8s.namespace.labels.team=a',
  ])
})

test('a clusterwide policy has no namespace, nor have its selectors', () => {
  const document = readOne(
    HEAD.replace('NetworkPolicy', 'ClusterwideNetworkPolicy').replace(', namespace: team-a', '') +
      'spec: {endpointSelector: {matchLabels: {a: b}}, egress: [{toEndpoints: [{}]}]}',
  )
  assert.equal(document.name, 'web')
  assert.deepEqual(document.rules[0]!.subject, {
    requirements: [{ key: 'a', operator: 'in', values: ['b'] }],
  })
})

test('spec and specs both apply, documents and Lists are all read', () => {
  const rule = '{endpointSelector: {}, egress: [{}]}'
  const policy = `${HEAD}spec: ${rule}\nspecs: [${rule}, ${rule}]\nstatus: {conditions: []}\n`
  assert.equal(readOne(policy).rules.length, 3)
  const documents = readCiliumPolicies(`---\n${policy}---\n---\n${policy}`, 'web.yaml')
  assert.equal(documents.length, 2)
  const item = (HEAD + `spec: ${rule}`).split('\n').join('\n    ')
  const list = readCiliumPolicies(
    `kind: List\napiVersion: v1\nitems:\n  - ${item}\n  - ${item}\n`,
    'web.yaml',
  )
  assert.deepEqual(
    list.map(({ name, line, faults }) => [name, line, faults.length]),
    [
      ['team-a/web', 4, 0],
      ['team-a/web', 8, 0],
    ],
  )
})

test('an empty egress rule leads nowhere; ports without a destination are ports of every address', () => {
  const document = readOne(`${HEAD}spec:
  endpointSelector: {}
  egress: [{}, {toPorts: [{ports: [{port: "80"}]}]}, {toEndpoints: []}]
`)
  const to = document.rules[0]!.egress.map((rule) => rule.to)
  assert.deepEqual(to, [
    { kind: 'none' },
    { kind: 'entities', entities: ['all'] },
    { kind: 'endpoints', selectors: [] },
  ])
})

test('enableDefaultDeny decides for its direction', () => {
  const read = (text: string) =>
    readOne(`${HEAD}spec: {endpointSelector: {}, egress: [{}], ${text}}`).rules[0]!.hasDefaultDeny
  assert.equal(read('labels: []'), true)
  assert.equal(read('enableDefaultDeny: {egress: false, ingress: false}'), false)
  assert.equal(read('enableDefaultDeny: {}'), true)
})

const SPEC_FAULTS: readonly (readonly [string, string[]])[] = [
  [
    '  egress: [{}]\n',
    ['5:3 spec: endpointSelector is missing; {} selects every pod of the namespace'],
  ],
  [
    '  endpointSelector:\n  egress: [{}]\n',
    ['5:20 spec.endpointSelector: must be a mapping of keys and values'],
  ],
  [
    '  endpointSelector: {}\n',
    ['5:3 spec: at least one rule in egress or egressDeny is needed; egress: [{}] allows nothing'],
  ],
  [
    '  endpointSelector: {}\n  egress: []\n',
    ['5:3 spec: at least one rule in egress or egressDeny is needed; egress: [{}] allows nothing'],
  ],
  [
    '  endpointSelector: {}\n  ingress:\n    - {}\n',
    [
      '6:3 spec.ingress: Namegate governs egress only; move ingress rules into a policy of their own, for whoever enforces them',
    ],
  ],
  [
    '  nodeSelector: {}\n  egress: [{}]\n',
    [
      '5:3 spec.nodeSelector: policies for nodes are not supported by Namegate; use endpointSelector',
    ],
  ],
  [
    '  endpointselector: {}\n  egress: [{}]\n',
    [
      "5:3 spec.endpointselector: unknown key 'endpointselector'; did you mean 'endpointSelector'?",
      '5:3 spec: endpointSelector is missing; {} selects every pod of the namespace',
    ],
  ],
  [
    '  endpointSelector: {}\n  egress: [{}]\n  colour: red\n',
    [
      "7:3 spec.colour: unknown key 'colour'; known here: endpointSelector, egress, egressDeny, enableDefaultDeny, description, labels",
    ],
  ],
  [
    '  endpointSelector: {matchLabels: {"reserved:host": ""}}\n  egress: [{}]\n',
    [
      "5:36 spec.endpointSelector.matchLabels.reserved:host: labels of source 'reserved:' are unknown here; only k8s: and any: are",
    ],
  ],
  [
    '  endpointSelector: {matchLabels: {io.cilium.k8s.policy.cluster: one}}\n  egress: [{}]\n',
    [
      "5:36 spec.endpointSelector.matchLabels.io.cilium.k8s.policy.cluster: the label 'io.cilium.k8s.policy.cluster' is not known here, so nobody can be selected by it",
    ],
  ],
  [
    '  endpointSelector: {matchLabels: {app: 7}}\n  egress: [{}]\n',
    ['5:41 spec.endpointSelector.matchLabels.app: must be text; write "7" in quotes'],
  ],
  [
    '  endpointSelector: {matchLabels: {app: yes}}\n  egress: [{}]\n',
    [
      '5:41 spec.endpointSelector.matchLabels.app: kubectl reads yes as a boolean; write "yes" in quotes',
    ],
  ],
  [
    '  endpointSelector: {matchLabels: {app: a, app: b}}\n  egress: [{}]\n',
    ["5:44 spec.endpointSelector.matchLabels.app: key 'app' appears twice"],
  ],
  [
    '  endpointSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}\n  egress: [{}]\n',
    [
      "5:60 spec.endpointSelector.matchExpressions[0].operator: unknown operator 'in'; did you mean 'In'?",
    ],
  ],
  [
    '  endpointSelector: {matchExpressions: [{key: a, operator: In}]}\n  egress: [{}]\n',
    ['5:41 spec.endpointSelector.matchExpressions[0]: In needs values'],
  ],
  [
    '  endpointSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}\n  egress: [{}]\n',
    ['5:41 spec.endpointSelector.matchExpressions[0]: Exists takes no values'],
  ],
  [
    '  endpointSelector: {matchLabels: {io.kubernetes.pod.namespace: team-b}}\n  egress: [{}]\n',
    [
      "5:21 spec.endpointSelector: a CiliumNetworkPolicy selects pods of its own namespace 'team-a' only; use a CiliumClusterwideNetworkPolicy for others",
    ],
  ],
  [
    '  endpointSelector: {}\n  egress: [{}]\n  enableDefaultDeny: {egress: "false"}\n',
    ['7:31 spec.enableDefaultDeny.egress: must be true or false'],
  ],
  [
    '  endpointSelector: {}\n  egressDeny: [{toFQDNs: [{matchName: a.example}]}]\n',
    ['6:17 spec.egressDeny[0].toFQDNs: names cannot be denied: they share addresses with others'],
  ],
  [
    '  endpointSelector: {}\n  egressDeny: [{toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a}]}}]}]\n',
    [
      '6:51 spec.egressDeny[0].toPorts[0].rules: a deny rule takes ports only; names cannot be denied',
    ],
  ],
]

test('a fault in a spec names its line, its field and what to do', () => {
  for (const [spec, faults] of SPEC_FAULTS) assert.deepEqual(specFaults(spec), faults, spec)
})

const RULE_FAULTS: readonly (readonly [string, string])[] = [
  [
    '    - toFQDN: []\n',
    "7:7 spec.egress[0].toFQDN: unknown key 'toFQDN'; did you mean 'toFQDNs'?",
  ],
  [
    '    - toServices: []\n',
    '7:7 spec.egress[0].toServices: toServices is not supported by Namegate; remove it',
  ],
  [
    '    - toEndpoints: [{}]\n      toCIDR: [192.0.2.0/24]\n',
    '8:7 spec.egress[0].toCIDR: combining toEndpoints and toCIDR in one rule is not supported; write two rules',
  ],
  ['    - toEndpoints:\n', '7:19 spec.egress[0].toEndpoints: must be a list'],
  [
    '    - toCIDR: [192.0.2.1]\n',
    "7:16 spec.egress[0].toCIDR[0]: '192.0.2.1' is no prefix; write 192.0.2.1/32 for the one address",
  ],
  [
    '    - toCIDR: ["::ffff:192.0.2.1/128"]\n',
    "7:16 spec.egress[0].toCIDR[0]: '::ffff:192.0.2.1' is an IPv4 address in IPv6 form; write 192.0.2.1",
  ],
  [
    '    - toCIDR: [example.com/32]\n',
    "7:16 spec.egress[0].toCIDR[0]: 'example.com' is no IP address",
  ],
  [
    '    - toCIDRSet: [{cidr: 192.0.2.0/24, except: [198.51.100.0/24]}]\n',
    '7:49 spec.egress[0].toCIDRSet[0].except[0]: 198.51.100.0/24 does not lie in 192.0.2.0/24',
  ],
  [
    '    - toCIDRSet: [{cidrGroupRef: a}]\n',
    '7:20 spec.egress[0].toCIDRSet[0].cidrGroupRef: cidrGroupRef is not supported by Namegate; remove it',
  ],
  ['    - toCIDRSet: [{}]\n', '7:19 spec.egress[0].toCIDRSet[0]: cidr is missing'],
  [
    '    - toEntities: [host]\n',
    "7:20 spec.egress[0].toEntities[0]: entity 'host' is not supported by Namegate; remove it",
  ],
  [
    '    - toEntities: [wrold]\n',
    "7:20 spec.egress[0].toEntities[0]: unknown entity 'wrold'; did you mean 'world'?",
  ],
  [
    '    - toFQDNs: [{matchName: a.example, matchPattern: b.example}]\n',
    '7:17 spec.egress[0].toFQDNs[0]: only one of matchName and matchPattern is allowed',
  ],
  [
    '    - toFQDNs: [{matchName: "*.example.com"}]\n',
    `7:29 spec.egress[0].toFQDNs[0].matchName: '*' has no meaning in matchName; write matchPattern: "*.example.com"`,
  ],
  [
    '    - toFQDNs: [{matchname: a}]\n',
    "7:18 spec.egress[0].toFQDNs[0].matchname: unknown key 'matchname'; did you mean 'matchName'?",
  ],
  [
    '    - toFQDNs: [{matchPattern: *.example.com}]\n',
    '7:32 spec.egress[0].toFQDNs[0].matchPattern: *.example.com is an alias of nothing in YAML; write "*.example.com" in quotes',
  ],
]

test('a fault in an egress rule names its line, its field and what to do', () => {
  for (const [rule, fault] of RULE_FAULTS)
    assert.ok(ruleFaults(rule).includes(fault), `${rule}${ruleFaults(rule).join('\n')}`)
})

const PORT_FAULTS: readonly (readonly [string, string])[] = [
  [
    '[]',
    '8:16 spec.egress[0].toPorts: an empty list allows no port here; leave toPorts out to mean every port',
  ],
  ['[{}]', '8:17 spec.egress[0].toPorts[0]: ports must be listed; an empty list allows none'],
  [
    '[{ports: []}]',
    '8:25 spec.egress[0].toPorts[0].ports: ports must be listed; an empty list allows none',
  ],
  [
    '[{rules: {dns: [{matchName: a}]}}]',
    '8:17 spec.egress[0].toPorts[0]: DNS rules need a port, usually "53"; an empty list allows none',
  ],
  [
    '[{ports: [{port: 53}]}]',
    '8:33 spec.egress[0].toPorts[0].ports[0].port: must be text; write "53" in quotes',
  ],
  [
    '[{ports: [{port: "053"}]}]',
    "8:33 spec.egress[0].toPorts[0].ports[0].port: '053' would be octal; write it without the leading zero",
  ],
  [
    '[{ports: [{port: "65536"}]}]',
    '8:33 spec.egress[0].toPorts[0].ports[0].port: port 65536 is larger than 65535',
  ],
  [
    '[{ports: [{port: "-1"}]}]',
    "8:33 spec.egress[0].toPorts[0].ports[0].port: '-1' is neither a port number nor the name of a port",
  ],
  [
    '[{ports: [{port: "80", endPort: 79}]}]',
    '8:48 spec.egress[0].toPorts[0].ports[0].endPort: endPort is smaller than port',
  ],
  [
    '[{ports: [{port: "80", protocol: tcp}]}]',
    "8:49 spec.egress[0].toPorts[0].ports[0].protocol: unknown protocol 'tcp'; did you mean 'TCP'?",
  ],
  [
    '[{ports: [{port: "80", protocol: GRE}]}]',
    '8:49 spec.egress[0].toPorts[0].ports[0].protocol: protocol GRE is not supported by Namegate; remove it',
  ],
  [
    '[{ports: [{port: http}]}]',
    '8:33 spec.egress[0].toPorts[0].ports[0].port: only toEndpoints knows names of ports; write the number',
  ],
  [
    '[{ports: [{port: "53", endPort: 54}], rules: {dns: [{matchName: a}]}}]',
    '8:48 spec.egress[0].toPorts[0].ports[0].endPort: DNS rules do not support port ranges',
  ],
  [
    '[{ports: [{port: "0"}], rules: {dns: [{matchName: a}]}}]',
    '8:33 spec.egress[0].toPorts[0].ports[0].port: DNS rules cannot be used with port 0',
  ],
  [
    '[{ports: [{port: "53"}], rules: {dns: []}}]',
    '8:54 spec.egress[0].toPorts[0].rules.dns: an empty list allows no name here, though Cilium would allow all; write matchPattern: "*" to mean all',
  ],
  [
    '[{ports: [{port: "53"}], rules: {}}]',
    '8:48 spec.egress[0].toPorts[0].rules: rules is empty; remove it, or list the names in rules.dns',
  ],
  [
    '[{ports: [{port: "80"}], rules: {http: [{}]}}]',
    '8:49 spec.egress[0].toPorts[0].rules.http: HTTP rules: http is not supported by Namegate; remove it',
  ],
  [
    '[{ports: [{port: "80"}], serverNames: [a]}]',
    '8:41 spec.egress[0].toPorts[0].serverNames: serverNames is not supported by Namegate; remove it',
  ],
]

test('a fault in toPorts names its line, its field and what to do', () => {
  for (const [ports, fault] of PORT_FAULTS) {
    const faults = ruleFaults(`    - toCIDR: [192.0.2.0/24]\n      toPorts: ${ports}\n`)
    assert.ok(faults.includes(fault), `${ports}\n${faults.join('\n')}`)
  }
})

const DOCUMENT_FAULTS: readonly (readonly [string, string])[] = [
  ['- 1\n', '1:1 : must be a mapping of keys and values'],
  ['spec: {}\n', '1:1 : kind is missing'],
  [
    'kind: NetworkPolicy\n',
    "1:7 kind: kind 'NetworkPolicy' is not read here; known here: CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy",
  ],
  [
    'kind: CiliumNetworkPolicie\n',
    "1:7 kind: kind 'CiliumNetworkPolicie' is not read here; did you mean 'CiliumNetworkPolicy'?",
  ],
  [HEAD.replace('v2', 'v1'), '1:13 apiVersion: apiVersion must be cilium.io/v2'],
  [HEAD, '1:1 : spec or specs must be provided'],
  [HEAD.replace('name: web, ', ''), '3:11 metadata: metadata.name is missing'],
  [
    HEAD.replace('team-a', 'Team-A'),
    "3:34 metadata.namespace: 'Team-A' can't be the name of a namespace: at most 63 lower-case letters, digits and '-'",
  ],
  [`${HEAD}sepc: {}\n`, "4:1 sepc: unknown key 'sepc'; did you mean 'spec'?"],
  [
    `${HEAD}spec: {a: [\n`,
    '5:1 : cannot be read as YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
  ],
]

test('a fault in a document names its line and what to do', () => {
  for (const [text, fault] of DOCUMENT_FAULTS) {
    assert.ok(faultsOf(text).includes(fault), `${text}\n${faultsOf(text).join('\n')}`)
  }
})

test('whom a faulty policy selects is read all the same, unless the selector is at fault', () => {
  const [readable] = readCiliumPolicies(
    `${HEAD}spec: {endpointSelector: {matchLabels: {a: b}}, egress: [{toWhom: 1}]}`,
    'web.yaml',
  )
  assert.equal(readable?.faults.length, 1)
  assert.equal(readable?.rules[0]?.subject?.requirements.length, 2)
  const [unreadable] = readCiliumPolicies(
    `${HEAD}spec: {endpointSelector: {matchLabel: {a: b}}, egress: [{}]}`,
    'web.yaml',
  )
  assert.equal(unreadable?.rules[0]?.subject, null)
})

test('an empty pattern in rules.dns allows nothing, in toFQDNs only the root', () => {
  const document = readOne(`${HEAD}spec:
  endpointSelector: {}
  egress:
    - toCIDR: [192.0.2.53/32]
      toPorts: [{ports: [{port: "53"}], rules: {dns: [{}]}}]
    - toFQDNs: [{}]
`)
  const [asked, opened] = document.rules[0]!.egress
  assert.deepEqual(asked?.ports?.[0]?.dns?.patterns, [])
  assert.deepEqual(opened?.to.kind === 'names' && opened.to.patterns[0]?.pattern, {
    kind: 'name',
    text: '.',
  })
})

test('aliases that expand to billions of values are refused in no time', () => {
  const levels = Array.from(
    { length: 30 },
    (_, level) => `l${level + 1}: &l${level + 1} [${`*l${level}, `.repeat(9)}]\n`,
  )
  const faults = faultsOf(
    `l0: &l0 [a]\n${levels.join('')}${HEAD}spec: {endpointSelector: {}, egress: *l30}\n`,
  )
  assert.ok(faults.length > 0)
  const many = `${HEAD}spec:\n  endpointSelector: {}\n  egress:\n    - &a {}\n${'    - *a\n'.repeat(2000)}`
  assert.ok(faultsOf(many).includes('1:1 : the file has more than 1000 aliases'))
})

test('a file that is too large or nested too deeply is a fault and nothing else', () => {
  assert.deepEqual(faultsOf('#'.repeat(2 << 20)), ['1:1 : the file is larger than 1024 KiB'])
  const [deep] = faultsOf('['.repeat(200_000))
  assert.match(deep ?? '', /cannot be read as YAML/)
})

test('no text makes the reader throw, and whatever is no policy has a fault', () => {
  const words = fc.constantFrom(
    'spec',
    'egress',
    'toFQDNs',
    'toPorts',
    'kind',
    '*',
    '&a',
    '*a',
    '-',
    ':',
    '{',
    '}',
    '[',
    ']',
    ' ',
    '\n',
    '  ',
    '"',
    '? ',
    '!!binary ',
    '1',
    '~',
    '<<',
    'matchName',
  )
  const start = fc.constantFrom('', HEAD, `${HEAD}spec:\n  endpointSelector: {}\n  egress:\n    - `)
  fc.assert(
    fc.property(start, fc.array(words), (head, tail) => {
      for (const document of readCiliumPolicies(head + tail.join(''), 'web.yaml')) {
        if (document.kind === 'unknown') assert.ok(document.faults.length > 0)
        if (document.faults.length === 0)
          assert.ok(document.rules.every(({ subject }) => subject !== null))
      }
    }),
    { numRuns: 1000 },
  )
})
