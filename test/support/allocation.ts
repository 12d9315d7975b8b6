/**
 * The allocation test: proves that a hot function leaves nothing on the heap.
 *
 * Every hot function's test file calls `allocatesNothing` (STYLE.md, "Hot code"):
 *
 *     allocatesNothing('skipName allocates nothing', () => {
 *       const packet = buildMessage({ … })
 *       return () => skipName(packet, 12, packet.length)
 *     })
 *
 * How it is measured, and why so: after warming up, `gc()`, then the growth of `heapUsed` over
 * many calls, the smallest of several rounds (a single round can catch a compilation: 60 bytes a
 * call for a plain read, once). It needs a young generation large enough that no scavenge runs in
 * between; with the default one 100,000 calls of `subarray` show 9.7 bytes each instead of 104.
 * Both need flags of the process, so the test starts its own file again as a child with those
 * flags and runs there that one test; a plain `node --test file` is enough.
 *
 * What must stay true: it sees a `subarray` that escapes. allocation.test.ts says so.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeSync } from 'node:fs'
import { test } from 'node:test'

/** Called with 0, 1, 2, …; a result is kept alive, so that returning an object shows. */
export type Measured = (call: number) => unknown

/** Below this nothing is allocated per call: the smallest object there is has 16 bytes. */
const BYTES_PER_CALL_MAX = 0.5

const WARM_CALLS = 50_000
/** Concurrent compilation on a busy machine takes its time; until it is done code allocates. */
const WARM_MS_MIN = 150
const CALLS = 100_000
const ROUNDS_MAX = 6

/** Set in the child: the name of the test that it shall measure. */
const CHILD_VARIABLE = 'NAMEGATE_ALLOCATION_TEST'
const FLAGS = ['--expose-gc', '--min-semi-space-size=128', '--max-semi-space-size=128']
const RESULT_FD = 3

/**
 * A test that fails when a call of the function allocates.
 * @param setup  makes what the calls need, once, in the child; returns what is measured
 */
export function allocatesNothing(name: string, setup: () => Measured): void {
  allocationTest(name, setup, (bytesPerCall) => {
    assert.ok(
      bytesPerCall < BYTES_PER_CALL_MAX,
      `${name}: ${bytesPerCall.toFixed(1)} bytes are allocated per call`,
    )
  })
}

/** A test that hands the bytes allocated per call to `check`. */
export function allocationTest(
  name: string,
  setup: () => Measured,
  check: (bytesPerCall: number) => void,
): void {
  const wanted = process.env[CHILD_VARIABLE]
  if (wanted === name) {
    test(name, () => {
      writeSync(RESULT_FD, String(bytesPerCall(setup())))
    })
  } else if (wanted === undefined) {
    test(name, async (t) => {
      assert.ok(t.filePath !== undefined, 'the test knows its file')
      check(await measureInChild(t.filePath, name))
    })
  }
}

let sink: unknown

function bytesPerCall(run: Measured): number {
  const collect = globalThis.gc
  assert.ok(collect !== undefined, 'the child was started with --expose-gc')
  const warmUntil = performance.now() + WARM_MS_MIN
  do {
    for (let call = 0; call < WARM_CALLS; call++) sink = run(call)
  } while (performance.now() < warmUntil)
  let smallest = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS_MAX && smallest >= BYTES_PER_CALL_MAX; round++) {
    collect()
    const before = process.memoryUsage().heapUsed
    for (let call = 0; call < CALLS; call++) sink = run(call)
    smallest = Math.min(smallest, (process.memoryUsage().heapUsed - before) / CALLS)
  }
  void sink
  return smallest
}

async function measureInChild(file: string, name: string): Promise<number> {
  const pattern = name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
  const environment: NodeJS.ProcessEnv = { ...process.env, [CHILD_VARIABLE]: name }
  // Set by `node --test`: it would make the child report in the runner's binary form.
  delete environment['NODE_TEST_CONTEXT']
  delete environment['NODE_OPTIONS']
  const child = spawn(process.execPath, [...FLAGS, `--test-name-pattern=${pattern}`, file], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  let result = ''
  let report = ''
  child.stdio[RESULT_FD]?.on('data', (chunk) => (result += chunk))
  child.stdout?.on('data', (chunk) => (report += chunk))
  child.stderr?.on('data', (chunk) => (report += chunk))
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  assert.ok(code === 0 && result !== '', `the child of "${name}" measured nothing:\n${report}`)
  return Number(result)
}
