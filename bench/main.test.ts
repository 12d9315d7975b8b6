import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

function bench(...words: string[]) {
  const main = join(import.meta.dirname, 'main.ts')
  const flags = ['--disable-warning=ExperimentalWarning', main]
  return spawnSync(process.execPath, [...flags, ...words], { encoding: 'utf8', timeout: 10_000 })
}

test('--help names every benchmark and every subject, and measures nothing', () => {
  const { status, stdout } = bench('cache-hit', '--help')
  assert.equal(status, 0)
  assert.match(stdout, /^usage: npm run bench -- /)
  assert.match(stdout, /cache-hit, cache-miss, tcp/)
  assert.match(stdout, /floor, floor-plain, namegate/)
})

const mistakes: readonly (readonly [string[], string])[] = [
  [['--frob'], "Unknown option '--frob'"],
  [['--rounds'], "Option '--rounds <value>' argument missing"],
  [['--rounds', '0'], '--rounds needs a whole number from 1 on'],
  [['cash-hit'], 'there is no benchmark cash-hit'],
  [['--only', 'bind'], 'nobody is called bind'],
]
for (const [words, complaint] of mistakes) {
  test(`'${words.join(' ')}' is answered by what is wrong, and by the usage`, () => {
    const { status, stderr } = bench(...words)
    assert.equal(status, 2)
    assert.equal(stderr.split('\n', 1)[0], `bench: ${complaint}`)
    assert.match(stderr, /usage: npm run bench/)
  })
}
