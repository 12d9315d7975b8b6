/**
 * What stands between a fresh checkout and a command that runs: `node tools/prepare.mjs COMMAND …`
 * (the npm scripts call it) makes sure that this machine has what the command needs, says what it
 * installs, and then hands over to the pinned Node.
 *
 * Plain JavaScript that any Node from 20 runs, importing nothing but Node: there is no node_modules
 * yet when it starts. Debian packages come before `npm ci`, because the pinned Node needs
 * libatomic1 and the last step of `npm ci` runs on it.
 *
 * Everything it says goes to stderr: the command's standard output belongs to the command.
 */
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline/promises'

const ROOT = join(import.meta.dirname, '..')
const SYSTEM_PATHS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin']

/**
 * Commands by name. `kernel` says what they do with the kernel's help: 'all' can't run without it,
 * a sentence names the part that can't, null means that they need none. `daemons`: they start
 * daemons, which shall be the bundle that ships: it is built when it is older than the sources.
 */
const COMMANDS = {
  story: { script: 'test/story/main.ts', kernel: 'all', daemons: true },
  test: {
    script: 'tools/test.ts',
    kernel: 'the kernel tests (*.linux.test.ts, test/e2e)',
    daemons: true,
  },
  ok: { script: 'tools/ok.ts', kernel: null },
  build: { script: 'tools/build.ts', kernel: null },
  gen: { script: 'tools/gen.ts', kernel: null },
  fuzz: { script: 'test/fuzz/fuzz.ts', kernel: null },
  bench: { script: 'bench/main.ts', kernel: 'the benchmarks in namespaces', daemons: true },
}

/**
 * The one list of Debian packages. `for`: commands that want it; absent, all of them. `isService`:
 * installing it starts a server on this machine where systemd runs; there it is left to the user.
 */
const PACKAGES = [
  { name: 'libatomic1', library: 'libatomic.so.1' }, // the pinned Node is linked against it
  { name: 'iproute2', command: 'ip', for: ['story', 'test', 'bench'] },
  { name: 'nftables', command: 'nft', for: ['story', 'test', 'bench'] },
  { name: 'conntrack', command: 'conntrack', for: ['story', 'test'] },
  { name: 'bind9-dnsutils', command: 'dig', for: ['story', 'test'] },
  // Whose answers ours are compared with, and whom the benchmarks run beside us.
  { name: 'unbound', command: 'unbound', for: ['test', 'bench'], isService: true },
  { name: 'dnsdist', command: 'dnsdist', for: ['bench'], isService: true },
  { name: 'dnsmasq-base', command: 'dnsmasq', for: ['bench'] },
  { name: 'curl', command: 'curl', for: ['story', 'test'] },
  { name: 'gcc', command: 'gcc', for: ['test', 'bench'] }, // struct offsets are compared with C's
  { name: 'libc6-dev', file: '/usr/include/stdlib.h', for: ['test', 'bench'] },
  { name: 'dnsperf', command: 'dnsperf', for: ['bench'] },
]

await main(process.argv[2], process.argv.slice(3))

async function main(name, commandArguments) {
  const command = COMMANDS[name]
  if (command === undefined) {
    stop(2, `usage: node tools/prepare.mjs ${Object.keys(COMMANDS).join('|')} [ARGUMENTS]`)
  }
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    stop(1, `namegate runs on Linux, x64 or arm64; this is ${process.platform} ${process.arch}`)
  }
  process.env.PATH = [process.env.PATH, ...SYSTEM_PATHS].join(delimiter)

  await installSystemPackages(name, command)
  checkKernel(name, command)
  installNodePackages()
  if (command.daemons) buildBundle()

  if (!existsSync(join(ROOT, command.script))) {
    stop(1, `${title(name)}: there is no ${command.script} in this release`)
  }
  handOver(command.script, commandArguments)
}

/** Installs what is missing, or says what to type and what can't run without it. */
async function installSystemPackages(name, command) {
  const wanted = PACKAGES.filter((one) => (one.for ?? [name]).includes(name) && !isPresent(one))
  const hasSystemd = existsSync('/run/systemd/system')
  const servers = wanted.filter((one) => one.isService && hasSystemd).map((one) => one.name)
  if (servers.length > 0) {
    say(
      `not installed, because Debian would start them as servers: ${servers.join(', ')}. ` +
        'What is compared with them is left out',
    )
  }
  const missing = wanted.filter((one) => !servers.includes(one.name))
  if (missing.length === 0) return

  const names = missing.map((one) => one.name).join(' ')
  const isRoot = process.getuid() === 0
  const line = `${isRoot ? '' : 'sudo '}apt-get install ${names}`
  let why = ''
  if (!isDebian()) why = 'this is not Debian or a relative: use the names that your system has'
  else if (!isRoot) why = 'only root can install them'
  else if (!(await isAgreed(`Install from Debian: ${names}?`))) why = 'you said no'
  else {
    say(`installing from Debian: ${names}`)
    const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const isInstalled =
      execute('apt-get', ['update', '-q'], environment) &&
      execute(
        'apt-get',
        ['install', '-y', '-q', '--no-install-recommends', ...names.split(' ')],
        environment,
      )
    const still = missing.filter((one) => !isPresent(one))
    if (isInstalled && still.length === 0) return
    why = 'apt-get failed, see above'
  }

  say(`missing: ${names} (${why}). The line to type:\n    ${line}`)
  if (missing.some((one) => one.for === undefined)) {
    stop(1, `${title(name)} can't run: the pinned Node does not start without it`)
  }
  if (command.kernel === 'all') stop(1, `${title(name)} can't run without them`)
  say(
    `without them ${command.kernel ?? 'some parts'} may fail or be skipped; going on with the rest`,
  )
}

