import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { allocatesNothing } from '../../test/support/allocation.ts'
import {
  canonicalPattern,
  compilePattern,
  FORM_NEVER,
  matchesPattern,
  type PatternUse,
  patternFault,
  ROOT_PATTERN,
  wireName,
} from './pattern.ts'
import { ScannedName } from './scanned-name.ts'
import type { NamePattern } from './snapshot.ts'

/** Cilium's own translation, as its documentation and v1.19.4 describe it: the oracle. */
function ciliumRegex(pattern: string, use: PatternUse): RegExp {
  const allowed = '[-a-zA-Z0-9_]'
  if (/^\*+\.?$/.test(pattern)) {
    return use === 'question' ? /(?:)/ : new RegExp(`^((${allowed}+[.])+|[.])$`)
  }
  const whole = (pattern.endsWith('.') ? pattern : `${pattern}.`).toLowerCase()
  const deep = /^\*\*+\./.exec(whole)
  const rest = whole.slice(deep === null ? 0 : deep[0].length)
  const escaped = rest.replaceAll('.', '[.]').replace(/\*+/g, `${allowed}*`)
  const prefix = deep === null ? '' : `(${allowed}+[.])+`
  return new RegExp(`^(${prefix}${escaped})$`)
}

/** Wire form of a name in text, each dot the end of a label; null when a label is empty. */
function toWire(text: string): Uint8Array | null {
  const labels = text === '.' ? [] : text.replace(/\.$/, '').split('.')
  if (labels.includes('')) return null
  return Uint8Array.from([
    ...labels.flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]),
    0,
  ])
}

function matches(pattern: NamePattern, use: PatternUse, name: Uint8Array): boolean {
  const scanned = new ScannedName()
  // Not at the beginning of its array, and not the last thing in it: as in a packet.
  const packet = Uint8Array.from([9, 9, ...name, 9, 9])
  assert.ok(scanned.scan(packet, 2, name.length), 'the name is whole')
  return matchesPattern(compilePattern(pattern), use, scanned)
}

/** [pattern, name, toFQDNs, rules.dns]; rows of Cilium's tests, documentation and translation. */
const VECTORS: readonly (readonly [string, string, boolean, boolean])[] = [
  ['cilium.io', 'cilium.io.', true, true],
  ['cilium.io', 'anysub.cilium.io.', false, false],
  ['cilium.io', 'ciliumXio.', false, false],
  ['CILIUM.io', 'cilium.io.', true, true],
  ['cilium.io.', 'CiLiUm.Io.', true, true],
  ['*.cilium.io', 'anysub.cilium.io.', true, true],
  ['*.cilium.io', 'cilium.io.', false, false],
  ['*.cilium.io', 'a.b.cilium.io.', false, false],
  ['*.cilium.io', 'anysub.ci.io.', false, false],
  ['*.cilium.io', 'anysub.ciliumandmore.io.', false, false],
  ['*.cilium.io', '_tcp.cilium.io.', true, true],
  ['*.cilium.io', '.cilium.io.', true, true],
  ['*cilium.io', 'cilium.io.', true, true],
  ['*cilium.io', 'subcilium.io.', true, true],
  ['*cilium.io', 'sub-cilium.io.', true, true],
  ['*cilium.io', 'www.cilium.io.', false, false],
  ['sub*.cilium.io', 'sub.cilium.io.', true, true],
  ['sub*.cilium.io', 'subdomain.cilium.io.', true, true],
  ['sub*.cilium.io', 'blog.cilium.io.', false, false],
  ['sub*.cilium.io', 'sub.x.cilium.io.', false, false],
  ['*.ci*.io', 'anysub.ci.io.', true, true],
  ['*.ci*.io', 'anysub.ciliumandmore.io.', true, true],
  ['*.ci*.io', 'cilium.io.', false, false],
  ['*.ci*.io', 'service.namesace.svc.cluster.local.', false, false],
  ['**.cilium.io', 'anysub.cilium.io.', true, true],
  ['**.cilium.io', 'sub11.sub22.sub33._foobar._tcp.cilium.io.', true, true],
  ['**.cilium.io', 'cilium.io.', false, false],
  // Without its final dot the text is no canonical name; on the wire there is no such difference.
  ['**.cilium.io', 'sub.cilium.io', false, true],
  ['**.cilium.io', 'a..cilium.io.', false, false],
  ['***.cilium.io', 'a.b.cilium.io.', true, true],
  ['**cilium.io', 'a.cilium.io.', false, false],
  ['**cilium.io', 'acilium.io.', true, true],
  ['1.**.cilium.io', '1.a.cilium.io.', true, true],
  ['1.**.cilium.io', '1.a.b.cilium.io.', false, false],
  ['**.ci*.io', '1.anysub.ciliumandmore.io.', true, true],
  ['**.ci*.io', 'cilium.io.', false, false],
  ['**.*.io', 'anysub.cilium.io.', true, true],
  ['**.*.io', 'cilium.io.', false, false],
  ['*.*.cilium.io', '_foobar._tcp.cilium.io.', true, true],
  ['*.*.cilium.io', 'a.cilium.io.', false, false],
  ['_foobar._tcp.cilium.io', '_foobar._tcp.cilium.io.', true, true],
  ['_foobar._tcp.cilium.io', '_tcp.cilium.io.', false, false],
  ['*', '.', true, true],
  ['*', 'io.', true, true],
  ['*', 'cilium.io.', true, true],
  ['*', 'svc.cluster.local.', true, true],
  ['*', '.io.', false, true],
  ['*', 'a..b.', false, true],
  ['*', 'x/y.z.', false, true],
  ['**', 'a.b.', true, true],
  ['**.', 'a.b.', true, true],
  ['*.', 'a.b.', true, true],
  ['*.com', 'a.example.com.', false, false],
  ['example.*', 'example.com.', true, true],
  ['example.*', 'test.example.com.', false, false],
  ['example.*', 'example.co.uk.', false, false],
  ['s3.*.amazonaws.com', 's3.eu-west-1.amazonaws.com.', true, true],
  ['xn--*.de', 'xn--mnchen-3ya.de.', true, true],
]

