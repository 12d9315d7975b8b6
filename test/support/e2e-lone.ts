/**
 * A proxy alone, without root: on the loopback interface, a cache without policy. For tests of what
 * needs no kernel side: bad input, configuration.
 *
 *     await using proxy = await LoneProxy.start({ upstream: `127.0.0.1:${port}` })
 *     const reply = await proxy.ask(buildMessage({ id: 7, question: 'www.example.com. A' }))
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askOne } from '../../src/ctl/client.ts'
import type { StatusReport } from '../../src/observe/status.ts'
import { type RunningProcess, start } from './process.ts'

export const LOOPBACK = '127.0.0.1'
const PROGRAM = join(import.meta.dirname, '..', '..', 'namegate')
const READY_MS = 15_000

export class LoneProxy implements AsyncDisposable {
  readonly port: number
  /** Where namegate.yaml is, with run and state below it. */
  readonly directory: string
  readonly process: RunningProcess

  /**
   * Resolves when it serves.
   * @param settings  more keys of its upstream: 'transport: tcp'
   */
  static async start(options: {
    readonly upstream: string
    readonly settings?: string
  }): Promise<LoneProxy> {
    const directory = mkdtempSync(join(tmpdir(), 'ngt-lone-'))
    const port = await freePort()
    const lines = [
      'state: state',
      'run: run',
      `listen: { addresses: [${LOOPBACK}], port: ${port} }`,
      'upstreams:',
      `  - { zones: ["."], servers: ["${options.upstream}"], ${options.settings ?? ''} }`,
      'cache: { size: 1MiB }',
    ]
    writeFileSync(join(directory, 'namegate.yaml'), `${lines.join('\n')}\n`)
    try {
      const words = ['proxy', '-c', join(directory, 'namegate.yaml')]
      const proxy = await start(PROGRAM, words, { ready: '"serving"', readyMs: READY_MS })
      return new LoneProxy(directory, port, proxy)
    } catch (error) {
      rmSync(directory, { recursive: true })
      throw error
    }
  }

  private constructor(directory: string, port: number, proxy: RunningProcess) {
    this.directory = directory
    this.port = port
    this.process = proxy
  }

  /** Sends one datagram from a port of its own; the reply, or null when none came in time. */
  async ask(packet: Uint8Array, waitMs = 1000): Promise<Uint8Array | null> {
    const socket = createSocket('udp4')
    try {
      const reply = once(socket, 'message', { signal: AbortSignal.timeout(waitMs) })
      socket.send(packet, this.port, LOOPBACK)
      const [bytes] = await reply
      return bytes
    } catch (error) {
      if ((error as Error).name === 'AbortError') return null
      throw error
    } finally {
      socket.close()
    }
  }

  /** Lines of its log. */
  get log(): Record<string, unknown>[] {
    const lines = this.process.stderr.split('\n')
    return lines.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  }

  async status(): Promise<StatusReport> {
    const run = join(this.directory, 'run')
    for await (const row of askOne<StatusReport>(run, 'proxy', 'status', {})) return row
    throw new Error('the proxy gave no status')
  }

  get openFiles(): number {
    return readdirSync(`/proc/${this.process.pid}/fd`).length
  }

  /** Resident memory. */
  get memoryMib(): number {
    const status = readFileSync(`/proc/${this.process.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]()
    rmSync(this.directory, { recursive: true })
  }
}

/** A port that nobody has just now, for UDP and TCP. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
