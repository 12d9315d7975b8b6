import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Growth, releaseUnused, unchangedFiles } from './resident.ts'

const SMAPS = `00400000-00500000 r-xp 00001000 fe:00 42                         /usr/bin/node
Size:               1024 kB
Anonymous:             0 kB
00500000-00600000 r--p 00101000 fe:00 42                         /usr/bin/node
Anonymous:             8 kB
00600000-00700000 rw-p 00201000 fe:00 42                         /usr/bin/node
Anonymous:             0 kB
00700000-00800000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 43                 /usr/lib/libc.so.6
Anonymous:             0 kB
`

test('only what can be read from its file again is given back', () => {
  assert.deepEqual(unchangedFiles(SMAPS), [
    { address: 0x400000n, bytes: 0x100000 },
    { address: 0x7f0000000000n, bytes: 0x1000 },
  ])
})

test('what can be spared is looked for when growth has come to an end, and then not again', () => {
  const growth = new Growth()
  const sizes = [60, 62, 60, 75, 90, 98, 98.5, 85, 88, 86, 85, 100, 100]
  const ends = sizes.filter((mebibytes) => growth.hasEnded(mebibytes * (1 << 20)))
  assert.deepEqual(ends, [98.5, 100], 'after each load, and not for what comes and goes')
})

test('a process goes on with less of Node in memory, and loses nothing', () => {
  const residentFiles = (): number =>
    Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
  const before = residentFiles()
  assert.ok(releaseUnused() > 0)
  const after = residentFiles()
  assert.ok(after < before / 2, `${before} KiB before, ${after} after`)
  assert.equal(new Intl.NumberFormat('en').format(1e6), '1,000,000', 'what is wanted comes back')
})
