import { test } from 'node:test'
import assert from 'node:assert/strict'
import { type Told, Teller } from './teller.ts'

function tellAll(isJson: boolean): { readonly teller: Teller; readonly printed: string[] } {
  const printed: string[] = []
  return { teller: new Teller(isJson, (text) => printed.push(text)), printed }
}

function check(seen: string, ok: boolean) {
  return { command: './client dig example.com', look: async () => ({ seen, ok }) }
}

test('for programs a step is one line of JSON, and nothing else is printed', async () => {
  const { teller, printed } = tellAll(true)
  teller.say('hello')
  teller.chapter(4, 'The agent is killed')
  await teller.step('answered', check('NOERROR', true))
  await teller.step('answered', check('two\nlines', false))
  const told = printed.map((line) => JSON.parse(line) as Told)
  const common = { command: './client dig example.com', promised: 'answered' }
  assert.deepEqual(told, [
    { step: '4.1', ...common, seen: 'NOERROR', ok: true },
    { step: '4.2', ...common, seen: 'two\nlines', ok: false },
  ])
  assert(printed.every((line) => line.indexOf('\n') === line.length - 1))
  assert.deepEqual([teller.told, teller.broken], [2, ['4.2']])
})

test('for people a step shows what is done, what was promised, what was seen, and a mark', async () => {
  const { teller, printed } = tellAll(false)
  teller.chapter(1, 'Names')
  await teller.step('answered', check('NOERROR', true))
  await teller.step('answered', check('no answer', false))
  const [chapter, done, good, , bad] = printed
  assert.match(chapter!, /1 {2}Names/)
  assert.match(done!, /1\.1 .*\.\/client dig example\.com/s)
  assert.match(good!, /answered.*\n.*✓.* NOERROR/)
  assert.match(bad!, /answered.*\n.*✗ not as promised:.* no answer/)
})

test('a step that throws is broken, and the story goes on', async () => {
  const { teller, printed } = tellAll(true)
  const look = async () => Promise.reject(new Error('dig: still running after 10000 ms'))
  await teller.step('answered', { command: 'dig', look })
  await teller.step('answered', check('NOERROR', true))
  assert.match(printed[0]!, /still running after 10000 ms","ok":false/)
  assert.deepEqual([teller.told, teller.broken], [2, ['0.1']])
})

test('when time is over the step that is being done is told as broken', () => {
  const { teller, printed } = tellAll(true)
  void teller.step('answered', { command: 'dig', look: () => new Promise(() => {}) })
  teller.interrupt('the story did not end within 90 s')
  assert.match(printed[0]!, /did not end within 90 s","ok":false/)
  teller.interrupt('once more')
  assert.equal(printed.length, 1)
})
