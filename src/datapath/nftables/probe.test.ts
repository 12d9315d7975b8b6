import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ProbeSources, probeNftables } from './probe.ts'
import { DEFAULT_TOOLS } from './tool.ts'

const MARK = { value: 0x4e470000, mask: 0xffff0000 }
const ALL = 'CapEff:\t000001ffffffffff\n'

function sources(
  files: Record<string, string>,
  folders: Record<string, string[]> = {},
): ProbeSources {
  const printing = (text: string) => ['/bin/echo', text]
  return {
    tools: {
      ...DEFAULT_TOOLS,
      nft: printing('nftables v1.0.6 (Lester)'),
      ip: printing('ip utility, iproute2-6.1.0, libbpf'),
    },
    readFile: (path) => files[path] ?? null,
    listFolder: (path) => folders[path] ?? [],
  }
}

test('a machine that can do everything says so in one line', async () => {
  assert.deepEqual(await probeNftables(MARK, sources({ '/proc/self/status': ALL })), {
    isUsable: true,
    decision: 'datapath: [nft=1.0.6 ip=6.1.0 cap=net_admin,net_raw guard=xfrm ret=nftables]',
    findings: [],
  })
})

test('a missing capability is named', async () => {
  const status = 'CapEff:\t0000000000001000\n'
  const probe = await probeNftables(MARK, sources({ '/proc/self/status': status }))
  assert.equal(probe.isUsable, false)
  assert.match(probe.decision, /cap=net_admin .*ret=none\]$/)
  assert.match(probe.findings[0]!.text, /needs CAP_NET_ADMIN and CAP_NET_RAW, has only net_admin/)
})

test('a missing tool is named', async () => {
  const base = sources({ '/proc/self/status': ALL })
  const tools = { ...base.tools, nft: ['/nonexistent/nft'] }
  const probe = await probeNftables(MARK, { ...base, tools })
  assert.equal(probe.decision.includes('nft=no'), true)
  assert.deepEqual(
    probe.findings.map(({ code }) => code),
    ['no-nft'],
  )
})

test('src_valid_mark is told, with what keeps interception alive', async () => {
  const files = {
    '/proc/self/status': ALL,
    '/proc/sys/net/ipv4/conf/wg0/src_valid_mark': '1\n',
    '/proc/sys/net/ipv4/conf/eth0/src_valid_mark': '0\n',
  }
  const folders = { '/proc/sys/net/ipv4/conf': ['default', 'eth0', 'wg0'] }
  const { findings } = await probeNftables(MARK, sources(files, folders))
  assert.deepEqual(
    findings.map(({ code, isBlocking }) => [code, isBlocking]),
    [['src-valid-mark', false]],
  )
  assert.match(findings[0]!.text, /\(wg0: /)
})

test('bridges that pass iptables, IPVS and Cilium are found', async () => {
  const files = {
    '/proc/self/status': ALL,
    '/proc/sys/net/bridge/bridge-nf-call-iptables': '1\n',
    '/proc/net/ip_vs': '',
  }
  const folders = {
    '/sys/class/net': ['lo', 'cni0', 'eth0', 'cilium_host'],
    '/sys/class/net/cni0/bridge': ['bridge_id'],
  }
  const probe = await probeNftables(MARK, sources(files, folders))
  assert.deepEqual(
    probe.findings.map(({ code, isBlocking }) => [code, isBlocking]),
    [
      ['bridge', true],
      ['ipvs', false],
      ['ebpf', true],
    ],
  )
  assert.equal(probe.isUsable, true, 'other clients can be governed')
})
