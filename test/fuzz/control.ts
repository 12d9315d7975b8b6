/**
 * Fuzz target of the control socket: a line that a program with access to it sent, as far as it is
 * read before a daemon's parts are asked.
 */
import assert from 'node:assert/strict'
import { ControlError, readCommand } from '../../src/observe/control.ts'
import { isMatch } from '../../src/observe/filter.ts'
import { readRequest } from '../../src/observe/observe.ts'
import { parseTarget } from '../../src/policy/explain.ts'
import { parseName, TextError } from '../../src/wire/text.ts'
import type { FuzzTarget } from './target.ts'

export const control: FuzzTarget = {
  corpus: 'control',
  words: [
    ...['{', '}', '[', ']', '"', ',', ':', 'null', 'true', '-1', '1e99', '1e-9', '"__proto__"'],
    ...['"command"', '"args"', '"names"', '"pods"', '"last"', '*', '**', '/', 'a/', '[::1]:53'],
    ...['192.0.2.1:443', ':0', ':99999', '.', '..', '\\u0000', '\\ud800', '\\u001b'],
  ],
  run(input) {
    const args = argsOf(Buffer.from(input).toString())
    if (args === null) return
    for (const value of Object.values(args)) if (typeof value === 'string') checkText(value)
    try {
      const { last, sinceMs, names } = readRequest(args)
      assert.ok(Number.isInteger(last) && last >= 0 && typeof sinceMs === 'number')
      for (const name of names) checkMatch(name)
    } catch (error) {
      if (!(error instanceof ControlError)) throw error
    }
  },
}

function argsOf(line: string): Readonly<Record<string, unknown>> | null {
  try {
    return readCommand(line).args
  } catch (error) {
    assert.ok(error instanceof ControlError)
    return null
  }
}

/** What `explain`, `cache list` and `cache clear` do with a text first. */
function checkText(text: string): void {
  const target = parseTarget(text)
  if (target !== null) {
    assert.ok((target.name === null) !== (target.address === null))
    assert.ok(target.port === null || (target.port >= 1 && target.port <= 65535))
  }
  try {
    parseName(text)
  } catch (error) {
    assert.ok(error instanceof TextError)
  }
}

/** The pattern of a filter against names, and the same by a regular expression. */
function checkMatch(pattern: string): void {
  const stars = pattern.split('*').length - 1
  if (stars > 3 || pattern.length > 60) return // the expression could take for ever
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.\\-]/g, '\\$&'))
  const expression = new RegExp(`^${parts.join('[^]*')}$`)
  for (const name of ['', 'www.example.com', 'api.example.net', pattern.replaceAll('*', 'x.y')]) {
    assert.equal(isMatch(pattern, name), expression.test(name))
  }
}
