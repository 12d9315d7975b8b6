/**
 * Who is measured: ourselves, the C floor, and the servers that people use today. One table, one
 * entry a subject: how it is started on a stage, how it is tuned, and its version.
 *
 * Fair means: each has one thread that answers, a cache with room for every name that a benchmark
 * asks for, no log of queries, and the settings that its own manual calls fast.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { coreDnsProgram, whyNoCoreDns } from './coredns.ts'
import { writeNamegateFiles } from './namegate-files.ts'
import { SERVER, type Stage, UPSTREAM } from './stage.ts'

export interface SubjectOptions {
  /** Namegate's cache.size, as its configuration writes it; default: Namegate's own. */
  readonly cacheSize?: string
  /** Arguments for Namegate's Node. */
  readonly nodeArguments?: readonly string[]
}

export interface Place extends SubjectOptions {
  readonly stage: Stage
  /** A directory of this subject's own, empty. */
  readonly directory: string
}

export interface Subject {
  readonly name: string
  /** How it is tuned, in a line; for the report. */
  readonly how: string
  /** Null, or why it can't be measured on this machine. */
  readonly missing: () => string | null
  readonly version: () => string
  /** What a process other than the first prints when it serves. */
  readonly ready?: string
  /** Writes what the server needs and returns the command lines of its processes. */
  readonly commands: (place: Place) => readonly string[][]
}

const ROOT = join(import.meta.dirname, '..')
const MAIN = [join(ROOT, 'dist', 'namegate.js'), join(ROOT, 'bin', 'namegate.ts')]
/** Entries of the peers' caches: more than any benchmark but the flood has names. */
const ENTRIES = 200_000

export const FLOOR = 'floor'
export const FLOOR_PLAIN = 'floor-plain'
export const OURS = 'namegate'
export const OURS_BOTH = 'namegate-both'
export const OURS_PLAIN = 'namegate-plain'

export const SUBJECTS: readonly Subject[] = [
  {
    name: FLOOR,
    how: 'C: recvmmsg and sendmmsg of 64, sends each query back; behind the least of a TPROXY rule',
    missing: () => null,
    version: () => firstLine('gcc', ['--version']),
    commands: ({ stage }) => {
      stage.node.execWithInput(LEAST_INTERCEPTION, 'nft', '-f', '-')
      stage.node.ip('rule', 'add', 'fwmark', '1', 'lookup', '100', 'pref', '100')
      stage.node.ip('route', 'add', 'local', 'default', 'dev', 'lo', 'table', '100')
      return [[stage.workplace.program('floor'), '127.0.0.1', '53', '-t']]
    },
  },
  {
    name: FLOOR_PLAIN,
    how: 'the same on a plain socket',
    missing: () => null,
    version: () => firstLine('gcc', ['--version']),
    commands: ({ stage }) => [[stage.workplace.program('floor'), SERVER, '53']],
  },
  namegate(OURS, 'the agent alone; clients governed, intercepted', ['agent']),
  namegate(OURS_BOTH, 'agent and proxy, CPU of both; clients governed, intercepted', [
    'agent',
    'proxy',
  ]),
  namegate(OURS_PLAIN, 'the agent alone; clients governed, plain sockets (so no grants)', [
    'agent',
  ]),
  {
    name: 'unbound',
    how: 'one thread, forward mode, no validation; socket buffers 4 MiB',
    ...debian('unbound', ['-V'], 'unbound'),
    commands: ({ directory }) => {
      const file = join(directory, 'unbound.conf')
      writeFileSync(file, unboundFile(directory))
      return [[findProgram('unbound')!, '-d', '-c', file]]
    },
  },
  {
    name: 'dnsdist',
    how: 'packet cache, recvmmsg of 64; one listener, one socket to the upstream',
    ...debian('dnsdist', ['--version'], 'dnsdist'),
    commands: ({ directory }) => {
      const file = join(directory, 'dnsdist.conf')
      writeFileSync(file, DNSDIST_FILE)
      return [[findProgram('dnsdist')!, '--supervised', '--disable-syslog', '-C', file]]
    },
  },
  {
    name: 'dnsmasq',
    how: `--cache-size=${ENTRIES} (its default is 150), --dns-forward-max=10000`,
    ...debian('dnsmasq', ['--version'], 'dnsmasq-base'),
    commands: ({ directory }) => [
      [
        ...[
          findProgram('dnsmasq')!,
          '--keep-in-foreground',
          '--conf-file=/dev/null',
          '--user=root',
        ],
        ...['--no-resolv', '--no-hosts', `--server=${UPSTREAM}`, `--listen-address=${SERVER}`],
        ...['--bind-interfaces', `--cache-size=${ENTRIES}`, '--dns-forward-max=10000'],
        `--pid-file=${join(directory, 'pid')}`,
      ],
    ],
  },
  {
    name: 'coredns',
    how: 'as NodeLocal DNSCache (errors, cache, loop, reload, prometheus, forward), GOMAXPROCS=1',
    missing: whyNoCoreDns,
    version: () => firstLine(coreDnsProgram(), ['-version']),
    commands: ({ directory }) => {
      const file = join(directory, 'Corefile')
      writeFileSync(file, COREFILE)
      return [['env', 'GOMAXPROCS=1', coreDnsProgram(), '-conf', file, '-quiet']]
    },
  },
]