for (const [pattern, name, grant, question] of VECTORS) {
  test(`${pattern}: ${grant ? 'opens' : 'does not open'} ${name} and ${question ? 'lets' : 'does not let'} it be asked`, () => {
    const lower = name.toLowerCase()
    assert.equal(ciliumRegex(pattern, 'grant').test(lower), grant, 'as Cilium, toFQDNs')
    // Cilium completes a question's name before it compares.
    const whole = lower.endsWith('.') ? lower : `${lower}.`
    assert.equal(ciliumRegex(pattern, 'question').test(whole), question, 'as Cilium, rules.dns')
    const wire = toWire(lower)
    if (wire === null) return // a wire name has no empty label: nothing can be asked that way
    const canonical = canonicalPattern('pattern', pattern)
    const isRaw = !name.endsWith('.')
    assert.equal(matches(canonical, 'grant', wire), isRaw ? question : grant)
    assert.equal(matches(canonical, 'question', wire), question)
  })
}

test('the root as a name: opens the root and nothing else', () => {
  for (const use of ['grant', 'question'] as const) {
    assert.equal(matches(ROOT_PATTERN, use, toWire('.')!), true)
    assert.equal(matches(ROOT_PATTERN, use, toWire('x.')!), false)
  }
})

const CANONICAL: readonly (readonly [string, string])[] = [
  ['*', '*'],
  ['*.', '*'],
  ['*.com', '*.com'],
  ['Cilium.IO', 'cilium.io'],
  ['cilium.io.', 'cilium.io'],
  ['.', '.'],
]

test('a pattern is kept in lower case and without its final dot', () => {
  for (const [written, kept] of CANONICAL) {
    assert.equal(canonicalPattern('pattern', written).text, kept)
  }
})

test('a label with a dot in it is not two labels', () => {
  const dotted = Uint8Array.from([8, ...Buffer.from('a.cilium'), 2, ...Buffer.from('io'), 0])
  for (const text of [
    'a.cilium.io',
    '*.cilium.io',
    '**.cilium.io',
    '*.io',
    '**.io',
    '*cilium.io',
    '*',
  ]) {
    assert.equal(matches(canonicalPattern('pattern', text), 'grant', dotted), false, text)
    assert.equal(matches(canonicalPattern('pattern', text), 'question', dotted), text === '*', text)
  }
})

test('a zero byte, a star or an upper-case letter inside a label matches no pattern', () => {
  for (const odd of ['exam\0ple', 'exam*ple', 'Example', 'ex\xe4mple']) {
    const name = toWire(`${odd}.com.`)!
    for (const text of ['*.com', '**.com', 'ex*.com', '*', 'exam*ple.com', 'example.com']) {
      assert.equal(matches(canonicalPattern('pattern', text), 'grant', name), false, text)
    }
  }
})

