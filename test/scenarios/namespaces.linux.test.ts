/**
 * The scenarios beside this file once more, played to a real daemon with real sockets and nft: all
 * but those that say `only in process`, and those that can't pass yet.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { missingForNamespaces } from '../support/netns.ts'
import { InNamespacesWorld } from '../support/scenario/in-namespaces.ts'
import { parseScenario } from '../support/scenario/parse.ts'
import { runScenario } from '../support/scenario/run.ts'
import type { Scenario } from '../support/scenario/scenario.ts'
import { Stage } from '../support/scenario/stage.ts'

/** Of real time. More is too much of everybody's: then `only in process: it takes 30 s`. */
const PASS_MS_MAX = 6000
/** A daemon's start, the longest that passes and the longest that a client waits. */
const SCENARIO_MS = 30_000

/** Scenarios mostly wait: for a daemon to start, for time to pass. So two are played at once. */
const STAGES = 2

const skip = missingForNamespaces()
const scenarios = globSync('*.scn', { cwd: import.meta.dirname })
  .sort()
  .map((file) => parseScenario(readFileSync(join(import.meta.dirname, file), 'utf8'), file))
  .filter(({ onlyInProcess, notYet }) => onlyInProcess === null && notYet === null)
assert(scenarios.length > 0, 'there are scenarios')

// One suite: where no scenario is asked for, nothing is built.
describe('scenarios in namespaces', { concurrency: STAGES }, () => {
  const stages: Stage[] = []
  const free: Stage[] = []
  before(async () => {
    if (skip !== false) return
    const clients = Math.max(...scenarios.map((scenario) => scenario.clients.length))
    for (let index = 0; index < STAGES; index++) stages.push(await Stage.build(clients))
    free.push(...stages)
  })
  after(() => {
    for (const stage of stages) stage[Symbol.dispose]()
  })

  for (const scenario of scenarios) {
    const { file, title } = scenario
    test(`${file}: ${title}`, { skip, timeout: SCENARIO_MS }, async () => {
      const passMs = passingMs(scenario)
      assert(
        passMs <= PASS_MS_MAX,
        `let less time pass, or: only in process: it takes ${passMs} ms`,
      )
      const stage = free.pop()!
      try {
        await runScenario(scenario, await InNamespacesWorld.begin(stage, scenario))
      } finally {
        free.push(stage)
      }
    })
  }
})

function passingMs({ steps }: Scenario): number {
  return steps.reduce((sum, step) => sum + (step.kind === 'pass' ? step.ms : 0), 0)
}
