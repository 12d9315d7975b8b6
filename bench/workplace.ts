/**
 * What one run of a benchmark has for itself: a temporary directory with query files and compiled
 * programs. It goes when the run ends, however it ends.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export class Workplace implements Disposable {
  readonly directory: string

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'namegate-bench-'))
    process.on('exit', this.#remove) // a signal ends in an exit too (test/support/process.ts)
  }

  /** The path of bench/NAME.c, compiled. */
  program(name: string): string {
    const program = join(this.directory, name)
    const source = join(import.meta.dirname, `${name}.c`)
    if (!existsSync(program)) {
      execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source])
    }
    return program
  }

  /** An empty directory of this name. */
  emptyDirectory(name: string): string {
    const directory = join(this.directory, name)
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory)
    return directory
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove)
    this.#remove()
  }

  readonly #remove = (): void => {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }
}
