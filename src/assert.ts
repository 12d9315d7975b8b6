/**
 * Our own mistakes. A failed assertion means that this program is wrong, not that its input is:
 * it is thrown, never caught below the top of a thread, and ends the process there. The peer goes
 * on with the same sockets and the supervisor starts us again, which is safer than a data plane
 * whose tables can no longer be trusted.
 */

/** Thrown by `assert`; whoever catches it ends the process with exit code 70. */
export class AssertionFailure extends Error {
  override name = 'AssertionFailure'
}

/**
 * @param message  what must hold, as a sentence: 'slot is free exactly once'. A constant: hot code
 *                 must not build strings for a check that passes.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message)
}
