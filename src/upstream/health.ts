/**
 * How the servers of the upstreams are doing, learned from the traffic itself, and which of them is
 * asked next.
 *
 * Among those that are well the one with the least expected wait: its smoothed round trip, times
 * what it has to do for us already. So at leisure the nearest is asked, under load all that are
 * near, and one that slows down loses its share at once. One that was passed over EXPLORE_EVERY
 * times is asked anyway: else nobody would ever find out that it has become fast.
 *
 * A try that fails makes its server *paused*: it is asked last, until it has answered something,
 * a probe for example (forwarder.ts). It is never left out: when all are paused they are tried all
 * the same, because an answer that comes against expectation is worth more than a correct opinion
 * about a server. Only a server that hands our questions back to us is left out: to ask it is to
 * ask ourselves.
 */
/** How much of a new round trip goes into the smoothed one (RFC 6298 uses 1/8 for the same). */
const SMOOTHING = 1 / 8
/** What SERVFAIL and its like count as: whoever says no quickly is not the fastest server. */
const DECLINED_MS = 400
const EXPLORE_EVERY = 32
/** What a server that has not answered yet counts as: its turn to be tried comes. */
const UNKNOWN_MS = 1000

export class ServerHealth {
  failuresInRow = 0
  /** It handed a question of ours back to us. */
  isLoop = false
  smoothedMs = 0
  /** Tries that wait for it now. */
  inFlight = 0
  askedMs = Number.NEGATIVE_INFINITY
  heardMs = Number.NEGATIVE_INFINITY
  probedMs = Number.NEGATIVE_INFINITY
  /** How often another one that was well was asked since. */
  passedOver = 0
  /** It repeats the question as it was asked; how often it did not, since it last did. */
  keepsCase = true
  caseLost = 0
  /** False: an OPT record is more than it understands. */
  speaksEdns = true
  /** For `status`. */
  queries = 0
  failures = 0

  get isPaused(): boolean {
    return this.failuresInRow > 0
  }

  succeeded(roundTripMs: number, nowMs: number): void {
    // What was measured before it was ill says nothing about how it is now.
    const isFirst = this.heardMs === Number.NEGATIVE_INFINITY || this.failuresInRow > 0
    this.failuresInRow = 0
    this.heardMs = nowMs
    this.smoothedMs = isFirst
      ? roundTripMs
      : this.smoothedMs + (roundTripMs - this.smoothedMs) * SMOOTHING
  }

  /** It answered, but would not or could not say. */
  declined(roundTripMs: number, nowMs: number): void {
    this.succeeded(roundTripMs + DECLINED_MS, nowMs)
  }

  failed(): void {
    this.failures++
    this.failuresInRow++
  }

  /** A try that was sent then got no answer. One name may be slow; a server that is says nothing. */
  timedOut(sentMs: number): void {
    if (this.heardMs > sentMs) this.failures++
    else this.failed()
  }
}

/** The servers of a group, in the order of Routes.servers. */
export class GroupHealth {
  readonly servers: readonly ServerHealth[]
  /** Flights and probes. */
  inFlight = 0
  /** When a question was last for them, or the last of their flights ended. */
  usedMs: number

  constructor(count: number, nowMs: number) {
    this.usedMs = nowMs
    this.servers = Array.from({ length: count }, () => new ServerHealth())
  }
}

/**
 * The server to ask next, or -1 when none is left.
 * @param tried  bit n is set when server n was tried in this round
 */
export function chooseServer(servers: readonly ServerHealth[], tried: number): number {
  let best = -1
  let paused = -1
  for (let index = 0; index < servers.length; index++) {
    const server = servers[index]!
    if ((tried & (1 << index)) !== 0 || server.isLoop) continue
    if (server.failuresInRow > 0) {
      if (paused < 0 || server.askedMs < servers[paused]!.askedMs) paused = index
    } else if (server.passedOver >= EXPLORE_EVERY) return index
    else if (best < 0 || waitOf(server) < waitOf(servers[best]!)) best = index
  }
  return best < 0 ? paused : best
}

/** The server was chosen, and others were not. */
export function noteChoice(servers: readonly ServerHealth[], chosen: number): void {
  for (let index = 0; index < servers.length; index++) servers[index]!.passedOver++
  servers[chosen]!.passedOver = 0
}

/** What one more question may have to wait there; the 1 ms keeps near ones comparable. */
function waitOf(server: ServerHealth): number {
  const isKnown = server.heardMs !== Number.NEGATIVE_INFINITY
  return ((isKnown ? server.smoothedMs : UNKNOWN_MS) + 1) * (server.inFlight + 1)
}
