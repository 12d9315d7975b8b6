/**
 * `npm test [-- PATTERN]`: every test that this machine can run, then one line of numbers.
 *
 * PATTERN selects files whose path contains it; if none does, tests whose name matches it. Plain
 * tests run side by side, then kernel tests (root, namespaces, nftables), of them the end-to-end ones
 * one file after the other; after them the machine must be as it was (leaks.ts). In CI (CI=true) a kernel test that was
 * skipped is a failure: a green run must mean that the kernel side was tried.
 */
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingForNamespaces } from '../test/support/netns.ts'
import { RUN_MARK } from '../test/support/process.ts'
import { codeFiles, CONCURRENCY, isKernelTest, isTest, ROOT, runsAlone } from './files.ts'
import { findLeaks, removeLeaks, takeStock } from './leaks.ts'
import { runTests, type TestCounts, type TestRunOptions } from './run-tests.ts'

/** What the whole may take on two cores; then everything is ended, and the run has failed. */
const MINUTES_MAX = 15

const mark = `${RUN_MARK}=${process.pid}-${Date.now()}`
const isCi = process.env.CI === 'true'
await main(process.argv[2] ?? '')

async function main(pattern: string): Promise<void> {
  const { files, namePattern } = select(pattern)
  const kernelTests = files.filter(isKernelTest)
  const temporary = prepareEnvironment()
  const before = takeStock()
  const options: TestRunOptions = {
    concurrency: CONCURRENCY,
    namePattern,
    signal: AbortSignal.timeout(MINUTES_MAX * 60_000),
    print: (line) => process.stdout.write(`${line}\n`),
  }

  const plain = await runTests(
    files.filter((file) => !isKernelTest(file)),
    options,
  )
  const kernel = await runKernelTests(kernelTests, options)
  const problems = [...skippedInCi(kernel), ...(await leaksOf(before)), ...leftFiles(temporary)]
  if (options.signal.aborted) problems.push(`the run took longer than ${MINUTES_MAX} minutes`)
  if (plain.passed + plain.failed + kernel.passed + kernel.failed + kernel.skipped === 0) {
    problems.push(`no test matches '${pattern}'`)
  }

  const failed = plain.failed + kernel.failed + problems.length
  const skipped = plain.skipped + kernel.skipped
  for (const problem of problems) options.print(`✖ ${problem}`)
  // The form that continuous integration reads: keep it alone on its line, and last.
  options.print(`\n${plain.passed + kernel.passed} passed, ${failed} failed, ${skipped} skipped`)
  process.exitCode = failed === 0 ? 0 : 1
}

function select(pattern: string): { files: string[]; namePattern: RegExp | null } {
  const files = codeFiles().filter(isTest)
  const byPath = files.filter((file) => file.includes(pattern))
  if (byPath.length > 0) return { files: byPath, namePattern: null }
  return { files, namePattern: new RegExp(pattern) }
}

async function runKernelTests(files: string[], options: TestRunOptions): Promise<TestCounts> {
  const missing = missingForNamespaces()
  if (files.length === 0 || missing === false) {
    const beside = await runTests(
      files.filter((file) => !runsAlone(file)),
      { ...options, concurrency: availableParallelism() },
    )
    const alone = await runTests(files.filter(runsAlone), { ...options, concurrency: 1 })
    return sum(beside, alone)
  }
  for (const file of files) options.print(`- ${file}  skipped: ${missing}`)
  return { passed: 0, failed: 0, skipped: files.length }
}

function sum(one: TestCounts, other: TestCounts): TestCounts {
  return {
    passed: one.passed + other.passed,
    failed: one.failed + other.failed,
    skipped: one.skipped + other.skipped,
  }
}

function skippedInCi(kernel: TestCounts): string[] {
  if (!isCi || kernel.skipped === 0) return []
  return [`kernel tests skipped: ${kernel.skipped}; in CI each must run`]
}

/** What a test starts or writes is known by these: the mark, and a folder of the run's own. */
function prepareEnvironment(): string {
  const [name, value] = mark.split('=') as [string, string]
  process.env[name] = value
  process.env.TMPDIR = mkdtempSync(join(tmpdir(), 'ngt-'))
  // Tests that act as another user must be able to come by.
  chmodSync(process.env.TMPDIR, 0o711)
  // Stripping types and compiling takes 45 ms of each test file's start; kept, it takes 5.
  process.env.NODE_COMPILE_CACHE = join(ROOT, 'node_modules', '.cache', 'compile')
  return process.env.TMPDIR
}

/** A process that was told to end has 2 s to do so. */
async function leaksOf(before: ReturnType<typeof takeStock>): Promise<string[]> {
  let leaks = findLeaks(before, mark)
  for (let tries = 0; leaks.length > 0 && tries < 10; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    leaks = findLeaks(before, mark)
  }
  if (leaks.length > 0) removeLeaks(before, mark)
  return leaks.map((leak) => `left behind: ${leak}`)
}

function leftFiles(folder: string): string[] {
  const left = readdirSync(folder)
  rmSync(folder, { recursive: true, force: true })
  return left.map((name) => `left behind: file ${name} in the folder for temporary files`)
}
