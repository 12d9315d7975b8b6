import { test } from 'node:test'
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readConfig } from '../src/config/load.ts'
import { REASONS } from '../src/flow/reason.ts'
import { COUNTERS } from '../src/pipeline/counters.ts'
import { readCiliumPolicies } from '../src/policy/sources/cilium.ts'
import { ROOT } from './files.ts'

const PAGES = ['README.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: ROOT })]
const MACHINE = {
  hostName: 'worker-1',
  userId: 0,
  homeDirectory: '',
  stateHome: '',
  runtimeDirectory: '',
}

test('every policy shown in a page is one that is enforced as it stands', () => {
  const policies = snippets(/^kind: Cilium/m)
  assert(policies.length > 0)
  for (const { page, text } of policies) {
    const documents = readCiliumPolicies(text, page)
    assert.deepEqual(
      documents.flatMap((document) => document.faults.map((fault) => fault.message)),
      [],
    )
  }
})

test('every configuration shown in a page is accepted', () => {
  const configurations = snippets(/^upstreams:/m)
  assert(configurations.length > 0)
  for (const { page, text } of configurations) readConfig(text, page, MACHINE)
})

test('every counter and reason that FAILURES.md names exists', () => {
  const known = new Set<string>([
    ...COUNTERS.map(([name]) => name),
    ...REASONS.map((reason) => reason.id),
  ])
  const rows = read('docs/FAILURES.md').split('\n')
  const named = rows.flatMap((row) => [...(row.split('|').at(-2) ?? '').matchAll(/`(\w+)`/g)])
  assert(named.length > 10)
  assert.deepEqual(
    named.map((found) => found[1]!).filter((name) => !known.has(name)),
    [],
  )
})

test('every test that SECURITY.md names exists, and every row names one or says why not', () => {
  const rows = read('docs/SECURITY.md')
    .split('\n')
    .filter((row) => /^\| \d+ \|/.test(row))
  assert.deepEqual(
    rows.map((row) => Number(/\d+/.exec(row)![0])).toSorted((a, b) => a - b),
    Array.from({ length: 48 }, (_, index) => index + 1),
  )
  for (const row of rows) {
    const named = [...(row.split('|').at(-2) ?? '').matchAll(/`([^`]+)`/g)].map((one) => one[1]!)
    assert(named.length > 0 || row.includes('out of scope'), row)
    for (const one of named) assert(isTest(one), `${one}: no such test`)
  }
})

/** 'x.scn', or 'FILE: the beginning of a test's name'. */
function isTest(named: string): boolean {
  const [file, title] = named.split(/: (.*)/s) as [string, string | undefined]
  if (title === undefined) return existsSync(join(ROOT, 'test/scenarios', file))
  return existsSync(join(ROOT, file)) && read(file).includes(title)
}

test('every link from a page to a file leads somewhere', () => {
  const dead = PAGES.flatMap((page) =>
    [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map((found) => join(dirname(page), found[1]!))
      .filter((target) => !existsSync(join(ROOT, target)))
      .map((target) => `${page}: ${target}`),
  )
  assert.deepEqual(dead, [])
})

/** The YAML blocks of all pages that contain `mark`. */
function snippets(mark: RegExp): { readonly page: string; readonly text: string }[] {
  return PAGES.flatMap((page) =>
    [...read(page).matchAll(/```yaml\n([\s\S]*?)```/g)]
      .map((found) => ({ page, text: found[1]! }))
      .filter(({ text }) => mark.test(text)),
  )
}

function read(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8')
}