/** The path of a program, looked for where daemons are too; null when it is not installed. */
export function findProgram(name: string): string | null {
  const paths = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const path of paths) if (existsSync(join(path, name))) return join(path, name)
  return null
}

function namegate(name: string, how: string, roles: readonly ('agent' | 'proxy')[]): Subject {
  return {
    name,
    how,
    missing: () => null,
    version: () => {
      const commit = firstLine('git', ['-C', ROOT, 'describe', '--always', '--dirty'])
      return `${commit}, ${programFile().endsWith('.js') ? 'the bundle' : 'not bundled'}`
    },
    ready: '"serving"',
    commands: ({ directory, cacheSize, nodeArguments = [] }) => {
      const file = writeNamegateFiles(directory, { cacheSize, isIntercepting: name !== OURS_PLAIN })
      const words = [process.execPath, ...nodeArguments, '--disable-warning=ExperimentalWarning']
      return roles.map((role) => [...words, programFile(), role, '-c', file])
    },
  }
}

/** What ships, if it was built; `npm run bench` builds it. */
function programFile(): string {
  return MAIN.find((file) => existsSync(file))!
}

function debian(
  command: string,
  versionArguments: string[],
  name: string,
): Pick<Subject, 'missing' | 'version'> {
  return {
    missing: () => (findProgram(command) === null ? `not installed (Debian: ${name})` : null),
    version: () => firstLine(findProgram(command)!, versionArguments),
  }
}

/** What any interception needs: to the socket, and out again, untracked. */
const LEAST_INTERCEPTION = `table ip floor {
  chain prerouting {
    type filter hook prerouting priority raw + 10
    udp dport 53 ip daddr ${SERVER} tproxy to 127.0.0.1:53 meta mark set 1 notrack accept
  }
  chain output {
    type filter hook output priority raw
    udp sport 53 notrack
  }
}
`

function unboundFile(directory: string): string {
  return `server:
  interface: ${SERVER}
  port: 53
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  directory: "${directory}"
  pidfile: "${join(directory, 'pid')}"
  num-threads: 1
  so-rcvbuf: 4m
  so-sndbuf: 4m
  outgoing-range: 4096
  num-queries-per-thread: 2048
  incoming-num-tcp: 1000
  module-config: "iterator"
  qname-minimisation: no
  access-control: 0.0.0.0/0 allow
  msg-cache-size: 64m
  rrset-cache-size: 128m
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: ${UPSTREAM}
`
}

const DNSDIST_FILE = `setUDPMultipleMessagesVectorSize(64)
setLocal("${SERVER}:53")
setACL({"0.0.0.0/0"})
setSecurityPollSuffix("")
setMaxUDPOutstanding(65535)
newServer({address="${UPSTREAM}:53", sockets=1})
getPool(""):setCache(newPacketCache(${ENTRIES}, {maxTTL=86400, dontAge=false}))
`

/**
 * The stock Corefile's block for the root zone (no force_tcp there), but for the limits of its
 * cache: 10,000 entries and 30 s would turn a part of the hits into misses.
 */
const COREFILE = `.:53 {
    errors
    cache {
        success ${ENTRIES} 3600
        denial ${ENTRIES} 30
    }
    reload
    loop
    bind ${SERVER}
    forward . ${UPSTREAM}
    prometheus ${SERVER}:9253
}
`

function firstLine(program: string, programArguments: string[]): string {
  const text = execFileSync(program, programArguments, { encoding: 'utf8' })
  return text.split('\n', 1)[0]!.trim()
}
