/**
 * What policy says of a question: the numbers that policy/table.ts returns.
 *
 * They are policy's own words and travel nowhere: the pipeline turns them into an outcome, a flow's
 * reason (flow/reason.ts) and an extended error. Up to QUESTION_ALLOWED_MAX the question may be
 * asked; audit mode is the caller's business.
 */

/** A rule allows it. */
export const QUESTION_ALLOWED = 0
/** No policy selects this client, or it is unknown and `unknown` is open. */
export const QUESTION_UNGOVERNED = 1
export const QUESTION_ALLOWED_MAX = QUESTION_UNGOVERNED
/** No rule is about this server and port, or a deny rule is. */
export const QUESTION_DENIED_SERVER = 2
/** Rules are about this server, but none about this name. */
export const QUESTION_DENIED_NAME = 3
/** Nothing allows it, and a policy that might has a fault. */
export const QUESTION_DENIED_FAULTY = 4
/** The client is unknown, and `unknown` is closed. */
export const QUESTION_DENIED_UNKNOWN = 5

export function isQuestionAllowed(verdict: number): boolean {
  return verdict <= QUESTION_ALLOWED_MAX
}
