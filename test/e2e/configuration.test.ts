/**
 * The configuration file of a real daemon, on the loopback interface and without root: what is
 * wrong in it is said with its place, before anything is touched; while a daemon runs, a change
 * takes effect and a mistake changes nothing.
 */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempDisposableSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RCODE_NOERROR } from '../../src/wire/header.ts'
import { buildMessage, parseMessage } from '../../src/wire/message.ts'
import { LoneProxy, LOOPBACK } from '../support/e2e-lone.ts'
import { editFile } from '../support/e2e-node.ts'
import { RogueServer } from '../support/e2e-rogue.ts'
import { type Finished, run, until } from '../support/process.ts'

const PROGRAM = join(import.meta.dirname, '..', '..', 'namegate')
const FIRST_ADDRESS = '192.0.2.1'
const SECOND_ADDRESS = '192.0.2.2'
/** Files are looked at each second. */
const NOTICED_MS = 4000

const GOOD = `state: state
run: run
listen: { addresses: [${LOOPBACK}], port: 5300 }
upstreams:
  - { zones: ["."], servers: [192.0.2.53] }
`

const REFUSED: readonly (readonly [line: string, message: RegExp])[] = [
  ['observe: { hubble: { agent: unix:agent.sock } }', /:6:\d+: observe\.hubble: .*not built yet/],
  [
    'observe: { metrics: { agent: "127.0.0.1:9253" } }',
    /:6:\d+: observe\.metrics: .*not built yet/,
  ],
  ['clients: { kubernetes: true }', /:6:\d+: clients\.kubernetes: .*not built yet/],
  ['cahce: { size: 8MiB }', /:6:1: cahce: .*'cache'/],
  ['cache: { siez: 8MiB }', /:6:\d+: cache\.siez: .*'size'/],
  ['cache: { size: 8TiB }', /:6:\d+: cache\.size: /],
  ['policy: { directory: policies, mode: strict }', /:6:\d+: policy\.mode: .*audit/],
]

test('a file with a fault: exit 1, with the line and the key, and nothing is made', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'ngt-config-'))
  const file = join(folder.path, 'namegate.yaml')
  for (const [line, message] of REFUSED) {
    writeFileSync(file, `${GOOD}${line}\n`)
    const { code, stderr } = await startIn(file)
    assert.equal(code, 1, line)
    assert.match(stderr, message)
    assert.deepEqual(readdirSync(folder.path), ['namegate.yaml'], line)
  }
  const missing = await startIn(join(folder.path, 'missing.yaml'))
  assert.equal(missing.code, 1)
  assert.match(missing.stderr, /missing\.yaml.*cannot be read/)
})

test('a port that somebody else has: exit 1, naming address and port', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'ngt-config-'))
  const file = join(folder.path, 'namegate.yaml')
  await using stranger = createServer().listen(0, LOOPBACK)
  await once(stranger, 'listening')
  const { port } = stranger.address() as AddressInfo
  writeFileSync(file, GOOD.replace('5300', String(port)))
  const { code, stderr } = await startIn(file)
  assert.equal(code, 1)
  assert.match(stderr, new RegExp(`open TCP ${LOOPBACK}:${port}: .*EADDRINUSE`))
})

test('a second proxy is told that one runs, and disturbs nothing', async () => {
  await using world = await Resolvers.start()
  await using proxy = await LoneProxy.start({ upstream: world.first })
  const { code, stderr } = await startIn(join(proxy.directory, 'namegate.yaml'))
  assert.equal(code, 1)
  assert.match(stderr, /another one runs already .*proxy\.lock.*stop it first/)
  assert.equal(await addressOf(proxy, 'a.example.com.'), FIRST_ADDRESS)
})

test('what the daemon makes is for its user alone', async () => {
  await using world = await Resolvers.start()
  await using proxy = await LoneProxy.start({ upstream: world.first })
  const modeOf = (name: string): string =>
    (statSync(join(proxy.directory, name)).mode & 0o777).toString(8)
  assert.deepEqual(['run', 'state'].map(modeOf), ['700', '700'])
  for (const name of readdirSync(join(proxy.directory, 'run'))) {
    assert.equal(modeOf(`run/${name}`), '600', name)
  }
})

test('a mistake in a running file is said with its place, and changes nothing', async () => {
  await using world = await Resolvers.start()
  await using proxy = await LoneProxy.start({ upstream: world.first })
  const file = join(proxy.directory, 'namegate.yaml')
  const good = `servers: ["${world.first}"]`
  editFile(file, (text) => text.replace(good, `serves: ["${world.second}"]`))
  // One line for each fault, then one that says what comes of it.
  await until(
    'the faults are told',
    () => /the one before stays in force/.test(String(proxy.log.at(-1)!['msg'])),
    NOTICED_MS,
  )
  const [fault] = proxy.log.filter(({ level }) => level === 'error')
  assert.equal(fault?.['line'], 5)
  assert.match(String(fault?.['key']), /^upstreams\[0\]/)
  assert.equal(await addressOf(proxy, 'b.example.com.'), FIRST_ADDRESS, 'the upstream of before')
  editFile(file, (text) => text.replace('serves:', 'servers:'))
  await until(
    'the change is in force',
    async () => {
      return (await addressOf(proxy, `c${performance.now()}.example.com.`)) === SECOND_ADDRESS
    },
    NOTICED_MS,
  )
})

test('SIGHUP reads the file at once; what needs a restart is said', async () => {
  await using world = await Resolvers.start()
  await using proxy = await LoneProxy.start({ upstream: world.first })
  const file = join(proxy.directory, 'namegate.yaml')
  editFile(file, (text) => `${text.replace(world.first, world.second)}node: renamed\n`)
  proxy.process.kill('SIGHUP')
  const said = (): string => JSON.stringify(proxy.log.map(({ msg, keys }) => [msg, keys]))
  await until('it is read', () => said().includes('configuration read anew'), 900)
  assert.match(said(), /"these keys change only with a restart of both processes",\["node"\]/)
  assert.equal(await addressOf(proxy, 'd.example.com.'), SECOND_ADDRESS)
})

/** The program, told to run a proxy by this file; it ends by itself. */
function startIn(file: string): Promise<Finished> {
  return run(PROGRAM, ['proxy', '-c', file])
}

/** The answer to the question for this name, if it is one address. */
async function addressOf(proxy: LoneProxy, name: string): Promise<string | null> {
  const reply = await proxy.ask(buildMessage({ id: 7, question: `${name} A` }))
  const message = reply === null ? null : parseMessage(reply)
  if (message === null || message.rcode !== RCODE_NOERROR) return null
  return message.answers.map(({ rdata }) => [...rdata].join('.')).join()
}

/** Two servers, each with an address of its own for every name. */
class Resolvers implements AsyncDisposable {
  readonly first: string
  readonly second: string
  readonly #servers: readonly RogueServer[]

  static async start(): Promise<Resolvers> {
    return new Resolvers([
      await RogueServer.start(FIRST_ADDRESS),
      await RogueServer.start(SECOND_ADDRESS),
    ])
  }

  private constructor(servers: readonly [RogueServer, RogueServer]) {
    this.#servers = servers
    this.first = `${LOOPBACK}:${servers[0].port}`
    this.second = `${LOOPBACK}:${servers[1].port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]()
  }
}
