/**
 * The kinds of things that the story does and what each must show: real `curl`, `dig`, `kill` and
 * `namegate`, run in the world's directory, their output judged.
 *
 * A lookup or a connection is tried once. A client that has to try again has noticed something, and
 * what is promised is that it notices nothing. What the daemons report may be a moment late.
 */
import { readFileSync } from 'node:fs'
import { type Finished, type RunningProcess, sleep } from '../support/process.ts'
import type { PodLabel, Role, World } from '../support/world.ts'
import type { Check, Seen } from './teller.ts'

/** A SYN that was dropped is sent again after a second: a connection that took longer lost one. */
const CONNECT_SECONDS_MAX = 0.9
/** How long a report may lag behind what happened. */
const REPORT_MS = 5_000
const STOP_MS = 10_000

/** Interval of time, as Date.now gives it. */
export interface Period {
  readonly fromMs: number
  readonly toMs?: number
}

/** The pod connects, and with the first packet: the address was open when its name was known. */
export function connects(world: World, pod: PodLabel, ...words: string[]): Check {
  return curl(world, pod, ['-m', '5', ...words], ({ code, stdout, stderr }) => {
    const [, known, connected] = /known after ([\d.]+) s, connected after ([\d.]+) s/.exec(stdout)!
    const seconds = Number(connected) - Number(known)
    const page = stdout.split('\n')[0]!
    if (code !== 0) return { seen: stderr || `curl: exit ${code}`, ok: false }
    return {
      seen: `${page}\nconnected ${(seconds * 1000).toFixed(1)} ms after its name was known`,
      ok: page.startsWith('this is ') && seconds < CONNECT_SECONDS_MAX,
    }
  })
}

/** The name is known, or the address given, and no connection comes about. */
export function isDropped(world: World, pod: PodLabel, ...words: string[]): Check {
  return curl(world, pod, ['-m', '1', ...words], ({ code, stdout, stderr }) => {
    const isConnected = !stdout.includes('connected after 0.000000 s')
    const isResolved = !/Could not resolve|Resolving timed out/i.test(stderr)
    return {
      seen: stderr || stdout,
      ok: code === CURL_TIMED_OUT && !isConnected && isResolved,
    }
  })
}

const CURL_TIMED_OUT = 28

function curl(
  world: World,
  pod: PodLabel,
  words: readonly string[],
  judge: (finished: Finished) => Seen,
): Check {
  return command(world, [`./${pod}`, 'curl', ...words], judge)
}

export interface DigResult {
  /** 'NOERROR'; '' when nothing came. */
  readonly status: string
  readonly records: readonly string[]
  readonly queryMs: number
  /** Extended error, as dig words it; '' for none. */
  readonly error: string
}

/** The pod asks; `judge` says what was expected. */
export function digs(
  world: World,
  pod: PodLabel,
  words: readonly string[],
  judge: (result: DigResult) => boolean,
): Check {
  return command(world, [`./${pod}`, 'dig', ...words], ({ stdout }) => {
    const result = readDig(stdout)
    const { status, records, queryMs, error } = result
    if (status === '') return { seen: 'no answer', ok: judge(result) }
    const what = records.length === 0 ? 'no record' : records.join(', ')
    const why = error === '' ? '' : ` (${error})`
    return { seen: `${status}${why}: ${what}, after ${queryMs} ms`, ok: judge(result) }
  })
}

export function readDig(output: string): DigResult {
  const answer = /;; ANSWER SECTION:\n((?:[^;\n].*\n)*)/.exec(output)?.[1] ?? ''
  return {
    status: /status: (\w+)/.exec(output)?.[1] ?? '',
    records: answer.split('\n').flatMap((line) => line.split('\t').at(-1) || []),
    queryMs: Number(/Query time: (\d+) msec/.exec(output)?.[1] ?? 0),
    error: /; EDE: (.*)/.exec(output)?.[1] ?? '',
  }
}

