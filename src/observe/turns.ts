/**
 * Long work in the main thread, cut into slices between which everything else there gets its turn:
 * flows, the peer, timers, and the heartbeat without which the worker ends the process.
 *
 * Whoever walks over the history, the grants or the rows of a command holds a Slice and gives way
 * when it is over. It is cut by time, not by count: what a record costs depends on what is in it,
 * and on the machine. What must stay true: however many commands run at once, one turn of the
 * event loop holds one slice of work that waits here.
 */
import { setImmediate as nextImmediate } from 'node:timers/promises'

/** Of a turn of the event loop. Giving way costs about 10 µs. */
const SLICE_MS = 5

/** The end of the queue: each who waits is let on in a turn of its own. */
let last: Promise<void> = Promise.resolve()

export class Slice {
  #endMs = performance.now() + SLICE_MS

  get isOver(): boolean {
    return performance.now() >= this.#endMs
  }

  /** Gives way; the next slice begins when it resolves. */
  async next(): Promise<void> {
    last = last.then(() => nextImmediate())
    await last
    this.#endMs = performance.now() + SLICE_MS
  }
}

/** `items.filter(isWanted)`, in slices. */
export async function filterInSlices<Item>(
  items: readonly Item[],
  isWanted: (item: Item) => boolean,
): Promise<Item[]> {
  const wanted: Item[] = []
  const slice = new Slice()
  for (const item of items) {
    if (isWanted(item)) wanted.push(item)
    if (slice.isOver) await slice.next()
  }
  return wanted
}
