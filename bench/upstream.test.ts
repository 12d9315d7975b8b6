import { test } from 'node:test'
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { start } from '../test/support/process.ts'
import { knownName } from './names.ts'
import { findProgram } from './subjects.ts'
import { Workplace } from './workplace.ts'

const skip = findProgram('gcc') === null ? 'needs gcc' : false

test('the upstream of the benchmarks has one address for each name, and counts', {
  skip,
}, async () => {
  using workplace = new Workplace()
  const port = await freePort()
  const countFile = join(workplace.directory, 'asked')
  const words = ['127.0.0.1', String(port), countFile, '32']
  await using _upstream = await start(workplace.program('upstream'), words, { ready: 'ready' })
  const resolver = new Resolver({ timeout: 2000, tries: 1 })
  resolver.setServers([`127.0.0.1:${port}`])
  const [first] = await resolver.resolve4(knownName(9999), { ttl: true })
  assert.match(first!.address, /^192\.0\.2\.([12]?\d|3[01])$/)
  assert.equal(first!.ttl, 3600)
  assert.deepEqual(await resolver.resolve4(knownName(9999)), [first!.address])
  await assert.rejects(resolver.resolve6(knownName(9999)), { code: 'ENODATA' })
  assert.equal(readFileSync(countFile).readBigUInt64LE(), 3n)
})

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}
