/**
 * Does the runtime make itself felt? 50,000 cached answers a second, and the longest times in which
 * none came: of Namegate, and of the C floor as the control loop, which has no garbage and no
 * compiler. What both have is the machine's. Beside it every garbage collection of Namegate's
 * threads, as the runtime itself reports it (gc-watch.ts).
 */
import { join } from 'node:path'
import { knownNamesFile, pace, type Pace, warm } from './pace.ts'
import { type BenchOptions, type BenchReport, fixed, median } from './report.ts'
import { inRounds } from './rounds.ts'
import { Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR, OURS } from './subjects.ts'
import { Workplace } from './workplace.ts'

const ADDRESSES = 32
const RATE = 50_000
const SECONDS_LOOK = 20
const SECONDS_RECORD = 60
/** What is promised of a collection in the data plane's thread. */
const WORKER_GC_MS_MAX = 5

interface Collection {
  readonly thread: 'main' | 'worker'
  readonly ms: number
}

interface Measurement extends Pace {
  readonly subject: string
  readonly round: number
  readonly collections: readonly Collection[]
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  using workplace = new Workplace()
  const file = knownNamesFile(workplace)
  const seconds = options.rounds === 1 ? SECONDS_LOOK : SECONDS_RECORD
  const nodeArguments = ['--import', join(import.meta.dirname, './gc-watch.ts')]
  const measurements: Measurement[] = []
  const present = await inRounds(options, [FLOOR, OURS], async (subject, round) => {
    await using stage = await Stage.build(workplace, ADDRESSES)
    await using server = await Server.start(stage, subject, { nodeArguments })
    await warm(stage, file)
    const before = server.printed.length
    if (subject.name === OURS && !server.printed.includes('watching the gc of worker')) {
      throw new Error('nobody watches the worker: no collection of it would be seen')
    }
    const seen = await pace(stage, { file, rate: RATE, seconds })
    const collections = collectionsIn(server.printed.slice(before))
    measurements.push({ subject: subject.name, round, ...seen, collections })
    options.progress(`round ${round + 1} ${subject.name}: longest gap ${seen.gaps[0]} ms`)
  })
  const ours = measurements.filter(({ subject }) => subject === OURS)
  const longest = Math.max(0, ...collectionsOf(ours, 'worker'))
  return {
    ...present,
    measurements,
    tables: [
      {
        title: `50,000 q/s for ${seconds} s: longest times without an answer`,
        columns: ['', 'longest', '2nd', '3rd', '5th', 'own', 'p99.9', 'answered', 'lost'],
        rows: Object.keys(present.subjects).map((name) => rowOf(name, measurements)),
      },
      {
        title: 'garbage collections of namegate meanwhile',
        columns: ['thread', 'count', 'longest', 'sum'],
        rows: (['main', 'worker'] as const).map((thread) => {
          const all = collectionsOf(ours, thread)
          const sum = all.reduce((total, ms) => total + ms, 0)
          return [thread, String(all.length), fixed(Math.max(0, ...all), 2), fixed(sum, 2)]
        }),
      },
    ],
    targets:
      ours.length === 0
        ? []
        : [{ what: 'longest GC of the worker, ms', measured: longest, limit: WORKER_GC_MS_MAX }],
    notes: ['Milliseconds. own: the longest time by which the generator itself was late.'],
  }
}

function rowOf(name: string, measurements: readonly Measurement[]): string[] {
  const own = measurements.filter(({ subject }) => subject === name)
  const of = (pick: (one: Measurement) => number, digits = 2): string =>
    fixed(median(own.map(pick)), digits)
  return [
    name,
    ...[0, 1, 2, 4].map((rank) => of(({ gaps }) => gaps[rank]!)),
    of((one) => one.own[0]!),
    of(({ p999 }) => p999),
    of(({ answered }) => answered, 0),
    of(({ sent, answered }) => sent - answered, 0),
  ]
}

function collectionsOf(measurements: readonly Measurement[], thread: string): number[] {
  return measurements.flatMap(({ collections }) =>
    collections.filter((one) => one.thread === thread).map(({ ms }) => ms),
  )
}

function collectionsIn(printed: string): Collection[] {
  return [...printed.matchAll(/^gc (main|worker) ([\d.]+)$/gm)].map(([, thread, ms]) => ({
    thread: thread as Collection['thread'],
    ms: Number(ms),
  }))
}
