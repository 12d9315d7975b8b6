/** Load at a fixed pace (pace.c), and what came of it. */
import { join } from 'node:path'
import { load } from './load.ts'
import { writeKnownNames } from './names.ts'
import { FIRST_PORT, SERVER, type Stage } from './stage.ts'
import type { Workplace } from './workplace.ts'

/** Times are milliseconds. */
export interface Pace {
  readonly sent: number
  readonly answered: number
  readonly failed: number
  /** From when a query was due. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly max: number
  /** The longest times without any answer, the longest first. */
  readonly gaps: readonly number[]
  /** The longest times by which the generator itself was late: what the machine adds. */
  readonly own: readonly number[]
}

const NAME_COUNT = 10_000
const WARM = { passes: 12, secondsMax: 30, clients: 100, rate: 40_000 } as const
/** Clients: few enough that looking at each of them takes no time. */
const SOCKETS = 10

/** A query file of the known names. */
export function knownNamesFile(workplace: Workplace): string {
  const file = join(workplace.directory, 'names')
  writeKnownNames(file, NAME_COUNT)
  return file
}

/** Every known name is asked for, often enough that nothing is compiled any more. */
export async function warm(stage: Stage, file: string): Promise<void> {
  await load(stage, { file, ...WARM })
}

export async function pace(
  stage: Stage,
  options: { readonly file: string; readonly rate: number; readonly seconds: number },
): Promise<Pace> {
  const { file, rate, seconds } = options
  const words = [SERVER, file, ...[rate, seconds, SOCKETS, FIRST_PORT].map(String)]
  const deadlineMs = (seconds + 15) * 1000
  const program = stage.workplace.program('pace')
  const { code, stdout, stderr } = await stage.load.run(program, words, { deadlineMs })
  if (code !== 0) throw new Error(`pace ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as Pace
}
