/**
 * All fuzz targets by name: whatever parses bytes or text from outside has one. To add one, write
 * it beside wire.ts, list it here, and put some good inputs into corpus/.
 *
 * A corpus file is hexadecimal with blanks as liked; lines that begin with # say what it is.
 */
import { canary } from './canary.ts'
import type { FuzzTarget } from './target.ts'
import { wireAnswer, wireName, wireQuery, wireText } from './wire.ts'

export const TARGETS: Readonly<Record<string, FuzzTarget>> = {
  canary,
  'wire-answer': wireAnswer,
  'wire-name': wireName,
  'wire-query': wireQuery,
  'wire-text': wireText,
}
