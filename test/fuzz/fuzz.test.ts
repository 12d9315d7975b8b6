import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLearned } from '../../src/cache/learned.ts'
import { fuzz, readCorpus, smokeCasesOf } from './fuzz.ts'
import { TARGETS } from './list.ts'
import { mutate } from './mutate.ts'
import { Random } from './random.ts'

const SEED = 20260821

for (const [name, target] of Object.entries(TARGETS)) {
  if (name === 'canary') continue
  test(`${name}: every corpus file passes as it is`, () => {
    for (const input of readCorpus(target.corpus)) target.run(input, new Random(SEED))
  })
  test(`${name}: ${smokeCasesOf(target)} inputs made from the corpus pass`, () => {
    const failure = fuzz(target, SEED, smokeCasesOf(target))
    if (failure === null) return
    const hex = Buffer.from(failure.input).toString('hex')
    assert.fail(`node test/fuzz/fuzz.ts ${name} ${failure.seed}: ${failure.error}\n${hex}`)
  })
}

test('the canary fails, and fails at once with the seed of its failure', () => {
  const failure = fuzz(TARGETS['canary']!, SEED, smokeCasesOf(TARGETS['canary']!))
  assert.ok(failure !== null)
  const again = fuzz(TARGETS['canary']!, failure.seed, 1)
  assert.deepEqual(again?.input, failure.input)
})

// Otherwise the peer's worker would give it out: with another question's records, or, in the first
// case, until an assertion about the address's TTL ends the process.
test('a learned record that no answer can be made of is refused', () => {
  const chain = readCorpus('learned')[0]!
  const addressesAt = 24 + chain[22]! + 2 * chain[19]!
  const messageAt = addressesAt + 3 * chain[21]!
  const withoutTtls = [...chain.subarray(0, 24 + chain[22]!), ...chain.subarray(addressesAt)]
  withoutTtls[19] = 0
  const believed = {
    'an address without a TTL before it': Uint8Array.from(withoutTtls),
    'the answer to another question': chain.with(messageAt + 13, 0x78),
    'a name that is none': chain.with(24, 0x3f),
  }
  for (const [what, record] of Object.entries(believed)) {
    assert.equal(isLearned(record, 0, record.length), false, what)
  }
})

test('a target that never ends fails too, with its seed', { timeout: 60_000 }, () => {
  let calls = 0
  const run = () => {
    calls++
    while (calls === 3);
  }
  assert.equal(fuzz({ corpus: 'wire', run }, 1000, 10, Number.POSITIVE_INFINITY, 100)?.seed, 1002)
})

test('the same seed makes the same input, neighbouring seeds make others', () => {
  const corpus = readCorpus('wire')
  const inputs = Array.from({ length: 200 }, (_, n) => String(mutate(corpus, new Random(n))))
  assert.equal(String(mutate(corpus, new Random(7))), inputs[7])
  assert.ok(new Set(inputs).size > 190)
})

test('words of a target get into its inputs, beside bytes and in place of others', () => {
  const corpus = [Buffer.from('{"command": "observe"}')]
  const inputs = Array.from({ length: 200 }, (_, seed) =>
    Buffer.from(mutate(corpus, new Random(seed), ['WORD'])).toString(),
  )
  const withWord = inputs.filter((input) => input.includes('WORD'))
  assert.ok(withWord.length > 50 && withWord.length < 200)
  assert.ok(withWord.some((input) => !input.includes('observe')))
})
