/**
 * `npm run ok`: everything that needs no root and no kernel to play with, in under a minute. What
 * to run before each commit: types, format, lint, dead code, tidy, unit tests and the scenarios in
 * process (all tests but the kernel's, the fuzzers' and the comparisons with other programs).
 *
 * The checks of the source run side by side first, because they take two seconds; the tests follow
 * even if one of them fails, so that one run shows everything.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { codeFiles, CONCURRENCY, isKernelTest, isTest, ROOT } from './files.ts'
import { runTests } from './run-tests.ts'

const SECONDS_AIM = 60
const MINUTES_MAX = 3

/** Fuzzers, and what is compared with other programs, are for `npm test`. */
const LONG = ['test/fuzz/', 'test/differential/']

const TIDY = join(import.meta.dirname, 'tidy.ts')
const CHECKS: readonly { readonly title: string; readonly command: readonly string[] }[] = [
  { title: 'types', command: ['tsc', '-p', 'tsconfig.json', '--pretty'] },
  { title: 'format', command: ['biome', 'format', '--colors=off', '.'] },
  { title: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { title: 'dead code', command: ['knip', '--no-progress'] },
  { title: 'tidy', command: [process.execPath, '--disable-warning=ExperimentalWarning', TIDY] },
]

const begunMs = performance.now()
process.env.NODE_COMPILE_CACHE = join(ROOT, 'node_modules', '.cache', 'compile')

const verdicts = await Promise.all(CHECKS.map(check))
const counts = await runTests(
  codeFiles().filter((file) => isTest(file) && !isKernelTest(file) && !isLong(file)),
  {
    concurrency: CONCURRENCY,
    namePattern: null,
    signal: AbortSignal.timeout(MINUTES_MAX * 60_000),
    print,
  },
)

const badChecks = verdicts.filter((isGood) => !isGood).length
const seconds = (performance.now() - begunMs) / 1000
const aim = seconds > SECONDS_AIM ? `; the aim is ${SECONDS_AIM} s` : ''
print(
  `\nok: ${CHECKS.length - badChecks} of ${CHECKS.length} checks, ${seconds.toFixed(0)} s${aim}`,
)
print(`${counts.passed} passed, ${counts.failed + badChecks} failed, ${counts.skipped} skipped`)
process.exitCode = counts.failed + badChecks === 0 ? 0 : 1

/** Runs one check; prints a line, and what it said when it found something. */
async function check({ title, command }: (typeof CHECKS)[number]): Promise<boolean> {
  const begun = performance.now()
  const child = spawn(command[0]!, command.slice(1), {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  }
  const ended = Promise.withResolvers<number>()
  child.on('error', (error) => {
    said += error.message
    ended.resolve(1)
  })
  child.on('close', (code) => ended.resolve(code ?? 1))
  const isGood = (await ended.promise) === 0
  const tookS = ((performance.now() - begun) / 1000).toFixed(1)
  print(`${isGood ? '✔' : '✖'} ${title}  ${tookS} s${isGood ? '' : `\n${said.trimEnd()}`}`)
  return isGood
}

function isLong(file: string): boolean {
  return LONG.some((folder) => file.startsWith(folder))
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
