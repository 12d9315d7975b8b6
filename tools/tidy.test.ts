import { test } from 'node:test'
import assert from 'node:assert/strict'
import { makeProject, readProject, report, tidy } from './tidy.ts'

test('this repository is tidy', () => {
  const findings = tidy(readProject())
  assert.deepEqual(
    findings.map(({ path, line, message }) => `${path}:${line}: ${message}`),
    [],
  )
})

const HEADER = '/** What this is, who calls it, and what must stay true about it. */\n'

const DOCUMENT = `# Architecture
## The tree
\`\`\`
bin/             the program
src/             loose files
  wire/          bytes, as \`dig\` sees them
  cache/         answers
  pipeline/      stages
  linux/         calls
  datapath/      drivers
docs/            this page
\`\`\`
## Who may import whom
| folder | may import | because |
|---|---|---|
| \`wire\`, \`linux\` | — | leaves |
| \`cache\` | \`wire\` | bytes and an age |
| \`pipeline\` | \`cache\`, \`datapath/driver.ts\`, \`wire\` (types) | decides |
| \`datapath\` | \`linux\` | the kernel |
| \`bin\` | \`*\` except \`linux\` | knows everyone else |
## Who may import a package
| package | in | because |
|---|---|---|
| \`koffi\` | \`src/linux\` | one folder |
## Who may touch what is ambient
| what | in | because |
|---|---|---|
| \`Date.now\` | \`bin\` | the rim |
`

/** A project in which nothing is wrong; each test spoils one thing. */
const CLEAN: Readonly<Record<string, string>> = {
  'docs/ARCHITECTURE.md': DOCUMENT,
  'bin/main.ts': `${HEADER}import '../src/pipeline/pipeline.ts'\nimport '../src/datapath/nft.ts'\nDate.now()\n`,
  'src/assert.ts': `${HEADER}export function assert() {}\n`,
  'src/wire/name.ts': `${HEADER}import { assert } from '../assert.ts'\nexport type Name = string\nassert()\n`,
  'src/cache/cache.ts': `${HEADER}import '../wire/name.ts'\n`,
  'src/pipeline/pipeline.ts': `${HEADER}import type { Name } from '../wire/name.ts'\nimport '../cache/cache.ts'\nimport type { Driver } from '../datapath/driver.ts'\n`,
  'src/linux/libc.ts': `${HEADER}import koffi from 'koffi'\n`,
  'src/datapath/driver.ts': `${HEADER}export interface Driver {}\n`,
  'src/datapath/nft.ts': `${HEADER}import '../linux/libc.ts'\nimport { spawn } from 'node:child_process'\n`,
  'src/cache/cache.test.ts': "import '../pipeline/pipeline.ts'\nconsole.log(Date.now())\n",
  'package-lock.json': '{}',
}

/** Paths and messages of what tidy finds after the change; null takes a file away. */
function findingsAfter(change: Readonly<Record<string, string | null>>): string[] {
  const files = new Map(Object.entries(CLEAN))
  for (const [path, text] of Object.entries(change)) {
    if (text === null) files.delete(path)
    else files.set(path, text)
  }
  return tidy(makeProject(files)).map(({ path, line, message }) => `${path}:${line}: ${message}`)
}

/** The change gives exactly one finding, and it is the one expected. */
function finds(change: Readonly<Record<string, string | null>>, expected: RegExp): void {
  const findings = findingsAfter(change)
  assert.equal(findings.length, 1, findings.join('\n') || 'nothing was found')
  assert.match(findings[0]!, expected)
}

function more(path: string, text: string): Record<string, string> {
  return { [path]: CLEAN[path]! + text }
}

/** What this file must not contain itself, or the first test would find it here. */
function spell(...parts: string[]): string {
  return parts.join('')
}

test('a clean project has no findings', () => assert.deepEqual(findingsAfter({}), []))

test('the import table: an import that it does not allow is found', () => {
  finds(
    more('src/cache/cache.ts', "import '../linux/libc.ts'\n"),
    /cache\.ts:3: cache may not import src\/linux\/libc\.ts/,
  )
})

test('the import table: a type-only import counts, on one line or several', () => {
  finds(
    more('src/cache/cache.ts', "import type {\n  A,\n  B,\n} from '../datapath/driver.ts'\n"),
    /cache\.ts:3: cache may not import src\/datapath/,
  )
})

