/**
 * Runs nft and ip: the two programs that this folder starts.
 *
 * Structure changes are rare, and the tools give an operator words to search for; so they are
 * started, without a shell, with arguments that we chose and everything else on standard input.
 * What must stay true: time and output are bounded, a tool that hangs is killed, and every failure
 * becomes an NftError with the tool's own words and what to do.
 */
import { spawn } from 'node:child_process'
import { DatapathError } from '../error.ts'

export interface Tools {
  /** Program, then arguments that come before ours. */
  readonly nft: readonly string[]
  readonly ip: readonly string[]
  /** A transaction of thousands of elements takes a second; behind kube-proxy's own, one more. */
  readonly timeoutMs: number
}

export const DEFAULT_TOOLS: Tools = { nft: ['nft'], ip: ['ip'], timeoutMs: 15_000 }

/** Far above a table with 100,000 grants as JSON (12 MB). */
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024

/** nft or ip could not do it. `code`: 'not-found', 'timeout', 'denied', 'failed', 'unreadable'. */
export class NftError extends DatapathError {
  override name = 'NftError'
}

/**
 * Runs a program to its end; what it printed.
 * @param tried  what this is for: 'apply ruleset': the message begins with it
 * @param input  goes to standard input
 */
export async function runTool(
  command: readonly string[],
  commandArguments: readonly string[],
  input: string,
  tried: string,
  timeoutMs: number,
): Promise<string> {
  const [program = '', ...first] = command
  const finished = await execute(program, [...first, ...commandArguments], input, timeoutMs)
  if (finished.code === 0) return finished.stdout
  const words = firstLines(finished.stderr)
  if (finished.error !== null) {
    const isMissing = (finished.error as NodeJS.ErrnoException).code === 'ENOENT'
    const message = isMissing
      ? `${tried}: ${program} is not installed; install nftables and iproute2`
      : `${tried}: ${program}: ${finished.error.message}`
    throw new NftError(isMissing ? 'not-found' : 'failed', message, { cause: finished.error })
  }
  if (finished.isTimeout) {
    const advice = 'somebody else may hold the lock of nftables for long (thousands of rules)'
    throw new NftError(
      'timeout',
      `${tried}: ${program} did not end within ${timeoutMs} ms; ${advice}`,
    )
  }
  if (/Operation not permitted|must be root/i.test(finished.stderr)) {
    const advice = "needs CAP_NET_ADMIN in the node's network namespace"
    throw new NftError('denied', `${tried}: ${program}: ${words}; ${advice}`)
  }
  const how = finished.signal === null ? `exit ${finished.code}` : `ended by ${finished.signal}`
  throw new NftError('failed', `${tried}: ${program}: ${words === '' ? how : words}`)
}

/** What a program printed, whatever it thought of its end; '' when it could not run at all. */
export async function runToolForOutput(
  command: readonly string[],
  input: string,
  timeoutMs: number,
): Promise<string> {
  const [program = '', ...first] = command
  return (await execute(program, first, input, timeoutMs)).stdout
}

interface FinishedTool {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly isTimeout: boolean
  readonly error: Error | null
}

function execute(
  program: string,
  commandArguments: readonly string[],
  input: string,
  timeoutMs: number,
): Promise<FinishedTool> {
  return new Promise((resolve) => {
    const child = spawn(program, commandArguments, {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Messages are matched: they must be in English.
      env: { ...process.env, LC_ALL: 'C' },
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    let bytes = 0
    let isTimeout = false
    let error: Error | null = null
    const timer = setTimeout(() => {
      isTimeout = true
      child.kill('SIGKILL')
      // What it started in turn may live on and hold the pipes open.
      child.stdout.destroy()
      child.stderr.destroy()
    }, timeoutMs)
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= OUTPUT_BYTES_MAX) into.push(chunk)
      else child.kill('SIGKILL')
    }
    child.stdout.on('data', collect(stdout))
    child.stderr.on('data', collect(stderr))
    child.on('error', (cause) => (error = cause))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({
        code,
        signal,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
        isTimeout,
        error,
      })
    })
    // A tool that ends before it has read everything breaks the pipe; its exit says why.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

/** nft repeats a failing line with a caret below it: the first lines say what is wrong. */
function firstLines(text: string): string {
  const lines = text.trim().split('\n')
  const more = lines.length > 4 ? ` (and ${lines.length - 4} more lines)` : ''
  return `${lines.slice(0, 4).join(' / ').slice(0, 600)}${more}`
}
