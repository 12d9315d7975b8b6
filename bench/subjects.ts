/**
 * Who is measured: ourselves, the C floor, and the servers that people use today. One table, one
 * entry a server: how it is told apart, started and asked for its version.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Place {
  /** A directory of this subject's own, empty. */
  readonly directory: string
  readonly port: number
  readonly upstreamPort: number
}

export interface Subject {
  readonly name: string
  /** Null, or why it can't be measured on this machine. */
  readonly missing: () => string | null
  readonly version: () => string
  /** Writes what the server needs and returns its command line. It must not fork away. */
  readonly command: (place: Place) => string[]
}

const ROOT = join(import.meta.dirname, '..')
const ADDRESS = '127.0.0.1'

export const FLOOR = 'floor'
export const OURS = 'namegate'

export const SUBJECTS: readonly Subject[] = [
  {
    name: FLOOR,
    missing: () => (findProgram('gcc') === null ? 'no gcc to compile bench/floor.c' : null),
    version: () => firstLine('gcc', ['--version']),
    command: ({ directory, port }) => {
      const program = join(directory, 'floor')
      const source = join(import.meta.dirname, 'floor.c')
      execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-o', program, source])
      return [program, ADDRESS, String(port)]
    },
  },
  {
    name: OURS,
    missing: () => null,
    version: () => firstLine('git', ['-C', ROOT, 'describe', '--always', '--dirty']),
    command: ({ directory, port, upstreamPort }) => {
      const file = join(directory, 'namegate.yaml')
      writeFileSync(
        file,
        `node: bench
state: ${join(directory, 'state')}
run: ${join(directory, 'run')}
listen: {addresses: [${ADDRESS}], port: ${port}}
limits: {queriesPerSecond: 1000000}
upstreams:
  - {zones: ["."], servers: ["${ADDRESS}:${upstreamPort}"]}
`,
      )
      return [join(ROOT, 'namegate'), 'proxy', '-c', file]
    },
  },
  {
    name: 'unbound',
    missing: () => (findProgram('unbound') === null ? 'not installed' : null),
    version: () => firstLine('unbound', ['-V']),
    command: ({ directory, port, upstreamPort }) => {
      const file = join(directory, 'unbound.conf')
      writeFileSync(
        file,
        `server:
  interface: ${ADDRESS}
  port: ${port}
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  directory: "${directory}"
  pidfile: "${join(directory, 'pid')}"
  num-threads: 1
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  msg-cache-size: 32m
  rrset-cache-size: 64m
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: ${ADDRESS}@${upstreamPort}
`,
      )
      return ['unbound', '-d', '-c', file]
    },
  },
]

/** The path of a program, looked for where daemons are too; null when it is not installed. */
export function findProgram(name: string): string | null {
  const paths = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const path of paths) if (existsSync(join(path, name))) return join(path, name)
  return null
}

function firstLine(program: string, programArguments: string[]): string {
  const found = findProgram(program) ?? program
  return execFileSync(found, programArguments, { encoding: 'utf8' }).split('\n', 1)[0]!
}
