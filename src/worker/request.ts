/**
 * What the main thread asks of the data plane's tables, for `status`, `cache list` and a peer that
 * starts. Answered between two turns of the loop, a bounded piece at a time: the caller comes back
 * with the cursor.
 */
import type { AnswerCache } from '../cache/cache.ts'
import type { LearnedCodec } from '../cache/learned.ts'
import type { Forwarder } from '../upstream/forwarder.ts'
import { hashName } from '../wire/name.ts'
import type { CacheRow, UpstreamRow, WorkerReply, WorkerRequest } from './message.ts'

/** Entries of one piece; the cache lists no bucket in halves, and none has more than this. */
const ROWS_MAX = 256
/** Bytes of one piece of a dump: well below what one sync message holds. */
const DUMP_BYTES = 48 * 1024
const LENGTH_BYTES = 4

export interface RequestParts {
  readonly cache: AnswerCache
  readonly learned: LearnedCodec
  readonly forwarder: Forwarder
  readonly nameSeed: number
  readonly now: () => number
}

/** Everything but 'sockets', 'upstreams' and 'prove', which the loop takes itself. */
export function answerRequest(parts: RequestParts, request: WorkerRequest): WorkerReply {
  switch (request.kind) {
    case 'cache-list':
      return listCache(parts, request.id, request.cursor)
    case 'cache-dump':
      return dumpCache(parts, request.id, request.cursor)
    case 'cache-clear':
      return { kind: 'cache-clear', id: request.id, count: clearCache(parts, request.name) }
    case 'upstream-health':
      return { kind: 'upstream-health', id: request.id, rows: listUpstreams(parts) }
    default:
      throw new Error(`the worker has no answer to '${request.kind}'`)
  }
}

const entries = new Int32Array(ROWS_MAX)

function listCache(parts: RequestParts, id: number, from: number): WorkerReply {
  const { cache, now } = parts
  const nowMs = now()
  const rows: CacheRow[] = []
  const cursor = cache.list(from, entries)
  for (let index = 0; index < cache.listed; index++) {
    const entry = entries[index]!
    const name = new Uint8Array(cache.nameBytes(entry))
    const message = new Uint8Array(cache.messageBytes(entry))
    cache.copyName(entry, name, 0)
    cache.copyMessage(entry, message, 0)
    rows.push({
      name,
      message,
      type: cache.type(entry),
      class: cache.class(entry),
      kind: cache.kind(entry),
      group: cache.group(entry),
      remainingSeconds: cache.remainingSeconds(entry, nowMs),
      ttlSeconds: cache.ttlSeconds(entry),
    })
  }
  return { kind: 'cache-list', id, cursor, rows }
}

/**
 * The next answers as records for the peer. What does not fit into this piece any more is left out:
 * the buckets of one piece are few, and a cache is not a database.
 */
function dumpCache(parts: RequestParts, id: number, from: number): WorkerReply {
  const { cache, learned, forwarder } = parts
  const records = new Uint8Array(DUMP_BYTES)
  const view = new DataView(records.buffer)
  let at = 0
  let cursor = from
  while (cursor >= 0 && at < DUMP_BYTES / 2) {
    cursor = cache.list(cursor, entries)
    for (let index = 0; index < cache.listed; index++) {
      const entry = entries[index]!
      const groupId = forwarder.groupId(cache.group(entry))
      const bytes = groupId === 0 ? 0 : learned.encodedBytes(entry)
      if (bytes === 0 || at + LENGTH_BYTES + bytes > DUMP_BYTES) continue
      view.setUint32(at, bytes, true)
      learned.encode(entry, groupId, records, at + LENGTH_BYTES)
      at += LENGTH_BYTES + bytes
    }
  }
  return { kind: 'cache-dump', id, cursor, records: records.slice(0, at) }
}

function clearCache(parts: RequestParts, name: Uint8Array | null): number {
  const { cache, nameSeed } = parts
  if (name === null) {
    const count = cache.counters().entries
    cache.clear()
    return count
  }
  return cache.clearName(name, 0, name.length, hashName(name, 0, name.length, nameSeed))
}

function listUpstreams(parts: RequestParts): UpstreamRow[] {
  const rows: UpstreamRow[] = []
  const { forwarder } = parts
  for (const { group, server, health } of forwarder.servers()) {
    rows.push({
      zones: forwarder.routes.zonesOf(group),
      isChosen: forwarder.groupId(group) === 0,
      address: server.address,
      port: server.port,
      transport: server.transport,
      queries: health.queries,
      failures: health.failures,
      failuresInRow: health.failuresInRow,
      smoothedMs: health.smoothedMs,
      isPaused: health.isPaused,
      isLoop: health.isLoop,
    })
  }
  return rows
}
