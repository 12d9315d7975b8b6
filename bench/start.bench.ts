/**
 * How long from the start of a process to its first answer? A client asks every millisecond. The
 * answer is a miss, so the way to the upstream is part of it; `ip netns exec` is too, for everyone.
 */
import { type BenchOptions, type BenchReport, fixed, median } from './report.ts'
import { inRounds } from './rounds.ts'
import { Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR, OURS_BOTH, SUBJECTS } from './subjects.ts'
import { Workplace } from './workplace.ts'

const STARTS_A_ROUND = 3

export async function run(options: BenchOptions): Promise<BenchReport> {
  using workplace = new Workplace()
  // Two processes give their first answer when the first of them does.
  const wanted = SUBJECTS.map(({ name }) => name).filter(
    (name) => name !== OURS_BOTH && !name.startsWith(FLOOR),
  )
  const measurements: { subject: string; round: number; startMs: number }[] = []
  const present = await inRounds(options, wanted, async (subject, round) => {
    for (let start = 0; start < STARTS_A_ROUND; start++) {
      await using stage = await Stage.build(workplace, 1)
      await using server = await Server.start(stage, subject)
      measurements.push({ subject: subject.name, round, startMs: server.startMs })
    }
    options.progress(
      `round ${round + 1} ${subject.name}: ${fixed(measurements.at(-1)!.startMs, 0)} ms`,
    )
  })
  const rows = Object.keys(present.subjects).map((name) => {
    const all = measurements.filter(({ subject }) => subject === name).map((one) => one.startMs)
    return [name, fixed(median(all), 0), fixed(Math.min(...all), 0), fixed(Math.max(...all), 0)]
  })
  return {
    ...present,
    measurements,
    tables: [
      { title: 'start to first answer, ms', columns: ['', 'median', 'least', 'most'], rows },
    ],
    targets: [],
    notes: ['Namegate with interception puts its ruleset into the kernel before it answers.'],
  }
}
