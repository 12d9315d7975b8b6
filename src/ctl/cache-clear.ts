/**
 * `namegate cache clear`: forget answers, in every process. A process that cannot be reached keeps
 * its own, so that is no success.
 */
import type { ClearedRow } from '../observe/rows.ts'
import { askOne, NoAnswer, ROLES } from './client.ts'
import { EXIT_NO, EXIT_OK, EXIT_UNREACHABLE, Failure } from './failure.ts'
import { type CommonOptions, daemonPlace, type Surroundings } from './surroundings.ts'
import { countOf } from './table.ts'

export interface CacheClearOptions extends CommonOptions {
  /** Only this name and what is below it. */
  readonly name?: string
}

export async function runCacheClear(
  options: CacheClearOptions,
  surroundings: Surroundings,
): Promise<number> {
  const { run } = daemonPlace(options, surroundings)
  const args = options.name === undefined ? {} : { name: options.name }
  const silent: string[] = []
  let isHanging = false
  for (const role of ROLES) {
    try {
      for await (const { cleared } of askOne<ClearedRow>(run, role, 'cache-clear', args)) {
        const line =
          options.output === 'json'
            ? JSON.stringify({ process: role, cleared })
            : `${role}: ${countOf(cleared, 'answer')} forgotten`
        surroundings.out(`${line}\n`)
      }
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error
      silent.push(error.message)
      isHanging ||= !error.message.endsWith('is not running')
    }
  }
  if (silent.length === ROLES.length) {
    throw new Failure(EXIT_UNREACHABLE, `no daemon answers: ${silent.join('; ')}`)
  }
  if (!isHanging) return EXIT_OK
  throw new Failure(EXIT_NO, `not everything was forgotten: ${silent.join('; ')}`)
}
