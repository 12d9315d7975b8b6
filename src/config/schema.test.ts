import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OPTIONS, UNBUILT } from './options.ts'
import { configReference, configSchema, type Schema } from './schema.ts'
import { formatDuration, formatSize } from './values.ts'

test('the reference names every key that is built, and says of the others that they are not', () => {
  const reference = configReference()
  for (const option of OPTIONS) {
    const isUnbuilt = UNBUILT.some((entry) => !entry.value && option.key.startsWith(entry.key))
    assert.equal(reference.includes(`### \`${option.key}\``), !isUnbuilt, option.key)
  }
  for (const entry of UNBUILT) assert.ok(reference.includes(`- \`${entry.key}\``), entry.key)
  assert.ok(reference.includes('list: IP address; 1 to 64\n- required'))
  assert.ok(
    reference.includes('whole number with KiB, MiB or GiB; 1MiB to 1GiB\n- default: `32MiB`'),
  )
})

test('the schema allows no unknown key, and requires what has no default', () => {
  const schema = configSchema()
  assert.deepEqual(schema['required'], ['listen', 'upstreams'])
  assert.equal(schema['additionalProperties'], false)
  const properties = schema['properties'] as Record<string, Schema>
  assert.deepEqual(Object.keys(properties), [
    'node',
    'state',
    'run',
    'listen',
    'intercept',
    'upstreams',
    'cache',
    'limits',
    'policy',
    'clients',
  ])
  assert.deepEqual(properties['policy']!['required'], ['directory'])
  const upstream = properties['upstreams']!['items'] as Schema
  assert.deepEqual(upstream['required'], ['zones', 'servers'])
  const transport = (upstream['properties'] as Record<string, Schema>)['transport']!
  assert.deepEqual(transport['enum'], ['udp', 'tcp', 'tls'])
})

test('sizes and durations are written with the largest unit that says them exactly', () => {
  assert.deepEqual([0, 1024, 1 << 25, 1500].map(formatSize), ['0B', '1KiB', '32MiB', '1500B'])
  assert.deepEqual([0, 30, 90, 3600, 86400].map(formatDuration), ['0s', '30s', '90s', '1h', '1d'])
})

test('every option has a sentence of its own and, where it has a choice, its words', () => {
  for (const option of OPTIONS) {
    assert.match(option.why, /^.+[.)]$/, option.key)
    assert.equal(option.kind === 'choice', option.values !== undefined, option.key)
  }
})
