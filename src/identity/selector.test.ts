import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  isImplied,
  isSelected,
  NAMESPACE_KEY,
  NAMESPACE_LABELS_PREFIX,
  type Requirement,
  viewLabels,
} from './selector.ts'

const NAMESPACES = new Map([['team-a', { name: 'team-a', labels: { tier: 'gold' } }]])
const view = viewLabels({ namespace: 'team-a', labels: { app: 'web' } }, NAMESPACES)

function selects(...requirements: Requirement[]): boolean {
  return isSelected({ requirements }, view)
}

test('each operator holds as in Kubernetes', () => {
  assert.ok(selects())
  assert.ok(selects({ key: 'app', operator: 'in', values: ['db', 'web'] }))
  assert.ok(!selects({ key: 'app', operator: 'in', values: [] }))
  assert.ok(!selects({ key: 'none', operator: 'in', values: ['web'] }))
  assert.ok(!selects({ key: 'app', operator: 'notIn', values: ['web'] }))
  assert.ok(selects({ key: 'none', operator: 'notIn', values: ['web'] }))
  assert.ok(selects({ key: 'app', operator: 'exists', values: [] }))
  assert.ok(!selects({ key: 'none', operator: 'exists', values: [] }))
  assert.ok(selects({ key: 'none', operator: 'doesNotExist', values: [] }))
  assert.ok(
    !selects(
      { key: 'app', operator: 'exists', values: [] },
      { key: 'app', operator: 'doesNotExist', values: [] },
    ),
  )
})

test('a client cannot choose its namespace or the labels of its namespace', () => {
  const labels = { [NAMESPACE_KEY]: 'kube-system', [`${NAMESPACE_LABELS_PREFIX}tier`]: 'platinum' }
  const liar = viewLabels({ namespace: 'team-a', labels }, NAMESPACES)
  assert.equal(liar.get(NAMESPACE_KEY), 'team-a')
  assert.equal(liar.get(`${NAMESPACE_LABELS_PREFIX}tier`), 'gold')
  const nobody = viewLabels({ namespace: 'other', labels }, NAMESPACES)
  assert.equal(nobody.has(`${NAMESPACE_LABELS_PREFIX}tier`), false)
})

test('labels imply a selector only when no further label can break it', () => {
  const implies = (...requirements: Requirement[]) => isImplied({ requirements }, view)
  assert.ok(implies({ key: 'app', operator: 'in', values: ['web'] }))
  assert.ok(implies({ key: 'app', operator: 'notIn', values: ['db'] }))
  assert.ok(!implies({ key: 'app', operator: 'notIn', values: ['web'] }))
  assert.ok(!implies({ key: 'none', operator: 'notIn', values: ['web'] }))
  assert.ok(!implies({ key: 'none', operator: 'doesNotExist', values: [] }))
  assert.ok(!implies({ key: 'none', operator: 'exists', values: [] }))
})
