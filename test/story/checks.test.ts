import { test } from 'node:test'
import assert from 'node:assert/strict'
import type { Finished } from '../support/process.ts'
import type { World } from '../support/world.ts'
import {
  connects,
  digs,
  isAnswered,
  isDropped,
  isRefused,
  isUnanswered,
  isWithoutAddress,
  judgeFlows,
  readDig,
  wasAsked,
} from './checks.ts'
import type { Check, Seen } from './teller.ts'

/** A world in which every command ends so. */
function worldThat(finished: Partial<Finished>): World {
  const whole: Finished = { code: 0, signal: null, stdout: '', stderr: '', ...finished }
  return { run: async () => whole } as unknown as World
}

/** Whether curl's output passes as a connection, and as a dropped one. */
async function judge(finished: Partial<Finished>): Promise<[boolean, boolean]> {
  const world = worldThat(finished)
  const checks: Check[] = [connects(world, 'client', 'URL'), isDropped(world, 'client', 'URL')]
  const [open, dropped] = await Promise.all(checks.map((check) => check.look()))
  return [open!.ok, dropped!.ok]
}

const PAGE = 'this is example.com at 192.0.2.10 port 80, you are 10.0.0.10\n'
const times = (known: number, connected: number) =>
  `name known after ${known.toFixed(6)} s, connected after ${connected.toFixed(6)} s\n`

test('a connection counts when the first packet passed', async () => {
  assert.deepEqual(await judge({ stdout: PAGE + times(0.2, 0.21) }), [true, false])
  // The SYN was dropped, and the one that follows after a second was not: open too late.
  assert.deepEqual(await judge({ stdout: PAGE + times(0.2, 1.22) }), [false, false])
  assert.deepEqual(await judge({ stdout: `somebody else\n${times(0.2, 0.21)}` }), [false, false])
})

test('dropped means: the name was known and nothing came of the connection', async () => {
  const late = 'curl: (28) Connection timed out after 1001 milliseconds'
  const stdout = times(0.01, 0)
  assert.deepEqual(await judge({ code: 28, stdout, stderr: late }), [false, true])
  const unknown = 'curl: (28) Resolving timed out after 1000 milliseconds'
  assert.deepEqual(await judge({ code: 28, stdout, stderr: unknown }), [false, false])
  const none = 'curl: (6) Could not resolve host: example.com'
  assert.deepEqual(await judge({ code: 6, stdout, stderr: none }), [false, false])
  const refused = 'curl: (7) Failed to connect: Connection refused'
  assert.deepEqual(await judge({ code: 7, stdout, stderr: refused }), [false, false])
  assert.deepEqual(await judge({ code: 28, stdout: times(0.01, 0.02) }), [false, false])
})

const DIG = `; <<>> DiG 9.18 <<>> example.com
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 7
;; QUESTION SECTION:
;example.com.			IN	A

;; ANSWER SECTION:
example.com.		300	IN	A	192.0.2.10
example.com.		300	IN	A	192.0.2.11

;; Query time: 12 msec
`
const REFUSED = `;; ->>HEADER<<- opcode: QUERY, status: REFUSED, id: 7
;; OPT PSEUDOSECTION:
; EDE: 15 (Blocked)
;; QUESTION SECTION:
;; Query time: 0 msec
`
const NOTHING =
  ';; communications error to 10.96.0.10#53: timed out\n;; no servers could be reached\n'

test('what dig prints is read: status, records, time, extended error', () => {
  const records = ['192.0.2.10', '192.0.2.11']
  assert.deepEqual(readDig(DIG), { status: 'NOERROR', records, queryMs: 12, error: '' })
  const refused = { status: 'REFUSED', records: [], queryMs: 0, error: '15 (Blocked)' }
  assert.deepEqual(readDig(REFUSED), refused)
  assert.deepEqual(readDig(NOTHING), { status: '', records: [], queryMs: 0, error: '' })
})

test('an answer, a refusal and silence are three things', async () => {
  const judges = [isAnswered, isRefused, isUnanswered, isWithoutAddress]
  const judgeAll = (stdout: string) =>
    Promise.all(
      judges.map(async (judge) => {
        return (await digs(worldThat({ stdout }), 'client', [], judge).look()).ok
      }),
    )
  assert.deepEqual(await judgeAll(DIG), [true, false, false, false])
  assert.deepEqual(await judgeAll(REFUSED), [false, true, false, false])
  assert.deepEqual(await judgeAll(NOTHING), [false, false, true, true])
  const failed = REFUSED.replace('REFUSED', 'SERVFAIL')
  assert.deepEqual(await judgeAll(failed), [false, false, false, true])
})

test('flows count only when they are of this period, and every wanted one must be there', () => {
  const fromMs = Date.UTC(2030, 0, 2, 12)
  const stdout = 'Jan  2 11:59:59.999: a question\nJan  2 12:00:00.001: b question\n'
  const judge = (pattern: RegExp, toMs = fromMs + 60_000): Seen =>
    judgeFlows(stdout, { fromMs, toMs }, { 'the question': pattern })
  assert.deepEqual(judge(/question/), { seen: 'Jan  2 12:00:00.001: b question', ok: true })
  assert.match(judge(/a question/).seen, /^not shown: the question\n/)
  assert.deepEqual([judge(/a question/).ok, judge(/b question/, fromMs).ok], [false, false])
})

test("questions at the cluster's DNS are compared with the number that was promised", async () => {
  const world = worldThat({ stdout: '{"example.com. A": 2}\nname known after 0 s\n' })
  assert.equal((await wasAsked(world, { 'example.com. A': 2 }).look()).ok, true)
  assert.equal((await wasAsked(world, { 'example.com. A': 1 }).look()).ok, false)
  assert.equal((await wasAsked(world, { 'example.com. AAAA': 0 }).look()).ok, true)
})

test('commands are shown so that a shell would read them as they were run', () => {
  const check = connects(worldThat({}), 'client', '-H', "it's", 'http://example.com/')
  assert.equal(check.command, `./client curl -m 5 -H 'it'\\''s' http://example.com/`)
})
