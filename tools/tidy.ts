/**
 * Style as a test: what can be said about the source without running it, each finding with what to
 * do instead. `node tools/tidy.ts` prints the findings and exits 1; tidy.test.ts runs it too, and
 * proves for each check that it can fail.
 *
 * The rules about who may import whom, which package, and who may touch the clock are tables in
 * docs/ARCHITECTURE.md (architecture.ts reads them). Sizes are reported and never fail.
 */
import { globSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, join, normalize } from 'node:path'
import { type Architecture, type ImportRule, readArchitecture } from './architecture.ts'
import { ROOT } from './files.ts'
import { functionLengths, lineAt, readSource, type SourceFile } from './source.ts'

export interface Finding {
  readonly path: string
  /** From 1; 0 when it is about the file as a whole. */
  readonly line: number
  readonly message: string
}

export interface Project {
  /** Every text file of ours, by its path from the root. */
  readonly files: ReadonlyMap<string, string>
  readonly architecture: Architecture
  readonly sources: ReadonlyMap<string, SourceFile>
}

type Check = (project: Project) => Finding[]

const ARCHITECTURE = 'docs/ARCHITECTURE.md'
const CORE = ['wire', 'identity', 'policy', 'cache', 'grant', 'flow', 'pipeline']
const FILE_LINES_AIM = 600
const FUNCTION_LINES_AIM = 70

/** Programs: nothing imports them, somebody starts them. */
const STARTED =
  /^(bin\/[^/]+|src\/worker\/main|tools\/[^/]+|bench\/(main|[^/]+\.bench)|test\/(story\/main|fuzz\/fuzz))\.ts$/
/** In src, yet only for tests: suites that each driver passes, fixtures, the driver without a kernel. */
const FOR_TESTS = /(^src\/datapath\/memory\/|\/conformance\.ts$|-fixture\.ts$|\.test\.ts$)/

const CHECKS: readonly Check[] = [
  checkImportTable,
  checkPackages,
  checkCore,
  checkCycles,
  checkNeverImported,
  checkAmbient,
  checkExports,
  checkErasable,
  checkHeaders,
  checkLeftOver,
  checkTree,
  checkHosts,
  checkMachinePaths,
  checkLock,
]

export function tidy(project: Project): Finding[] {
  return CHECKS.flatMap((check) => check(project))
}

export function makeProject(files: ReadonlyMap<string, string>): Project {
  const sources = new Map<string, SourceFile>()
  for (const [path, text] of files) {
    if (path.endsWith('.ts')) sources.set(path, readSource(path, text))
  }
  return { files, sources, architecture: readArchitecture(files.get(ARCHITECTURE) ?? '') }
}

export function readProject(root = ROOT): Project {
  const names = globSync(['**/*.{ts,mjs,md,json,yaml,yml,scn,proto,sh,c}', '.ci/run', 'namegate'], {
    cwd: root,
    exclude: (path) => ['node_modules', 'dist'].includes(path) || path.startsWith('.git'),
  })
  return makeProject(new Map(names.sort().map((name) => [name, readText(join(root, name))])))
}

/** Sizes past what reads well, as sentences. Told, not enforced. */
export function report(project: Project): string[] {
  const lines: string[] = []
  for (const [path, source] of project.sources) {
    const count = lineAt(source.text, source.text.length)
    if (count > FILE_LINES_AIM) lines.push(`${path}: ${count} lines (aim: ${FILE_LINES_AIM})`)
    if (FOR_TESTS.test(path)) continue
    for (const one of functionLengths(source)) {
      if (one.lines <= FUNCTION_LINES_AIM) continue
      lines.push(
        `${path}:${one.line}: a function of ${one.lines} lines (aim: ${FUNCTION_LINES_AIM})`,
      )
    }
  }
  return lines
}

function checkImportTable({ sources, architecture }: Project): Finding[] {
  const findings: Finding[] = []
  for (const rule of architecture.imports) {
    const folder = pathOf(rule.folder)
    if (![...sources.keys()].some((path) => path.startsWith(`${folder}/`))) {
      const message = `the import table has a row for ${rule.folder}, which does not exist: take the row out`
      findings.push({ path: ARCHITECTURE, line: 0, message })
    }
  }
  const withoutRow = new Set<string>()
  for (const [path, source] of sources) {
    if (FOR_TESTS.test(path) || !path.startsWith('src/')) continue
    const rule = ruleOf(path, architecture.imports)
    if (rule === undefined && !isLoose(path)) {
      withoutRow.add(dirname(path))
      continue
    }
    for (const one of source.imports) {
      const target = resolve(path, one.specifier)
      if (target === null || mayImport(rule, path, target, one.isTypeOnly, architecture)) continue
      const message =
        `${folderName(path, architecture)} may not import ${target}: the table in ` +
        `${ARCHITECTURE} says what it may. Hand the thing in from where both are known ` +
        '(bin, worker/main.ts), or move it to the folder that owns the noun'
      findings.push({ path, line: one.line, message })
    }
  }
  for (const folder of withoutRow) {
    const message = `the import table has no row for ${folder}: add one that says what it may import, and why`
    findings.push({ path: ARCHITECTURE, line: 0, message })
  }
  return findings
}

