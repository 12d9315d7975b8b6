/** What a reply gives a client, as texts to compare: addresses, targets, TTLs, hints. */
import { formatAddress } from '../../../src/identity/address.ts'
import { getU16 } from '../../../src/wire/bytes.ts'
import {
  SVCB_IPV4HINT,
  SVCB_IPV6HINT,
  TYPE_A,
  TYPE_AAAA,
  TYPE_CNAME,
  TYPE_HTTPS,
  TYPE_SVCB,
} from '../../../src/wire/header.ts'
import type { Message } from '../../../src/wire/message.ts'
import { skipName } from '../../../src/wire/name.ts'
import type { ResourceRecord } from '../../../src/wire/record-text.ts'
import { formatName } from '../../../src/wire/text.ts'

/** Of the answer section, hints included, in their order. */
export function addressesOf(message: Message): string[] {
  return message.answers.flatMap((record) => {
    if (record.type === TYPE_A) return [formatAddress(record.rdata, 0, 4)]
    if (record.type === TYPE_AAAA) return [formatAddress(record.rdata, 0, 6)]
    return hintsOf(record)
  })
}

/** Targets of CNAME records, in their order, without final dot. */
export function targetsOf(message: Message): string[] {
  return message.answers
    .filter(({ type }) => type === TYPE_CNAME)
    .map(({ rdata }) => formatName(rdata).replace(/\.$/, ''))
}

/** The longest TTL in the answer section, or of the authority's when that is empty; else null. */
export function longestTtl({ answers, authority }: Message): number | null {
  const records = answers.length > 0 ? answers : authority
  return records.length === 0 ? null : Math.max(...records.map(({ ttl }) => ttl))
}

/** Addresses in an SVCB or HTTPS record. Source: RFC 9460 §2.2, §7.3. */
export function hintsOf({ type, rdata }: ResourceRecord): string[] {
  if ((type !== TYPE_SVCB && type !== TYPE_HTTPS) || getU16(rdata, 0) === 0) return []
  const hints: string[] = []
  let at = skipName(rdata, 2, rdata.length)
  while (at < rdata.length) {
    const key = getU16(rdata, at)
    const end = at + 4 + getU16(rdata, at + 2)
    const family = key === SVCB_IPV4HINT ? 4 : key === SVCB_IPV6HINT ? 6 : null
    for (let hint = at + 4; family !== null && hint < end; hint += family === 4 ? 4 : 16) {
      hints.push(formatAddress(rdata, hint, family))
    }
    at = end
  }
  return hints
}