test('the import table: what is allowed for types only is not allowed for values', () => {
  finds(
    more('src/pipeline/pipeline.ts', "import { name } from '../wire/name.ts'\n"),
    /may not import src\/wire/,
  )
  assert.deepEqual(
    findingsAfter(
      more('src/pipeline/pipeline.ts', "import { type Name } from '../wire/name.ts'\n"),
    ),
    [],
  )
})

test('the import table: one file of a folder may be allowed, and then only that one', () => {
  finds(
    more('src/pipeline/pipeline.ts', "import '../datapath/nft.ts'\n"),
    /may not import src\/datapath\/nft/,
  )
})

test('the import table: a dynamic import counts, words in a string or a comment do not', () => {
  finds(
    more('src/wire/name.ts', "const later = import('../linux/libc.ts')\n"),
    /wire may not import src\/linux/,
  )
  assert.deepEqual(
    findingsAfter(
      more(
        'src/wire/name.ts',
        "// import '../linux/libc.ts'\nexport const a = `\nimport '../linux/libc.ts'\n`\n",
      ),
    ),
    [],
  )
})

test('the import table: loose files import only each other, and nothing imports tests', () => {
  finds(
    more('src/assert.ts', "import type { Driver } from './datapath/driver.ts'\n"),
    /assert\.ts:3: .*may not import/,
  )
  finds(
    more('src/linux/libc.ts', "import '../cache/cache.test.ts'\n"),
    /linux may not import .*test\.ts|cycle/,
  )
})

test('the import table: a row for a folder that is gone is found', () => {
  const text = DOCUMENT.replace('| `bin` |', '| `gone` | `*` | past |\n| `bin` |')
  finds({ 'docs/ARCHITECTURE.md': text }, /a row for gone, which does not exist/)
})

test('the import table: a folder without a row is found once', () => {
  const change = {
    'docs/ARCHITECTURE.md': DOCUMENT.replace('  linux/ ', '  new/           new\n  linux/ '),
    'src/new/thing.ts': `${HEADER}import '../cache/cache.ts'\nimport '../wire/name.ts'\n`,
  }
  finds(
    { ...change, ...more('bin/main.ts', "import '../src/new/thing.ts'\n") },
    /no row for src\/new/,
  )
})

test('a table that is missing from ARCHITECTURE.md is an error, not a pass', () => {
  const text = DOCUMENT.replace('## Who may import whom', '## Imports')
  assert.throws(() => findingsAfter({ 'docs/ARCHITECTURE.md': text }), /Who may import whom/)
})

test('a package outside its place is found, and one that nobody may import', () => {
  finds(
    more('src/datapath/nft.ts', "import koffi from 'koffi'\n"),
    /only src\/linux may import koffi/,
  )
  finds(
    more('src/datapath/nft.ts', "import x from 'left-pad/x'\n"),
    /only nobody may import left-pad/,
  )
})

test('a core folder that does I/O, reads a clock or awaits is found', () => {
  finds(
    more('src/cache/cache.ts', "import { readFileSync } from 'node:fs'\n"),
    /cache does no I\/O/,
  )
  finds(more('src/cache/cache.ts', 'setTimeout(tick, 1)\n'), /cache\.ts:3: cache has no clock/)
  finds(more('src/cache/cache.ts', 'export async function a() {}\n'), /cache awaits nothing/)
  assert.deepEqual(
    findingsAfter(more('src/cache/cache.ts', "import { Buffer } from 'node:buffer'\n")),
    [],
  )
})

test('a cycle is found, though it is one of types', () => {
  finds(
    {
      ...more('src/wire/name.ts', "import type { R } from './record.ts'\n"),
      'src/wire/record.ts': `${HEADER}import type { Name } from './name.ts'\n`,
    },
    /src\/wire\/name\.ts → src\/wire\/record\.ts → src\/wire\/name\.ts is a cycle/,
  )
})

test('a file that no program imports is found, though a test does', () => {
  finds(
    { 'src/wire/dead.ts': HEADER, 'src/wire/dead.test.ts': "import './dead.ts'\n" },
    /src\/wire\/dead\.ts:0: no program ever imports this file/,
  )
})

test('a file that is started by its name is imported', () => {
  const start = "new Worker(new URL('../src/wire/thread.ts', import.meta.url))\n"
  assert.deepEqual(
    findingsAfter({ ...more('bin/main.ts', start), 'src/wire/thread.ts': HEADER }),
    [],
  )
})

