/**
 * What does a node cost on which nobody asks anything? CPU of each process, in percent of one
 * processor, and memory.
 */
import { sleep } from '../test/support/process.ts'
import { monotonicMs } from './clock.ts'
import { type BenchOptions, type BenchReport, fixed, median } from './report.ts'
import { inRounds } from './rounds.ts'
import { Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR, OURS_BOTH, OURS_PLAIN, SUBJECTS } from './subjects.ts'
import { Workplace } from './workplace.ts'

/** What a start does is over; for the record, V8 has also compiled what an idle process runs. */
const SETTLE_LOOK_MS = 4000
const SETTLE_RECORD_MS = 35_000
const LOOK_MS = 5000
const RECORD_MS = 30_000
const PERCENT_MAX = 0.5

interface Measurement {
  readonly subject: string
  readonly round: number
  /** By process. */
  readonly percent: readonly number[]
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  using workplace = new Workplace()
  const wanted = SUBJECTS.map(({ name }) => name).filter(
    (name) => name !== OURS_PLAIN && !name.startsWith(FLOOR),
  )
  const measurements: Measurement[] = []
  const present = await inRounds(options, wanted, async (subject, round) => {
    await using stage = await Stage.build(workplace, 1)
    await using server = await Server.start(stage, subject)
    await sleep(options.rounds === 1 ? SETTLE_LOOK_MS : SETTLE_RECORD_MS)
    const [before, beganMs] = [server.cpuMsOfEach(), monotonicMs()]
    await sleep(options.rounds === 1 ? LOOK_MS : RECORD_MS)
    const tookMs = monotonicMs() - beganMs
    const after = server.cpuMsOfEach()
    const percent = after.map((ms, index) => ((ms - before[index]!) / tookMs) * 100)
    measurements.push({ subject: subject.name, round, percent })
    options.progress(`round ${round + 1} ${subject.name}: ${percent.map((one) => fixed(one, 2))} %`)
  })
  const most = (name: string): number =>
    median(
      measurements
        .filter(({ subject }) => subject === name)
        .map(({ percent }) => Math.max(...percent)),
    )
  const sum = (name: string): number =>
    median(
      measurements
        .filter(({ subject }) => subject === name)
        .map(({ percent }) => percent.reduce((total, one) => total + one, 0)),
    )
  const names = Object.keys(present.subjects)
  return {
    ...present,
    measurements,
    tables: [
      {
        title: 'CPU of an idle node, % of one processor',
        columns: ['', 'busiest process', 'all processes'],
        rows: names.map((name) => [name, fixed(most(name), 2), fixed(sum(name), 2)]),
      },
    ],
    targets: names.includes(OURS_BOTH)
      ? [
          {
            what: 'idle CPU of agent and proxy each, %',
            measured: most(OURS_BOTH),
            limit: PERCENT_MAX,
          },
        ]
      : [],
    notes: [],
  }
}
