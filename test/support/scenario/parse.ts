/**
 * Reads scenario files (test/scenarios/*.scn): stories that a user or an RFC could tell, a line for
 * each thing that happens or holds. The first line is the sentence that is true when it passes.
 *
 *     # A wildcard rule opens the addresses in the answer, for their TTL, and nothing else.
 *     policy    team=web may reach *.example.com
 *     upstream  api.example.com A 192.0.2.10 ttl 30
 *
 *     10.0.0.7 (team=web) asks api.example.com A
 *       gets      192.0.2.10 ttl 30
 *       kernel    10.0.0.7 -> 192.0.2.10 for 30 s
 *
 * Blanks between words don't matter. `gets`, `first` and `flow` are about the question above them
 * and are indented. An unknown word is a fault that names the nearest known one.
 *
 * WHAT IS THERE, before anything happens
 *     only in process: REASON         real sockets or a real kernel can't do it, or not in 6 s
 *     not yet: REASON                 it must fail, until what it tells is built
 *     setting KEY VALUE               cache.maxTtl 60s · cache.minTtl · cache.maxNegativeTtl ·
 *                                     cache.serveStale 1h · cache.prefetch true · cache.rotate false ·
 *                                     cache.nothingBelowNxdomain true ·
 *                                     limits.queriesPerSecond · limits.grants ·
 *                                     policy.mode audit · policy.denyResponse nxdomain ·
 *                                     clients.unknown closed
 *     servers A, B [for ZONE, ZONE]   upstreams in order of preference; default: 192.0.2.53 for '.'
 *     client A[, A] (LABEL=VALUE, …)  one client with several addresses; one with one address may
 *                                     be introduced where it first asks. (unknown): not a client
 *     policy RULE                     LABEL=VALUE[, …] may reach PATTERN [on 443/tcp, 123/udp]
 *                                     LABEL=VALUE[, …] may ask PATTERN [of SERVER]
 *                                     Whoever may reach a name may ask it of the cluster's DNS,
 *                                     10.96.0.10 and 2001:db8:96::a; SERVER may be a prefix
 *     policy                          and, indented below it, a policy as YAML
 * WHAT HAPPENS
 *     upstream NAME TYPE RDATA [ttl N] [at SERVER]      default ttl 300; adds to what is there
 *     upstream NAME TYPE nothing [ttl N]                the name exists, has no such record
 *     upstream NAME NXDOMAIN [ttl N] [minimum N]        as every name that is not mentioned; the SOA
 *                                                       record's TTL and its MINIMUM
 *     upstream changes to NAME TYPE …                   instead of what was there
 *     server A answers | drops [N] | refuses | says RCODE | answers after N s | answers twice |
 *              truncates [always] | lies about id|question|case [N times] | adds RECORD |
 *              forwards to us
 *     policy changes to RULE          and RULEs of such lines that follow; or: nothing; or YAML
 *     kernel takes grants | refuses grants | is full | vanishes
 *     N s pass
 *     C[, C] asks [N times] NAME [CLASS] TYPE [of SERVER [to SERVER]] [over tcp] [edns N]
 *              [without edns] [do] [cd]
 *                                     all of them before any is answered, but of several servers
 *                                     one after the other has answered; edns 1232 by default
 *     C sends HEX … [of SERVER] [over tcp]              these bytes as a message
 * WHAT HOLDS THEN
 *     gets nothing | truncation | RCODE | no records | records | ADDRESS or CNAME target, …
 *              [ttl N] [ede N] [name NAME] [within N s], or bytes HEX …; waits for it
 *     C gets …                        about that client's last question, which need not be the last
 *     first ADDRESS, …                of several answers to it: each was the first in one of them
 *     flow VERDICT REASON             flow/reason.ts
 *     kernel C -> nothing | A, … for N s       exactly these are granted, for at least so long
 *     C connects to A:PORT[/udp] allowed|denied
 *     server A was asked NAME N times [over tcp|udp]    since the beginning
 */