/** Says which part needs root, or namespaces, and is not going to have them. */
function checkKernel(name, command) {
  if (command.kernel === null) return
  let why = ''
  if (process.getuid() !== 0)
    why = `it makes network namespaces, which takes root: sudo ${title(name)}`
  else if (spawnSync('unshare', ['--net', 'true']).status !== 0) {
    why = 'this machine lets nobody make network namespaces; a container wants --privileged'
  }
  if (why === '') return
  if (command.kernel === 'all') stop(1, `${title(name)} can't run: ${why}`)
  say(`skipping ${command.kernel}: ${why}`)
}

/** `npm ci`, when node_modules is not what package-lock.json says. */
function installNodePackages() {
  const difference = differenceFromLock()
  if (difference === null) return
  say(`npm ci (${difference})`)
  // Not with the Node inside node_modules, which npm is about to remove.
  const path = process.env.PATH.split(delimiter).filter((one) => !one.includes('node_modules'))
  const environment = { ...process.env, PATH: path.join(delimiter) }
  if (!execute('npm', ['ci', '--no-fund', '--no-audit'], environment)) {
    stop(1, "npm ci failed, see above; it needs Node 20 or later, npm, and npm's registry")
  }
  const left = differenceFromLock()
  if (left !== null) stop(1, `npm ci went through, yet ${left}`)
}

/** `npm run build`, when the bundle is older than a source; what it would say is kept quiet. */
function buildBundle() {
  const bundle = join(ROOT, 'dist', 'namegate.js')
  if (existsSync(bundle) && !isNewer(statSync(bundle).mtimeMs)) return
  say('npm run build')
  const built = spawnSync(pinnedNode(), [join(ROOT, COMMANDS.build.script)], { stdio: 'pipe' })
  // The daemons run from the sources then, only slower.
  if (built.status !== 0) say(`the bundle could not be built: ${built.stderr}`)
}

/** Whether a source was written after that moment; as ./namegate asks it. */
function isNewer(mtimeMs) {
  const sources = ['bin', 'src'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((one) => one.isFile() && !one.name.endsWith('.test.ts'))
      .map((one) => join(one.parentPath ?? one.path, one.name)),
  )
  return [...sources, join(ROOT, 'package-lock.json')].some(
    (path) => statSync(path).mtimeMs > mtimeMs,
  )
}

/** What node_modules lacks, in words; null when it holds what the lock file says. */
function differenceFromLock() {
  if (!existsSync(pinnedNode())) return 'the pinned Node is not installed'
  const wanted = readJson('package-lock.json').packages
  const hidden = join('node_modules', '.package-lock.json') // npm's own record of what it did
  const installed = existsSync(join(ROOT, hidden)) ? readJson(hidden).packages : {}
  for (const [path, one] of Object.entries(wanted)) {
    if (path === '') continue
    const found = installed[path]
    // Another platform's binary: optional, and rightly absent.
    if (found === undefined && one.optional) continue
    if (found?.version !== one.version) return `${path} is not at ${one.version}`
  }
  return null
}

/** Runs the command on the pinned Node and ends as it ended. */
function handOver(script, commandArguments) {
  const path = [join(ROOT, 'node_modules', '.bin'), process.env.PATH].join(delimiter)
  const child = spawn(
    pinnedNode(),
    ['--disable-warning=ExperimentalWarning', join(ROOT, script), ...commandArguments],
    { stdio: 'inherit', env: { ...process.env, PATH: path } },
  )
  // Ctrl-C reaches the child by itself; we stay until it has cleaned up.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => stop(1, `${pinnedNode()}: ${error.message}`))
  child.on('exit', (code, signal) => {
    process.exit(code ?? (signal === 'SIGINT' ? 130 : 143))
  })
}

/** How a person calls it. */
function title(name) {
  return { story: 'npm start', test: 'npm test' }[name] ?? `npm run ${name}`
}

function pinnedNode() {
  return join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node')
}

function isPresent(one) {
  if (one.file !== undefined) return existsSync(one.file)
  if (one.library !== undefined) {
    const listed = spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? ''
    return listed.includes(`${one.library} `)
  }
  return process.env.PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, one.command), constants.X_OK)
      return true
    } catch {
      return false // not in this folder
    }
  })
}

function isDebian() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  return /^ID(_LIKE)?=.*debian/m.test(release)
}

/** On a terminal we ask first; without one nobody is there to answer, and we go on. */
async function isAgreed(question) {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true
  const reader = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await reader.question(`namegate: ${question} [Y/n] `)
  reader.close()
  return !/^n/i.test(answer.trim())
}

/** Runs a command, its output on our stderr; whether it went well. */
function execute(command, commandArguments, environment) {
  const result = spawnSync(command, commandArguments, {
    cwd: ROOT,
    env: environment,
    stdio: ['ignore', 2, 2],
  })
  if (result.error !== undefined) say(`${command}: ${result.error.message}`)
  return result.status === 0
}

function readJson(path) {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'))
}

function say(text) {
  process.stderr.write(`namegate: ${text}\n`)
}

function stop(code, text) {
  say(text)
  process.exit(code)
}
