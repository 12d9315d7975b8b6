/**
 * Nothing that somebody asks of a daemon may hold up its main thread: the worker ends the process
 * when it hears nothing for 2 s. Once `observe --last 20` on a full history took 8 s in one turn.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { judgeRevocation } from '../grant/revocation.ts'
import { viewOf } from '../wire/bytes.ts'
import { FlowHistory } from '../observe/history.ts'
import { appendAnswer, appendDrop, appendRefusal } from '../observe/history-fixture.ts'
import { filterInSlices, Slice } from '../observe/turns.ts'
import type { Snapshot } from '../policy/snapshot.ts'
import { NO_STAND_INS } from '../policy/stand-ins.ts'
import { PolicyTable } from '../policy/table.ts'
import { encodeTable } from '../policy/table-encode.ts'
import { NodeDirectory } from './directory.ts'
import { handlersOf } from './handlers.ts'
import type { DaemonView } from './view.ts'

const BLOCK_MS_MAX = 100
const GRANT_COUNT = 5000
const CLIENT_COUNT = 250

function clientAddress(index: number): string {
  return `10.0.0.${index % CLIENT_COUNT}`
}

function serverAddress(index: number): string {
  return `192.0.${(index >> 8) & 255}.${index & 255}`
}

function snapshotOf(subjectId: string): Snapshot {
  const pattern = { kind: 'pattern', text: '*.example.com' } as const
  return {
    layout: 1,
    revision: 1,
    mode: 'enforce',
    denyResponse: 'refused',
    unknown: 'open',
    clients: Array.from({ length: CLIENT_COUNT }, (_, index) => ({
      namespace: 'team-a',
      name: `web-${index}`,
      labels: {},
      addresses: [clientAddress(index)],
      interface: null,
      subject: 0,
    })),
    places: [],
    subjects: [
      {
        id: subjectId,
        policies: ['team-a/web'],
        isFaulty: false,
        questions: [],
        names: [{ policy: 'team-a/web', pattern, portSet: 1 }],
        destinations: [],
      },
    ],
    portSets: [{ number: 1, id: 'aaaaaaaa', ports: [{ protocol: 'tcp', first: 443, last: 443 }] }],
    policies: [],
  }
}

const SNAPSHOT = snapshotOf('000000000001')
const GRANTS = Array.from({ length: GRANT_COUNT }, (_, index) => ({
  client: clientAddress(index),
  address: serverAddress(index),
  portSet: 'aaaaaaaa',
  remainingMs: 60_000,
}))
const longHistory = new FlowHistory()

/** A directory that has not looked at the history yet, in a daemon that has nothing else. */
function makeDaemon(history: FlowHistory = longHistory): DaemonView {
  const directory = new NodeDirectory(history)
  directory.use(SNAPSHOT)
  return {
    config: { node: 'worker-1' },
    history,
    directory,
    snapshot: SNAPSHOT,
    standIns: NO_STAND_INS,
    structure: { readGrants: async () => GRANTS },
  } as unknown as DaemonView
}

before(() => {
  const history = longHistory
  let number = 0
  for (; history.start === 0; number++) {
    const client = clientAddress(number)
    const server = serverAddress(number % GRANT_COUNT)
    appendAnswer(history, client, `n${number % GRANT_COUNT}.example.com.`, [server])
    if (number % 4 === 0) appendDrop(history, client, server)
    if (number % 50 === 0) appendRefusal(history, client, 'www.example.net.')
  }
  assert.ok(number > 15_000)
})

/** Appends the first `count` records of `from` to `to`, again and again if they are fewer. */
function repeatRecords(from: FlowHistory, count: number, to: FlowHistory): void {
  let cursor = from.cursor(0)
  for (let number = 0; number < count; number++) {
    if (!cursor.next()) {
      cursor = from.cursor(0)
      cursor.next()
    }
    to.append(viewOf(cursor.bytes), cursor.recordAt, cursor.recordBytes)
  }
}

/** What this thread has run, ms: on a busy machine others take the processor from it as well. */
function runMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** How long `work` kept a timer waiting at most, ms. */
async function longestBlock(work: () => Promise<void>): Promise<number> {
  let longest = 0
  let lastMs = runMs()
  const look = () => {
    const nowMs = runMs()
    longest = Math.max(longest, nowMs - lastMs)
    lastMs = nowMs
  }
  const timer = setInterval(look, 1)
  await work()
  look()
  clearInterval(timer)
  return longest
}

