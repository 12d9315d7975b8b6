import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { allocatesNothing } from '../../test/support/allocation.ts'
import {
  SPECIAL_LOCALHOST,
  SPECIAL_NO_DATA,
  SPECIAL_NO_NAME,
  SPECIAL_NONE,
  specialName,
} from './special-name.ts'
import { parseName } from './text.ts'

function kindOf(text: string): number {
  const name = new Uint8Array(300).fill(0x74)
  const wire = parseName(text)
  name.set(wire)
  return specialName(name, wire.length)
}

describe('a name that is no question for a server', () => {
  const cases: readonly (readonly [name: string, kind: number])[] = [
    ['localhost', SPECIAL_LOCALHOST],
    ['LOCALHOST', SPECIAL_LOCALHOST],
    ['db.localhost', SPECIAL_LOCALHOST],
    ['invalid', SPECIAL_NO_NAME],
    ['www.invalid', SPECIAL_NO_NAME],
    ['example.onion', SPECIAL_NO_NAME],
    ['example.alt', SPECIAL_NO_NAME],
    ['resolver.arpa', SPECIAL_NO_DATA],
    ['_dns.resolver.arpa', SPECIAL_NO_DATA],
  ]
  for (const [name, kind] of cases) test(name, () => assert.equal(kindOf(name), kind))
})

describe('a name that is one', () => {
  const names = [
    ...['.', 'st', 'alt.example.com', 'localhost.example.com', 'notlocalhost', 'salt', 'x.default'],
    ...['my\\.localhost', 'a\\009localhost', 'arpa', 'in-addr.arpa', 'myresolver.arpa', 'valid'],
    ...['home.arpa', 'www.test', 'cluster.local', 'ipv4only.arpa', 'amazon', 'onion.example.com'],
  ]
  for (const name of names) test(name, () => assert.equal(kindOf(name), SPECIAL_NONE))
})

const ordinary = parseName('www.example.com')
const special = parseName('db.localhost')
allocatesNothing('specialName allocates nothing', () => (call) => {
  const name = call % 2 === 0 ? ordinary : special
  return specialName(name, name.length)
})
