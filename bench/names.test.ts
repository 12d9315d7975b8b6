import { test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeFreshNames, writeKnownNames, writeMixedNames } from './names.ts'

function written(write: (file: string) => void): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'ngt-names-'))
  try {
    write(join(directory, 'names'))
    return readFileSync(join(directory, 'names'), 'utf8').trim().split('\n')
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('each known name is asked for once in a pass, in an order that is mixed and always the same', () => {
  const lines = written((file) => writeKnownNames(file, 1000))
  assert.equal(new Set(lines).size, 1000)
  assert.notDeepEqual(lines, lines.toSorted())
  assert.deepEqual(
    lines,
    written((file) => writeKnownNames(file, 1000)),
  )
})

test('fresh names are asked for once, whichever number they begin with', () => {
  const first = written((file) => writeFreshNames(file, 0, 100))
  const next = written((file) => writeFreshNames(file, 100, 100))
  assert.equal(new Set([...first, ...next]).size, 200)
})

test("mixed names follow Zipf's law, with one fresh name in twenty", () => {
  const count = 20_000
  const lines = written((file) => writeMixedNames(file, { known: 1000, count, freshShare: 0.05 }))
  const fresh = lines.filter((line) => line.includes('-fresh'))
  assert.equal(new Set(fresh).size, fresh.length)
  assert(Math.abs(fresh.length / count - 0.05) < 0.005, `${fresh.length} fresh names`)
  const times = (name: string): number => lines.filter((line) => line.startsWith(name)).length
  const [first, tenth] = [times('service-00000'), times('service-00009')]
  assert(first / tenth > 7 && first / tenth < 14, `asked ${first} and ${tenth} times`)
})
