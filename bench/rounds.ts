/**
 * Rounds: every subject in turn, over and over, the order turned from round to round, so that no
 * subject always has the machine at its best. Who can't be started in the first round is left out
 * and named; who fails later is a failure of the benchmark.
 */
import type { BenchOptions, BenchReport } from './report.ts'
import { type Subject, SUBJECTS } from './subjects.ts'

export type Present = Pick<BenchReport, 'subjects' | 'absent'>

/** @param wanted  names of subjects that this benchmark is about */
export async function inRounds(
  options: BenchOptions,
  wanted: readonly string[],
  measure: (subject: Subject, round: number) => Promise<void>,
): Promise<Present> {
  const { only, rounds } = options
  const absent: { name: string; why: string }[] = []
  const present: Subject[] = []
  for (const subject of SUBJECTS) {
    if (!wanted.includes(subject.name)) continue
    if (only.length > 0 && !only.includes(subject.name)) continue
    const why = subject.missing()
    if (why === null) present.push(subject)
    else absent.push({ name: subject.name, why })
  }
  for (let round = 0; round < rounds; round++) {
    const first = round % Math.max(present.length, 1)
    for (const subject of [...present.slice(first), ...present.slice(0, first)]) {
      try {
        await measure(subject, round)
      } catch (error) {
        if (round > 0) throw error
        const why = (error as Error).message
        options.progress(`${subject.name}: left out: ${why}`)
        absent.push({ name: subject.name, why })
        present.splice(present.indexOf(subject), 1)
      }
    }
  }
  const described = present.map(({ name, version, how }) => [name, { version: version(), how }])
  return { subjects: Object.fromEntries(described), absent }
}
