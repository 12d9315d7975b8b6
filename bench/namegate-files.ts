/**
 * Namegate's files on a stage: every client is a pod of its own, selected by a policy that lets it
 * ask below example.com and connect to what those names have. So each query passes the policy
 * check, the grant check and the record of its flow, as on a node that is in use.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CLIENT_INTERFACE, CLIENTS, SERVER, UPSTREAM } from './stage.ts'

export interface NamegateOptions {
  /** cache.size, as the configuration writes it. */
  readonly cacheSize: string | undefined
  readonly isIntercepting: boolean
}

/** The path of namegate.yaml. */
export function writeNamegateFiles(directory: string, options: NamegateOptions): string {
  const { cacheSize, isIntercepting } = options
  const write = (name: string, text: string): void => writeFileSync(join(directory, name), text)
  mkdirSync(join(directory, 'policies'))
  write('policies/bench.yaml', POLICY)
  const pods = CLIENTS.map(
    (address, n) =>
      `- { name: pod-${n}, namespace: bench, labels: { app: load }, addresses: [${address}] }`,
  )
  write('clients.yaml', `${pods.join('\n')}\n`)
  const cache = cacheSize === undefined ? '' : `cache: { size: ${cacheSize} }\n`
  const intercept = isIntercepting ? `intercept: { interfaces: ["${CLIENT_INTERFACE}"] }\n` : ''
  write(
    'namegate.yaml',
    `node: bench
state: state
run: run
listen: { addresses: [${SERVER}] }
upstreams:
  - { zones: ["."], servers: [${UPSTREAM}] }
${cache}${intercept}policy: { directory: policies }
clients: { file: clients.yaml }
limits: { queriesPerSecond: 0, grants: 65536 }
`,
  )
  return join(directory, 'namegate.yaml')
}

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: load, namespace: bench }
spec:
  endpointSelector: { matchLabels: { app: load } }
  egress:
  - toCIDR: [${SERVER}/32]
    toPorts:
    - ports: [{ port: "53", protocol: ANY }]
      rules:
        dns:
        - matchName: www.example.org
        - matchPattern: "*.example.net"
        - matchPattern: "*.bench.example.com"
  - toFQDNs:
    - matchName: www.example.org
    - matchPattern: "*.example.net"
    - matchPattern: "*.bench.example.com"
    toPorts:
    - ports: [{ port: "443", protocol: TCP }]
`