test('console, Date.now, Math.random and process.env are found outside their places', () => {
  finds(more('src/datapath/nft.ts', 'console.log(1)\n'), /only nobody may touch console: log by/)
  finds(
    more('src/datapath/nft.ts', 'const now = new Date()\n'),
    /only bin may touch Date\.now: take nowMs/,
  )
  finds(more('src/datapath/nft.ts', 'Math.random()\n'), /Math\.random: take random bytes/)
  finds(more('src/datapath/nft.ts', 'process.env.HOME\n'), /process\.env: take the value/)
})

test('a default export and a re-export are found', () => {
  finds(more('src/wire/name.ts', 'export default 1\n'), /no default exports/)
  finds(
    more('src/linux/libc.ts', "export { a } from './libc.ts'\n".replace('./libc', '../assert')),
    /no re-exports/,
  )
  finds(more('src/linux/libc.ts', "export * from '../assert.ts'\n"), /no re-exports/)
})

test('what Node can not strip is found: enum, namespace, parameter property', () => {
  finds(more('src/wire/name.ts', 'enum A { B }\n'), /enum is not supported/)
  finds(
    more('src/wire/name.ts', 'namespace A { export const b = 1 }\n'),
    /namespace.* is not supported/,
  )
  finds(
    more('src/wire/name.ts', 'class A { constructor(private b: number) {} }\n'),
    /parameter property/,
  )
})

test('a file without a header comment, or a line of one, is found; a test needs none', () => {
  finds({ 'src/datapath/driver.ts': 'export interface Driver {}\n' }, /driver\.ts:1: no header/)
  finds({ 'src/datapath/driver.ts': '// Driver.\nexport interface Driver {}\n' }, /no header/)
})

test('what a merge has left is found, in documents too', () => {
  const text = ['a row', `${'<'.repeat(7)} HEAD`, 'one', '='.repeat(7), `${'>'.repeat(7)} other`]
  finds({ 'docs/OTHER.md': `${text.join('\n')}\n` }, /docs\/OTHER\.md:2: .* is left of a merge/)
})

test('a left-over mark is found, in documents too', () => {
  finds(more('src/wire/name.ts', `// ${spell('FIX', 'ME')} later\n`), /left-over/)
  finds({ 'docs/OTHER.md': `${spell('XX', 'X')}: write this\n` }, /docs\/OTHER\.md:1: left-over/)
})

test('a tree that differs from the disk is found, either way', () => {
  const name = 'src/wire/text/name.ts'
  finds(
    { [name]: HEADER, ...more('bin/main.ts', `import '../${name}'\n`) },
    /the tree does not show src\/wire\/text\//,
  )
  const text = DOCUMENT.replace('  linux/ ', '  shm/           memory\n  linux/ ')
  finds({ 'docs/ARCHITECTURE.md': text }, /the tree shows src\/shm\/, which does not exist/)
})

test("registry hosts, a machine's own paths and a lock file with hosts are found", () => {
  finds({ 'docs/OTHER.md': `from ${spell('registry.', 'npmjs', '.org')}\n` }, /a registry's host/)
  finds(
    { 'docs/OTHER.md': `see ${spell('/', 'work', '/main/docs')}\n` },
    /is a path of one machine/,
  )
  finds({ 'docs/OTHER.md': `see ${spell('/home/', 'ann/src')}\n` }, /is a path of one machine/)
  finds({ 'package-lock.json': `{${spell('"resolved', '":')} "x"}` }, /npm i --package-lock-only/)
  assert.deepEqual(
    findingsAfter({ 'docs/OTHER.md': 'the /etc/namegate file, https://a.example/work/x\n' }),
    [],
  )
})

test('long functions and files are told, and are no findings', () => {
  const body = '  if (a) {\n    b()\n  }\n'.repeat(30)
  const change = more(
    'src/wire/name.ts',
    `export function long(a: number): void {\n${body}}\n${'//\n'.repeat(600)}`,
  )
  assert.deepEqual(findingsAfter(change), [])
  const lines = report(makeProject(new Map(Object.entries({ ...CLEAN, ...change }))))
  assert.deepEqual(lines, [
    'src/wire/name.ts: 697 lines (aim: 600)',
    'src/wire/name.ts:5: a function of 92 lines (aim: 70)',
  ])
})
