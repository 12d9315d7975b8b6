import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeFlow } from '../flow/decode.ts'
import { REASON_NO_GRANT } from '../flow/reason.ts'
import { FLOW_CONNECTION, VERDICT_DENIED } from '../flow/record.ts'
import { viewOf } from '../wire/bytes.ts'
import { ControlError } from './control.ts'
import type { Directory, FlowRow, LostRow } from './flow-row.ts'
import { FlowHistory } from './history.ts'
import { appendAnswer } from './history-fixture.ts'
import { observeHandler } from './observe.ts'

const NOBODY: Directory = { endpoint: () => null, names: async () => () => [] }

/** Appends the drop of a connection to `port`. */
function append(history: FlowHistory, port: number, timeMs = 0): void {
  const bytes = encodeFlow({
    type: FLOW_CONNECTION,
    timeMs,
    verdict: VERDICT_DENIED,
    reason: REASON_NO_GRANT,
    protocol: 6,
    flags: 2,
    source: Uint8Array.of(10, 0, 0, 7),
    sourcePort: 40000,
    destination: Uint8Array.of(192, 0, 2, 1),
    destinationPort: port,
    interfaceIndex: 0,
  })
  history.append(viewOf(bytes), 0, bytes.length)
}

function port(row: object): number {
  return (row as FlowRow).flow.destination.port
}

async function ports(history: FlowHistory, args: Record<string, unknown>): Promise<number[]> {
  const handler = observeHandler(history, NOBODY, 'worker-1')
  const rows: number[] = []
  for await (const row of handler(args, new AbortController().signal)) rows.push(port(row))
  return rows
}

test('the last flows come oldest first, however many chunks they lie in', async () => {
  const history = new FlowHistory(16 * 200) // two records a chunk
  for (let number = 1; number <= 40; number++) append(history, number)
  assert.deepEqual(await ports(history, { last: 5 }), [36, 37, 38, 39, 40])
  const all = await ports(history, { last: 1000 })
  assert.equal(all.length, history.end - history.start)
  assert.deepEqual(
    all,
    all.map((_, index) => 40 - all.length + 1 + index),
  )
  assert.deepEqual(await ports(history, { last: 0 }), [])
  assert.deepEqual(await ports(history, { verdicts: ['ERROR'] }), [])
})

test('following goes on where the last flows ended, and misses none in between', async () => {
  const history = new FlowHistory()
  for (let number = 1; number <= 3; number++) append(history, number)
  const stop = new AbortController()
  const handler = observeHandler(history, NOBODY, 'worker-1')
  const seen: number[] = []
  for await (const row of handler({ last: 2, follow: true }, stop.signal)) {
    seen.push(port(row))
    if (seen.length === 1) append(history, 4)
    if (seen.length === 3) setImmediate(() => append(history, 5))
    if (seen.length === 4) stop.abort()
  }
  assert.deepEqual(seen, [2, 3, 4, 5])
})

test('a follower that is overtaken is told how many flows it lost', async () => {
  const history = new FlowHistory(16 * 200)
  const stop = new AbortController()
  const handler = observeHandler(history, NOBODY, 'worker-1')
  const rows = handler({ last: 0, follow: true }, stop.signal)[Symbol.asyncIterator]()
  const first = rows.next()
  append(history, 1)
  assert.equal(port((await first).value), 1)
  for (let number = 2; number <= 101; number++) append(history, number)
  let lost = 0
  let seen = 1
  while (seen + lost < 101) {
    const row = (await rows.next()).value as FlowRow | LostRow
    if ('lost' in row) lost += row.lost
    else seen++
  }
  assert.ok(lost > 50)
  stop.abort()
})

test('flows up to a moment can be left out', async () => {
  const history = new FlowHistory()
  for (let number = 1; number <= 5; number++) append(history, number, number * 1000)
  assert.deepEqual(await ports(history, { sinceMs: 3000 }), [4, 5])
})

test('only a connection is shown with the names of its destination', async () => {
  const history = new FlowHistory()
  appendAnswer(history, '10.0.0.7', 'www.example.com.', ['192.0.2.1'])
  let asked = 0
  const directory: Directory = {
    endpoint: () => null,
    names: async () => {
      asked++
      return (client, address) => [`${client}.${address}.example.com`]
    },
  }
  const rowsOf = async () => {
    const rows: FlowRow[] = []
    const handler = observeHandler(history, directory, 'worker-1')
    for await (const row of handler({}, new AbortController().signal)) rows.push(row as FlowRow)
    return rows.map(({ destination }) => destination.names)
  }
  assert.deepEqual(await rowsOf(), [[]])
  assert.equal(asked, 0, 'it would read the whole history')
  append(history, 443)
  assert.deepEqual(await rowsOf(), [[], ['10.0.0.7.192.0.2.1.example.com']])
})

test('a request that makes no sense is refused', () => {
  const handler = observeHandler(new FlowHistory(), NOBODY, 'worker-1')
  const signal = new AbortController().signal
  for (const args of [{ last: -1 }, { last: 1e9 }, { verdicts: 'DROPPED' }, { names: ['a b'] }]) {
    assert.throws(() => handler(args, signal), ControlError)
  }
})
