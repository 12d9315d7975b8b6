/**
 * Fuzz target of what the kernel reports: packets that a rule dropped. The frame around them is the
 * kernel's; the packet is a client's, and it may hold anything.
 */
import assert from 'node:assert/strict'
import { parseLogged } from '../../src/linux/nflog.ts'
import type { FuzzTarget } from './target.ts'

export const nflog: FuzzTarget = {
  corpus: 'nflog',
  run(input) {
    const results = [0, 0xff].map((fill, index) => {
      const at = index * 40
      const bytes = new Uint8Array(input.length + 120).fill(fill)
      bytes.set(input, at)
      return parseLogged(bytes, at, at + input.length)
    })
    const read = results[0]!
    assert.deepEqual(results[1], read, 'bytes outside the report matter')
    if (read === null) return
    assert.equal(read.source.length, read.family === 4 ? 4 : 16)
    assert.equal(read.destination.length, read.source.length)
    assert.ok(read.sourcePort <= 65535 && read.destinationPort <= 65535 && read.tcpFlags <= 255)
    assert.ok(read.timeMs === null || read.timeMs >= 0)
  },
}
