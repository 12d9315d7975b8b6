/**
 * Side by side under load: what a query costs each subject, by the operating system's accounts.
 *
 * In every round each subject is started, warmed, and put under each load in turn. What counts is
 * its CPU over queries completed: at a given moment's queries per second the generator has a share
 * that changes, in CPU per query it has none. Beside it stands what the generator spent, because
 * interception happens in the sender's time (cpu.ts).
 */
import { machineCpuMs, softirqThreadsMs } from './cpu.ts'
import { load, type LoadOptions, type LoadResult } from './load.ts'
import {
  type BenchOptions,
  type BenchReport,
  fixed,
  median,
  type Table,
  type Target,
} from './report.ts'
import { inRounds } from './rounds.ts'
import { Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR } from './subjects.ts'
import { Workplace } from './workplace.ts'

export interface Load extends Omit<LoadOptions, 'file'> {
  /** '100 clients' */
  readonly name: string
  /** Where the questions are; made once for all subjects. */
  readonly file: string
}

export interface SideBySide {
  /** Names of subjects, in the order of the table. */
  readonly subjects: readonly string[]
  /** Different addresses in the upstream's answers. */
  readonly addresses: number
  /** Writes the query files; the loads that warm, and those that are measured. */
  readonly prepare: (directory: string) => { warm: readonly Load[]; loads: readonly Load[] }
  readonly targets: (cost: Cost) => readonly Target[]
  readonly notes: readonly string[]
}

/** Median CPU µs per query of a subject under a load; NaN when it was not measured. */
export interface Cost {
  of(subject: string, load: string): number
  /** Median over the rounds of the ratio within a round. */
  ratio(subject: string, other: string, load: string): number
  /** Queries to the upstream for each query of a client; median. */
  asked(subject: string, load: string): number
}

interface Measurement {
  readonly subject: string
  readonly load: string
  readonly round: number
  readonly cpuUsPerQuery: number
  readonly generatorUsPerQuery: number
  /** CPU of the kernel's threads for soft interrupts. */
  readonly kernelUsPerQuery: number
  readonly queriesPerSecond: number
  readonly completed: number
  readonly lost: number
  readonly failed: number
  /** Queries that reached the upstream meanwhile, by query of the client. */
  readonly askedPerQuery: number
  /** CPU of the server over the time of the run. */
  readonly serverLoad: number
  readonly generatorLoad: number
  /** What else the machine did, in processors: strangers, above all. */
  readonly elsewhereLoad: number
}

/** Who uses less of a processor than this was waiting for something. */
const BUSY_LOAD = 0.9
/** More than this of a processor for others makes a measurement doubtful. */
const ELSEWHERE_LOAD = 0.15

export async function sideBySide(options: BenchOptions, what: SideBySide): Promise<BenchReport> {
  using workplace = new Workplace()
  const { warm, loads } = what.prepare(workplace.directory)
  const measurements: Measurement[] = []
  const present = await inRounds(options, what.subjects, async (subject, round) => {
    await using stage = await Stage.build(workplace, what.addresses)
    await using server = await Server.start(stage, subject)
    for (const one of warm) await load(stage, one)
    for (const one of loads) {
      const measurement = await measure(stage, server, one, round)
      measurements.push(measurement)
      const cost = measurement.cpuUsPerQuery.toFixed(2)
      options.progress(`round ${round + 1} ${subject.name}, ${one.name}: ${cost} µs`)
    }
  })
  const cost = costOf(measurements)
  const names = what.subjects.filter((name) => present.subjects[name] !== undefined)
  return {
    ...present,
    measurements,
    tables: loads.map(({ name }) => tableOf(name, names, measurements, cost)),
    targets: what.targets(cost).filter(({ measured, limit }) => !Number.isNaN(measured + limit)),
    notes: [...what.notes, ...COLUMNS],
  }
}

