/**
 * The fuzz runner.
 *
 *     node test/fuzz/fuzz.ts TARGET [SEED]    for a minute, or until something fails
 *     node test/fuzz/fuzz.ts smoke            every target for a moment; the canary must fail
 *
 * Case n of a run is made from SEED + n and nothing else. A failure prints the seed of its own
 * case, so running with that seed fails at once; the input is printed as a corpus file.
 */
import { randomInt } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { Script } from 'node:vm'
import { TARGETS } from './list.ts'
import { mutate } from './mutate.ts'
import { Random } from './random.ts'
import type { FuzzTarget } from './target.ts'

const RUN_MS = 60_000
/** Cases between two looks at the clock, and how long they may take: normally 5 to 100 ms. */
const CASES_AT_ONCE = 50
const CASES_MS_MAX = 20_000
const SMOKE_CASES = 3000

export interface FuzzFailure {
  readonly seed: number
  readonly input: Uint8Array
  readonly error: unknown
}

/** Runs cases from `seed` on until one fails, `casesMax` are done or `deadlineMs` has passed. */
export function fuzz(
  target: FuzzTarget,
  seed: number,
  casesMax: number,
  deadlineMs = Number.POSITIVE_INFINITY,
  casesMsMax = CASES_MS_MAX,
): FuzzFailure | null {
  const corpus = readCorpus(target.corpus)
  let index = 0
  let failure: FuzzFailure | null = null
  const runSome = () => {
    const end = Math.min(index + CASES_AT_ONCE, casesMax)
    for (; index < end && failure === null; index++) {
      failure = runCase(target, corpus, seed + index)
    }
  }
  while (index < casesMax && failure === null && performance.now() < deadlineMs) {
    try {
      endInTime(runSome, casesMsMax)
    } catch (error) {
      const input = mutate(corpus, new Random(seed + index), target.words)
      return { seed: seed + index, input, error }
    }
  }
  return failure
}

function runCase(
  target: FuzzTarget,
  corpus: readonly Uint8Array[],
  seed: number,
): FuzzFailure | null {
  const random = new Random(seed)
  const input = mutate(corpus, random, target.words)
  const made = input.slice()
  try {
    target.run(input, random)
    return null
  } catch (error) {
    return { seed, input: made, error }
  }
}

const script = new Script('runSome()')

/** Calls `runSome`; throws when it does not come back, because for ever is a failure as well. */
function endInTime(runSome: () => void, timeout: number): void {
  Object.assign(globalThis, { runSome })
  script.runInThisContext({ timeout })
}

/**
 * The inputs of a corpus folder as they are, in the order of their names. A file that ends in .txt
 * is hexadecimal, any other is the input itself.
 */
export function readCorpus(folder: string): Uint8Array[] {
  const directory = new URL(`./corpus/${folder}/`, import.meta.url)
  return readdirSync(directory)
    .sort()
    .map((file) => {
      const content = readFileSync(new URL(file, directory))
      if (!file.endsWith('.txt')) return Uint8Array.from(content)
      const bytes =
        content
          .toString('latin1')
          .replaceAll(/#.*$/gm, '')
          .match(/[0-9a-f]{2}/gi) ?? []
      return Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16))
    })
}

/** How many cases a smoke run of the target has. */
export function smokeCasesOf(target: FuzzTarget): number {
  return target.smokeCases ?? SMOKE_CASES
}

function report(name: string, failure: FuzzFailure): void {
  const hex = Buffer.from(failure.input)
    .toString('hex')
    .replaceAll(/(.{64})/g, '$1\n')
  console.error(failure.error)
  console.error(`# ${name} fails; again: node test/fuzz/fuzz.ts ${name} ${failure.seed}\n${hex}`)
}

/** Exit code: 0 fine, 1 something failed, 2 wrong usage. */
function main(name: string | undefined, seedText: string | undefined): number {
  const seed = seedText === undefined ? randomInt(2 ** 31) : Number(seedText)
  if (name === 'smoke') return smoke(seed)
  const target = name === undefined ? undefined : TARGETS[name]
  if (name === undefined || target === undefined || !Number.isSafeInteger(seed)) {
    console.error(`usage: fuzz.ts smoke|${Object.keys(TARGETS).join('|')} [SEED]`)
    return 2
  }
  console.error(`${name}: from seed ${seed}`)
  const failure = fuzz(target, seed, Number.POSITIVE_INFINITY, performance.now() + RUN_MS)
  if (failure !== null) report(name, failure)
  return failure === null ? 0 : 1
}

function smoke(seed: number): number {
  let code = 0
  for (const [name, target] of Object.entries(TARGETS)) {
    const failure = fuzz(target, seed, smokeCasesOf(target))
    const isAsExpected = (failure !== null) === (name === 'canary')
    console.error(`${name}: ${isAsExpected ? 'as expected' : 'NOT as expected'}`)
    if (isAsExpected) continue
    code = 1
    if (failure !== null) report(name, failure)
  }
  return code
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exitCode = main(process.argv[2], process.argv[3])
}