function mayImport(
  rule: ImportRule | undefined,
  path: string,
  target: string,
  isTypeOnly: boolean,
  architecture: Architecture,
): boolean {
  if (isLoose(target) || target === 'package.json') return true // it knows the version
  if (!target.startsWith('src/') || FOR_TESTS.test(target)) return false
  if (isLoose(path) || rule === undefined) return false
  const targetRule = ruleOf(target, architecture.imports)
  if (targetRule?.folder === rule.folder) return true
  if (rule.except.includes(targetRule?.folder ?? '')) return false
  return rule.allowed.some((one) => {
    if (one.isTypeOnly && !isTypeOnly) return false
    if (one.target === '*') return true
    if (one.target.startsWith('*/')) return target.endsWith(one.target.slice(1))
    if (one.target.endsWith('.ts')) return pathOf(one.target) === target
    return one.target === targetRule?.folder
  })
}

function checkPackages({ sources, architecture }: Project): Finding[] {
  const findings: Finding[] = []
  for (const [path, source] of sources) {
    if (!/^(src|bin)\//.test(path) || FOR_TESTS.test(path)) continue
    for (const one of source.imports) {
      if (one.specifier.startsWith('.') || one.specifier.startsWith('node:')) continue
      const name = /^(@[^/]+\/[^/]+|[^/]+)/.exec(one.specifier)![1]!
      const rule = architecture.packages.find((row) => row.what === name)
      if (rule?.places.some((place) => isWithin(path, place))) continue
      const where = rule === undefined ? 'nobody' : rule.places.join(', ')
      const message =
        `only ${where} may import ${name} (${ARCHITECTURE}): call what stands there, ` +
        'or argue for a dependency in docs/adr'
      findings.push({ path, line: one.line, message })
    }
  }
  return findings
}

/** The folders that turn bytes and `now` into bytes and actions, and perform nothing themselves. */
function checkCore({ sources }: Project): Finding[] {
  const findings: Finding[] = []
  const clock = /\b(Date|performance|setTimeout|setInterval|setImmediate|queueMicrotask)\b(?=[.(])/g
  for (const [path, source] of sources) {
    const folder = /^src\/([^/]+)\//.exec(path)?.[1] ?? ''
    if (!CORE.includes(folder) || FOR_TESTS.test(path) || path.startsWith('src/policy/sources/')) {
      continue
    }
    for (const one of source.imports) {
      if (!one.specifier.startsWith('node:') || one.specifier === 'node:buffer') continue
      const message = `${folder} does no I/O and may not import ${one.specifier}: take the result as an argument`
      findings.push({ path, line: one.line, message })
    }
    for (const found of source.bare.matchAll(clock)) {
      const message = `${folder} has no clock and may not call ${found[1]}: take nowMs as an argument`
      findings.push({ path, line: lineAt(source.bare, found.index), message })
    }
    for (const found of source.bare.matchAll(/\b(async|await)\b/g)) {
      const message = `${folder} awaits nothing: return what is to be done, and let the worker do it`
      findings.push({ path, line: lineAt(source.bare, found.index), message })
    }
  }
  return findings
}

/** Types count: files that need each other's types are one thing in two places. */
function checkCycles({ sources }: Project): Finding[] {
  const findings: Finding[] = []
  const state = new Map<string, 'open' | 'done'>()
  const way: string[] = []
  const visit = (path: string): void => {
    state.set(path, 'open')
    way.push(path)
    for (const one of sources.get(path)!.imports) {
      const target = resolve(path, one.specifier)
      if (target === null || !sources.has(target)) continue
      if (state.get(target) === 'open') {
        const cycle = [...way.slice(way.indexOf(target)), target].join(' → ')
        const message = `${cycle} is a cycle: move what both need to a file below them`
        findings.push({ path, line: one.line, message })
      } else if (!state.has(target)) visit(target)
    }
    way.pop()
    state.set(path, 'done')
  }
  for (const path of sources.keys()) if (!state.has(path)) visit(path)
  return findings
}

/** What no program reaches is dead, even if a test keeps it warm. */
function checkNeverImported({ sources }: Project): Finding[] {
  const programs = [...sources.keys()].filter((path) => STARTED.test(path))
  const tests = [...sources.keys()].filter((path) => path.endsWith('.test.ts'))
  const fromPrograms = reach(sources, programs)
  const fromAll = reach(sources, [...programs, ...tests])
  const findings: Finding[] = []
  for (const path of sources.keys()) {
    const isForTests = FOR_TESTS.test(path) || path.startsWith('test/')
    if ((isForTests ? fromAll : fromPrograms).has(path)) continue
    const message = 'no program ever imports this file: wire it in, or remove it with its test'
    findings.push({ path, line: 0, message })
  }
  return findings
}

function reach(sources: Project['sources'], roots: readonly string[]): Set<string> {
  const reached = new Set<string>()
  const waiting = [...roots]
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const source = sources.get(path)
    if (source === undefined || reached.has(path)) continue
    reached.add(path)
    for (const one of [...source.imports.map((each) => each.specifier), ...source.mentions]) {
      const target = resolve(path, one)
      if (target !== null) waiting.push(target)
    }
  }
  return reached
}

/** What to use in its stead; the table in ARCHITECTURE.md says who may use the thing itself. */
const AMBIENT: readonly { what: string; pattern: RegExp; instead: string }[] = [
  {
    what: 'console',
    pattern: /\bconsole\s*\./g,
    instead: 'log by src/log.ts, print by process.stdout',
  },
  {
    what: 'Date.now',
    pattern: /\bDate\.now\b|\bnew Date\(\s*\)/g,
    instead: 'take nowMs as an argument',
  },
  {
    what: 'Math.random',
    pattern: /\bMath\.random\b/g,
    instead: 'take random bytes as an argument',
  },
  { what: 'process.env', pattern: /\bprocess\.env\b/g, instead: 'take the value as an argument' },
]

function checkAmbient({ sources, architecture }: Project): Finding[] {
  const findings: Finding[] = []
  for (const { what, pattern, instead } of AMBIENT) {
    const places = architecture.ambient.find((row) => row.what === what)?.places ?? []
    for (const [path, source] of sources) {
      if (path.endsWith('.test.ts') || places.some((place) => isWithin(path, place))) continue
      for (const found of source.bare.matchAll(pattern)) {
        const message = `only ${places.join(', ') || 'nobody'} may touch ${what}: ${instead}`
        findings.push({ path, line: lineAt(source.bare, found.index), message })
      }
    }
  }
  return findings
}

function checkExports({ sources }: Project): Finding[] {
  const findings: Finding[] = []
  for (const [path, source] of sources) {
    for (const found of source.bare.matchAll(/^export default\b/gm)) {
      const message = 'no default exports: name it, so that a search finds every use'
      findings.push({ path, line: lineAt(source.bare, found.index), message })
    }
    for (const one of source.imports.filter((each) => each.isReExport)) {
      const message = `no re-exports: whoever needs it imports it from ${one.specifier}`
      findings.push({ path, line: one.line, message })
    }
  }
  return findings
}

/** Node removes types and does nothing else: what would need code is refused, with its own words. */
function checkErasable({ sources }: Project): Finding[] {
  const findings: Finding[] = []
  for (const [path, source] of sources) {
    // The words, before the parser: a hundred files through WebAssembly take most of a second.
    if (!/\b(enum|namespace|module|constructor)\b/.test(source.bare)) continue
    try {
      stripTypeScriptTypes(source.text)
    } catch (error) {
      const [first] = (error as Error).message.split('\n')
      const message = `${first}: write a union of literals, a module, or a field set in the constructor`
      findings.push({ path, line: 0, message })
    }
  }
  return findings
}

function checkHeaders({ files }: Project): Finding[] {
  const findings: Finding[] = []
  for (const [path, text] of files) {
    if (!/\.(ts|mjs)$/.test(path) || path.endsWith('.test.ts')) continue
    const comment = /^(?:#!.*\n)?(?:\/\*\*?([\s\S]*?)\*\/|((?:\/\/.*\n)+))/.exec(text)
    if ((comment?.[1] ?? comment?.[2] ?? '').replaceAll(/[\s*/]/g, '').length >= 40) continue
    const message =
      'no header comment: open the file with what it is, who calls it and what must stay true'
    findings.push({ path, line: 1, message })
  }
  return findings
}

function checkLeftOver({ files }: Project): Finding[] {
  const mark = new RegExp(`\\b(${['FIX', 'ME'].join('')}|${'X'.repeat(3)})\\b`, 'g')
  return [
    ...search(files, mark, (found) => `left-over ${found}: mend it, or make it an issue`),
    ...search(files, /^<{7} .*$/gm, (found) => `'${found}' is left of a merge: choose a side`),
  ]
}

function checkTree({ files, architecture }: Project): Finding[] {
  const onDisk = new Set<string>()
  for (const path of files.keys()) {
    if (!/\.(ts|mjs|md)$/.test(path)) continue
    for (let folder = dirname(path); folder !== '.'; folder = dirname(folder)) onDisk.add(folder)
  }
  const findings: Finding[] = []
  for (const folder of onDisk) {
    if (architecture.tree.includes(folder)) continue
    const message = `the tree does not show ${folder}/: add a line that says what belongs there`
    findings.push({ path: ARCHITECTURE, line: 0, message })
  }
  for (const folder of architecture.tree) {
    const isThere = [...files.keys()].some((path) => path.startsWith(`${folder}/`))
    if (isThere) continue
    const message = `the tree shows ${folder}/, which does not exist: take the line out`
    findings.push({ path: ARCHITECTURE, line: 0, message })
  }
  return findings
}

/** Where a package came from is the business of whoever installs it; a name here may be gone. */
function checkHosts({ files }: Project): Finding[] {
  const hosts = ['registry.npmjs|org', 'deb.debian|org', 'registry.yarnpkg|com', 'npmmirror|com']
  const pattern = new RegExp(
    hosts.map((host) => host.replaceAll('.', '\\.').replace('|', '\\.')).join('|'),
    'g',
  )
  return search(files, pattern, () => "a registry's host: say which package, not where it lies")
}

function checkMachinePaths({ files }: Project): Finding[] {
  const folders = ['work', 'root', 'home/(?!user/)\\w+', 'Users/\\w+', 'farm']
  const pattern = new RegExp(`(?<![\\w.})$-])/(?:${folders.join('|')})/[\\w.-]+`, 'g')
  return search(
    files,
    pattern,
    (found) => `${found} is a path of one machine: name it from the root of the checkout`,
  )
}

function checkLock({ files }: Project): Finding[] {
  const lock = files.get('package-lock.json') ?? ''
  if (!lock.includes(['"resolved', '":'].join(''))) return []
  const message =
    'the lock file names hosts: npm i --package-lock-only with the .npmrc of this project removes them'
  return [{ path: 'package-lock.json', line: 0, message }]
}

function search(
  files: Project['files'],
  pattern: RegExp,
  message: (found: string) => string,
): Finding[] {
  const findings: Finding[] = []
  for (const [path, text] of files) {
    for (const found of text.matchAll(pattern)) {
      findings.push({ path, line: lineAt(text, found.index), message: message(found[0]) })
    }
  }
  return findings
}

/** Null for packages. */
function resolve(from: string, specifier: string): string | null {
  return specifier.startsWith('.') ? normalize(join(dirname(from), specifier)) : null
}

function ruleOf(path: string, rules: readonly ImportRule[]): ImportRule | undefined {
  let longest: ImportRule | undefined
  for (const rule of rules) {
    if (!isWithin(path, pathOf(rule.folder))) continue
    if (longest === undefined || rule.folder.length > longest.folder.length) longest = rule
  }
  return longest
}

function folderName(path: string, architecture: Architecture): string {
  return ruleOf(path, architecture.imports)?.folder ?? dirname(path)
}

/** What the table calls `wire` is src/wire; bin, test, bench and tools are what they are. */
function pathOf(name: string): string {
  return /^(bin|test|bench|tools)(\/|$)/.test(name) ? name : `src/${name}`
}

function isLoose(path: string): boolean {
  return /^src\/[^/]+\.ts$/.test(path)
}

function isWithin(path: string, place: string): boolean {
  return path === place || path.startsWith(`${place}/`)
}

function readText(path: string): string {
  return readFileSync(path, 'utf8')
}

if (import.meta.main) {
  const project = readProject()
  const findings = tidy(project)
  for (const { path, line, message } of findings) {
    process.stdout.write(`${path}${line === 0 ? '' : `:${line}`}: ${message}\n`)
  }
  for (const line of report(project)) process.stdout.write(`(${line})\n`)
  process.stdout.write(`tidy: ${project.sources.size} files, ${findings.length} findings\n`)
  process.exitCode = findings.length === 0 ? 0 : 1
}