async function assertNoBlock(work: () => Promise<void>): Promise<void> {
  const longest = await longestBlock(work)
  assert.ok(longest < BLOCK_MS_MAX, `${Math.round(longest)} ms in one turn`)
}

/** As the control server reads them. */
async function rowsOf(
  daemon: DaemonView,
  command: string,
  args: Record<string, unknown>,
): Promise<object[]> {
  const rows: object[] = []
  const { signal } = new AbortController()
  const slice = new Slice()
  for await (const row of handlersOf(daemon)[command]!(args, signal)) {
    rows.push(row)
    if (slice.isOver) await slice.next()
  }
  return rows
}

for (const args of [{ last: 20 }, { last: 10_000 }, { last: 20, names: ['nobody.example.com'] }]) {
  test(`observe ${JSON.stringify(args)} on a full history leaves others their turns`, async () => {
    await assertNoBlock(async () => {
      const rows = await rowsOf(makeDaemon(), 'observe', args)
      assert.equal(rows.length, 'names' in args ? 0 : args.last)
    })
  })
}

test('twenty observers at once leave others their turns', async () => {
  await assertNoBlock(async () => {
    const daemon = makeDaemon()
    await Promise.all(
      Array.from({ length: 20 }, () => rowsOf(daemon, 'observe', { last: 20, names: ['*'] })),
    )
  })
})

test('observe -f under load leaves others their turns', async () => {
  await assertNoBlock(async () => {
    const history = new FlowHistory()
    const stop = new AbortController()
    let seen = 0
    const following = (async () => {
      const rows = handlersOf(makeDaemon(history))['observe']!(
        { last: 0, follow: true },
        stop.signal,
      )
      for await (const row of rows) seen += 'flow' in row ? 1 : 0
    })()
    // What a busy worker and its peer hand over at once, three times.
    for (let burst = 1; burst <= 3; burst++) {
      repeatRecords(longHistory, 8000, history)
      const endMs = performance.now() + 5000
      while (seen < burst * 8000 && performance.now() < endMs) {
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
    stop.abort()
    await following
    assert.equal(seen, 24_000)
  })
})

test('grants list with 5,000 grants leaves others their turns, and knows their names', async () => {
  await assertNoBlock(async () => {
    const rows = await rowsOf(makeDaemon(), 'grants-list', {})
    assert.equal(rows.length, GRANT_COUNT)
    const named = rows.filter((row) => (row as { names: string[] }).names.length > 0)
    assert.equal(named.length, GRANT_COUNT)
  })
})

test('explain leaves others their turns, and finds the last denial', async () => {
  await assertNoBlock(async () => {
    const [row] = await rowsOf(makeDaemon(), 'explain', {
      client: 'team-a/web-0',
      target: 'www.example.net',
    })
    const { causes } = row as { causes: { text: string }[] }
    assert.match(causes.at(-1)!.text, /it was refused last from port 40000/)
    await rowsOf(makeDaemon(), 'explain', {
      client: 'team-a/web-0',
      target: `${serverAddress(250)}:443`,
    })
  })
})

test('five explain at once in a history of nothing but drops, which leaves others their turns', async () => {
  const drop = new FlowHistory()
  appendDrop(drop, clientAddress(0), serverAddress(0))
  const history = new FlowHistory()
  while (history.start === 0) repeatRecords(drop, 1000, history)
  await assertNoBlock(async () => {
    const args = { client: 'team-a/web-0', target: 'www.example.net' }
    const daemon = makeDaemon(history)
    const told = await Promise.all(Array.from({ length: 5 }, () => rowsOf(daemon, 'explain', args)))
    assert.equal(told.flat().length, 5)
  })
})

test('judging 5,000 grants after a policy change leaves others their turns', async () => {
  await assertNoBlock(async () => {
    const present = snapshotOf('000000000002')
    const table = new PolicyTable()
    table.open(encodeTable(present, { standIns: NO_STAND_INS, interfaceIndexes: new Map() }))
    const names = await makeDaemon().directory.names()
    const judge = judgeRevocation(SNAPSHOT, present, table, names)
    assert.deepEqual(await filterInSlices(GRANTS, judge), [])
  })
})
