/** Which of a query's bits make it another question: its answer differs, in cache and in flight. */
import { KEY_CD, KEY_DO } from '../cache/question.ts'
import { FLAG_CD } from '../wire/header.ts'
import type { Query } from '../wire/query.ts'

export function keyFlagsOf(query: Query): number {
  return (query.isDnssecOk ? KEY_DO : 0) | ((query.flags & FLAG_CD) !== 0 ? KEY_CD : 0)
}
