/**
 * What a test run must not leave behind: namespaces, nft tables, policy routing, links, processes.
 *
 * tools/test.ts takes stock before and after. Of what the machine's own network namespace holds
 * anything new is a leak, because no test may touch it; namespaces count when they carry one of our
 * prefixes; processes when they carry the run's mark in their environment, which every program
 * inherits from the test that started it.
 *
 * Another test run on the same machine is not a leak of this one: its namespaces name a process
 * (`ngt-<pid>-…`) that is alive and does not carry our mark.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** How the names of our namespaces begin: tests, and the program itself (`run`, the story). */
const NAMESPACE_PREFIXES = ['ngt-', 'namegate-', 'ng-']

/** Lines of text, each one thing; by kind, so that a message can say what it is. */
export type Stock = ReadonlyMap<string, readonly string[]>

/** How to list each kind of thing in the namespace that we run in. */
const KINDS: readonly {
  readonly title: string
  readonly list: readonly string[]
  /** One thing, without what changes by itself. */
  readonly normal?: (line: string) => string
}[] = [
  { title: 'nft table', list: ['nft', 'list', 'tables'] },
  { title: 'ip rule', list: ['ip', 'rule'] },
  { title: 'ip -6 rule', list: ['ip', '-6', 'rule'] },
  { title: 'link', list: ['ip', '-br', 'link'], normal: (line) => line.split(/[\s@]/)[0]! },
]

export function takeStock(): Stock {
  const stock = new Map<string, readonly string[]>()
  for (const kind of KINDS) {
    stock.set(kind.title, list(kind.list).map(kind.normal ?? ((line) => line.trim())))
  }
  stock.set('namespace', ourNamespaces())
  return stock
}

/**
 * What is there now and was not there `before`, as sentences; empty when the run was clean.
 * @param mark  the run's mark: 'NAME=value' in the environment of its processes
 */
export function findLeaks(before: Stock, mark: string): string[] {
  const leaks = markedProcesses(mark).map(({ pid, title }) => `process ${pid}: ${title}`)
  for (const [kind, things] of takeStock()) {
    const known = new Set(before.get(kind))
    for (const thing of things) {
      if (known.has(thing)) continue
      if (kind === 'namespace' && isOfAnotherRun(thing, mark)) continue
      leaks.push(`${kind}: ${thing}`)
    }
  }
  return leaks
}

/** Ends the processes and removes the namespaces of a run that left some; the rest needs a look. */
export function removeLeaks(before: Stock, mark: string): void {
  for (const { pid } of markedProcesses(mark)) endProcess(pid)
  const known = new Set(before.get('namespace'))
  for (const name of ourNamespaces()) {
    if (!known.has(name) && !isOfAnotherRun(name, mark)) list(['ip', 'netns', 'delete', name])
  }
}

function markedProcesses(mark: string): { readonly pid: number; readonly title: string }[] {
  const marked = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid || !hasMark(pid, mark)) continue
    const title = readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
    if (title !== '') marked.push({ pid, title }) // a dead one that nobody has waited for has none
  }
  return marked
}

function hasMark(pid: number, mark: string): boolean {
  return readText(`/proc/${pid}/environ`).split('\0').includes(mark)
}

function ourNamespaces(): string[] {
  // A line is a name, or 'name (id: 3)'.
  const names = list(['ip', 'netns', 'list']).map((line) => line.split(' ')[0]!)
  return names.filter((name) => NAMESPACE_PREFIXES.some((prefix) => name.startsWith(prefix)))
}

function isOfAnotherRun(namespace: string, mark: string): boolean {
  const pid = Number(/^ngt-(\d+)-/.exec(namespace)?.[1] ?? 0)
  return pid > 0 && readText(`/proc/${pid}/cmdline`) !== '' && !hasMark(pid, mark)
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself after it was listed.
  }
}

/** Lines that a command prints; none when it is missing or may not be run: nothing to leak then. */
function list(command: readonly string[]): string[] {
  const result = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8', timeout: 10_000 })
  return (result.stdout ?? '').split('\n').filter(Boolean)
}

/** Empty for what is gone, or not ours to read. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
