/**
 * Which files of the checkout are ours: what tidy reads and what the test commands run.
 *
 * Paths are relative to the root and use '/'. Sorted, so that everything made from them is the
 * same on every machine.
 */
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

export const ROOT = join(import.meta.dirname, '..')

/** Plain test files that run at once: one more than there are processors, since some mostly wait. */
export const CONCURRENCY = availableParallelism() + 1

/** Folders of ours that hold code, in the order in which a reader meets them. */
export const CODE_FOLDERS = ['bin', 'src', 'test', 'bench', 'tools'] as const

/** Every TypeScript file of ours below `root`. */
export function codeFiles(root = ROOT): string[] {
  return globSync(`{${CODE_FOLDERS.join(',')}}/**/*.ts`, { cwd: root }).sort()
}

export function isTest(path: string): boolean {
  return path.endsWith('.test.ts')
}

/** Needs root and a kernel to play with. */
export function isKernelTest(path: string): boolean {
  return isTest(path) && (path.endsWith('.linux.test.ts') || path.startsWith('test/e2e/'))
}

/**
 * Nothing may run beside it: it counts what is lost under load and how long things take, or looks at
 * the whole machine. Every other kernel test has namespaces of its own, and mostly waits.
 */
export function runsAlone(path: string): boolean {
  return path.startsWith('test/e2e/') || path.startsWith('tools/')
}
