/**
 * A subject while it is measured: its processes on the node of a stage, and what the operating
 * system has accounted to them. They are ended by their own ids, whatever happens.
 */
import { join } from 'node:path'
import { type RunningProcess, sleep } from '../test/support/process.ts'
import { monotonicMs } from './clock.ts'
import { cpuMs, proportionalBytes, residentBytes } from './cpu.ts'
import { knownName } from './names.ts'
import { SERVER, type Stage } from './stage.ts'
import type { Subject, SubjectOptions } from './subjects.ts'

const READY_MS = 20_000

export interface Memory {
  readonly residentMiB: number
  /** What is shared is divided among those that share it. */
  readonly proportionalMiB: number
}

export class Server implements AsyncDisposable {
  readonly subject: Subject
  /** Where it keeps its files. */
  readonly directory: string
  /** From its start to its first answer, which took the upstream's too. */
  readonly startMs: number
  readonly #processes: readonly RunningProcess[]

  /** Starts a subject; returns when it has answered a query. */
  static async start(
    stage: Stage,
    subject: Subject,
    options: SubjectOptions = {},
  ): Promise<Server> {
    const directory = stage.workplace.emptyDirectory('subject')
    const processes: RunningProcess[] = []
    const script = join(import.meta.dirname, './prober.ts')
    const words = ['--disable-warning=ExperimentalWarning', script, SERVER, knownName(0)]
    await using prober = await stage.load.start(process.execPath, words, { ready: 'asking' })
    try {
      const startedMs = monotonicMs()
      for (const [program, ...rest] of subject.commands({ stage, directory, ...options })) {
        // The first answer says of the first one that it serves; of another, it has to say so.
        const isFirst = processes.length === 0 || subject.ready === undefined
        const wanted = isFirst ? {} : { ready: subject.ready, readyMs: READY_MS }
        const child = await stage.node.start(program!, rest, wanted)
        processes.push(child)
        if (processes.length === 1) await firstAnswer(prober, child)
      }
      const answeredMs = Number((await prober.output(/answered .*/)).split(' ')[1])
      return new Server(subject, directory, processes, answeredMs - startedMs)
    } catch (error) {
      for (const child of processes) await child[Symbol.asyncDispose]()
      throw new Error(`start ${subject.name}: ${(error as Error).message}`, { cause: error })
    }
  }

  private constructor(
    subject: Subject,
    directory: string,
    processes: readonly RunningProcess[],
    startMs: number,
  ) {
    this.subject = subject
    this.directory = directory
    this.#processes = processes
    this.startMs = startMs
  }

  /** Milliseconds of CPU so far, of all its processes together. */
  cpuMs(): number {
    return this.cpuMsOfEach().reduce((sum, ms) => sum + ms, 0)
  }

  /** The same by process, in the order in which they were started. */
  cpuMsOfEach(): number[] {
    return this.#processes.map(({ pid }) => cpuMs(pid))
  }

  /** By process, in the order in which they were started. */
  memory(): Memory[] {
    return this.#processes.map(({ pid }) => ({
      residentMiB: residentBytes(pid) / (1 << 20),
      proportionalMiB: proportionalBytes(pid) / (1 << 20),
    }))
  }

  /** What the processes have printed. */
  get printed(): string {
    return this.#processes.map(({ stdout, stderr }) => stdout + stderr).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Both at once: the end of the one is no reason for the other to do anything.
    await Promise.all(this.#processes.map((child) => child[Symbol.asyncDispose]()))
  }
}

async function firstAnswer(prober: RunningProcess, child: RunningProcess): Promise<void> {
  const endMs = monotonicMs() + READY_MS
  while (!prober.stdout.includes('answered')) {
    if (!child.isRunning) throw new Error(`it ended at once.${child.story()}`)
    if (monotonicMs() > endMs) throw new Error(`it does not answer.${child.story()}`)
    await sleep(5)
  }
}
