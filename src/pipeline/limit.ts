/**
 * Limit: as whose a query counts, before anything is done for it. What it may hold of slots and
 * flights is asked when it needs one (slot.ts).
 */
import type { Context } from './context.ts'

export function limit(context: Context): void {
  context.shares.find(context.arrival, context.policy)
}