test('what is no whole name is not scanned', () => {
  const scanned = new ScannedName()
  const reject = (bytes: number[], length = bytes.length) =>
    assert.equal(scanned.scan(Uint8Array.from(bytes), 0, length), false)
  reject([])
  reject([1])
  reject([1, 97])
  reject([3, 97, 0])
  reject([0, 0])
  reject([1, 97, 0, 0])
  reject([0xc0, 12])
  reject([64, ...new Array<number>(64).fill(97), 0])
  reject([1, 97, 0], 4)
  reject(new Array<number>(300).fill(0), 300)
  assert.equal(scanned.scan(Uint8Array.from([1, 97, 0]), 0, 3), true)
  const longest = [...new Array(127).keys()].flatMap(() => [1, 97])
  assert.equal(scanned.scan(Uint8Array.from([...longest, 0]), 0, 255), true)
  assert.equal(scanned.labelCount, 127)
})

const FAULTS: readonly (readonly [NamePattern['kind'], string, string])[] = [
  ['name', '', 'matchName is empty; write a name'],
  ['name', '*.example.com', `'*' has no meaning in matchName; write matchPattern: "*.example.com"`],
  [
    'name',
    'bücher.example.com',
    `invalid character "ü" in matchName; allowed are letters, digits, '-', '_', '.'; write an international name in its xn-- form`,
  ],
  ['name', 'a b', `invalid character " " in matchName; allowed are letters, digits, '-', '_', '.'`],
  [
    'pattern',
    'a/b',
    `invalid character "/" in matchPattern; allowed are letters, digits, '-', '_', '.' and '*'`,
  ],
  [
    'pattern',
    '.',
    "matchPattern '.' has an empty label; a name neither begins with a dot nor has two together",
  ],
  [
    'pattern',
    '.example.com',
    "matchPattern '.example.com' has an empty label; a name neither begins with a dot nor has two together",
  ],
  [
    'name',
    'a..b',
    "matchName 'a..b' has an empty label; a name neither begins with a dot nor has two together",
  ],
  ['pattern', 'a'.repeat(256), 'matchPattern has 256 characters; at most 255 are allowed'],
]

test('a pattern that Cilium would refuse is refused with the reason', () => {
  for (const [kind, text, fault] of FAULTS) assert.equal(patternFault(kind, text), fault)
  for (const text of ['example.com', 'a.', 'A-B_c.9', 'xn--bcher-kva.example']) {
    assert.equal(patternFault('name', text), null)
    assert.equal(patternFault('pattern', `*.${text}`), null)
  }
})

test('a name that is too long for the wire is never matched', () => {
  assert.equal(compilePattern(canonicalPattern('name', 'a'.repeat(64))).form, FORM_NEVER)
  assert.equal(compilePattern(canonicalPattern('name', 'a.'.repeat(127))).form !== FORM_NEVER, true)
  assert.equal(compilePattern(canonicalPattern('name', `${'ab.'.repeat(84)}abc`)).form, FORM_NEVER)
  assert.equal(wireName('a'.repeat(64)), null)
  assert.equal(wireName('*.example.com'), null)
  assert.deepEqual(wireName('.'), Uint8Array.from([0]))
})

/** Few letters, so that patterns and names meet; `!` is a byte that no pattern has. */
const patternText = fc
  .array(fc.stringMatching(/^[ab*]{1,4}$/), { minLength: 1, maxLength: 4 })
  .map((labels) => labels.join('.'))
const nameText = fc
  .array(fc.stringMatching(/^[ab!]{1,4}$/), { minLength: 0, maxLength: 4 })
  .map((labels) => `${labels.join('.')}.`)

test("every pattern means what Cilium's regular expression for it means", () => {
  fc.assert(
    fc.property(patternText, nameText, (pattern, name) => {
      for (const use of ['grant', 'question'] as const) {
        const expected = ciliumRegex(pattern, use).test(name)
        assert.equal(matches(canonicalPattern('pattern', pattern), use, toWire(name)!), expected)
      }
    }),
    { numRuns: 5000 },
  )
})

allocatesNothing('scanning a name and comparing it with a pattern allocates nothing', () => {
  const name = toWire('some-where.images.example.com.')!
  const scanned = new ScannedName()
  const patterns = ['*.images.ex*.com', '**.example.com', '*.example.com', '*'].map((text) =>
    compilePattern(canonicalPattern('pattern', text)),
  )
  return (call) => {
    scanned.scan(name, 0, name.length)
    return matchesPattern(patterns[call & 3]!, 'grant', scanned)
  }
})
