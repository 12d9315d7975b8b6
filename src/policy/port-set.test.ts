import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatPorts, hasPort, normalPorts, numberPortSets } from './port-set.ts'
import type { PortRange, PortSet } from './snapshot.ts'

const range = fc
  .tuple(fc.constantFrom('tcp', 'udp', 'sctp', 'any'), fc.nat({ max: 12 }), fc.nat({ max: 3 }))
  .map(([protocol, first, more]): PortRange => ({ protocol, first, last: first + more }))
const ports = fc.array(range, { maxLength: 6 })

test('ports are joined, sorted, and any where all protocols agree', () => {
  const normal = (text: string) => {
    const parsed = text.split(' ').map((part): PortRange => {
      const [protocol, first, last] = part.split(/[/-]/)
      return {
        protocol: protocol as PortRange['protocol'],
        first: Number(first),
        last: Number(last ?? first),
      }
    })
    return formatPorts(normalPorts(parsed))
  }
  assert.equal(normal('tcp/443 tcp/80'), '80/tcp 443/tcp')
  assert.equal(normal('tcp/80-90 tcp/91-95 tcp/85'), '80-95/tcp')
  assert.equal(normal('tcp/53 udp/53 sctp/53'), '53/any')
  assert.equal(normal('any/53 tcp/53'), '53/any')
  assert.equal(normal('any/53 tcp/54'), '53/sctp 53-54/tcp 53/udp')
})

test('normal ports are the same ports, and normal already', () => {
  fc.assert(
    fc.property(ports, (all) => {
      const normal = normalPorts(all)
      for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
        for (let port = 0; port < 20; port++)
          assert.equal(hasPort(normal, protocol, port), hasPort(all, protocol, port))
      }
      assert.deepEqual(normalPorts(normal), normal)
      assert.deepEqual(normalPorts(all.toReversed()), normal)
    }),
  )
})

test('numbers are unique, stay with their content, and are not given again', () => {
  fc.assert(
    fc.property(fc.array(ports), fc.array(ports), (before, now) => {
      const contents = (lists: PortRange[][]) =>
        lists.map((list) => JSON.stringify(normalPorts(list)))
      const former = [...numberPortSets(contents(before), []).values()]
      const given = numberPortSets(contents(now), former)
      const all = [
        ...new Map(
          [...former, ...given.values()].map((set) => [JSON.stringify(set.ports), set]),
        ).values(),
      ]
      assert.equal(new Set(all.map(({ number }) => number)).size, all.length)
      assert.equal(new Set(all.map(({ id }) => id)).size, all.length)
      for (const set of former) assert.equal(given.get(JSON.stringify(set.ports)) ?? set, set)
    }),
  )
})

test('a new number is the next after the highest, and after the last the lowest free one', () => {
  const former: PortSet[] = [1, 2, 4095].map((number) => ({
    number,
    id: String(number).padStart(8, '0'),
    ports: [{ protocol: 'tcp', first: number, last: number }],
  }))
  const given = numberPortSets(['[]'], former)
  assert.equal(given.get('[]')?.number, 3)
  assert.equal(numberPortSets(['[]'], former.slice(1, 2)).get('[]')?.number, 3)
})

test('an id that is taken by another content is not given', () => {
  const [first] = [...numberPortSets(['[]'], []).values()]
  const other: PortSet = {
    number: 9,
    id: first!.id,
    ports: [{ protocol: 'tcp', first: 1, last: 1 }],
  }
  assert.notEqual(numberPortSets(['[]'], [other]).get('[]')?.id, first!.id)
})
