import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RenderedChain } from './rules.ts'
import { type PresentTable, planTable } from './plan.ts'
import type { RenderedSet, RenderedTable } from './ruleset.ts'

function chain(name: string, ...rules: string[]): RenderedChain {
  return { name, comment: '', hook: '', rules }
}

function set(name: string, ...elements: string[]): RenderedSet {
  return { kind: 'set', name, definition: 'type mark', elements, isLive: false }
}

function live(name: string): RenderedSet {
  return { ...set(name), isLive: true }
}

function presentOf(table: RenderedTable): PresentTable {
  return {
    sets: new Map(table.sets.map(({ name, kind }) => [name, kind])),
    chains: new Set([...table.chains.map(({ name }) => name), 'about']),
  }
}

const BEFORE: RenderedTable = {
  sets: [set('fixed', 'a', 'b'), live('grants_00000001_15_v4')],
  chains: [chain('one', 'accept'), chain('two', 'drop')],
}

test('nothing is written when nothing changes', () => {
  assert.deepEqual(planTable(presentOf(BEFORE), BEFORE, BEFORE), [])
})

test('a missing table is made whole', () => {
  assert.deepEqual(planTable(null, null, BEFORE), [
    'add table inet namegate',
    'add set inet namegate fixed { type mark; }',
    'add set inet namegate grants_00000001_15_v4 { type mark; }',
    'add chain inet namegate one',
    'add chain inet namegate two',
    'add element inet namegate fixed { a, b }',
    'add rule inet namegate one accept',
    'add rule inet namegate two drop',
  ])
})

test('only what differs is written, and old things go last', () => {
  const after: RenderedTable = {
    sets: [set('fixed', 'b', 'c'), live('grants_00000002_15_v4')],
    chains: [chain('one', 'accept'), chain('three', 'return')],
  }
  assert.deepEqual(planTable(presentOf(BEFORE), BEFORE, after), [
    'add set inet namegate grants_00000002_15_v4 { type mark; }',
    'add chain inet namegate three',
    'delete element inet namegate fixed { a }',
    'flush chain inet namegate two',
    'flush set inet namegate grants_00000001_15_v4',
    'add element inet namegate fixed { c }',
    'add rule inet namegate three return',
    'delete chain inet namegate two',
    'delete set inet namegate grants_00000001_15_v4',
  ])
})

test('what is not known for certain is filled again, but a set of grants is never touched', () => {
  const plan = planTable(presentOf(BEFORE), null, BEFORE)
  assert.deepEqual(plan, [
    'flush set inet namegate fixed',
    'flush chain inet namegate one',
    'flush chain inet namegate two',
    'add element inet namegate fixed { a, b }',
    'add rule inet namegate one accept',
    'add rule inet namegate two drop',
  ])
})
