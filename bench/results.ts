/**
 * What becomes of a report: lines for whoever started the benchmark, and files for the repository,
 * with everything that one must know to compare them: machine, kernel, versions, commit, date.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { generatorVersion } from './load.ts'
import { type BenchReport, markdownTable, targetLine, textTable } from './report.ts'

interface Machine {
  readonly date: string
  readonly commit: string
  readonly processor: string
  readonly processors: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly node: string
  readonly dnsperf: string
  /** Of the last minute, before the first measurement: what else this machine was doing. */
  readonly loadBefore: number
}

/** Who shares the machine by more than this has a part in the numbers. */
const BUSY_LOAD = 0.5

export function machineNow(): Machine {
  return {
    date: new Date(Date.now()).toISOString().slice(0, 10),
    commit: commitNow(),
    processor: cpus()[0]?.model ?? 'unknown',
    processors: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    dnsperf: generatorVersion(),
    loadBefore: loadavg()[0]!,
  }
}

/** For a terminal. */
export function reportLines(name: string, machine: Machine, report: BenchReport): string[] {
  const lines = ['', `${name}: ${machineText(machine)}`]
  for (const table of report.tables) lines.push('', ...textTable(table))
  return [...lines, '', ...report.targets.map(targetLine), ...remarks(report)]
}

/** Writes bench/results/NAME.json, and NAME.md for people. */
export function save(name: string, machine: Machine, rounds: number, report: BenchReport): void {
  const directory = join(import.meta.dirname, 'results')
  mkdirSync(directory, { recursive: true })
  const { measurements, ...rest } = report
  const result = { bench: name, machine, rounds, ...rest, measurements }
  writeFileSync(join(directory, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`)
  const page = [
    `# ${name}`,
    '',
    `${machine.date}, commit ${machine.commit}, ${rounds} rounds, ${machineText(machine)}`,
    ...report.tables.flatMap((table) => ['', ...markdownTable(table)]),
    '',
    '### Targets and remarks',
    '',
    ...[...report.targets.map(targetLine), ...remarks(report)].map((line) => `- ${line}`),
  ]
  writeFileSync(join(directory, `${name}.md`), `${page.join('\n')}\n`)
  console.log(`stored in ${directory}`)
}

function remarks({ notes, subjects, absent }: BenchReport): string[] {
  return [
    ...notes,
    ...Object.entries(subjects).map(([name, { version, how }]) => `${name}: ${version}; ${how}`),
    ...absent.map(({ name, why }) => `${name}: not measured: ${why}`),
  ]
}

function machineText(machine: Machine): string {
  const { processors, processor, memoryGiB, kernel, node, dnsperf, loadBefore } = machine
  const size = `${processors} × ${processor}, ${memoryGiB} GiB`
  const busy = loadBefore > BUSY_LOAD ? `; BUSY before it began: load ${loadBefore.toFixed(1)}` : ''
  return `${size}, Linux ${kernel}, Node ${node}, dnsperf ${dnsperf}${busy}`
}

function commitNow(): string {
  const words = ['-C', import.meta.dirname, 'describe', '--always', '--dirty']
  return execFileSync('git', words, { encoding: 'utf8' }).trim()
}