/** How a lookup can end. */
export const isAnswered = ({ status, records }: DigResult) =>
  status === 'NOERROR' && records.length > 0
export const isRefused = ({ status, records }: DigResult) =>
  status === 'REFUSED' && records.length === 0
export const isUnanswered = ({ status }: DigResult) => status === ''
export const isWithoutAddress = ({ status, records }: DigResult) =>
  (status === '' || status === 'SERVFAIL') && records.length === 0

/** Waits, then looks: the waiting is part of what is promised. */
export function after(seconds: number, check: Check): Check {
  return {
    command: `sleep ${seconds}; ${check.command}`,
    async look() {
      await sleep(seconds * 1000)
      return check.look()
    },
  }
}

/** `observe` shows lines like these, of this period. Each pattern has words for who reads of it. */
export function observes(
  world: World,
  words: readonly string[],
  period: Period,
  wanted: Readonly<Record<string, RegExp>>,
): Check {
  const line = ['./namegate', 'observe', '-c', 'namegate.yaml', '--last', '200', ...words]
  return eventually(
    command(world, line, ({ stdout, stderr }) => judgeFlows(stdout + stderr, period, wanted)),
  )
}

export function judgeFlows(
  output: string,
  period: Period,
  wanted: Readonly<Record<string, RegExp>>,
): Seen {
  const lines = output.split('\n').filter(Boolean)
  const inPeriod = lines.filter((line) => isWithin(line, period))
  const found: string[] = []
  const missing: string[] = []
  for (const [what, pattern] of Object.entries(wanted)) {
    const match = inPeriod.find((line) => pattern.test(line))
    if (match === undefined) missing.push(what)
    else found.push(match)
  }
  if (missing.length === 0) return { seen: found.join('\n'), ok: true }
  return { seen: [`not shown: ${missing.join('; ')}`, ...lines.slice(-4)].join('\n'), ok: false }
}

/** Compact lines carry UTC without a year: 'Nov 21 17:10:41.123: …'. */
function isWithin(line: string, { fromMs, toMs = Number.POSITIVE_INFINITY }: Period): boolean {
  const stamp = /^(\w{3} [ \d]\d) (\d\d:\d\d:\d\d\.\d{3}): /.exec(line)
  if (stamp === null) return false
  const timeMs = Date.parse(`${stamp[1]} ${new Date(fromMs).getUTCFullYear()} ${stamp[2]} UTC`)
  return timeMs >= fromMs && timeMs <= toMs
}

/** Both daemons are well and agree. */
export function isWell(world: World): Check {
  return status(world, ({ code, stdout, stderr }) => ({
    seen: code === 0 ? firstLine(stdout) : degradations(stdout) || stderr,
    ok: code === 0,
  }))
}

/** The daemon that is away is named. */
export function misses(world: World, role: Role): Check {
  return status(world, ({ code, stdout }) => {
    const seen = degradations(stdout)
    return { seen, ok: code === 1 && seen.includes(`\n  ${role} (`) && seen.includes('[absent]') }
  })
}

function status(world: World, judge: (finished: Finished) => Seen): Check {
  return eventually(command(world, ['./namegate', 'status', '-c', 'namegate.yaml'], judge))
}

/** The page's first lines, up to the tables. */
function degradations(page: string): string {
  return page.split('\n\n')[0]!
}

/** The table of grants has a line with all these words. */
export function listsGrant(world: World, client: string, ...words: string[]): Check {
  const line = ['./namegate', 'grants', 'list', '-c', 'namegate.yaml', '--client', client]
  return command(world, line, ({ stdout, stderr }) => {
    const found = stdout.split('\n').find((text) => words.every((word) => text.includes(word)))
    return { seen: found ?? (stdout || stderr), ok: found !== undefined }
  })
}

