/**
 * What the loop does with time that it did not have. A process can be stopped anywhere (SIGSTOP, a
 * debugger, a hypervisor), and while it stood still policy may have changed and grants may have been
 * taken back: the peer was told that nothing can come from us, because the kernel takes no grant
 * from a writer whose alive element has expired.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  AWAY,
  BACK,
  CONTROL_WORDS,
  IDLE_AFTER_MS,
  MAIN_ASLEEP,
  MODE,
  MODE_DRAIN,
  MODE_SERVE,
  SLEEP_IDLE_MS,
  SLEEP_MS,
  STATE,
  STATE_AWAY,
  STATE_DRAINED,
  STATE_DRAINING,
  STATE_SERVING,
} from './control.ts'
import { Loop, type LoopParts, TOKEN_FLIGHT } from './loop.ts'

/** The real loop; around it parts that only write down what they were asked to do. */
class Bench {
  readonly control = new Int32Array(CONTROL_WORDS)
  readonly records = {
    isNew: false,
    publish(): boolean {
      const { isNew } = this
      this.isNew = false
      return isNew
    },
  }
  done: string[] = []
  waiting = 0
  /** Nothing comes any more. */
  isQuiet = false
  slept: number[] = []
  /** STATE when the main thread was woken last. */
  stateAtSignal = -1
  /** What the kernel says to the next refresh: whether all is there as before. */
  isKernelWhole = true
  /** How long the process is stopped at that point of its next waking, once. */
  stopMs = { inEpoll: 0, inFlight: 0 }
  #nowMs = 0
  readonly loop: Loop

  constructor() {
    this.control[MODE] = MODE_SERVE
    const note = (what: string) => () => {
      this.done.push(what)
      return true
    }
    const parts = {
      epoll: {
        wait: (ms: number) => {
          this.slept.push(ms)
          this.#nowMs += (this.isQuiet ? ms : 5) + this.#take('inEpoll')
          return this.isQuiet ? 0 : 1
        },
        token: () => TOKEN_FLIGHT,
        events: () => 1,
      },
      forwarder: {
        channelReady: () => {
          this.done.push('flight')
          this.#nowMs += this.#take('inFlight')
        },
        step: () => {},
        tick: () => {},
      },
      pipeline: {
        arrival: {},
        takeTold: () => false,
        tick: () => {},
        forgetGrants: note('forget'),
        waitingCount: 0,
      },
      cache: { sweep: () => {} },
      tcp: { count: 0, sweep: () => {}, closeIdle: () => {} },
      replies: { flush: note('flush'), drop: note('drop') },
      grantWriter: {
        refreshAlive: (isLeaving: boolean) => {
          this.done.push(isLeaving ? 'leaving' : 'alive')
          return this.isKernelWhole
        },
      },
      inbox: { isWaiting: false, read: () => {}, report: () => {}, clear: () => {} },
      counters: { add: () => {} },
      records: this.records,
      wakeMain: {
        signal: () => {
          this.done.push('wake main')
          this.stateAtSignal = this.control[STATE]!
        },
      },
      control: this.control,
      now: () => this.#nowMs,
    }
    Object.defineProperty(parts.pipeline, 'waitingCount', { get: () => this.waiting })
    this.loop = new Loop(parts as unknown as LoopParts, [])
    this.turns(10)
  }

  turns(count: number): string[] {
    this.done = []
    for (let turn = 0; turn < count; turn++) this.loop.turn()
    return this.done
  }

  #take(point: 'inEpoll' | 'inFlight'): number {
    const ms = this.stopMs[point]
    this.stopMs[point] = 0
    return ms
  }
}

test('a loop that runs serves, and says every 50 ms that it is alive', () => {
  const bench = new Bench()
  assert.equal(bench.control[STATE], STATE_SERVING)
  const done = bench.turns(10)
  assert.ok(done.includes('alive') && done.includes('flush') && !done.includes('drop'))
})

test('when nothing has come for a second it sleeps for longer, but not while somebody waits', () => {
  const bench = new Bench()
  bench.isQuiet = true
  bench.turns(2 + IDLE_AFTER_MS / 100)
  assert.equal(bench.slept.at(-1), SLEEP_IDLE_MS)
  bench.waiting = 1
  bench.turns(1)
  assert.equal(bench.slept.at(-1), SLEEP_MS, 'an upstream may have to be asked again')
  bench.waiting = 0
  bench.isQuiet = false
  bench.turns(1)
  assert.equal(bench.slept.at(-1), SLEEP_MS)
})

