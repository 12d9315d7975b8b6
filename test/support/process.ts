/**
 * Programs that a test starts: daemons, clients, `dig`, `curl`.
 *
 * Two forms. `run` waits for the end and hands back what was printed; `start` waits for a ready
 * line and hands back the running program, which `await using` ends whatever happens. Nothing here
 * waits for ever: each wait has a deadline, and its message carries what the program had printed.
 *
 * Processes are ended by their own id. A program started inside a namespace (netns.ts) is started
 * by `ip netns exec`, which replaces itself, so that the id is the program's own.
 *
 * Every child carries RUN_MARK in its environment: tools/leaks.ts finds by it what outlived a run.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import assert from 'node:assert/strict'

/** Names the test run in the environment of everything it starts; tools/test.ts sets it. */
export const RUN_MARK = 'NAMEGATE_TEST_RUN'

/** How long the output of an ended process may still be on its way through the pipes. */
const STREAMS_MS = 250

export interface ProcessOptions {
  readonly cwd?: string
  /** Added to this process's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Written to standard input, which is then closed. Default: nothing to read. */
  readonly input?: string
  /** Network namespace to run in, by its name as `ip netns list` shows it. */
  readonly namespace?: string
}

export interface RunOptions extends ProcessOptions {
  /** Milliseconds until the program is killed and `run` throws; default 10,000. */
  readonly deadlineMs?: number
}

export interface StartOptions extends ProcessOptions {
  /** `start` returns when this appears in the output of either stream; default: at once. */
  readonly ready?: string | RegExp
  /** Milliseconds within which it must appear; default 10,000: node on two busy cores is slow. */
  readonly readyMs?: number
  /** Milliseconds between SIGTERM and SIGKILL when the test is done with it; default 2,000. */
  readonly graceMs?: number
}

export interface Finished {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. Throws when it can't be started or outlives its deadline. */
export async function run(
  command: string,
  commandArguments: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const deadlineMs = options.deadlineMs ?? 10_000
  const child = new RunningProcess(command, commandArguments, options)
  const finished = await withDeadline(child.exited, deadlineMs)
  if (finished !== undefined) return finished
  child.killGroup()
  await child.exited
  throw new Error(`${child.title}: still running after ${deadlineMs} ms.${child.story()}`)
}

/** Starts a program and waits until it says that it is ready. */
export async function start(
  command: string,
  commandArguments: readonly string[],
  options: StartOptions = {},
): Promise<RunningProcess> {
  const child = new RunningProcess(command, commandArguments, options)
  try {
    await child.spawned
    if (options.ready !== undefined) await child.output(options.ready, options.readyMs ?? 10_000)
    return child
  } catch (error) {
    await child[Symbol.asyncDispose]()
    throw error
  }
}

export class RunningProcess implements AsyncDisposable {
  /** The command line, for messages. */
  readonly title: string
  readonly spawned: Promise<void>
  /** Resolves when the process is gone and both streams are read to their end. */
  readonly exited: Promise<Finished>
  /** Everything printed so far. */
  stdout = ''
  stderr = ''
  readonly #child: ChildProcess
  readonly #graceMs: number
  readonly #listeners = new Set<() => void>()
  #isGone = false

