/**
 * The load generator: dnsperf over loopback, bounded in queries and in time, and what it saw.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpuMs } from './server.ts'

export interface LoadOptions {
  readonly port: number
  /** One query a line: name and type. */
  readonly file: string
  /** How often to go through the file. */
  readonly passes: number
  readonly secondsMax: number
  /** Sockets to send from. */
  readonly clients: number
  /** Queries per second at most; 0: as fast as answers come. */
  readonly rate?: number
}

export interface LoadResult {
  readonly sent: number
  readonly completed: number
  readonly lost: number
  readonly seconds: number
  readonly queriesPerSecond: number
  readonly averageLatencyMs: number
  /** CPU of the generator over the time of the run: at 1 it could not have sent more. */
  readonly generatorLoad: number
}

/** Queries that may be on their way at once: enough to keep batches full. */
const OUTSTANDING = 200

export async function load(options: LoadOptions): Promise<LoadResult> {
  const { port, file, passes, secondsMax, clients, rate = 0 } = options
  const programArguments = ['-s', '127.0.0.1', '-p', String(port), '-d', file]
  programArguments.push('-n', String(passes), '-l', String(secondsMax), '-T', '1', '-t', '1')
  programArguments.push('-c', String(clients), '-q', String(OUTSTANDING))
  if (rate > 0) programArguments.push('-Q', String(rate))
  const child = spawn('dnsperf', programArguments, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let usedMs = 0
  child.stdout.on('data', (chunk) => (output += chunk))
  child.stderr.on('data', (chunk) => (output += chunk))
  const watch = setInterval(() => {
    try {
      usedMs = cpuMs(child.pid!)
    } catch {
      clearInterval(watch) // it has ended between two looks
    }
  }, 50)
  const [code] = await once(child, 'close')
  clearInterval(watch)
  if (code !== 0) throw new Error(`dnsperf ended with ${code}:\n${output.slice(-2000)}`)
  const seconds = number(output, /Run time \(s\):\s+([\d.]+)/)
  const completed = number(output, /Queries completed:\s+(\d+)/)
  return {
    sent: number(output, /Queries sent:\s+(\d+)/),
    completed,
    lost: number(output, /Queries lost:\s+(\d+)/),
    seconds,
    queriesPerSecond: completed / seconds,
    averageLatencyMs: number(output, /Average Latency \(s\):\s+([\d.]+)/) * 1000,
    generatorLoad: usedMs / 1000 / seconds,
  }
}

export function generatorVersion(): string {
  const text = execFileSync('dnsperf', ['-h'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return /Version (\S+)/i.exec(text)?.[1] ?? 'unknown'
}

function number(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1]
  if (found === undefined)
    throw new Error(`dnsperf printed no ${pattern.source}:\n${text.slice(-2000)}`)
  return Number(found)
}
