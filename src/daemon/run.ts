/**
 * Runs a daemon until it is told to stop: signals, reload, and the end.
 *
 * SIGTERM and SIGINT stop it in order; a second one ends it at once. SIGHUP and a changed
 * configuration file reload: what can change while it runs does, and a file with faults changes
 * nothing. An error that nobody expected ends the process: its sockets live on in the peer.
 */
import { statSync } from 'node:fs'
import { type Config, ConfigError } from '../config/load.ts'
import { DatapathError } from '../datapath/error.ts'
import { lookEvery } from '../linux/looks.ts'
import { SocketError } from '../linux/socket.ts'
import type { Log } from '../log.ts'
import { ControlSocketError } from '../observe/control.ts'
import { StartError } from './start-error.ts'

export interface Runnable {
  start(): Promise<void>
  /** Takes a configuration that was read anew. */
  reload(config: Config): Promise<void>
  stop(): Promise<void>
}

const EXIT_CANNOT_START = 1
const EXIT_FAULT = 70
const LOOK_MS = 1000

/**
 * @param make  makes the daemon; what it throws, and what `start` rejects with, is why it cannot run
 * @returns the exit code after a stop: 0. When it can't start and somebody can do something about
 *   that, the process ends with 1
 */
export async function runUntilStopped(
  make: () => Runnable,
  file: string,
  load: () => Config,
  log: Log,
): Promise<number> {
  const fatal = (error: unknown): never => {
    const why = error instanceof Error ? error : new Error(String(error))
    log.fatal({ error: why, unexpected: true }, 'this process ends because of a fault of its own')
    process.exit(EXIT_FAULT)
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)
  const watched = new WatchedFile(file, load, log)

  const stopped = new Promise<void>((resolve) => {
    let isStopping = false
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (isStopping) process.exit(1)
        isStopping = true
        resolve()
      })
    }
  })
  let daemon: Runnable
  try {
    daemon = make()
    // A daemon may wait for its first policy; it can be stopped meanwhile.
    const outcome = await Promise.race([daemon.start().then(() => 'started'), stopped])
    if (outcome !== 'started') {
      await daemon.stop()
      // Not by returning: the start goes on, and may have opened something again.
      process.exit(0)
    }
  } catch (error) {
    if (!isExpected(error)) return fatal(error)
    log.fatal({ code: (error as { code?: string }).code }, error.message)
    // Nor here: the worker and the link to the peer run already, and would keep us.
    process.exit(EXIT_CANNOT_START)
  }
  watched.begin((config) => daemon.reload(config))
  await stopped
  watched.close()
  await daemon.stop()
  return 0
}

/** Why it can't run lies outside of it: the message says what to do. */
function isExpected(error: unknown): error is Error {
  return (
    error instanceof StartError ||
    error instanceof SocketError ||
    error instanceof DatapathError ||
    error instanceof ControlSocketError
  )
}

/**
 * The configuration file. It is there from the beginning: a SIGHUP while the daemon starts must not
 * end the process, and what is changed meanwhile must not be missed.
 */
class WatchedFile {
  readonly #file: string
  readonly #load: () => Config
  readonly #log: Log
  #seen: string
  #reload: ((config: Config) => Promise<void>) | null = null
  #looks: Disposable | null = null

  constructor(file: string, load: () => Config, log: Log) {
    this.#file = file
    this.#load = load
    this.#log = log
    this.#seen = stampOf(file)
    process.on('SIGHUP', () => this.#read())
  }

  /** From now on changes are handed to `reload`. */
  begin(reload: (config: Config) => Promise<void>): void {
    this.#reload = reload
    this.#looks = lookEvery(LOOK_MS, () => {
      if (stampOf(this.#file) !== this.#seen) this.#read()
    })
  }

  close(): void {
    this.#reload = null
    this.#looks?.[Symbol.dispose]()
  }

  #read(): void {
    if (this.#reload === null) return
    const file = this.#file
    const log = this.#log
    this.#seen = stampOf(file)
    let config: Config
    try {
      config = this.#load()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      for (const { line, column, key, message } of error.faults) {
        log.error({ file, line, column, key }, message)
      }
      log.error({ file }, 'the configuration has faults; the one before stays in force')
      return
    }
    this.#reload(config).catch((error: Error) => log.error({ error }, 'reload failed'))
  }
}

function stampOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    return 'missing'
  }
}
