/** Firewalls as people have them, against what is said of them at start. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Namespace, missingForNamespaces } from '../../../test/support/netns.ts'
import { findInputDrops } from './firewall.ts'
import { DEFAULT_TOOLS } from './tool.ts'

const skip = missingForNamespaces()
const MARK = { value: 0x4e470000, mask: 0xffff0000 }

/** Places where a firewall drops intercepted queries, as `findInputDrops` tells them. */
async function dropsOf(text: string): Promise<string[]> {
  using node = Namespace.create('firewall')
  node.execWithInput(text, 'nft', '-f', '-')
  const tools = { ...DEFAULT_TOOLS, nft: ['ip', 'netns', 'exec', node.name, 'nft'] }
  const drops = await findInputDrops(tools, MARK)
  // What is advised helps.
  for (const { cure } of drops) node.exec(cure.split(' ')[0]!, ...cure.split(' ').slice(1))
  assert.deepEqual(await findInputDrops(tools, MARK), [])
  return drops.map(({ where }) => where)
}

function firewall(policy: string, ...rules: string[]): string {
  const chain = `type filter hook input priority filter; policy ${policy};`
  return `table inet fw {
    chain ssh {
      tcp dport 22 accept
    }
    chain ours {
      meta mark & 0xffff0000 == 0x4e470000 accept
    }
    chain input { ${chain}
      ${rules.join('\n')}
    }
  }`
}

const USUAL = [
  'ct state vmap { established : accept, related : accept, invalid : drop }',
  'ct state established,related accept',
  'iifname "lo" accept',
  'meta l4proto { icmp, ipv6-icmp } accept',
  'jump ssh',
]

test('a firewall that accepts nothing but what it knows is told', { skip }, async () => {
  assert.deepEqual(await dropsOf(firewall('drop', ...USUAL)), ['chain inet fw input (policy drop)'])
  assert.match(
    (await dropsOf(firewall('accept', ...USUAL, 'reject with icmpx admin-prohibited')))[0]!,
    /^rule \d+ of chain inet fw input \(reject\)$/,
  )
  assert.match(
    (await dropsOf(firewall('accept', 'ct state { invalid, untracked } drop')))[0]!,
    /^rule \d+ of chain inet fw input \(drop\)$/,
  )
})

test('a firewall that lets our packets in, or may do so, is none to speak of', {
  skip,
}, async () => {
  for (const rule of [
    'meta mark & 0xffff0000 == 0x4e470000 accept',
    'jump ours',
    'udp dport { 53, 67-68 } accept',
    'meta l4proto { tcp, udp } th dport 53 accept',
    'ct state untracked accept',
    'iifname "veth*" accept',
    'ip saddr 10.0.0.0/8 accept',
    'udp dport != 22 accept',
  ]) {
    assert.deepEqual(await dropsOf(firewall('drop', ...USUAL, rule)), [], rule)
  }
  assert.deepEqual(await dropsOf(firewall('accept', ...USUAL, 'tcp dport 53 drop')), [])
})

test('other marks and other ports are not taken for ours', { skip }, async () => {
  const rules = [
    'meta mark & 0xffff0000 == 0x4e480000 accept',
    'udp dport 5353 accept',
    'tcp dport 53 accept',
    'iifname vmap { "lo" : accept }',
  ]
  assert.equal((await dropsOf(firewall('drop', ...rules))).length, 1)
})
