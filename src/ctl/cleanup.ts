/**
 * `namegate cleanup`: removes every trace of Namegate from the kernel, for when the daemons are
 * gone for good. With one of them running it would cut off the clients, and be undone within a
 * second; so it asks first whether one answers.
 */
import type { Config } from '../config/load.ts'
import { askOne, NoAnswer, ROLES } from './client.ts'
import { EXIT_NO, EXIT_OK, Failure } from './failure.ts'
import { type CommonOptions, configOf, type Surroundings } from './surroundings.ts'

export interface CleanupOptions extends CommonOptions {
  /** Also while a daemon runs. */
  readonly force?: boolean
}

/** @param removeTraces  removes what `config` made in the kernel: Driver.remove and addresses */
export async function runCleanup(
  options: CleanupOptions,
  surroundings: Surroundings,
  removeTraces: (config: Config) => Promise<void>,
): Promise<number> {
  const config = configOf(options, surroundings)
  if (!options.force) await refuseWhileRunning(config.run)
  await removeTraces(config)
  if (options.output === 'json') surroundings.out('{"removed":true}\n')
  else surroundings.out('every trace of Namegate is gone from the kernel\n')
  return EXIT_OK
}

async function refuseWhileRunning(run: string): Promise<void> {
  for (const role of ROLES) {
    try {
      for await (const _ of askOne(run, role, 'status', {})) break
    } catch (error) {
      // One that hangs is no reason to keep its traces.
      if (error instanceof NoAnswer) continue
      throw error
    }
    throw new Failure(EXIT_NO, `the ${role} is running; stop it first, or say --force`)
  }
}
