/**
 * Runs benchmarks: `npm run bench -- NAME …`, all of them without a name; `--help` says the rest.
 * Needs root, for network namespaces of its own.
 *
 * Numbers from a busy machine are worth little: compare within one run, and look at the ratios.
 */
import { parseArgs } from 'node:util'
import { missingForNamespaces } from '../test/support/netns.ts'
import { run as runCacheHit } from './cache-hit.bench.ts'
import { run as runCacheMiss } from './cache-miss.bench.ts'
import { run as runIdle } from './idle.bench.ts'
import { run as runLatency } from './latency.bench.ts'
import { run as runMemory } from './memory.bench.ts'
import { run as runMixed } from './mixed.bench.ts'
import { run as runPauses } from './pauses.bench.ts'
import type { BenchOptions, BenchReport } from './report.ts'
import { machineNow, reportLines, save } from './results.ts'
import { run as runStart } from './start.bench.ts'
import { findProgram, SUBJECTS } from './subjects.ts'
import { run as runTcp } from './tcp.bench.ts'

/** The one list of benchmarks, in the order in which they run. */
const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<BenchReport>>> = {
  'cache-hit': runCacheHit,
  'cache-miss': runCacheMiss,
  tcp: runTcp,
  latency: runLatency,
  mixed: runMixed,
  start: runStart,
  idle: runIdle,
  memory: runMemory,
  pauses: runPauses,
}

const OPTIONS = {
  rounds: { type: 'string', default: '1' },
  only: { type: 'string' },
  save: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

const USAGE = `usage: npm run bench -- [NAME]... [--rounds N] [--only A,B] [--save]

  NAME        ${Object.keys(BENCHES).join(', ')}; without one, all of them
  --rounds N  how often everything is measured; 1 (the default) is a look, 7 are for the record
  --only A,B  only these of ${SUBJECTS.map(({ name }) => name).join(', ')}
  --save      stores the results under bench/results, to be committed`

interface Command {
  readonly names: readonly string[]
  readonly rounds: number
  readonly only: readonly string[]
  readonly isSaved: boolean
  readonly isHelp: boolean
}

process.exitCode = await main(process.argv.slice(2))

async function main(words: string[]): Promise<number> {
  let command: Command
  try {
    command = readCommand(words)
  } catch (error) {
    // Of parseArgs' messages the first sentence: those behind it are for who writes a parser.
    console.error(`bench: ${(error as Error).message.split('. ', 1)[0]}\n\n${USAGE}`)
    return 2
  }
  const { names, rounds, only, isSaved, isHelp } = command
  if (isHelp) {
    console.log(USAGE)
    return 0
  }
  const missing = whatIsMissing()
  if (missing !== null) {
    console.error(`bench: ${missing}`)
    return 1
  }
  const machine = machineNow() // before we are what keeps it busy
  for (const name of names) {
    const report = await BENCHES[name]!({ rounds, only, progress: (line) => console.error(line) })
    for (const line of reportLines(name, machine, report)) console.log(line)
    if (isSaved) save(name, machine, rounds, report)
  }
  return 0
}

/** Throws what is wrong with it. */
function readCommand(words: string[]): Command {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: OPTIONS,
  })
  const names = positionals.length === 0 ? Object.keys(BENCHES) : positionals
  const unknown = names.find((name) => !Object.hasOwn(BENCHES, name))
  if (unknown !== undefined) throw new Error(`there is no benchmark ${unknown}`)
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new Error('--rounds needs a whole number from 1 on')
  }
  const only = values.only?.split(',') ?? []
  const stranger = only.find((name) => !SUBJECTS.some((subject) => subject.name === name))
  if (stranger !== undefined) throw new Error(`nobody is called ${stranger}`)
  return { names, rounds, only, isSaved: values.save, isHelp: values.help }
}

function whatIsMissing(): string | null {
  const missing = missingForNamespaces()
  if (missing !== false) return missing
  for (const program of ['dnsperf', 'gcc', 'nft']) {
    if (findProgram(program) === null) return `${program} is not installed`
  }
  return null
}
