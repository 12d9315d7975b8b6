/**
 * What commands touch of the world outside: given to them by bin/, so that tests run the same
 * commands with other ends.
 */
import { existsSync, readFileSync } from 'node:fs'
import {
  type Config,
  ConfigError,
  defaultRun,
  loadConfig,
  type MachineFacts,
  readRun,
} from '../config/load.ts'
import { EXIT_NO, Failure } from './failure.ts'

export interface Surroundings {
  /** Results, for pipes and people. */
  readonly out: (text: string) => void
  /** Everything that is no result. */
  readonly err: (text: string) => void
  readonly machine: MachineFacts
  /** Where the configuration is when no -c is given. */
  readonly defaultFile: string
  /** Aborted when whoever reads `out` is gone, or the user wants to stop. */
  readonly signal: AbortSignal
}

/** Options that every command has. */
export interface CommonOptions {
  /** -c */
  readonly config?: string
  /** -o */
  readonly output?: string
}

/** The configuration, or a Failure with all that is wrong in it. */
export function configOf(options: CommonOptions, { machine, defaultFile }: Surroundings): Config {
  try {
    return loadConfig(options.config ?? defaultFile, machine)
  } catch (error) {
    if (error instanceof ConfigError) throw new Failure(EXIT_NO, error.message)
    throw error
  }
}

export interface DaemonPlace {
  /** Directory of the sockets. */
  readonly run: string
  /** null: there is no file, or it has faults. */
  readonly config: Config | null
}

/**
 * Where the daemons are. Without a file they are where they would be by default; a file with
 * faults is good enough to find the daemons, which go on with the one before.
 */
export function daemonPlace(options: CommonOptions, surroundings: Surroundings): DaemonPlace {
  const { machine, err, defaultFile } = surroundings
  const file = options.config ?? defaultFile
  if (options.config === undefined && !existsSync(file)) {
    return { run: defaultRun(machine), config: null }
  }
  try {
    const config = loadConfig(file, machine)
    return { run: config.run, config }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    if (!existsSync(file)) throw new Failure(EXIT_NO, error.message)
    err(`warning: ${file} has faults; daemons keep the last good one:\n${error.message}\n`)
    return { run: readRun(readFileSync(file, 'utf8'), file, machine), config: null }
  }
}
