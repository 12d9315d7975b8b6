/**
 * The load generator: dnsperf in the namespace of the clients, bounded in queries and in time, and
 * what it saw. Its own CPU is measured by the shell that starts it (`times`: getrusage of children).
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { FIRST_PORT, SERVER, type Stage } from './stage.ts'

export interface LoadOptions {
  /** One query a line: name and type (names.ts). */
  readonly file: string
  /** How often to go through the file. */
  readonly passes: number
  readonly secondsMax: number
  /** Sockets to send from; up to CLIENTS.length, each of them a client. */
  readonly clients: number
  /** Queries per second at most; default: as fast as answers come. */
  readonly rate?: number
  /** 'connections': over TCP, a connection for each query. Default: udp. */
  readonly transport?: 'udp' | 'tcp' | 'connections'
}

export interface LoadResult {
  readonly sent: number
  readonly completed: number
  /** No answer came within TIMEOUT_SECONDS. */
  readonly lost: number
  /** Answers other than NOERROR: a subject that refuses is fast, and useless. */
  readonly failed: number
  readonly seconds: number
  /** CPU of the generator. */
  readonly generatorMs: number
}

/** Queries that may be on their way at once: full batches, and nobody's receive buffer too small. */
const OUTSTANDING = 128
const TIMEOUT_SECONDS = 2

export async function load(stage: Stage, options: LoadOptions): Promise<LoadResult> {
  const { secondsMax } = options
  const words =
    options.transport === 'connections' ? connectionsWords(stage, options) : dnsperfWords(options)
  const finished = await stage.load.run('sh', ['-c', '"$@"; times', 'sh', ...words], {
    deadlineMs: (secondsMax + TIMEOUT_SECONDS + 10) * 1000,
  })
  const output = finished.stdout + finished.stderr
  const completed = number(output, /Queries completed:\s+(\d+)/)
  return {
    sent: number(output, /Queries sent:\s+(\d+)/),
    completed,
    lost: number(output, /Queries lost:\s+(\d+)/),
    failed: completed - Number(/NOERROR (\d+)/.exec(output)?.[1] ?? 0),
    seconds: number(output, /Run time \(s\):\s+([\d.]+)/),
    generatorMs: childrenMs(finished.stdout),
  }
}

function dnsperfWords(options: LoadOptions): string[] {
  const { file, passes, secondsMax, clients, transport = 'udp', rate } = options
  const words = ['dnsperf', '-s', SERVER, '-d', file, '-m', transport]
  words.push('-n', String(passes), '-l', String(secondsMax), '-t', String(TIMEOUT_SECONDS))
  words.push('-T', '1', '-c', String(clients), '-q', String(OUTSTANDING))
  if (transport === 'udp') words.push('-x', String(FIRST_PORT))
  if (rate !== undefined) words.push('-Q', String(rate))
  return words
}

function connectionsWords(stage: Stage, options: LoadOptions): string[] {
  const { file, passes, secondsMax, clients } = options
  const queries = passes * readFileSync(file, 'utf8').trimEnd().split('\n').length
  const counts = [queries, clients, secondsMax].map(String)
  return [stage.workplace.program('connections'), SERVER, file, ...counts]
}

export function generatorVersion(): string {
  const text = execFileSync('dnsperf', ['-h'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return /Version (\S+)/i.exec(text)?.[1] ?? 'unknown'
}

/** The last line of `times`: user and system time of the shell's children, '0m1.250000s 0m0.5s'. */
function childrenMs(text: string): number {
  const times = text
    .trim()
    .split('\n')
    .at(-1)!
    .matchAll(/(\d+)m([\d.]+)s/g)
  let ms = 0
  for (const [, minutes, seconds] of times) ms += Number(minutes) * 60_000 + Number(seconds) * 1000
  return ms
}

function number(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1]
  if (found === undefined)
    throw new Error(`dnsperf printed no ${pattern.source}:\n${text.slice(-2000)}`)
  return Number(found)
}
