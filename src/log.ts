/**
 * Log lines: JSON on stderr for machines, or one readable line each on a terminal.
 *
 * bin/ makes one Log for the process and hands it down; a worker thread makes its own. Parts take
 * the `Log` interface, so that a test can pass what it likes. One line for each change of state,
 * none per packet: packets are flows.
 *
 * What must stay true: when a line's call returns, the line is written. The destination is
 * synchronous, because the most important line is the one before the process ends; that is also
 * why there is no pino transport (each is a thread with a queue that dies with the process).
 */
import { writeSync } from 'node:fs'
import { styleText } from 'node:util'
import { type DestinationStream, pino, stdSerializers, stdTimeFunctions } from 'pino'
import { printable } from './printable.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal'
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'fatal']

/**
 * Each takes fields, then a sentence: `log.info({ revision: 41 }, 'policy applied')`. The field
 * `unexpected: true` marks what should not happen; `error` takes an Error.
 */
export interface Log {
  debug(fields: object, sentence: string): void
  info(fields: object, sentence: string): void
  warn(fields: object, sentence: string): void
  error(fields: object, sentence: string): void
  fatal(fields: object, sentence: string): void
  /** A Log whose lines carry these fields too. */
  child(fields: object): Log
}

export interface LogOptions {
  readonly level: LogLevel
  /** Fields of every line: role, pid, thread. */
  readonly fields: object
  /** Readable lines with colours instead of JSON. */
  readonly isTerminal: boolean
}

/** A Log that writes to stderr. */
export function createLog(options: LogOptions): Log {
  const write = (text: string) => writeAll(2, text)
  return createLogTo(
    { write: options.isTerminal ? (line) => write(readable(line)) : write },
    options,
  )
}

/** A Log that writes JSON lines to `destination`. */
export function createLogTo(destination: DestinationStream, options: LogOptions): Log {
  return pino(
    {
      level: options.level,
      base: options.fields,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: stdSerializers.err },
    },
    destination,
  )
}

/** Writes all of `text`, also when the other end takes it in pieces or is non-blocking. */
function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text)
  let at = 0
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // A full pipe: give the reader a moment, but never wait for one that is gone or stuck.
      if (code !== 'EAGAIN' || !pauseOnce()) return
    }
  }
}

/** How often in its life a process waits 5 ms for a full pipe, before it loses lines instead. */
const PAUSES_MAX = 200
const pauseWord = new Int32Array(new SharedArrayBuffer(4))
let pauses = 0

function pauseOnce(): boolean {
  if (pauses === PAUSES_MAX) return false
  pauses++
  Atomics.wait(pauseWord, 0, 0, 5)
  return true
}

const LEVEL_COLOURS: Record<string, Parameters<typeof styleText>[0]> = {
  debug: 'gray',
  info: 'green',
  warn: 'yellow',
  error: 'red',
  fatal: ['red', 'bold'],
}

/** Colours are for where the lines go: stderr may be a terminal while stdout is not. */
const STREAM = { stream: process.stderr }

/** Fields that stand elsewhere in a readable line, or are the same in all lines of a terminal. */
const OWN_PLACE = new Set(['level', 'time', 'msg', 'role', 'thread', 'pid'])

/** '12:00:00.123 info  agent policy applied  revision=41' from one JSON line. */
export function readable(line: string): string {
  const record = JSON.parse(line) as Record<string, unknown>
  const level = String(record['level'])
  const word = styleText(LEVEL_COLOURS[level] ?? 'reset', level.padEnd(5), STREAM)
  const time = styleText('gray', String(record['time']).slice(11, 23), STREAM)
  const who = [record['role'], record['thread']].filter((part) => part !== undefined).join('/')
  const fields = Object.entries(record)
    .filter(([key]) => !OWN_PLACE.has(key))
    .map(([key, value]) => ` ${styleText('gray', `${key}=`, STREAM)}${fieldText(value)}`)
    .join('')
  const start = [time, word, who, printable(String(record['msg'] ?? ''))]
  return `${start.filter((part) => part !== '').join(' ')}${fields}\n`
}

function fieldText(value: unknown): string {
  if (isError(value)) return printable(`${value.type}: ${value.message}`)
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return /[\s"]/.test(text) && typeof value === 'string' ? JSON.stringify(text) : printable(text)
}

function isError(value: unknown): value is { type: string; message: string } {
  return typeof value === 'object' && value !== null && 'stack' in value && 'message' in value
}

/** How long repeats are gathered. */
const PERIOD_MS = 60_000
/** Different things that may repeat at one time; more are logged one by one. */
const KEYS_MAX = 256

/**
 * The same thing happening again and again: the first is logged at once, those of the next minute
 * are counted and summed up in one line: '… 12,480 more in 60 s'.
 */
export class Repeats {
  readonly #log: Log
  readonly #counts = new Map<string, Repeated>()

  constructor(log: Log) {
    this.#log = log
  }

  /**
   * @param key  what makes two events the same: 'upstream 192.0.2.53 timed out'
   * @param sentence  must be the same for the same key
   */
  warn(key: string, fields: object, sentence: string): void {
    const known = this.#counts.get(key)
    if (known) {
      known.more++
      return
    }
    this.#log.warn(fields, sentence)
    if (this.#counts.size >= KEYS_MAX) return
    const timer = setInterval(() => this.#sumUp(key), PERIOD_MS)
    timer.unref()
    this.#counts.set(key, { more: 0, fields, sentence, timer })
  }

  /** Logs what was counted so far. */
  close(): void {
    for (const [key, repeated] of this.#counts) {
      clearInterval(repeated.timer)
      if (repeated.more > 0) this.#write(repeated)
      this.#counts.delete(key)
    }
  }

  #sumUp(key: string): void {
    const repeated = this.#counts.get(key)!
    if (repeated.more > 0) {
      this.#write(repeated)
      repeated.more = 0
      return
    }
    clearInterval(repeated.timer)
    this.#counts.delete(key)
  }

  #write({ more, fields, sentence }: Repeated): void {
    const count = more.toLocaleString('en-US')
    this.#log.warn({ ...fields, more }, `${sentence} … ${count} more in ${PERIOD_MS / 1000} s`)
  }
}

interface Repeated {
  more: number
  readonly fields: object
  readonly sentence: string
  readonly timer: NodeJS.Timeout
}
