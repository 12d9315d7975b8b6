/**
 * Runs benchmarks: `npm run bench -- NAME …`, all of them without a name. Needs root, for network
 * namespaces of its own.
 *
 *     --rounds N     how often everything is measured; 1 is a look, 7 are for the record
 *     --only A,B     only these subjects
 *     --save         stores the results under bench/results, to be committed
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

process.exitCode = await main(process.argv.slice(2))

async function main(commandArguments: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: commandArguments,
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      save: { type: 'boolean', default: false },
    },
  })
  const names = positionals.length === 0 ? Object.keys(BENCHES) : positionals
  const unknown = names.find((name) => !Object.hasOwn(BENCHES, name))
  const rounds = Number(values.rounds)
  if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1) {
    console.error(`usage: npm run bench -- [${Object.keys(BENCHES).join('|')}] … [--rounds N] …`)
    return 2
  }
  const missing = whatIsMissing()
  if (missing !== null) {
    console.error(`bench: ${missing}`)
    return 1
  }
  const only = values.only === '' ? [] : values.only.split(',')
  const stranger = only.find((name) => !SUBJECTS.some((subject) => subject.name === name))
  if (stranger !== undefined) {
    const known = SUBJECTS.map(({ name }) => name).join(', ')
    console.error(`bench: nobody is called ${stranger}; subjects are ${known}`)
    return 2
  }
  const machine = machineNow() // before we are what keeps it busy
  for (const name of names) {
    const report = await BENCHES[name]!({ rounds, only, progress: (line) => console.error(line) })
    for (const line of reportLines(name, machine, report)) console.log(line)
    if (values.save) save(name, machine, rounds, report)
  }
  return 0
}

function whatIsMissing(): string | null {
  const missing = missingForNamespaces()
  if (missing !== false) return missing
  for (const program of ['dnsperf', 'gcc', 'nft']) {
    if (findProgram(program) === null) return `${program} is not installed`
  }
  return null
}