  constructor(command: string, commandArguments: readonly string[], options: StartOptions = {}) {
    const line =
      options.namespace === undefined
        ? [command, ...commandArguments]
        : ['ip', 'netns', 'exec', options.namespace, command, ...commandArguments]
    this.title = [command, ...commandArguments].join(' ')
    this.#graceMs = options.graceMs ?? 2_000
    this.#child = spawn(line[0]!, line.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: 'pipe',
      // A process group of its own, so that what it started in turn can be ended with it.
      detached: true,
    })
    live.add(this)
    this.#collect()
    this.#child.stdin!.on('error', () => {}) // a program may end without reading: that is its right
    this.#child.stdin!.end(options.input ?? '')
    const spawned = Promise.withResolvers<void>()
    const exited = Promise.withResolvers<Finished>()
    this.spawned = spawned.promise
    this.exited = exited.promise
    // Both may be left alone by a test that looks at the other only.
    spawned.promise.catch(() => {})
    exited.promise.catch(() => {})
    this.#child.once('spawn', () => spawned.resolve())
    this.#child.once('error', (error) => {
      this.#gone()
      const failure = new Error(`${this.title}: ${error.message}`, { cause: error })
      spawned.reject(failure)
      exited.reject(failure)
    })
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      this.#gone()
      exited.resolve({ code, signal, stdout: this.stdout, stderr: this.stderr })
    }
    this.#child.once('close', finish)
    // A grandchild that holds the streams open must not make its parent look alive.
    this.#child.once('exit', (code, signal) => {
      setTimeout(() => finish(code, signal), STREAMS_MS).unref()
    })
  }

  get pid(): number {
    assert(this.#child.pid !== undefined, `${this.title}: never started`)
    return this.#child.pid
  }

  get isRunning(): boolean {
    return !this.#isGone
  }

  /**
   * The part of the output, of one stream, that `pattern` matched. Waits for it.
   */
  async output(pattern: string | RegExp, waitMs = 5_000): Promise<string> {
    const search = (): string | undefined =>
      find(this.stdout, pattern) ?? find(this.stderr, pattern)
    const found = Promise.withResolvers<string>()
    const look = (): void => {
      const match = search()
      if (match !== undefined) found.resolve(match)
      else if (this.#isGone) found.reject(new Error(`${this.title}: ended early.${this.story()}`))
    }
    this.#listeners.add(look)
    look()
    try {
      const match = await withDeadline(found.promise, waitMs)
      if (match !== undefined) return match
      throw new Error(`${this.title}: no ${String(pattern)} in ${waitMs} ms.${this.story()}`)
    } finally {
      this.#listeners.delete(look)
    }
  }

  /** Sends a signal to this one process; to one that is gone, nothing. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (!this.#isGone) this.#child.kill(signal)
  }

  /** What it printed, for the end of a message. */
  story(): string {
    const printed = [this.stdout, this.stderr].map((text) => text.trim()).filter(Boolean)
    return printed.length === 0 ? ' It printed nothing.' : `\n${printed.join('\n').slice(-4_000)}`
  }

  /**
   * SIGTERM, a moment of grace, SIGKILL; then the end of whatever it had started. A stopped process
   * is woken, so that it too can end in order.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isGone) {
      this.killGroup()
      return
    }
    this.kill('SIGTERM')
    this.kill('SIGCONT')
    const exited = this.exited.catch(() => undefined)
    const isSlow = Symbol('slow')
    const first = await Promise.race([exited, sleep(this.#graceMs).then(() => isSlow)])
    if (first === isSlow) this.kill('SIGKILL')
    await exited
    this.killGroup()
  }

  /** It outlives this process. Only for a program that writes to files: its pipes go with us. */
  release(): void {
    live.delete(this)
    this.#child.stdout!.destroy()
    this.#child.stderr!.destroy()
    this.#child.unref()
  }

  /** Ends everything that the program started and that did not leave its process group. */
  killGroup(): void {
    if (this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, 'SIGKILL')
    } catch {
      // Nobody is left in the group: the usual case.
    }
  }

  #collect(): void {
    this.#child.stdout!.setEncoding('utf8')
    this.#child.stderr!.setEncoding('utf8')
    this.#child.stdout!.on('data', (text: string) => {
      this.stdout += text
      this.#changed()
    })
    this.#child.stderr!.on('data', (text: string) => {
      this.stderr += text
      this.#changed()
    })
  }

  #gone(): void {
    this.#isGone = true
    live.delete(this)
    this.#changed()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** Waits until `check` is true, asking every 20 ms; throws with `what` after `waitMs`. */
export async function until(
  what: string,
  check: () => boolean | Promise<boolean>,
  waitMs = 5_000,
): Promise<void> {
  const end = performance.now() + waitMs
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`after ${waitMs} ms still not: ${what}`)
    await sleep(20)
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Undefined when the deadline came first. */
async function withDeadline<T>(promise: Promise<T>, deadlineMs: number): Promise<T | undefined> {
  const timer = Promise.withResolvers<undefined>()
  const timeout = setTimeout(() => timer.resolve(undefined), deadlineMs)
  try {
    return await Promise.race([promise, timer.promise])
  } finally {
    clearTimeout(timeout)
  }
}

function find(text: string, pattern: string | RegExp): string | undefined {
  if (typeof pattern === 'string') return text.includes(pattern) ? pattern : undefined
  return pattern.exec(text)?.[0]
}

// A test that throws outside `await using`, process.exit, Ctrl-C: nothing of ours may outlive us.
// A signal becomes an exit, so that all `exit` handlers clean up, netns.ts's too.
const live = new Set<RunningProcess>()
process.on('exit', () => {
  for (const child of live) child.killGroup()
})
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => process.exit(code))
}
