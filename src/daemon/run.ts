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

const EXIT_FAULT = 70
const LOOK_MS = 1000

/**
 * @param make  makes the daemon; what it throws, and what `start` rejects with, is why it cannot run
 * @returns the exit code: 0 after a stop, 1 when it could not start and somebody can do something
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
      return 0
    }
  } catch (error) {
    if (!isExpected(error)) return fatal(error)
    log.fatal({ code: (error as { code?: string }).code }, error.message)
    return 1
  }
  const timer = watchFile(file, load, (config) => daemon.reload(config), log)
  await stopped
  clearInterval(timer)
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

function watchFile(
  file: string,
  load: () => Config,
  reload: (config: Config) => Promise<void>,
  log: Log,
): NodeJS.Timeout {
  let seen = stampOf(file)
  const read = (): void => {
    seen = stampOf(file)
    let config: Config
    try {
      config = load()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      for (const { line, column, key, message } of error.faults) {
        log.error({ file, line, column, key }, message)
      }
      log.error({ file }, 'the configuration has faults; the one before stays in force')
      return
    }
    reload(config).catch((error: Error) => log.error({ error }, 'reload failed'))
  }
  process.on('SIGHUP', read)
  return setInterval(() => {
    if (stampOf(file) !== seen) read()
  }, LOOK_MS)
}

function stampOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    return 'missing'
  }
}