async function measure(
  stage: Stage,
  server: Server,
  one: Load,
  round: number,
): Promise<Measurement> {
  const counters = (): number[] => [
    server.cpuMs(),
    stage.upstreamMs(),
    softirqThreadsMs(),
    machineCpuMs(),
    process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000,
    stage.asked(),
  ]
  const before = counters()
  const result = await load(stage, one)
  const spent = counters().map((count, index) => count - before[index]!)
  const [serverMs, upstreamMs, kernelMs, machineMs, benchMs, asked] = spent as [
    ...[number, number, number],
    ...[number, number, number],
  ]
  const ours = serverMs + upstreamMs + kernelMs + benchMs + result.generatorMs
  return {
    subject: server.subject.name,
    load: one.name,
    round,
    ...perQuery(result, serverMs),
    kernelUsPerQuery: (kernelMs * 1000) / result.completed,
    askedPerQuery: asked / result.completed,
    elsewhereLoad: Math.max(machineMs - ours, 0) / 1000 / result.seconds,
  }
}

function perQuery(result: LoadResult, serverMs: number) {
  const { completed, lost, failed, seconds, generatorMs } = result
  return {
    cpuUsPerQuery: (serverMs * 1000) / completed,
    generatorUsPerQuery: (generatorMs * 1000) / completed,
    queriesPerSecond: completed / seconds,
    completed,
    lost,
    failed,
    serverLoad: serverMs / 1000 / seconds,
    generatorLoad: generatorMs / 1000 / seconds,
  }
}

function costOf(measurements: readonly Measurement[]): Cost {
  const find = (subject: string, name: string): Measurement[] =>
    measurements.filter((one) => one.subject === subject && one.load === name)
  return {
    of: (subject, name) => median(find(subject, name).map((one) => one.cpuUsPerQuery)),
    asked: (subject, name) => median(find(subject, name).map((one) => one.askedPerQuery)),
    ratio: (subject, other, name) => {
      const others = find(other, name)
      const ratios = find(subject, name).flatMap(({ round, cpuUsPerQuery }) => {
        const same = others.find((one) => one.round === round)
        return same === undefined ? [] : [cpuUsPerQuery / same.cpuUsPerQuery]
      })
      return median(ratios)
    },
  }
}

const COLUMNS = [
  'CPU: µs of the subject, user and system, for each query that was answered; medians of rounds.',
  '× floor: median over the rounds of the ratio within one round.',
  'generator: CPU µs of dnsperf for each query; the kernel intercepts in the sender’s time.',
  'kernel: CPU µs of the kernel’s soft-interrupt threads, which belongs to somebody here.',
  'asked: queries to the upstream for each query of a client.',
  'elsewhere: processors busy with anything else: whoever shares the machine.',
]

function tableOf(
  name: string,
  subjects: readonly string[],
  measurements: readonly Measurement[],
  cost: Cost,
): Table {
  const columns = [
    '',
    'CPU',
    '× floor',
    'generator',
    'kernel',
    'queries/s',
    'load',
    'asked',
    'lost',
    'failed',
  ]
  const rows = subjects.map((subject) => {
    const own = measurements.filter((one) => one.subject === subject && one.load === name)
    const middle = (key: keyof Measurement): number => median(own.map((one) => one[key] as number))
    const sum = (key: 'lost' | 'failed'): number => own.reduce((total, one) => total + one[key], 0)
    return [
      subject,
      fixed(middle('cpuUsPerQuery'), 2),
      fixed(cost.ratio(subject, FLOOR, name), 2),
      fixed(middle('generatorUsPerQuery'), 2),
      fixed(middle('kernelUsPerQuery'), 2),
      fixed(middle('queriesPerSecond'), 0),
      fixed(middle('serverLoad'), 2),
      fixed(middle('askedPerQuery'), 3),
      String(sum('lost')),
      String(sum('failed')),
      fixed(middle('elsewhereLoad'), 2),
      remark(middle),
    ]
  })
  return { title: name, columns: [...columns, 'elsewhere', ''], rows }
}

/** What held queries per second down, when it was not the subject; what makes a row doubtful. */
function remark(middle: (key: keyof Measurement) => number): string {
  const remarks: string[] = []
  if (middle('serverLoad') < BUSY_LOAD && middle('generatorLoad') >= BUSY_LOAD) {
    remarks.push('the generator is the limit')
  }
  if (middle('elsewhereLoad') > ELSEWHERE_LOAD) remarks.push('not alone on the machine')
  if (middle('failed') + middle('lost') > middle('completed') / 1000) remarks.push('NOT ANSWERED')
  return remarks.join('; ')
}
