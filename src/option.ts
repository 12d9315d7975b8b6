/**
 * How a setting of the configuration file is declared: once, as data, beside what it sets.
 *
 * Each folder with settings has an options.ts with an array of these; config/options.ts collects
 * them. From the same array come the reader (config/load.ts), the reference page and the JSON
 * Schema (config/schema.ts), so none of them can be out of step.
 */

/** What a value is written as; config/values.ts reads each kind. */
export type OptionKind =
  | 'text'
  | 'path'
  | 'size'
  | 'duration'
  | 'port'
  | 'integer'
  | 'boolean'
  | 'choice'
  | 'mark'
  | 'address'
  | 'interface'
  | 'zone'
  | 'server'
  | 'listener'

export interface Option {
  /** Its place in the file: 'cache.size'; '[]' after a list of mappings: 'upstreams[].zones'. */
  readonly key: string
  readonly kind: OptionKind
  /** The value is a list of `kind`. */
  readonly isList?: boolean
  /**
   * As it would be written in the file, so that it passes the same reader and bounds; null: none,
   * and what that means is said in `why`; absent: the key is required where its mapping is.
   */
  readonly default?: string | number | boolean | readonly string[] | null
  /** Bounds, inclusive, in the unit that the program uses: bytes, seconds, or elements of a list. */
  readonly min?: number
  readonly max?: number
  /** The words of a choice. */
  readonly values?: readonly string[]
  /** What it does, and why the default and bounds are what they are. One or two sentences. */
  readonly why: string
}
