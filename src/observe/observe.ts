/**
 * The daemon's side of `namegate observe`: rows from the history, and then, when asked to follow,
 * each new one.
 *
 * It runs in the main thread beside everything else, so it works in slices and gives way in
 * between; who reads slowly loses rows (and is told how many) rather than make the daemon keep
 * them.
 */
import { decodeFlow, type Flow } from '../flow/decode.ts'
import { ControlError, type Handler } from './control.ts'
import { accepts, type FlowFilter, filterFault } from './filter.ts'
import { type Directory, type FlowRow, flowRow, type LostRow } from './flow-row.ts'
import type { FlowHistory, HistoryCursor } from './history.ts'
import { Slice } from './turns.ts'

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
  if (request.last > 0) yield* await latest(history, end, request.last, read, signal)
  if (!request.follow) return
  const cursor = history.cursor(end)
  const slice = new Slice()
  let seenLost = 0
  while (!signal.aborted) {
    while (!slice.isOver && cursor.next()) {
      const row = await read(cursor)
      if (row) yield row
    }
    if (cursor.lost > seenLost) {
      yield { lost: cursor.lost - seenLost }
      seenLost = cursor.lost
    }
    if (cursor.sequence < history.end) await slice.next()
    else await history.reached(cursor.sequence, signal)
  }
}

/** The last `count` matching rows before record `end`, oldest first, read chunk by chunk. */
async function latest(
  history: FlowHistory,
  end: number,
  count: number,
  read: (cursor: HistoryCursor) => Promise<FlowRow | null>,
  signal: AbortSignal,
): Promise<FlowRow[]> {
  const slice = new Slice()
  let rows: FlowRow[] = []
  let limit = end
  for (const start of history.chunkStarts) {
    const cursor = history.cursor(start)
    const found: FlowRow[] = []
    // One that is overtaken while we give way may go on behind the limit.
    while (cursor.sequence < limit && cursor.next() && cursor.sequence <= limit) {
      const row = await read(cursor)
      if (row) found.push(row)
      if (slice.isOver) await slice.next()
      if (signal.aborted) return []
    }
    rows = [...found, ...rows]
    if (rows.length >= count) break
    limit = start
  }
  return rows.slice(-count)
}

/** null: not wanted. Reads the record before it gives way for the first time. */
async function rowAt(
  cursor: HistoryCursor,
  directory: Directory,
  node: string,
  request: ObserveRequest,
): Promise<FlowRow | null> {
  const flow = decodeFlow(cursor.bytes, cursor.recordAt, cursor.recordBytes)
  if (!flow || flow.timeMs <= request.sinceMs) return null
  const row = flowRow(flow, await namesFor(flow, directory), directory, node)
  return accepts(request, row) ? row : null
}

async function namesFor(flow: Flow, directory: Directory): Promise<readonly string[]> {
  if (flow.type === 'question') return []
  const names = await directory.names()
  return names(flow.source.address, flow.destination.address)
}

/** What came over the socket, checked; throws ControlError. Exported for its fuzz target. */
export function readRequest(args: Readonly<Record<string, unknown>>): ObserveRequest {
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
