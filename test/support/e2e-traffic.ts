/**
 * What the load of the end-to-end tests (e2e-load.ts) saw, by the time in which it happened.
 *
 *     await using traffic = await Traffic.start(node, 'client')
 *     const seen = await traffic.during(() => node.kill('agent'))
 *     assert.equal(seen.lost, 0)
 */
import { join } from 'node:path'
import { CLOSED, type E2eNode, FRESH_DOMAIN, KNOWN_NAMES, monotonicMs } from './e2e-node.ts'
import type { KeptOptions } from './e2e-kept.ts'
import type { LoadOptions } from './e2e-load.ts'
import { type ProcessOptions, type RunningProcess, sleep, start, until } from './process.ts'
import { CLUSTER_DNS, type Place } from './world.ts'

/** How long the program waits for an answer, and until its lines are printed, and read here. */
const SETTLED_MS = 1200 + 10 + 50 + 2000

/** A question asked so long ago may still be without its answer. */
const UNDER_WAY_MS = 200

const DEFAULTS: LoadOptions = {
  servers: [CLUSTER_DNS.v4, CLUSTER_DNS.v6],
  port: 53,
  perSecond: 300,
  tcpEvery: 20,
  known: KNOWN_NAMES,
  fresh: FRESH_DOMAIN,
  connectEvery: 7, // odd: known and fresh names take turns
  never: [CLOSED.address, '198.18.255.1'],
}

interface Line {
  readonly kind: string
  readonly beganMs: number
  readonly tookMs: number
  readonly outcome: string
  readonly what: string
}

/** What was begun in a period, and came of it. */
export interface Seen {
  readonly asked: number
  /** UDP questions that got no answer, or a wrong one. */
  readonly lost: number
  readonly tcpAsked: number
  readonly tcpLost: number
  readonly answered: number
  /** When the last one that was lost began, after the period did; 0 when none was. */
  readonly lastLostMs: number
  /** The longest that one waited for its answer. */
  readonly slowestMs: number
  /** The longest time in which no answer came at all. */
  readonly gapMs: number
  /** Connections to what answers had named; to names that nobody had asked for before. */
  readonly connections: number
  readonly freshConnections: number
  /** Those that did not come about with the first SYN. */
  readonly shut: number
  /** Connections tried to what no answer opens; those that came about. */
  readonly forbidden: number
  readonly breached: number
  /** Everything that did not go as it should, for messages. */
  readonly faults: readonly string[]
}

export class Traffic implements AsyncDisposable {
  readonly #program: RunningProcess
  readonly #lines: Line[] = []
  #readTo = 0
  /** All that began before this has ended, and stands in the lines. */
  #endedMs = 0

  /** In a pod or on the node, of the node's DNS. Resolves when it asks. */
  static start(node: E2eNode, place: Place, options: Partial<LoadOptions> = {}): Promise<Traffic> {
    const { processOptions } = node.world.namespace(place)
    return Traffic.of({ ...DEFAULTS, ...options }, processOptions)
  }

  /** Wherever these options lead to. */
  static async of(options: LoadOptions, where: ProcessOptions = {}): Promise<Traffic> {
    const script = join(import.meta.dirname, './e2e-load.ts')
    const words = ['--disable-warning=ExperimentalWarning', script, JSON.stringify(options)]
    return new Traffic(await start(process.execPath, words, { ...where, ready: 'ready' }))
  }

  private constructor(program: RunningProcess) {
    this.#program = program
  }

  /** What was begun while `act` ran and `thenMs` after it. */
  during(act: () => Promise<unknown>, thenMs = 300): Promise<Seen> {
    return this.#watch(0, act, thenMs)
  }

  /** The same with what was under way when it began: for acts that take something away. */
  around(act: () => Promise<unknown>, thenMs = 300): Promise<Seen> {
    return this.#watch(UNDER_WAY_MS, act, thenMs)
  }

  /** What was begun then; waits until all of it has ended. */
  async seen(fromMs: number, toMs: number): Promise<Seen> {
    const isEnded = (): boolean => {
      this.#read()
      return this.#endedMs >= toMs
    }
    await until('all that was asked has ended', isEnded, toMs + SETTLED_MS - monotonicMs())
    const lines = this.#lines.filter(({ beganMs }) => beganMs >= fromMs && beganMs < toMs)
    return summarize(lines, fromMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]()
  }

  async #watch(leadMs: number, act: () => Promise<unknown>, thenMs: number): Promise<Seen> {
    const fromMs = monotonicMs() - leadMs
    await act()
    await sleep(thenMs)
    return this.seen(fromMs, monotonicMs())
  }

  #read(): void {
    const { stdout } = this.#program
    const end = stdout.lastIndexOf('\n')
    for (const text of stdout.slice(this.#readTo, end).split('\n')) {
      const [kind = '', began, took, outcome, what] = text.split(' ')
      if (kind === 'until') this.#endedMs = Number(began)
      if (what === undefined) continue
      this.#lines.push({
        kind,
        beganMs: Number(began),
        tookMs: Number(took),
        outcome: outcome!,
        what,
      })
    }
    this.#readTo = end
  }
}

/** A pod with that many TCP connections to its DNS server, by each of which it has asked. */
export function keepConnections(node: E2eNode, count: number): Promise<RunningProcess> {
  const script = join(import.meta.dirname, './e2e-kept.ts')
  const options: KeptOptions = { server: CLUSTER_DNS.v4, count }
  const words = ['--disable-warning=ExperimentalWarning', script, JSON.stringify(options)]
  return node.world.namespace('client').start(process.execPath, words, { ready: 'ready' })
}

function summarize(lines: readonly Line[], fromMs: number): Seen {
  const of = (...kinds: string[]): Line[] => lines.filter(({ kind }) => kinds.includes(kind))
  const udp = of('udp')
  const tcp = of('tcp')
  const connections = of('known', 'fresh')
  const forbidden = of('never')
  const isLost = ({ outcome }: Line): boolean => outcome !== 'answered'
  const isShut = ({ outcome }: Line): boolean => outcome !== 'open'
  const isOpen = ({ outcome }: Line): boolean => outcome === 'open'
  const faults = [
    ...[...udp, ...tcp].filter(isLost),
    ...connections.filter(isShut),
    ...forbidden.filter(isOpen),
  ]
  const answers = udp.filter((line) => !isLost(line))
  const answeredMs = answers.map((line) => line.beganMs + line.tookMs).sort((a, b) => a - b)
  return {
    asked: udp.length,
    lost: udp.length - answers.length,
    answered: answers.length,
    lastLostMs: Math.round(Math.max(0, ...udp.filter(isLost).map((line) => line.beganMs - fromMs))),
    tcpAsked: tcp.length,
    tcpLost: tcp.filter(isLost).length,
    slowestMs: Math.max(0, ...answers.map(({ tookMs }) => Math.round(tookMs))),
    gapMs: Math.round(
      answeredMs.reduce((gap, ms, at) => Math.max(gap, ms - (answeredMs[at - 1] ?? ms)), 0),
    ),
    connections: connections.length,
    freshConnections: of('fresh').length,
    shut: connections.filter(isShut).length,
    forbidden: forbidden.length,
    breached: forbidden.filter(isOpen).length,
    faults: faults.map(({ kind, beganMs, tookMs, outcome, what }) => {
      return `${kind} ${what}: ${outcome} after ${tookMs} ms, at ${Math.round(beganMs - fromMs)} ms`
    }),
  }
}