import { VERDICTS } from '../../../src/flow/decode.ts'
import { REASONS, reasonOfId } from '../../../src/flow/reason.ts'
import { canonicalAddress } from '../../../src/identity/address.ts'
import { parseRecord } from '../../../src/wire/record-text.ts'
import { parseNameAsWritten, parseType, TextError } from '../../../src/wire/text.ts'
import {
  addressOf,
  labelsOf,
  readFault,
  readQuestion,
  readReply,
  readSent,
  unknown,
} from './phrases.ts'
import { policyOfRule } from './policy-text.ts'
import {
  DEFAULT_SERVER,
  type Scenario,
  type ScenarioClient,
  type ServerGroup,
  SETTING_KEYS,
  type SettingKey,
  type StepBody,
} from './scenario.ts'
import { Words } from './words.ts'

export class ScenarioError extends Error {
  override name = 'ScenarioError'
}

const DEFAULT_TTL_SECONDS = 300

/** Throws ScenarioError: 'FILE:LINE: what is wrong'. */
export function parseScenario(text: string, file: string): Scenario {
  return new Reader(text, file).read()
}

class Reader {
  readonly #file: string
  readonly #lines: readonly string[]
  #line = 0
  #onlyInProcess: string | null = null
  #notYet: string | null = null
  readonly #settings = new Map<SettingKey, string>()
  readonly #groups: ServerGroup[] = []
  readonly #clients: ScenarioClient[] = []
  readonly #policies: string[] = []
  readonly #steps: ({ line: number } & StepBody)[] = []
  /** What the line before was, for lines that go on with it. */
  #before = ''

  constructor(text: string, file: string) {
    this.#file = file
    this.#lines = text.split('\n')
  }

  read(): Scenario {
    const title = /^# (\S.*[.!?])$/.exec(this.#lines[0] ?? '')?.[1]
    if (title === undefined) this.#fault('the first line is a sentence: # What holds, and a stop.')
    for (this.#line = 1; this.#line < this.#lines.length; this.#line++) {
      const line = this.#lines[this.#line]!
      if (line.trim() === '' || line.trim().startsWith('#')) continue
      try {
        this.#statement(line)
      } catch (error) {
        if (!(error instanceof TextError)) throw error
        this.#fault(error.message)
      }
    }
    if (this.#groups.length === 0) this.#groups.push({ zones: ['.'], servers: [DEFAULT_SERVER] })
    const known = new Set(this.#clients.flatMap(({ addresses }) => addresses))
    for (const { line, clients } of this.#steps.flatMap(clientsOf)) {
      const stranger = clients.find((client) => !known.has(client))
      if (stranger === undefined) continue
      this.#line = line - 1
      this.#fault(`who is ${stranger}? Write ${stranger} (team=web), or ${stranger} (unknown)`)
    }
    return {
      file: this.#file,
      title,
      onlyInProcess: this.#onlyInProcess,
      notYet: this.#notYet,
      settings: this.#settings,
      groups: this.#groups,
      clients: this.#clients,
      policies: this.#policies,
      steps: this.#steps,
    }
  }

  #fault(message: string): never {
    throw new ScenarioError(`${this.#file}:${this.#line + 1}: ${message}`)
  }

  #statement(line: string): void {
    const words = new Words(line, (message) => this.#fault(message))
    const isIndented = /^\s/.test(line)
    const first = words.peek()
    const before = this.#before
    this.#before = ''
    if (/^[\d.]+s?$/.test(first) && canonicalAddress(first) === null) this.#pass(words)
    else if (canonicalAddress(first) !== null) this.#client(words)
    else {
      if (['gets', 'first', 'flow'].includes(first) && !isIndented) {
        this.#fault(`indent '${first}': it is about the question above`)
      }
      this.#keyword(words.take(), words, line, before)
    }
    words.end()
  }

  #keyword(word: string, words: Words, line: string, before: string): void {
    switch (word) {
      case 'only':
        words.expect('in')
        words.expect('process:')
        this.#onlyInProcess = words.rest()
        return
      case 'not':
        words.expect('yet:')
        this.#notYet = words.rest()
        return
      case 'setting':
        this.#settings.set(words.oneOf(SETTING_KEYS), words.take())
        return
      case 'servers':
        this.#servers(words)
        return
      case 'client':
        this.#introduce(words.list(addressOf), words)
        return
      case 'policy':
        this.#policy(words, line, before)
        return
      case 'upstream':
        this.#upstream(words)
        return
      case 'server':
        this.#server(words)
        return
      case 'kernel':
        this.#kernel(words)
        return
      case 'gets':
        this.#push({ kind: 'gets', client: null, expected: readReply(words) })
        return
      case 'first':
        this.#push({ kind: 'first', addresses: words.list(addressOf) })
        return
      case 'flow':
        this.#flow(words)
        return
      default:
        this.#fault(unknown(word, KEYWORDS))
    }
  }

