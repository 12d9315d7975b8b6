/**
 * What V8's optimizing compiler may do to the data plane: inline more than it does by default.
 *
 * A query's way is some fifty small functions, each called at one place for each packet. V8 stops
 * inlining into a function when what it has become is as long as a page of code, which is meant for
 * programs that must start fast and whose callers are many. Here the same few loops run for weeks.
 * Measured: a cached answer takes a tenth less in the worker (docs/adr/010-what-a-hit-costs.md).
 *
 * These are no promises of V8's. A flag that it does not know any more is reported on stderr and
 * changes nothing; the test compares the list with the Node that we ship with.
 */
import { setFlagsFromString } from 'node:v8'

/** Bytes of bytecode, but for the factor. Defaults in Node 26: 920, 460, 1.2. */
export const COMPILER_FLAGS = [
  '--max-inlined-bytecode-size-cumulative=6000',
  '--max-inlined-bytecode-size=2000',
  '--reserve-inline-budget-scale-factor=3',
] as const

/** Before the worker starts: what was compiled by then stays as it is. */
export function tuneCompiler(): void {
  for (const flag of COMPILER_FLAGS) setFlagsFromString(flag)
}
