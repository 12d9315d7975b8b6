/**
 * What the data plane counts: one 32-bit word each, in memory that the main thread reads.
 *
 * Only the worker writes them, with plain stores; a reader may see a value a moment old. They wrap
 * at 2³² and the main thread adds up differences (worker/control.ts). Declared once, here; the
 * names are those of `status` and of the metrics.
 */
export const COUNTERS = [
  ['queries', 'Messages that came to us as queries.'],
  ['queriesTcp', 'Those that came over TCP.'],
  ['answersCached', 'Answers given from the cache.'],
  [
    'answersStale',
    'Expired answers given because no upstream answered in time (cache.serveStale).',
  ],
  ['answersUpstream', 'Answers given because an upstream had just answered.'],
  ['answersLocal', 'Answers to names that no upstream is asked for: localhost, invalid, onion …'],
  ['relayed', 'Messages of other opcodes than QUERY that were passed on to an upstream.'],
  ['answersTruncated', 'Replies cut to what the client can take over UDP.'],
  ['answersFailed', 'SERVFAIL given because no upstream answered.'],
  ['denied', 'Questions refused by policy.'],
  ['deniedAudit', 'Questions that would have been refused, were the mode not audit.'],
  ['malformed', 'Messages that are no query that can be read.'],
  ['ignored', 'Messages that get no reply: too short, or responses.'],
  ['notImplemented', 'Queries of a class or for a transfer that is not served; DSO messages.'],
  ['slotsFull', 'Queries refused because everything to keep them in was taken.'],
  ['clientLimit', 'Queries refused because their client had as many waiting as it may.'],
  ['rateLimit', 'Queries refused because their client asked too many in a second.'],
  ['grantLimit', 'Answers withheld because their client has as many grants as it may.'],
  [
    'connectionsRefused',
    'TCP connections closed at once: all that their client may have are in use.',
  ],
  ['connectionsGaveWay', 'Idle TCP connections closed because another was opened in their place.'],
  ['repliesLost', 'Replies whose way back was gone or full.'],
  ['grantsWritten', 'Grants that the kernel took.'],
  ['grantsRefused', 'Grants that the kernel did not take.'],
  ['answersWithheld', 'Answers replaced by SERVFAIL because a grant was not in force.'],
  ['answersReleasedUnprogrammed', 'Answers released without their grants; must stay 0.'],
  ['flightsShared', 'Questions that joined one already asked.'],
  ['refreshes', 'Questions asked of upstreams without a client waiting for the answer.'],
  ['upstreamQueries', 'Questions sent to upstreams, every try counted.'],
  ['upstreamProbes', 'Questions to upstreams that were ill, to see whether they are well again.'],
  ['upstreamTimeouts', 'Tries that got no answer in time.'],
  ['upstreamMismatches', 'Replies that were not to our question.'],
  ['serversGaveWay', 'Servers that clients chose and that gave way to others of their choice.'],
  [
    'serversRefused',
    'Queries refused because there is no place for one more server of their choice.',
  ],
  ['cacheInserts', 'Answers put into the cache.'],
  ['peerAnswers', 'Answers learned from the peer.'],
  ['away', 'Times that the loop stood still for longer than the alive element lasts.'],
] as const

export type CounterName = (typeof COUNTERS)[number][0]

export const COUNTER_COUNT = COUNTERS.length

const INDEX: ReadonlyMap<string, number> = new Map(COUNTERS.map(([name], index) => [name, index]))

/** Index of a counter's word. */
export function counterIndex(name: CounterName): number {
  return INDEX.get(name)!
}

/** The worker's hand on the counters. `add` with an index that was looked up at start. */
export class Counters {
  readonly #words: Int32Array

  /** @param words  COUNTER_COUNT words */
  constructor(words: Int32Array) {
    this.#words = words
  }

  add(index: number, count: number): void {
    this.#words[index] = (this.#words[index]! + count) | 0
  }

  set(index: number, value: number): void {
    this.#words[index] = value
  }
}
