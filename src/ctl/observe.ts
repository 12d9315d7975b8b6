/**
 * `namegate observe`: flows, in Hubble's words and line format. Either daemon can tell them; when
 * the one that is followed dies or hangs, the other goes on.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { compactLines } from '../observe/compact.ts'
import type { FlowRow, LostRow } from '../observe/flow-row.ts'
import { ask, NoAnswer, ROLES, type Role } from './client.ts'
import { EXIT_OK, EXIT_UNREACHABLE, Failure } from './failure.ts'
import { type CommonOptions, daemonPlace, type Surroundings } from './surroundings.ts'

export interface ObserveOptions extends CommonOptions {
  readonly follow?: boolean
  readonly last: number
  readonly pod?: readonly string[]
  readonly verdict?: readonly string[]
  readonly name?: readonly string[]
}

/** How long `observe -f` waits for a daemon to come back before it gives up. */
const RETURN_MS = 30_000
const RETRY_MS = 250
/** Flows to fetch from the other daemon that were recorded since the last one shown. */
const CATCH_UP = 1000

export async function runObserve(
  options: ObserveOptions,
  surroundings: Surroundings,
): Promise<number> {
  const { run } = daemonPlace(options, surroundings)
  let args = {
    last: options.last,
    sinceMs: -1,
    follow: options.follow === true,
    pods: options.pod ?? [],
    verdicts: (options.verdict ?? []).map((verdict) => verdict.toUpperCase()),
    names: options.name ?? [],
  }
  let roles: readonly Role[] = ROLES
  let seenMs: number | null = null
  let giveUpAt = 0
  for (;;) {
    try {
      const question = { run, roles, command: 'observe', args }
      for await (const row of ask<FlowRow | LostRow>(question)) {
        if (surroundings.signal.aborted) return EXIT_OK
        if (!('lost' in row)) seenMs = row.flow.timeMs
        print(row, options, surroundings)
      }
      return EXIT_OK
    } catch (error) {
      if (!args.follow || !(error instanceof Failure)) throw error
      if (error instanceof NoAnswer) {
        const { role } = error
        surroundings.err(`${error.message}; going on with the other daemon\n`)
        roles = [...ROLES.filter((other) => other !== role), role]
        if (seenMs !== null) args = { ...args, last: CATCH_UP, sinceMs: seenMs }
        giveUpAt = performance.now() + RETURN_MS
      } else if (error.exitCode === EXIT_UNREACHABLE && performance.now() < giveUpAt) {
        await delay(RETRY_MS)
      } else throw error
    }
  }
}

function print(row: FlowRow | LostRow, options: ObserveOptions, surroundings: Surroundings): void {
  if (options.output === 'json') {
    surroundings.out(`${JSON.stringify(row)}\n`)
  } else if ('lost' in row) {
    surroundings.err(`${row.lost} flows are not shown: they came faster than they could be read\n`)
  } else {
    surroundings.out(`${compactLines(row).join('\n')}\n`)
  }
}
