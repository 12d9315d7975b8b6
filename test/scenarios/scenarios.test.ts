/** Each scenario beside this file, run over the real data plane in this process. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { InProcessWorld } from '../support/scenario/in-process.ts'
import { parseScenario } from '../support/scenario/parse.ts'
import type { Scenario } from '../support/scenario/scenario.ts'
import { runScenario } from '../support/scenario/run.ts'

const LINES_MAX = 40

const files = globSync('*.scn', { cwd: import.meta.dirname }).sort()
assert(files.length > 0, 'there are scenarios')

function runInProcess(scenario: Scenario): Promise<void> {
  return runScenario(scenario, new InProcessWorld(scenario))
}

for (const file of files) {
  const text = readFileSync(join(import.meta.dirname, file), 'utf8')
  const title = /^# (.*)/.exec(text)?.[1] ?? ''
  test(`${file}: ${title}`, async () => {
    assert(text.split('\n').length <= LINES_MAX, `a scenario has less than ${LINES_MAX} lines`)
    const scenario = parseScenario(text, file)
    if (scenario.notYet === null) await runInProcess(scenario)
    else await assert.rejects(runInProcess(scenario), `it passes: take out 'not yet' in ${file}`)
  })
}