  #push(step: StepBody): void {
    this.#steps.push({ line: this.#line + 1, ...step })
  }

  #servers(words: Words): void {
    const servers = words.list(addressOf)
    const zones = words.has('for') ? words.list((text) => text) : ['.']
    this.#groups.push({ zones, servers })
  }

  /** `(team=web, tier=front)` or `(unknown)`, if it is there. */
  #introduce(addresses: readonly string[], words: Words): void {
    if (!words.peek().startsWith('(')) return
    const text = words.bracket()
    const labels = text === 'unknown' ? null : labelsOf(text, (message) => this.#fault(message))
    for (const address of addresses) {
      if (this.#clients.some((client) => client.addresses.includes(address))) {
        this.#fault(`${address} was introduced before; leave the brackets out`)
      }
    }
    this.#clients.push({ addresses, labels })
  }

  #policy(words: Words, line: string, before: string): void {
    const isChange = words.has('changes')
    if (isChange) words.expect('to')
    const policies: string[] = []
    if (words.isAtEnd) policies.push(this.#block(line))
    else if (!isChange || !words.has('nothing')) {
      const number = this.#line + 1
      policies.push(policyOfRule(words.rest(), number, (message) => this.#fault(message)))
    }
    if (!isChange) {
      if (this.#steps.some((step) => step.kind !== 'records' && step.kind !== 'fault')) {
        this.#fault('policies that come later are written: policy changes to …')
      }
      this.#policies.push(...policies)
      return
    }
    this.#before = 'policy changes'
    const last = this.#steps.at(-1)
    if (before === this.#before && last?.kind === 'policy') {
      this.#steps.pop()
      this.#steps.push({ ...last, policies: [...last.policies, ...policies] })
    } else this.#push({ kind: 'policy', policies })
  }

  /** The lines below that are indented further than `line`, as they are. */
  #block(line: string): string {
    const indent = line.search(/\S/)
    const start = this.#line
    const block: string[] = []
    while (this.#line + 1 < this.#lines.length) {
      const next = this.#lines[this.#line + 1]!
      if (next.trim() !== '' && next.search(/\S/) <= indent) break
      block.push(next)
      this.#line++
    }
    if (block.every((text) => text.trim() === '')) {
      this.#line = start
      this.#fault('a policy is indented below it')
    }
    const depth = Math.min(
      ...block.filter((text) => text.trim() !== '').map((text) => text.search(/\S/)),
    )
    return `${block
      .map((text) => text.slice(depth))
      .join('\n')
      .trimEnd()}\n`
  }

  #upstream(words: Words): void {
    const isReplacing = words.has('changes')
    if (isReplacing) words.expect('to')
    const name = words.take()
    parseNameAsWritten(name)
    const typeText = words.take()
    const type = typeText === 'NXDOMAIN' ? typeText : typeText.toUpperCase()
    if (type !== 'NXDOMAIN') parseType(type)
    const rest: string[] = []
    while (!words.isAtEnd && !['ttl', 'minimum', 'at'].includes(words.peek())) {
      rest.push(words.take())
    }
    const ttlSeconds = words.has('ttl') ? words.integer() : DEFAULT_TTL_SECONDS
    const soaMinimum = words.has('minimum') ? words.integer() : null
    const server = words.has('at') ? addressOf(words.take(), words) : null
    const isNothing = type === 'NXDOMAIN' || (rest.length === 1 && rest[0] === 'nothing')
    const rdata = isNothing ? null : rest.join(' ')
    if (rdata !== null) parseRecord(`${name}. ${ttlSeconds} IN ${type} ${rdata}`)
    if (soaMinimum !== null && rdata !== null) words.fault('only what is denied has a minimum')
    const change = { isReplacing, server, name, ttlSeconds, soaMinimum, type, rdata }
    this.#push({ kind: 'records', change })
  }

  #server(words: Words): void {
    const server = addressOf(words.take(), words)
    if (!words.has('was')) {
      this.#push({ kind: 'fault', server, fault: readFault(words) })
      return
    }
    words.expect('asked')
    const name = words.take()
    const count = words.integer()
    words.expectOne(['times', 'time'])
    const isTcp = words.has('over') ? words.oneOf(['tcp', 'udp'] as const) === 'tcp' : null
    this.#push({ kind: 'asked', expected: { server, name, count, isTcp } })
  }

  #kernel(words: Words): void {
    const first = words.peek()
    if (canonicalAddress(first) === null) {
      const states = ['takes grants', 'refuses grants', 'is full', 'vanishes'] as const
      const text = words.rest()
      const state = states.find((known) => known === text)
      if (state === undefined) this.#fault(unknown(text, states))
      this.#push({ kind: 'kernel', state })
      return
    }
    const client = addressOf(words.take(), words)
    words.expect('->')
    if (words.has('nothing')) {
      this.#push({ kind: 'grants', expected: { client, addresses: [], seconds: 0 } })
      return
    }
    const addresses = words.list(addressOf)
    words.expect('for')
    this.#push({ kind: 'grants', expected: { client, addresses, seconds: words.ms() / 1000 } })
  }

  #flow(words: Words): void {
    const verdict = words.oneOf(VERDICTS)
    const reason = words.take()
    if (reasonOfId(reason) === null) {
      this.#fault(
        unknown(
          reason,
          REASONS.map(({ id }) => id),
        ),
      )
    }
    this.#push({ kind: 'flow', verdict, reason })
  }

  #pass(words: Words): void {
    const ms = words.ms()
    words.expectOne(['pass', 'passes'])
    this.#push({ kind: 'pass', ms })
  }

  #client(words: Words): void {
    const clients = words.list(addressOf)
    this.#introduce(clients.slice(0, 1), words)
    const client = clients[0]!
    const verb = words.take()
    switch (verb) {
      case 'asks':
      case 'ask':
        this.#push({ kind: 'ask', question: readQuestion(clients, words) })
        return
      case 'sends':
        this.#push({ kind: 'send', sent: readSent(clients, words) })
        return
      case 'gets':
        this.#push({ kind: 'gets', client, expected: readReply(words) })
        return
      case 'connects':
        this.#connects(client, words)
        return
      default:
        this.#fault(unknown(verb, ['asks', 'sends', 'gets', 'connects']))
    }
  }

  #connects(client: string, words: Words): void {
    words.expect('to')
    const text = words.take()
    const [, v6, v4, port, protocol] =
      /^(?:\[([0-9a-f:.]+)\]|([\d.]+)):(\d+)(?:\/(tcp|udp))?$/.exec(text) ?? []
    const address = canonicalAddress(v6 ?? v4 ?? '')
    if (address === null) this.#fault(`'${text}' is no ADDRESS:PORT; IPv6 stands in [brackets]`)
    this.#push({
      kind: 'connects',
      connection: {
        client,
        address,
        port: Number(port),
        protocol: protocol === 'udp' ? 'udp' : 'tcp',
        isAllowed: words.oneOf(['allowed', 'denied'] as const) === 'allowed',
      },
    })
  }
}

const KEYWORDS = [
  'only',
  'not',
  'setting',
  'servers',
  'client',
  'policy',
  'upstream',
  'server',
  'kernel',
  'gets',
  'first',
  'flow',
]

function clientsOf(step: { line: number } & StepBody): { line: number; clients: string[] }[] {
  const { line } = step
  switch (step.kind) {
    case 'ask':
      return [{ line, clients: [...step.question.clients] }]
    case 'send':
      return [{ line, clients: [...step.sent.clients] }]
    case 'gets':
      return step.client === null ? [] : [{ line, clients: [step.client] }]
    case 'grants':
      return [{ line, clients: [step.expected.client] }]
    case 'connects':
      return [{ line, clients: [step.connection.client] }]
    default:
      return []
  }
}
