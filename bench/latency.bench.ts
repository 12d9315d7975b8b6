/**
 * How long does a client wait for a cached answer? Queries leave at a fixed pace, whether answers
 * come or not, and the time counts from when each was due.
 */
import { knownNamesFile, pace, type Pace, warm } from './pace.ts'
import { type BenchOptions, type BenchReport, fixed, median, type Table } from './report.ts'
import { inRounds } from './rounds.ts'
import { Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR, OURS, OURS_BOTH, SUBJECTS } from './subjects.ts'
import { Workplace } from './workplace.ts'

const ADDRESSES = 32
const RATES = [5000, 20_000] as const
const SECONDS = 3
const SETTLE_SECONDS = 8

interface Measurement extends Pace {
  readonly subject: string
  readonly rate: number
  readonly round: number
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  using workplace = new Workplace()
  const file = knownNamesFile(workplace)
  const wanted = SUBJECTS.map(({ name }) => name).filter((name) => !name.endsWith('-plain'))
  const measurements: Measurement[] = []
  const present = await inRounds(options, wanted, async (subject, round) => {
    await using stage = await Stage.build(workplace, ADDRESSES)
    await using _server = await Server.start(stage, subject)
    await warm(stage, file)
    // Few queries a waking are another load than many: compilers begin anew.
    await pace(stage, { file, rate: RATES[1], seconds: SETTLE_SECONDS })
    for (const rate of RATES) {
      const seen = await pace(stage, { file, rate, seconds: SECONDS })
      measurements.push({ subject: subject.name, rate, round, ...seen })
      options.progress(`round ${round + 1} ${subject.name}, ${rate} q/s: p99 ${seen.p99} ms`)
    }
  })
  return {
    ...present,
    measurements,
    tables: RATES.map((rate) => tableOf(rate, Object.keys(present.subjects), measurements)),
    targets: [OURS, OURS_BOTH].flatMap((subject) => {
      const measured = ratioOfP99(measurements, subject)
      const what = `p99 of ${subject} at 20,000 q/s × unbound`
      return Number.isNaN(measured) ? [] : [{ what, measured, limit: 1.1 }]
    }),
    notes: [
      'Milliseconds from when a query was due to its answer; 10,000 names, 10 clients.',
      `own: the longest time by which the generator itself was late; nothing below it counts. ${FLOOR} is the least possible.`,
    ],
  }
}

function ratioOfP99(measurements: readonly Measurement[], subject: string): number {
  const steady = measurements.filter(({ rate }) => rate === 20_000)
  const ratios = steady
    .filter((one) => one.subject === subject)
    .flatMap(({ round, p99 }) => {
      const other = steady.find((one) => one.subject === 'unbound' && one.round === round)
      return other === undefined ? [] : [p99 / other.p99]
    })
  return median(ratios)
}

function tableOf(
  rate: number,
  subjects: readonly string[],
  measurements: readonly Measurement[],
): Table {
  const rows = subjects.map((subject) => {
    const own = measurements.filter((one) => one.subject === subject && one.rate === rate)
    const of = (pick: (one: Measurement) => number): string => fixed(median(own.map(pick)), 3)
    return [
      subject,
      of(({ p50 }) => p50),
      of(({ p99 }) => p99),
      of(({ p999 }) => p999),
      of(({ max }) => max),
      of((one) => one.own[0]!),
      String(own.reduce((sum, { sent, answered }) => sum + sent - answered, 0)),
      String(own.reduce((sum, { failed }) => sum + failed, 0)),
    ]
  })
  const columns = ['', 'p50', 'p99', 'p99.9', 'longest', 'own', 'lost', 'failed']
  return { title: `${rate.toLocaleString('en-US')} q/s, cached`, columns, rows }
}
