/**
 * How the servers of the upstreams are doing, learned from the traffic itself.
 *
 * A server that fails is asked last for a while: the pause doubles with each failure in a row, from
 * PAUSE_MS to PAUSE_MS_MAX, and one good reply ends it. It is never left out: when all are ill they
 * are tried all the same, the one whose pause ends first going first, because an answer that comes
 * against expectation is worth more than a correct opinion about a server.
 */
const PAUSE_MS = 500
const PAUSE_MS_MAX = 10_000
/** How much of a new round trip goes into the smoothed one (RFC 6298 uses 1/8 for the same). */
const SMOOTHING = 1 / 8

export class ServerHealth {
  failuresInRow = 0
  pausedUntilMs = 0
  smoothedMs = 0
  /** For `status`. */
  queries = 0
  failures = 0

  succeeded(roundTripMs: number): void {
    this.failuresInRow = 0
    this.pausedUntilMs = 0
    this.smoothedMs +=
      this.smoothedMs === 0 ? roundTripMs : (roundTripMs - this.smoothedMs) * SMOOTHING
  }

  failed(nowMs: number): void {
    this.failures++
    const pauseMs = Math.min(PAUSE_MS * 2 ** Math.min(this.failuresInRow, 10), PAUSE_MS_MAX)
    this.failuresInRow++
    this.pausedUntilMs = nowMs + pauseMs
  }
}

/**
 * The server to ask next: the first in order that is not paused and not among those tried already,
 * else the one that will be well soonest; -1 when all were tried.
 * @param tried  bit n is set when server n was tried in this round
 */
export function chooseServer(
  servers: readonly ServerHealth[],
  tried: number,
  nowMs: number,
): number {
  let best = -1
  for (let index = 0; index < servers.length; index++) {
    if (tried & (1 << index)) continue
    const untilMs = servers[index]!.pausedUntilMs
    if (untilMs <= nowMs) return index
    if (best < 0 || untilMs < servers[best]!.pausedUntilMs) best = index
  }
  return best
}
