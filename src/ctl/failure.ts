/**
 * How a command ends when it does not end well. Exit codes are a promise to scripts:
 *
 *     0  fine
 *     1  the answer is no, or something was invalid
 *     2  wrong usage
 *     3  no daemon can be reached
 *    70  the program ended itself because of a fault of its own
 */
export const EXIT_OK = 0
export const EXIT_NO = 1
export const EXIT_USAGE = 2
export const EXIT_UNREACHABLE = 3
export const EXIT_FAULT = 70

/** Printed as 'namegate: <message>'; the program ends with `exitCode`. */
export class Failure extends Error {
  override name = 'Failure'
  readonly exitCode: number
  /** The daemon's stable code, '' when it is our own. */
  readonly code: string

  constructor(exitCode: number, message: string, code = '') {
    super(message)
    this.exitCode = exitCode
    this.code = code
  }
}
