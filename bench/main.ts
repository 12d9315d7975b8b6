/**
 * Runs benchmarks: `npm run bench -- NAME`, all of them without a name.
 *
 *     --rounds N     how often everything is measured; default 7
 *     --seconds N    bound of one measurement; default 10
 *     --only A,B     only these subjects
 *     --save         stores the result as bench/results/NAME.json, to be committed
 *
 * Numbers from a busy machine are worth little: compare within one run, and look at the ratios.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run as runCacheHit } from './cache-hit.bench.ts'
import { generatorVersion } from './load.ts'
import type { BenchOptions, BenchReport } from './report.ts'
import { findProgram } from './subjects.ts'

/** The one list of benchmarks. */
const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<BenchReport>>> = {
  'cache-hit': runCacheHit,
}

const ROUNDS_DEFAULT = '7'
const SECONDS_DEFAULT = '10'

process.exitCode = await main(process.argv.slice(2))

async function main(commandArguments: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: commandArguments,
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: ROUNDS_DEFAULT },
      seconds: { type: 'string', default: SECONDS_DEFAULT },
      only: { type: 'string', default: '' },
      save: { type: 'boolean', default: false },
    },
  })
  const names = positionals.length === 0 ? Object.keys(BENCHES) : positionals
  const unknown = names.find((name) => !Object.hasOwn(BENCHES, name))
  const [rounds, secondsMax] = [Number(values.rounds), Number(values.seconds)]
  if (unknown !== undefined || !(rounds >= 1) || !(secondsMax >= 1)) {
    console.error(`usage: npm run bench -- [${Object.keys(BENCHES).join('|')}] [--rounds N] …`)
    return 2
  }
  if (findProgram('dnsperf') === null) {
    console.error('bench: dnsperf is not installed: run `npm run bench` as root, or install it')
    return 1
  }
  const only = values.only === '' ? [] : values.only.split(',')
  for (const name of names) {
    const machine = machineNow()
    const options = { rounds, secondsMax, only, progress: (line: string) => console.error(line) }
    const report = await BENCHES[name]!(options)
    print(name, machine, report)
    if (values.save) save(name, machine, rounds, report)
  }
  return 0
}

interface Machine {
  readonly processor: string
  readonly processors: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly node: string
  readonly dnsperf: string
  /** Of the last minute, before the first measurement: what else this machine was doing. */
  readonly loadBefore: number
}

function machineNow(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    processors: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    dnsperf: generatorVersion(),
    loadBefore: loadavg()[0]!,
  }
}

function print(name: string, machine: Machine, report: BenchReport): void {
  console.log(`${name}: ${machine.processors} × ${machine.processor}, Linux ${machine.kernel}`)
  if (machine.loadBefore > 0.5) {
    console.log(`the machine was busy before (load ${machine.loadBefore.toFixed(1)})`)
  }
  for (const [subject, version] of Object.entries(report.versions)) {
    console.log(`  ${subject.padEnd(10)} ${version}`)
  }
  for (const { name: subject, why } of report.absent) {
    console.log(`  ${subject.padEnd(10)} not measured: ${why}`)
  }
  for (const line of report.lines) console.log(line)
}

function save(name: string, machine: Machine, rounds: number, report: BenchReport): void {
  const directory = join(import.meta.dirname, 'results')
  mkdirSync(directory, { recursive: true })
  const file = join(directory, `${name}.json`)
  const { lines, measurements, ...rest } = report
  const result = { bench: name, machine, rounds, ...rest, summary: lines, measurements }
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`stored in ${file}`)
}
