/**
 * One subject while it is measured: a running server on a port of its own, and the CPU time that
 * the operating system has accounted to it. It is ended by its own process id, whatever happens.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { benchName } from './upstream.ts'
import { findProgram, type Subject } from './subjects.ts'

const READY_MS = 15_000
const STOP_MS = 3000
/** Kernels account in ticks of 10 ms on every architecture that we run on: sysconf(_SC_CLK_TCK). */
const TICK_MS = 10

export class Server {
  readonly port: number
  readonly #process: ChildProcess
  readonly #directory: string
  #output = ''

  private constructor(child: ChildProcess, directory: string, port: number) {
    this.#process = child
    this.#directory = directory
    this.port = port
    child.stdout?.on('data', (chunk) => (this.#output += chunk))
    child.stderr?.on('data', (chunk) => (this.#output += chunk))
  }

  /** Starts a subject; returns when it has answered a query. */
  static async start(subject: Subject, upstreamPort: number): Promise<Server> {
    const directory = mkdtempSync(join(tmpdir(), `namegate-bench-${subject.name}-`))
    const port = await freePort()
    const [program, ...programArguments] = subject.command({ directory, port, upstreamPort })
    const child = spawn(findProgram(program!) ?? program!, programArguments, {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const server = new Server(child, directory, port)
    try {
      await server.#untilReady(subject.name)
    } catch (error) {
      await server[Symbol.asyncDispose]()
      throw error
    }
    return server
  }

  /** Milliseconds of CPU so far, user and system, all threads, and children that still run. */
  cpuMs(): number {
    return cpuMs(this.#process.pid!)
  }

  /** Resident memory now, in bytes. */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(timer)
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #untilReady(name: string): Promise<void> {
    const deadline = performance.now() + READY_MS
    while (performance.now() < deadline) {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) break
      if (await answers(this.port)) return
      await sleep(50)
    }
    throw new Error(`start ${name}: it does not answer; it printed:\n${this.#output.slice(-2000)}`)
  }
}

/** Milliseconds of CPU of a process and its children. Source: proc_pid_stat(5), fields 14 and 15. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the program's name in brackets and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  let sum = (Number(fields[11]) + Number(fields[12])) * TICK_MS
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')
    for (const child of children.split(' ')) if (child !== '') sum += cpuMs(Number(child))
  }
  return sum
}

async function answers(port: number): Promise<boolean> {
  const socket = createSocket('udp4')
  try {
    const labels = benchName(0).split('.')
    const name = Buffer.concat(
      labels.map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    )
    const query = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 0, 1, 0, 1])
    socket.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const answered = once(socket, 'message', { signal: AbortSignal.timeout(300) })
    socket.send(query)
    await answered
    return true
  } catch {
    return false // refused, or no answer yet: asked again until READY_MS
  } finally {
    socket.close()
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}
