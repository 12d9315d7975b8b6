import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type RoutingState,
  applyRouting,
  compareRouting,
  planRouting,
  readRouting,
} from './routing.ts'
import { DEFAULT_TOOLS, NftError, type Tools } from './tool.ts'

const EMPTY: RoutingState = { rules: [], routes: [], guards: [], hasGuard: true }
const WANTED: RoutingState = {
  rules: ['101 fwmark 0x10/0xf0 lookup 300'],
  routes: ['local default dev lo table 300'],
  guards: ['10.0.0.7/32 0/0xf0'],
  hasGuard: true,
}

/** An `ip` that prints this, whatever it is asked. */
function fakeIp(t: { after: (fn: () => void) => void }, script: string): Tools {
  const folder = mkdtempSync(join(tmpdir(), 'namegate-ip-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'ip')
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  return { ...DEFAULT_TOOLS, ip: [path], timeoutMs: 2000 }
}

test('what `ip` lists is read, whichever way a release prints it', async (t) => {
  const tools = fakeIp(
    t,
    `cat <<'END'
0:	from all lookup 255
42:	from all fwmark 0x80/0x80 lookup 254
100:	from all fwmark 0x10/0xf0 iif lo lookup 254 proto 78
101:	from all fwmark 0x10/0xf0 lookup 300 proto 78
102:	from all fwmark 0x30/0xf0 6 proto 78
103:	from all fwmark 0x30/0xf0 blackhole proto 78
2 default dev lo table 300 scope 254
local default dev lo table 301 metric 1024 pref medium
src 10.0.0.7/32 dst 0.0.0.0/0 
	dir fwd action block priority 20039 ptype main 
	mark 0/0xf0 
src 10.0.0.9/32 dst 0.0.0.0/0 
	dir fwd action block priority 20039 ptype main 
	mark 0/0xf0 
END`,
  )
  assert.deepEqual(await readRouting(tools, 4, true), {
    rules: [
      '100 fwmark 0x10/0xf0 iif lo lookup 254',
      '101 fwmark 0x10/0xf0 lookup 300',
      '102 fwmark 0x30/0xf0 blackhole',
      '103 fwmark 0x30/0xf0 blackhole',
    ],
    routes: ['local default dev lo table 300', 'local default dev lo table 301'],
    guards: ['10.0.0.7/32 0/0xf0', '10.0.0.9/32 0/0xf0'],
    hasGuard: true,
  })
})

test('what marks rely on comes before the rules, what blocks comes behind them', () => {
  assert.deepEqual(planRouting(EMPTY, WANTED, 4), {
    before: [
      'route add local default dev lo table 300 proto 78 metric 20039',
      'rule add pref 101 fwmark 0x10/0xf0 lookup 300 protocol 78',
    ],
    guardsGone: [],
    after: [
      'xfrm policy add src 10.0.0.7/32 dst 0.0.0.0/0 dir fwd mark 0 mask 0xf0 action block priority 20039',
    ],
  })
  assert.deepEqual(planRouting(WANTED, EMPTY, 6), {
    before: [],
    guardsGone: ['10.0.0.7/32 0/0xf0'],
    after: [
      'rule del pref 101 fwmark 0x10/0xf0 lookup 300 protocol 78',
      'route del local default dev lo table 300 proto 78',
    ],
  })
  assert.deepEqual(planRouting(WANTED, WANTED, 4), { before: [], guardsGone: [], after: [] })
})

test('a kernel without IPsec policies is not asked to guard, and misses none', () => {
  const present = { ...WANTED, guards: [], hasGuard: false }
  assert.deepEqual(planRouting(present, WANTED, 4).after, [])
  assert.equal(compareRouting(present, WANTED, 4), '')
})

test('a tool that fails is named, with its own words and what to do', async (t) => {
  const failures: [string, string, RegExp][] = [
    [
      "echo 'RTNETLINK answers: File exists' >&2; exit 2",
      'failed',
      /^try: .*ip: RTNETLINK answers: File/,
    ],
    ["echo 'Operation not permitted' >&2; exit 2", 'denied', /needs CAP_NET_ADMIN/],
    ['kill -9 $$', 'failed', /ended by SIGKILL/],
    ['sleep 10', 'timeout', /did not end within 2000 ms/],
  ]
  for (const [script, code, words] of failures) {
    const error = await applyRouting(fakeIp(t, script), 4, ['rule show'], 'try').catch((e) => e)
    assert.ok(error instanceof NftError)
    assert.equal(error.code, code)
    assert.match(error.message, words)
  }
  const nowhere = { ...DEFAULT_TOOLS, ip: ['/nonexistent/ip'] }
  await assert.rejects(applyRouting(nowhere, 4, ['rule show'], 'try'), {
    code: 'not-found',
    message: 'try: /nonexistent/ip is not installed; install nftables and iproute2',
  })
})
