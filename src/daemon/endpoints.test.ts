import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fallThroughOf } from './endpoints.ts'

const OWN = ['169.254.20.10', 'fd00::10']
const KUBE_DNS = {
  namespace: 'kube-system',
  name: 'kube-dns',
  addresses: ['10.96.0.10'],
  dns: [
    { address: '10.0.0.53', port: 1053 },
    { address: '10.0.0.54', port: 1053 },
    { address: '2001:db8:1::53', port: 1053 },
  ],
}
const RESOLVERS = [
  { address: '127.0.0.53', port: 53 },
  { address: '192.0.2.53', port: 53 },
  { address: '2001:db8:2::53', port: 5353 },
]

test('our addresses lead to the endpoints of the Service that we stand in for, in both families', () => {
  assert.deepEqual(fallThroughOf([KUBE_DNS], ['10.96.0.10'], RESOLVERS, OWN), {
    endpoints: KUBE_DNS.dns,
    assumed: [],
  })
})

test('a server that no Service is known to have is taken for a server, and said to be', () => {
  assert.deepEqual(fallThroughOf([], ['10.96.0.10'], [], OWN), {
    endpoints: [{ address: '10.96.0.10', port: 53 }],
    assumed: ['10.96.0.10'],
  })
})

test('without a server to stand in for they lead to the upstreams, but to no resolver of the node', () => {
  const { endpoints } = fallThroughOf([KUBE_DNS], [], RESOLVERS, OWN)
  assert.deepEqual(endpoints, RESOLVERS.slice(1))
  const upstream = [{ address: '10.96.0.10', port: 53 }]
  assert.deepEqual(fallThroughOf([KUBE_DNS], [], upstream, OWN).endpoints, KUBE_DNS.dns)
})

test('a family without servers to stand in for leads to the upstreams of that family', () => {
  assert.deepEqual(fallThroughOf([], ['192.0.2.10'], RESOLVERS, OWN).endpoints, [
    { address: '192.0.2.10', port: 53 },
    { address: '2001:db8:2::53', port: 5353 },
  ])
})

test('our own address leads nowhere by itself', () => {
  const itself = [{ address: 'fd00::10', port: 53 }]
  assert.deepEqual(fallThroughOf([], ['169.254.20.10'], itself, OWN).endpoints, [])
})