test('while nobody asks it says that it is alive at each waking, and does nothing else', () => {
  const bench = new Bench()
  bench.isQuiet = true
  bench.turns(2 + IDLE_AFTER_MS / 100)
  bench.slept = []
  const done = bench.turns(1)
  assert.equal(
    bench.slept.length,
    1000 / SLEEP_IDLE_MS,
    'the runtime gets the thread once a second',
  )
  assert.deepEqual(
    done,
    Array.from(bench.slept, () => 'alive'),
  )
  bench.isQuiet = false
  assert.deepEqual(bench.turns(1).slice(0, 2), ['flight', 'flush'])
})

test('a main thread that sleeps is woken once for whatever is recorded, another one is not', () => {
  const bench = new Bench()
  bench.records.isNew = true
  assert.ok(!bench.turns(3).includes('wake main'), 'it looks by itself')
  bench.control[MAIN_ASLEEP] = 1
  assert.ok(!bench.turns(3).includes('wake main'), 'there is nothing new')
  bench.records.isNew = true
  const done = bench.turns(3)
  assert.equal(done.filter((what) => what === 'wake main').length, 1)
  assert.equal(bench.control[MAIN_ASLEEP], 0)
})

for (const point of ['inEpoll', 'inFlight'] as const) {
  test(`stopped ${point === 'inEpoll' ? 'asleep' : 'in the middle of its work'}, it answers nothing until it knows what changed`, () => {
    const bench = new Bench()
    bench.stopMs[point] = 10_000
    const done = bench.turns(6)
    assert.equal(bench.control[STATE], STATE_AWAY)
    // What was admitted before the stop does not leave; grants that are remembered may be gone.
    const afterStop = done.slice(done.indexOf('forget'))
    assert.ok(done.includes('forget'))
    assert.deepEqual(
      afterStop.filter((what) => what !== 'forget' && what !== 'wake main'),
      [],
    )
    if (point === 'inFlight') assert.ok(done.includes('drop'))

    bench.control[BACK] = bench.control[AWAY]!
    assert.ok(bench.turns(2).includes('alive'))
    assert.equal(bench.control[STATE], STATE_SERVING)
  })
}

test('a main thread that is woken for a stop finds that there was one', () => {
  const bench = new Bench()
  bench.stopMs.inEpoll = 500
  assert.ok(bench.turns(1).includes('wake main'))
  assert.equal(bench.stateAtSignal, STATE_AWAY)
})

test('stopped again while it waits, what was found out for the first time does not count', () => {
  const bench = new Bench()
  bench.stopMs.inEpoll = 500
  bench.turns(1)
  const first = bench.control[AWAY]!
  bench.stopMs.inEpoll = 500
  bench.turns(1)
  bench.control[BACK] = first
  assert.deepEqual(bench.turns(3), [])
  bench.control[BACK] = bench.control[AWAY]!
  assert.ok(bench.turns(1).includes('alive'))
})

test('a kernel that has lost our rules is believed before the next answer leaves', () => {
  const bench = new Bench()
  assert.ok(!bench.turns(20).includes('forget'))
  bench.isKernelWhole = false
  const done = bench.turns(20)
  const lost = done.indexOf('alive')
  assert.ok(lost >= 0 && done.indexOf('forget') === lost + 1, done.join(' '))
  assert.ok(done.indexOf('flush', lost) > lost + 1)
})

test('a stop reads on for as long as its last sign of life lasts in the kernel', () => {
  const bench = new Bench()
  bench.control[MODE] = MODE_DRAIN
  const done = [...bench.turns(1)] // a turn lasts 100 ms
  assert.equal(bench.control[STATE], STATE_SERVING)
  done.push(...bench.turns(1))
  assert.equal(bench.control[STATE], STATE_DRAINED)
  assert.ok(done.includes('leaving') && !done.includes('alive'), done.join(' '))
})

test('while it finishes what is in hand its grants count, and a stop then is the end', () => {
  const bench = new Bench()
  bench.waiting = 1
  bench.control[MODE] = MODE_DRAIN
  assert.ok(bench.turns(5).includes('leaving'))
  assert.equal(bench.control[STATE], STATE_DRAINING)
  bench.stopMs.inEpoll = 500
  bench.turns(1)
  assert.equal(bench.control[STATE], STATE_DRAINED)
})
