import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Config } from '../config/load.ts'
import type { Log } from '../log.ts'
import { ControlServer, controlSocketPath, type Handler } from '../observe/control.ts'
import type { FlowRow } from '../observe/flow-row.ts'
import type { Role } from './client.ts'
import { type ProgramParts, runProgram } from './program.ts'

const QUIET: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => QUIET,
}

interface World {
  readonly directory: string
  readonly run: string
  /** Runs a command line; stdout, stderr and the exit code. */
  readonly command: (...argv: string[]) => Promise<{ out: string; err: string; code: number }>
  readonly serve: (role: Role, handlers: Record<string, Handler>) => Promise<ControlServer>
}

const CONFIG = `
run: run
listen: {addresses: [127.0.0.1], port: 5353}
upstreams: [{zones: ["."], servers: [192.0.2.53]}]
`

/** @param shownDefault  what --help names as the default file; its length decides where lines break */
function world(
  t: TestContext,
  parts: Partial<ProgramParts> = {},
  shownDefault: string | null = null,
): World {
  const directory = mkdtempSync(path.join(tmpdir(), 'namegate-program-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const defaultFile = path.join(directory, 'namegate.yaml')
  writeFileSync(defaultFile, CONFIG)
  const run = path.join(directory, 'run')
  const machine = {
    hostName: 'worker-1',
    userId: 1000,
    homeDirectory: directory,
    stateHome: '',
    runtimeDirectory: '',
  }
  const command = async (...argv: string[]) => {
    let out = ''
    let err = ''
    const code = await runProgram(
      argv,
      { version: '1.2.3', runDaemon: async () => 0, removeTraces: async () => {}, ...parts },
      {
        out: (text) => (out += text),
        err: (text) => (err += text),
        machine,
        defaultFile: shownDefault ?? defaultFile,
        signal: new AbortController().signal,
      },
    )
    return { out: out.replaceAll(directory, 'DIR'), err: err.replaceAll(directory, 'DIR'), code }
  }
  const serve = async (role: Role, handlers: Record<string, Handler>) => {
    const socketPath = controlSocketPath(run, role)
    const server = await ControlServer.open({ socketPath, role, log: QUIET }, handlers)
    t.after(() => server.close())
    return server
  }
  return { directory, run, command, serve }
}

function rows(...values: object[]): Handler {
  return async function* () {
    yield* values
  }
}

const COMMANDS = [
  [],
  ['agent'],
  ['proxy'],
  ['observe'],
  ['status'],
  ['cache'],
  ['cache', 'list'],
  ['cache', 'clear'],
  ['grants', 'list'],
  ['policy', 'list'],
  ['policy', 'check'],
  ['explain'],
  ['cleanup'],
]

test('--help of every command says what it does, with examples', async (t) => {
  const { command } = world(t, {}, '/etc/namegate/namegate.yaml')
  let pages = ''
  for (const name of COMMANDS) {
    const { out, code } = await command(...name, '--help')
    assert.equal(code, 0, name.join(' '))
    pages += `$ namegate ${[...name, '--help'].join(' ')}\n${out}\n`
  }
  t.assert.fileSnapshot(pages, path.join(import.meta.dirname, 'help.snapshot'), {
    serializers: [(value) => value],
  })
})

test('wrong usage ends with 2 and says what would be right', async (t) => {
  const { command } = world(t)
  const cases: [string[], RegExp][] = [
    [['observ'], /unknown command 'observ'\n\(Did you mean observe\?\)/],
    [['observe', '--folow'], /unknown option '--folow'\n\(Did you mean --follow\?\)/],
    [['observe', '--last', 'x'], /'x' is invalid.*Write a whole number/],
    [['policy'], /Usage: namegate policy/],
    [['policy', 'check'], /missing required argument 'file'/],
    [['status', '-o', 'xml'], /Allowed choices are text, json/],
    [['explain', 'a/b', 'a b'], /'a b' is neither a name nor an address; write NAME,/],
    [[], /Usage: namegate/],
  ]
  for (const [argv, message] of cases) {
    const { err, code } = await command(...argv)
    assert.equal(code, 2, argv.join(' '))
    assert.match(err, message)
  }
  assert.deepEqual(await command('--version'), { out: '1.2.3\n', err: '', code: 0 })
})

test('a command without a daemon ends with 3', async (t) => {
  const { command } = world(t)
  for (const argv of [['status'], ['observe'], ['cache', 'list'], ['cache', 'clear']]) {
    const { err, code } = await command(...argv)
    assert.equal(code, 3, argv.join(' '))
    assert.match(err, /^namegate: no daemon answers: agent \(DIR\/run\/agent\.ctl\.sock\): is not/)
  }
})

test('-c names a file that must be there, and one with faults still finds the daemons', async (t) => {
  const { command, serve, directory } = world(t)
  await serve('proxy', { 'cache-list': rows() })
  const absent = await command('cache', 'list', '-c', '/nonexistent.yaml')
  assert.equal(absent.code, 1)
  assert.match(absent.err, /^namegate: \/nonexistent\.yaml:1:1: cannot be read: ENOENT/)
  const broken = path.join(directory, 'broken.yaml')
  writeFileSync(broken, `${CONFIG}cahce: {}\n`)
  const { code, err } = await command('cache', 'list', '-c', broken)
  assert.equal(code, 0)
  assert.match(err, /warning: DIR\/broken\.yaml has faults; daemons keep the last good one:\n/)
  assert.match(err, /broken\.yaml:5:1: cahce: unknown key; did you mean 'cache'\?/)
})

test('a daemon is started with the file and level that were given', async (t) => {
  const started: unknown[] = []
  const { command } = world(t, {
    runDaemon: async (...start) => {
      started.push(start)
      return 70
    },
  })
  assert.equal((await command('proxy', '-c', 'a.yaml', '--log-level', 'debug')).code, 70)
  assert.deepEqual(started, [['proxy', 'a.yaml', 'debug']])
})

test('lists are tables for people and JSON lines for programs', async (t) => {
  const { command, serve } = world(t)
  const answer = { type: 'A', kind: 'positive', ttlSeconds: 30, bytes: 61 }
  await serve('agent', {
    'cache-list': rows(
      { ...answer, name: 'www.example.com.', addresses: ['192.0.2.1', '192.0.2.2'] },
      { ...answer, name: 'api.example.com.', kind: 'nodata', addresses: [] },
    ),
    'grants-list': rows({
      client: 'team-a/web',
      clientAddress: '10.0.0.7',
      address: '192.0.2.1',
      names: ['www.example.com'],
      ports: '80/tcp 443/tcp',
      remainingSeconds: 65,
    }),
  })
  assert.equal(
    (await command('cache', 'list')).out,
    [
      'NAME              TYPE  KIND      TTL  BYTES  ADDRESSES',
      'api.example.com.  A     nodata    30s     61  -',
      'www.example.com.  A     positive  30s     61  192.0.2.1 192.0.2.2',
      '',
    ].join('\n'),
  )
  const json = (await command('cache', 'list', '-o', 'json')).out.trim().split('\n')
  assert.deepEqual(
    json.map((line) => JSON.parse(line).name),
    ['www.example.com.', 'api.example.com.'],
  )
  assert.equal(
    (await command('grants', 'list')).out,
    [
      'CLIENT      FROM      ADDRESS    PORTS           LEFT  NAMES',
      'team-a/web  10.0.0.7  192.0.2.1  80/tcp 443/tcp  1m5s  www.example.com',
      '',
    ].join('\n'),
  )
})

test('clearing the cache asks every process, and fails when one hangs', async (t) => {
  const { command, serve } = world(t)
  await serve('proxy', { 'cache-clear': rows({ cleared: 1 }) })
  assert.deepEqual(await command('cache', 'clear'), {
    out: 'proxy: 1 answer forgotten\n',
    err: '',
    code: 0,
  })
  await serve('agent', { 'cache-clear': rows({ cleared: 1200 }) })
  const { out } = await command('cache', 'clear')
  assert.equal(out, 'agent: 1,200 answers forgotten\nproxy: 1 answer forgotten\n')
})

test('clearing the cache is no success while a process hangs', async (t) => {
  const { command, serve, run } = world(t)
  await serve('agent', { 'cache-clear': rows({ cleared: 3 }) })
  const hanging = createServer((socket) => socket.on('error', () => {}))
  await new Promise<void>((resolve) => hanging.listen(controlSocketPath(run, 'proxy'), resolve))
  t.after(() => hanging.close())
  const { out, err, code } = await command('cache', 'clear')
  assert.equal(code, 1)
  assert.equal(out, 'agent: 3 answers forgotten\n')
  assert.match(err, /^namegate: not everything was forgotten: proxy .*it hangs\n$/)
})

test('policy check names each fault with its place, and ends with 1', async (t) => {
  const { command, directory } = world(t)
  const good = path.join(directory, 'good.yaml')
  const head = 'apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n'
  const spec = 'spec:\n  endpointSelector: {}\n  egress:\n'
  const dns =
    '    - toCIDR: [10.96.0.10/32]\n      toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]\n'
  const names = '    - toFQDNs: [{matchName: www.example.com}]\n'
  writeFileSync(good, `${head}metadata: {name: good, namespace: team-a}\n${spec}${dns}${names}`)
  const { out, err, code } = await command('policy', 'check', good)
  assert.deepEqual([out, code], ['', 0])
  assert.equal(err, 'policies: 1 of 1 good; 0 faults, 0 warnings\n')
  writeFileSync(
    path.join(directory, 'bad.yaml'),
    `${head}metadata: {name: bad, namespace: team-a}\n${spec}    - toFQDN: []\n`,
  )
  const bad = await command('policy', 'check', good, path.join(directory, 'bad.yaml'))
  assert.equal(bad.code, 1)
  assert.match(bad.out, /^DIR\/bad\.yaml:7:\d+: spec\.egress\[0\]\.toFQDN: .*toFQDNs/)
  assert.equal(bad.err, 'policies: 1 of 2 good; 1 fault, 0 warnings\n')
  const json = await command('policy', 'check', path.join(directory, 'bad.yaml'), '-o', 'json')
  assert.equal(JSON.parse(json.out).severity, 'fault')
  const absent = await command('policy', 'check', '/nonexistent.yaml')
  assert.equal(absent.code, 1)
  assert.match(absent.err, /\/nonexistent\.yaml: cannot be read: ENOENT/)
})

test('policy list shows faults with their places, and then ends with 1', async (t) => {
  const { command, serve } = world(t)
  const fault = { file: 'p.yaml', line: 3, column: 5, field: 'spec.egress', message: 'no list' }
  const policy = { kind: 'CiliumNetworkPolicy', file: 'p.yaml', clientCount: 2 }
  await serve('agent', {
    'policy-list': rows(
      { ...policy, name: 'team-a/b', state: 'faulty', faults: [fault] },
      { ...policy, name: 'team-a/a', state: 'enforced', faults: [] },
    ),
  })
  assert.deepEqual(await command('policy', 'list'), {
    out: [
      'POLICY    KIND                 STATE     CLIENTS  FILE',
      'team-a/a  CiliumNetworkPolicy  enforced        2  p.yaml',
      'team-a/b  CiliumNetworkPolicy  faulty          2  p.yaml',
      'p.yaml:3:5: spec.egress: no list',
      '',
    ].join('\n'),
    err: '',
    code: 1,
  })
})

test('explain prints the chain of causes, and ends with 1 when it is not allowed', async (t) => {
  const { command, serve } = world(t)
  await serve('agent', {
    explain: async function* ({ client, target }) {
      yield {
        client,
        target,
        isAllowed: false,
        causes: [
          { code: 'client-governed', policy: '', text: 'governed by team-a/p', since: null },
          {
            code: 'name-opens-nothing',
            policy: '',
            text: 'no rule',
            since: '2026-09-01T00:00:00Z',
          },
        ],
      }
    },
  })
  assert.deepEqual(await command('explain', 'team-a/web', 'www.example.com:443'), {
    out: [
      'team-a/web to www.example.com:443: not allowed',
      '  1. governed by team-a/p  [client-governed]',
      '  2. no rule, since 2026-09-01T00:00:00Z  [name-opens-nothing]',
      '',
    ].join('\n'),
    err: '',
    code: 1,
  })
})

test('cleanup does nothing while a daemon runs, unless it is forced', async (t) => {
  const removed: Config[] = []
  const { command, serve } = world(t, {
    removeTraces: async (config) => {
      removed.push(config)
    },
  })
  const server = await serve('proxy', { status: rows({}) })
  const refused = await command('cleanup')
  assert.deepEqual([refused.code, removed.length], [1, 0])
  assert.match(refused.err, /the proxy is running; stop it first, or say --force/)
  assert.equal((await command('cleanup', '--force')).code, 0)
  await server.close()
  assert.equal((await command('cleanup')).code, 0)
  assert.equal(removed.length, 2)
})

const CONNECTION: FlowRow = {
  time: '2026-09-01T02:36:16.250Z',
  node: 'worker-1',
  flow: {
    type: 'connection',
    timeMs: Date.UTC(2026, 8, 1, 2, 36, 16, 250),
    verdict: 'DROPPED',
    reason: 'NO_GRANT',
    protocol: 'tcp',
    source: { address: '10.0.0.7', port: 52110 },
    destination: { address: '192.0.2.1', port: 443 },
    interfaceIndex: 0,
    tcpFlags: ['SYN'],
  },
  source: { namespace: 'team-a', name: 'web', identity: 300, names: [] },
  destination: { namespace: '', name: '', identity: 2, names: [] },
}

test('observe prints Hubble lines, and JSON rows for programs', async (t) => {
  const { command, serve } = world(t)
  let asked: unknown
  await serve('proxy', {
    observe: async function* (args) {
      asked = args
      yield CONNECTION
    },
  })
  const argv = ['observe', '--verdict', 'dropped', '--pod', 'team-a/', '--last', '5']
  const { out } = await command(...argv)
  assert.deepEqual(asked, {
    last: 5,
    sinceMs: -1,
    follow: false,
    pods: ['team-a/'],
    verdicts: ['DROPPED'],
    names: [],
  })
  assert.equal(
    out,
    [
      'Sep  1 02:36:16.250: team-a/web:52110 (ID:300) <> 192.0.2.1:443 (world) policy-verdict:none EGRESS DENIED (TCP Flags: SYN)',
      'Sep  1 02:36:16.250: team-a/web:52110 (ID:300) <> 192.0.2.1:443 (world) Policy denied DROPPED (TCP Flags: SYN)',
      '',
    ].join('\n'),
  )
  assert.deepEqual(JSON.parse((await command(...argv, '-o', 'json')).out), CONNECTION)
})

test('following goes on at the other daemon when the first one dies, from where it was', async (t) => {
  const { command, serve } = world(t)
  const agent = await serve('agent', {
    observe: async function* (_args, signal) {
      yield CONNECTION
      setTimeout(() => void agent.close(), 20)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
  })
  let asked: Record<string, unknown> = {}
  await serve('proxy', {
    observe: async function* (args) {
      asked = args
      yield CONNECTION
    },
  })
  const { out, err, code } = await command('observe', '-f')
  assert.equal(code, 0)
  assert.equal(out.trim().split('\n').length, 4)
  assert.equal(err, 'the agent went away before it had answered; going on with the other daemon\n')
  assert.equal(asked['sinceMs'], CONNECTION.flow.timeMs)
})
