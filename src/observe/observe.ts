/**
 * The daemon's side of `namegate observe`: rows from the history, and then, when asked to follow,
 * each new one.
 *
 * It runs in the main thread beside everything else, so it works in slices and gives way in
 * between; who reads slowly loses rows (and is told how many) rather than make the daemon keep
 * them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { decodeFlow } from '../flow/decode.ts'
import { ControlError, type Handler } from './control.ts'
import { accepts, type FlowFilter, filterFault } from './filter.ts'
import { type Directory, type FlowRow, flowRow, type LostRow } from './flow-row.ts'
import type { FlowHistory, HistoryCursor } from './history.ts'

/** What `observe` can be asked for. */
export interface ObserveRequest extends FlowFilter {
  /** This many of the latest matching flows first. */
  readonly last: number
  /** Only flows after this moment, ms since 1970. */
  readonly sinceMs: number
  readonly follow: boolean
}

/** Nobody reads more on a terminal, and the rows are held in memory before they are sent. */
const LAST_MAX = 10_000
/** Records looked at before other work gets its turn: about 5 ms. */
const SLICE = 500

/** The handler of the command 'observe'. */
export function observeHandler(history: FlowHistory, directory: Directory, node: string): Handler {
  return (args, signal) => observe(history, directory, node, readRequest(args), signal)
}

async function* observe(
  history: FlowHistory,
  directory: Directory,
  node: string,
  request: ObserveRequest,
  signal: AbortSignal,
): AsyncGenerator<FlowRow | LostRow> {
  const end = history.end
  const read = (cursor: HistoryCursor) => rowAt(cursor, directory, node, request)
  if (request.last > 0) yield* await latest(history, end, request.last, read)
  if (!request.follow) return
  const cursor = history.cursor(end)
  let seenLost = 0
  while (!signal.aborted) {
    for (let count = 0; count < SLICE && cursor.next(); count++) {
      const row = read(cursor)
      if (row) yield row
    }
    if (cursor.lost > seenLost) {
      yield { lost: cursor.lost - seenLost }
      seenLost = cursor.lost
    }
    if (cursor.sequence < history.end) await nextTurn()
    else await history.reached(cursor.sequence, signal)
  }
}

/** The last `count` matching rows before record `end`, oldest first, read chunk by chunk. */
async function latest(
  history: FlowHistory,
  end: number,
  count: number,
  read: (cursor: HistoryCursor) => FlowRow | null,
): Promise<FlowRow[]> {
  let rows: FlowRow[] = []
  let limit = end
  for (const start of history.chunkStarts) {
    const cursor = history.cursor(start)
    const found: FlowRow[] = []
    for (let seen = 1; cursor.sequence < limit && cursor.next(); seen++) {
      const row = read(cursor)
      if (row) found.push(row)
      if (seen % SLICE === 0) await nextTurn()
    }
    rows = [...found, ...rows]
    if (rows.length >= count) break
    limit = start
  }
  return rows.slice(-count)
}

function rowAt(
  cursor: HistoryCursor,
  directory: Directory,
  node: string,
  request: ObserveRequest,
): FlowRow | null {
  const flow = decodeFlow(cursor.bytes, cursor.recordAt, cursor.recordBytes)
  if (!flow || flow.timeMs <= request.sinceMs) return null
  const row = flowRow(flow, directory, node)
  return accepts(request, row) ? row : null
}

/** What came over the socket, checked. */
function readRequest(args: Readonly<Record<string, unknown>>): ObserveRequest {
  const { last = 20, sinceMs = -1, follow = false } = args
  if (!Number.isInteger(last) || (last as number) < 0 || (last as number) > LAST_MAX) {
    throw new ControlError('bad-request', `last must be a whole number from 0 to ${LAST_MAX}`)
  }
  if (typeof sinceMs !== 'number') throw new ControlError('bad-request', 'sinceMs is no number')
  const request: ObserveRequest = {
    last: last as number,
    sinceMs,
    follow: follow === true,
    verdicts: texts(args, 'verdicts'),
    names: texts(args, 'names'),
    pods: texts(args, 'pods'),
  }
  const fault = filterFault(request)
  if (fault !== null) throw new ControlError('bad-request', fault)
  return request
}

function texts(args: Readonly<Record<string, unknown>>, key: string): string[] {
  const value = args[key] ?? []
  const isGood = Array.isArray(value) && value.every((text) => typeof text === 'string')
  if (!isGood) throw new ControlError('bad-request', `${key} must be a list of texts`)
  return value
}
