/**
 * The first two promises as a check on every reply that leaves: what it opens by the client's rules
 * is open in the kernel for as long as the reply may be used, and nothing is open without a rule.
 * Told from the snapshot and the message by plain comparison, with nothing of the code it judges.
 */
import assert from 'node:assert/strict'
import type { GrantEntry } from '../../../src/datapath/driver.ts'
import { formatAddress } from '../../../src/identity/address.ts'
import type { NamePattern, Snapshot, Subject } from '../../../src/policy/snapshot.ts'
import {
  CLASS_IN,
  FLAG_TC,
  OPCODE_MASK,
  RCODE_NOERROR,
  TYPE_A,
  TYPE_AAAA,
} from '../../../src/wire/header.ts'
import { type Message, parseMessage } from '../../../src/wire/message.ts'
import type { ResourceRecord } from '../../../src/wire/record-text.ts'
import { formatName } from '../../../src/wire/text.ts'
import { hintsOf } from './reply-text.ts'

/** An address that a message gives for the name that was asked, and for how long. */
export interface GivenAddress {
  readonly address: string
  readonly ttlSeconds: number
}

/**
 * Throws when the reply must not have left.
 * @param grants  in force when it did
 */
export function checkPromise(
  snapshot: Snapshot,
  grants: readonly GrantEntry[],
  client: string,
  bytes: Uint8Array,
): void {
  const message = parseMessage(bytes)
  // What is relayed is no answer, and what it says is between client and server.
  if (message !== null && (message.flags & OPCODE_MASK) !== 0) return
  assert(message?.isWhole, 'what leaves is a whole message')
  const entry = snapshot.clients.find(({ addresses }) => addresses.includes(client))
  if (entry === undefined || entry.subject < 0 || message.question === null) return
  const portSets = openedBy(snapshot.subjects[entry.subject]!, formatName(message.question.name))
  if (portSets.size === 0) return
  for (const { address, ttlSeconds } of givenAddresses(message)) {
    for (const own of entry.addresses.filter((text) => isSameFamily(text, address))) {
      for (const number of portSets) {
        const { id } = snapshot.portSets.find((portSet) => portSet.number === number)!
        const remainingMs = Math.max(
          0,
          ...grants
            .filter((one) => one.client === own && one.address === address && one.portSet === id)
            .map((grant) => grant.remainingMs),
        )
        assert(
          remainingMs >= Math.max(ttlSeconds * 1000, 1),
          `${client} was given ${address} for ${ttlSeconds} s and can connect for ${remainingMs} ms`,
        )
      }
    }
  }
}

/** Numbers of the port sets that a subject's rules open at the addresses of a name. */
export function openedBy(subject: Subject, name: string): Set<number> {
  return new Set(
    subject.names.filter(({ pattern }) => isMeant(pattern, name)).map(({ portSet }) => portSet),
  )
}

/** Along CNAME records from the question, and at their end. */
export function givenAddresses(message: Message): GivenAddress[] {
  const { question, answers, rcode, flags } = message
  if (question === null || rcode !== RCODE_NOERROR || (flags & FLAG_TC) !== 0) return []
  const names = new Set<string>()
  let name = fold(question.name)
  let alias: ResourceRecord | undefined
  do {
    names.add(name)
    alias = answers.find((one) => one.type === 5 && fold(one.name) === name)
    if (alias !== undefined) name = fold(alias.rdata)
  } while (alias !== undefined && !names.has(name))
  return answers
    .filter((record) => fold(record.name) === name && record.class === CLASS_IN)
    .flatMap((record) => {
      const { type, rdata, ttl } = record
      if (type === TYPE_A) return [{ address: formatAddress(rdata, 0, 4), ttlSeconds: ttl }]
      if (type === TYPE_AAAA) return [{ address: formatAddress(rdata, 0, 6), ttlSeconds: ttl }]
      return hintsOf(record).map((address) => ({ address, ttlSeconds: ttl }))
    })
}

/** Patterns of scenarios: a name, `*.` or `**.` before one, or `*`. */
function isMeant({ kind, text }: NamePattern, name: string): boolean {
  const labels = name.toLowerCase().replace(/\.$/, '').split('.')
  if (kind === 'name') return labels.join('.') === text
  if (text === '*') return true
  const [first, ...rest] = text.split('.')
  assert(first === '*' || first === '**', `a pattern of another form: ${text}`)
  const behind = labels.slice(first === '*' ? 1 : -rest.length)
  const isLonger = first === '*' ? labels.length === rest.length + 1 : labels.length > rest.length
  return isLonger && behind.join('.') === rest.join('.')
}

function fold(name: Uint8Array): string {
  return formatName(name).toLowerCase()
}

function isSameFamily(a: string, b: string): boolean {
  return a.includes(':') === b.includes(':')
}