/** The cluster's DNS server got each of these questions so often. */
export function wasAsked(world: World, wanted: Readonly<Record<string, number>>): Check {
  return command(world, ['curl', '--unix-socket', 'dns.sock', 'http://dns/counts'], (finished) => {
    const end = finished.stdout.lastIndexOf('}') + 1
    const counts = JSON.parse(finished.stdout.slice(0, end)) as Record<string, number>
    const questions = Object.keys(wanted)
    return {
      seen: questions.map((question) => `${question}: ${counts[question] ?? 0}`).join('\n'),
      ok: questions.every((question) => (counts[question] ?? 0) === wanted[question]),
    }
  })
}

/** Cuts the cluster's DNS off, or lets it answer again. */
export function switchesDns(world: World, to: 'cut' | 'restore'): Check {
  return command(world, ['curl', '--unix-socket', 'dns.sock', `http://dns/${to}`], (finished) => ({
    seen: firstLine(finished.stdout || finished.stderr),
    ok: finished.code === 0,
  }))
}

/** A command on the node that must go well. */
export function does(world: World, ...words: string[]): Check {
  return command(world, words, ({ code, stdout, stderr }) => ({
    seen: stdout || stderr || 'done',
    ok: code === 0,
  }))
}

/** Sends a signal to running daemons, and waits until it shows. */
export function signals(
  signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT' | 'SIGTERM',
  daemons: readonly { readonly role: Role; readonly process: RunningProcess }[],
): Check {
  const option = { SIGKILL: '-9 ', SIGSTOP: '-STOP ', SIGCONT: '-CONT ', SIGTERM: '' }[signal]
  if (daemons.length === 0) return { command: `kill ${option}`, look: neverStarted }
  const pids = daemons.map(({ process }) => process.pid).join(' ')
  const roles = daemons.map(({ role }) => `the ${role}`).join(' and ')
  return {
    command: `kill ${option}${pids}   # ${roles}`,
    async look() {
      for (const one of daemons) one.process.kill(signal)
      const results = await Promise.all(daemons.map(({ process }) => shows(process, signal)))
      const seen = daemons.map(({ role }, index) => `the ${role} ${results[index]!.seen}`)
      return { seen: seen.join('\n'), ok: results.every(({ ok }) => ok) }
    },
  }
}

async function neverStarted(): Promise<Seen> {
  return { seen: 'it does not run: it could not be started', ok: false }
}

async function shows(process: RunningProcess, signal: string): Promise<Seen> {
  const endMs = performance.now() + STOP_MS
  while (performance.now() < endMs) {
    if (!process.isRunning) {
      const { code, signal: by } = await process.exited
      const isPlanned = signal === 'SIGTERM' && code === 0
      const seen = by === null ? `ended with exit code ${code}` : `was ended by ${by}`
      return { seen, ok: isPlanned || (signal === 'SIGKILL' && by === 'SIGKILL') }
    }
    const isStopped = stateOf(process.pid) === 'T'
    if (signal === 'SIGSTOP' && isStopped) return { seen: 'is stopped', ok: true }
    if (signal === 'SIGCONT' && !isStopped) return { seen: 'goes on', ok: true }
    await sleep(5)
  }
  return { seen: `does not obey: still in state ${stateOf(process.pid)}`, ok: false }
}

/** 'T': stopped. Source: proc_pid_stat(5), the field behind the command's name in parentheses. */
function stateOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0]!
  } catch {
    return 'gone'
  }
}

/** The check, again until it is as promised or a report would be too late. */
function eventually(check: Check): Check {
  return {
    command: check.command,
    async look() {
      const endMs = performance.now() + REPORT_MS
      for (;;) {
        const seen = await check.look()
        if (seen.ok || performance.now() > endMs) return seen
        await sleep(200)
      }
    },
  }
}

function command(
  world: World,
  words: readonly string[],
  judge: (finished: Finished) => Seen,
): Check {
  return {
    command: words.map(quote).join(' '),
    look: async () => judge(await world.run(words)),
  }
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

function firstLine(text: string): string {
  return text.split('\n')[0]!
}
