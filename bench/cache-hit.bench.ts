/**
 * What does a cached answer cost? CPU per query of each subject, as a ratio to the C floor.
 *
 * Every round starts each subject in turn, fills it with NAME_COUNT names, and loads it over
 * loopback from 1 and from 100 sockets; the order turns from round to round, so that no subject
 * always has the machine at its best. What counts is the operating system's CPU time over queries
 * completed: at a given moment's queries per second the generator has a share that changes, in CPU
 * per query it has none.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { load } from './load.ts'
import { type BenchOptions, type BenchReport, median } from './report.ts'
import { Server } from './server.ts'
import { FLOOR, type Subject, SUBJECTS } from './subjects.ts'
import { BenchUpstream, benchName, NAME_COUNT } from './upstream.ts'

const CLIENTS = [1, 100] as const
/** 200,000 queries a measurement: the CPU clock's tick of 10 ms is then less than 1 %. */
const PASSES = 20
/** The same for everyone; one of them is compiled while it runs. */
const WARM_PASSES = 20
const WARM_RATE = 40_000
/** Who uses less of a processor than this was waiting for something. */
const BUSY_LOAD = 0.9

interface Measurement {
  readonly subject: string
  readonly clients: number
  readonly round: number
  readonly cpuUsPerQuery: number
  readonly queriesPerSecond: number
  readonly lost: number
  /** CPU of the server over the time of the run. */
  readonly serverLoad: number
  readonly generatorLoad: number
  /** Queries that reached the upstream meanwhile: they were no hits. */
  readonly missed: number
  readonly residentMiB: number
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  const subjects = SUBJECTS.filter(
    ({ name }) => options.only.length === 0 || options.only.includes(name),
  )
  const absent = subjects.flatMap(({ name, missing }) => {
    const why = missing()
    return why === null ? [] : [{ name, why }]
  })
  const present = subjects.filter(({ name }) => !absent.some((one) => one.name === name))
  const directory = mkdtempSync(join(tmpdir(), 'namegate-bench-'))
  const measurements: Measurement[] = []
  try {
    const file = join(directory, 'names')
    const lines = Array.from({ length: NAME_COUNT }, (_, index) => `${benchName(index)} A\n`)
    writeFileSync(file, lines.join(''))
    for (let round = 0; round < options.rounds; round++) {
      const turned = [
        ...present.slice(round % present.length),
        ...present.slice(0, round % present.length),
      ]
      for (const subject of turned) {
        try {
          measurements.push(...(await measure(subject, round, file, options)))
        } catch (error) {
          if (round > 0) throw error
          absent.push({ name: subject.name, why: (error as Error).message })
          present.splice(present.indexOf(subject), 1)
        }
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  return {
    versions: Object.fromEntries(present.map(({ name, version }) => [name, version()])),
    absent,
    measurements,
    lines: summary(present, measurements),
  }
}

async function measure(
  subject: Subject,
  round: number,
  file: string,
  options: BenchOptions,
): Promise<Measurement[]> {
  await using upstream = await BenchUpstream.start()
  await using server = await Server.start(subject, upstream.port)
  const { port } = server
  const secondsMax = options.secondsMax
  await load({ port, file, passes: WARM_PASSES, secondsMax: 60, clients: 10, rate: WARM_RATE })
  const measurements: Measurement[] = []
  for (const clients of CLIENTS) {
    const beforeMs = server.cpuMs()
    const answeredBefore = upstream.answered
    const result = await load({ port, file, passes: PASSES, secondsMax, clients })
    const usedMs = server.cpuMs() - beforeMs
    measurements.push({
      subject: subject.name,
      clients,
      round,
      cpuUsPerQuery: (usedMs * 1000) / result.completed,
      queriesPerSecond: result.queriesPerSecond,
      lost: result.lost,
      serverLoad: usedMs / 1000 / result.seconds,
      generatorLoad: result.generatorLoad,
      missed: upstream.answered - answeredBefore,
      residentMiB: server.residentBytes() / (1 << 20),
    })
    const last = measurements.at(-1)!
    options.progress(
      `round ${round + 1} ${subject.name} ${clients} clients: ${last.cpuUsPerQuery.toFixed(2)} µs`,
    )
  }
  return measurements
}

function summary(subjects: readonly Subject[], measurements: readonly Measurement[]): string[] {
  const lines = ['clients  subject     CPU µs/query  × floor  queries/s  server load  lost  misses']
  for (const clients of CLIENTS) {
    for (const { name } of subjects) {
      const own = measurements.filter((one) => one.subject === name && one.clients === clients)
      const ratios = own.flatMap(({ round, cpuUsPerQuery }) => {
        const floor = measurements.find(
          (one) => one.subject === FLOOR && one.clients === clients && one.round === round,
        )
        return floor === undefined ? [] : [cpuUsPerQuery / floor.cpuUsPerQuery]
      })
      const serverLoad = median(own.map((one) => one.serverLoad))
      lines.push(
        [
          String(clients).padStart(7),
          name.padEnd(10),
          median(own.map((one) => one.cpuUsPerQuery))
            .toFixed(2)
            .padStart(13),
          (ratios.length === 0 ? '–' : median(ratios).toFixed(2)).padStart(7),
          median(own.map((one) => one.queriesPerSecond))
            .toFixed(0)
            .padStart(9),
          serverLoad.toFixed(2).padStart(11),
          String(own.reduce((sum, { lost }) => sum + lost, 0)).padStart(5),
          String(own.reduce((sum, { missed }) => sum + missed, 0)).padStart(6),
          limitOf(serverLoad, median(own.map((one) => one.generatorLoad))),
        ]
          .join('  ')
          .trimEnd(),
      )
    }
  }
  return lines
}

/** What held queries per second down, when it was not the server. */
function limitOf(serverLoad: number, generatorLoad: number): string {
  if (serverLoad >= BUSY_LOAD) return ''
  if (generatorLoad >= BUSY_LOAD) return 'the generator is the limit of queries/s'
  return 'neither was busy: a shared machine, or too few queries on their way'
}
