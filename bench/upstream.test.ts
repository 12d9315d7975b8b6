import { test } from 'node:test'
import assert from 'node:assert/strict'
import { Resolver } from 'node:dns/promises'
import { median } from './report.ts'
import { BenchUpstream, benchName } from './upstream.ts'

test('the upstream of the benchmarks has one address for each of its names, and no other name', async () => {
  await using upstream = await BenchUpstream.start()
  const resolver = new Resolver({ timeout: 2000, tries: 1 })
  resolver.setServers([`127.0.0.1:${upstream.port}`])
  assert.deepEqual(await resolver.resolve4(benchName(9999), { ttl: true }), [
    { address: '192.0.2.15', ttl: 3600 },
  ])
  await assert.rejects(resolver.resolve4('other.bench.example.com'), { code: 'ENOTFOUND' })
  assert.equal(upstream.answered, 2)
})

test('the median is the middle, or the mean of the two in the middle', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 3, 2]), 2.5)
})
