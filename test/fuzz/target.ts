/** What a fuzz target is. They are listed in list.ts and run by fuzz.ts. */
import type { Random } from './random.ts'

export interface FuzzTarget {
  /** Folder below corpus/. */
  readonly corpus: string
  /** Pieces of text that mean something to the parser; put in here and there. */
  readonly words?: readonly string[]
  /** Cases of a smoke run, where SMOKE_CASES of them would take more than a second or two. */
  readonly smokeCases?: number
  /**
   * Does with the input what the program would; throws when something that must hold does not.
   * The input is the target's to change.
   */
  run(input: Uint8Array, random: Random): void
}
