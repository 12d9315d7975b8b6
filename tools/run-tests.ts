/**
 * Runs test files with node:test and counts what they said: one line per file, the failures in
 * full. tools/test.ts and tools/ok.ts call it.
 *
 * Each file is a process of its own. What a file prints is shown when it fails, and otherwise not.
 */
import { run } from 'node:test'
import { inspect } from 'node:util'
import { join } from 'node:path'
import { ROOT } from './files.ts'

export interface TestRunOptions {
  /** Files that run at the same time. */
  readonly concurrency: number
  /** Only tests whose name matches; null: all. */
  readonly namePattern: RegExp | null
  /** Ends everything that runs; what is unfinished counts as failed. */
  readonly signal: AbortSignal
  readonly print: (line: string) => void
}

export interface TestCounts {
  passed: number
  failed: number
  skipped: number
}

/** Milliseconds after which one file is ended: most take under a second, the longest a minute. */
const FILE_MS_MAX = 180_000

interface FileResult extends TestCounts {
  durationMs: number
  isToldOf: boolean
  /** Failures with their stories, then what the file printed. */
  failures: string[]
  printed: string
}

/** @param files  paths relative to the root */
export async function runTests(
  files: readonly string[],
  options: TestRunOptions,
): Promise<TestCounts> {
  const results = new Map<string, FileResult>()
  const total: TestCounts = { passed: 0, failed: 0, skipped: 0 }
  if (files.length === 0) return total

  const stream = run({
    cwd: ROOT,
    files: files.map((file) => join(ROOT, file)),
    concurrency: options.concurrency,
    timeout: FILE_MS_MAX,
    signal: options.signal,
    execArgv: ['--disable-warning=ExperimentalWarning'],
    ...(options.namePattern === null ? {} : { testNamePatterns: options.namePattern }),
  })
  for await (const event of stream) {
    // `file` is where `test` was called, which may be a helper; `entryFile` is the file that runs.
    const { file: caller, entryFile: file = caller } = event.data as {
      entryFile?: string
      file?: string
    }
    if (file === undefined) continue
    const name = file.startsWith(ROOT) ? file.slice(ROOT.length + 1) : file
    const result = results.getOrInsertComputed(name, newResult)
    if (event.type === 'test:stdout' || event.type === 'test:stderr') {
      result.printed += event.data.message
    } else if (event.type === 'test:pass') {
      // A file in which no test matches the pattern passes as a whole; that is no test.
      if (event.data.name !== file) count(result, event.data)
    } else if (event.type === 'test:fail') {
      fail(result, event.data)
    } else if (event.type === 'test:summary') {
      // Not 'test:complete': it comes before the tests of a file that waited for its turn.
      result.durationMs = event.data.duration_ms
      result.isToldOf = true
      if (!isEmpty(result)) options.print(line(name, result))
    }
  }
  for (const [name, result] of results) {
    total.passed += result.passed
    total.failed += result.failed
    total.skipped += result.skipped
    // A file that crashed has no summary.
    if (!result.isToldOf && !isEmpty(result)) options.print(line(name, result))
    if (result.failed > 0) options.print(story(name, result))
  }
  return total
}

type Reported = {
  readonly name: string
  readonly skip?: string | boolean | undefined
  readonly todo?: string | boolean | undefined
  readonly details: { readonly type?: string | undefined }
}

function count(result: FileResult, test: Reported): void {
  if (test.details.type === 'suite') return
  if (isSet(test.skip) || isSet(test.todo)) result.skipped++
  else result.passed++
}

function fail(result: FileResult, test: Reported & { readonly details: { error: Error } }): void {
  // A test marked todo may fail; a suite fails because a test in it does, and that was counted.
  if (isSet(test.todo)) {
    result.skipped++
    return
  }
  const error = test.details.error as Error & { failureType?: string }
  if (error.failureType === 'subtestsFailed') return
  result.failed++
  result.failures.push(`✖ ${test.name}\n${indent(reason(error))}`)
}

function reason(error: Error & { exitCode?: number; signal?: string }): string {
  if (typeof error.exitCode === 'number') return `the file ended with exit code ${error.exitCode}`
  if (typeof error.signal === 'string') return `the file was ended by ${error.signal}`
  const cause = error.cause ?? error
  if (!(cause instanceof Error)) return inspect(cause)
  const lines = (cause.stack ?? cause.message).split('\n')
  return lines.filter((text) => !text.includes('node:internal/')).join('\n')
}

function isEmpty(result: FileResult): boolean {
  return result.passed + result.failed + result.skipped === 0
}

/** node:test says `skip: true`, `skip: 'why'`, or '' for no reason given. */
function isSet(mark: string | boolean | undefined): boolean {
  return mark !== undefined && mark !== false
}

function newResult(): FileResult {
  return {
    passed: 0,
    failed: 0,
    skipped: 0,
    durationMs: 0,
    isToldOf: false,
    failures: [],
    printed: '',
  }
}

function line(name: string, result: FileResult): string {
  const mark = result.failed > 0 ? '✖' : result.passed > 0 ? '✔' : '-'
  const parts = [`${result.passed} passed`]
  if (result.failed > 0) parts.push(`${result.failed} failed`)
  if (result.skipped > 0) parts.push(`${result.skipped} skipped`)
  return `${mark} ${name}  ${parts.join(', ')}  ${(result.durationMs / 1000).toFixed(1)} s`
}

function story(name: string, result: FileResult): string {
  const printed = result.printed === '' ? '' : `\nit printed:\n${indent(result.printed.trimEnd())}`
  return `\n${name}\n${indent(result.failures.join('\n') + printed)}`
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '  ')
}
