/**
 * Goes through a scenario in a world. Every step that does not hold throws with its place in the
 * file, what was expected and what was there.
 */
import assert from 'node:assert/strict'
import {
  FLAG_CD,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  RCODE_NOERROR,
} from '../../../src/wire/header.ts'
import { buildMessage, type Message, parseMessage } from '../../../src/wire/message.ts'
import { formatName, formatRcode } from '../../../src/wire/text.ts'
import { addressesOf, longestTtl, targetsOf } from './reply-text.ts'
import {
  type AskedQuestion,
  CLUSTER_DNS,
  type ExpectedGrants,
  type ExpectedReply,
  type Scenario,
  type Step,
} from './scenario.ts'
import type { ClientMessage, Exchange, World } from './world.ts'

/** A flight ends after 5 s; a little more for whatever carries the reply. */
const REPLY_MS = 6000
/** What isn't answered by then isn't answered. */
const SILENCE_MS = 500

/** And ends the world. What a step says goes before what the end would say of it. */
export async function runScenario(scenario: Scenario, world: World): Promise<void> {
  try {
    await runSteps(scenario, world)
  } catch (error) {
    await world[Symbol.asyncDispose]().catch(() => {})
    throw error
  }
  await world[Symbol.asyncDispose]()
}

async function runSteps(scenario: Scenario, world: World): Promise<void> {
  const run = new Run(world)
  for (const step of scenario.steps) {
    try {
      await run.step(step)
    } catch (error) {
      if (!(error instanceof Error)) throw error
      // A new one: reporters print the stack, which has the message as it was at first.
      throw new Error(`${scenario.file}:${step.line}: ${error.message}`, { cause: error })
    }
  }
}

class Run {
  readonly #world: World
  #last: readonly Exchange[] = []
  readonly #lastOf = new Map<string, readonly Exchange[]>()
  #nextId = 0x0700

  constructor(world: World) {
    this.#world = world
  }

  async step(step: Step): Promise<void> {
    const world = this.#world
    switch (step.kind) {
      case 'records':
        return world.changeRecords(step.change)
      case 'fault':
        return world.setFault(step.server, step.fault)
      case 'policy':
        return world.setPolicies(step.policies)
      case 'kernel':
        return world.setKernel(step.state)
      case 'pass':
        return world.pass(step.ms)
      case 'ask':
        return this.#ask(step.question)
      case 'send': {
        const { clients, bytes, isTcp, server } = step.sent
        const messages = clients.map((client) => ({
          ...{ client, server: server ?? clusterDns(client), isTcp, bytes },
        }))
        return this.#send(messages)
      }
      case 'gets': {
        const exchanges = step.client === null ? this.#last : this.#lastOf.get(step.client)
        assert(exchanges !== undefined && exchanges.length > 0, 'nobody asked anything')
        for (const exchange of exchanges) await this.#gets(exchange, step.expected)
        return
      }
      case 'grants':
        return this.#grants(step.expected)
      case 'connects': {
        const { isAllowed, ...connection } = step.connection
        const isOpen = await world.canConnect(connection)
        assert.equal(isOpen ? 'allowed' : 'denied', isAllowed ? 'allowed' : 'denied')
        return
      }
      case 'first': {
        const first = new Set<string>()
        for (const exchange of this.#last) {
          const reply = await world.reply(exchange, REPLY_MS)
          assert(reply !== null, 'no reply came')
          first.add(addressesOf(parseMessage(reply.bytes)!)[0] ?? 'none')
        }
        assert.deepEqual([...first].toSorted(), step.addresses.toSorted(), 'addresses in front')
        return
      }
      case 'flow': {
        for (const exchange of this.#last) {
          const flow = await world.flow(exchange)
          assert.equal(`${flow?.verdict} ${flow?.reason}`, `${step.verdict} ${step.reason}`)
        }
        return
      }
      case 'asked': {
        const { server, name, isTcp, count } = step.expected
        assert.equal(await world.askedCount(server, name, isTcp), count, 'times asked')
      }
    }
  }

  async #ask(question: AskedQuestion): Promise<void> {
    const { servers } = question
    const exchanges: Exchange[] = []
    for (const server of servers.length === 0 ? [null] : servers) {
      await this.#send(messagesOf(question, server, () => this.#nextId++ & 0xffff))
      exchanges.push(...this.#last)
      if (servers.length <= 1) continue
      for (const exchange of this.#last) await this.#world.reply(exchange, REPLY_MS)
    }
    this.#last = exchanges
  }

  async #send(messages: readonly ClientMessage[]): Promise<void> {
    this.#last = await this.#world.send(messages)
    const clients = new Set(messages.map(({ client }) => client))
    for (const client of clients) {
      const own = this.#last.filter(({ message }) => message.client === client)
      this.#lastOf.set(client, own)
    }
  }

  async #gets(exchange: Exchange, expected: ExpectedReply): Promise<void> {
    const limitMs = expected.what === 'nothing' ? SILENCE_MS : (expected.withinMs ?? REPLY_MS)
    const reply = await this.#world.reply(exchange, limitMs)
    if (expected.what === 'nothing') {
      assert(reply === null, 'a reply came')
      return
    }
    assert(reply !== null, `no reply came within ${limitMs} ms`)
    if (expected.bytes !== null) {
      const [seen, wanted] = [reply.bytes, expected.bytes].map((bytes) =>
        Buffer.from(bytes).toString('hex'),
      )
      assert.equal(seen, wanted)
      return
    }
    const message = parseMessage(reply.bytes)
    assert(message?.isWhole, 'the reply is a whole message')
    assert.equal(message.id, (exchange.message.bytes[0]! << 8) | exchange.message.bytes[1]!, 'ID')
    assert.equal(message.flags & (FLAG_QR | FLAG_RA), FLAG_QR | FLAG_RA, 'QR and RA')
    this.#compare(message, expected)
  }

  #compare(message: Message, expected: ExpectedReply): void {
    const isTruncated = (message.flags & FLAG_TC) !== 0
    assert.equal(isTruncated, expected.what === 'truncation', 'TC')
    const rcode = expected.what === 'error' ? expected.rcode : RCODE_NOERROR
    assert.equal(formatRcode(message.rcode), formatRcode(rcode))
    if (expected.what === 'records') assert(message.answers.length > 0, 'there are no records')
    else assert.equal(addressesOf(message).length, 0, 'there are addresses')
    if (expected.what === 'no records' || isTruncated) {
      assert.equal(message.answers.length, 0, 'there are records')
    }
    if (expected.addresses !== null) {
      assert.deepEqual(addressesOf(message).toSorted(), expected.addresses.toSorted())
      assert.deepEqual(targetsOf(message), expected.targets)
    }
    if (expected.ttlSeconds !== null) {
      const ttl = longestTtl(message)
      const missing = ttl === null ? Number.NaN : expected.ttlSeconds - ttl
      const isSo = missing >= 0 && missing <= this.#world.slackSeconds
      assert(isSo, `ttl ${ttl}, not ${expected.ttlSeconds}`)
    }
    if (expected.ede !== null) assert.equal(message.edns?.ede ?? null, expected.ede, 'EDE')
    if (expected.name !== null) {
      const name = message.question === null ? '' : formatName(message.question.name)
      assert.equal(name.replace(/\.$/, ''), expected.name)
    }
  }

  async #grants({ client, addresses, seconds }: ExpectedGrants): Promise<void> {
    const grants = (await this.#world.grants()).filter((grant) => grant.client === client)
    const granted = new Set(grants.map(({ address }) => address))
    assert.deepEqual([...granted].toSorted(), addresses.toSorted(), 'addresses granted')
    for (const address of addresses) {
      const own = grants.filter((grant) => grant.address === address)
      const longest = Math.max(...own.map(({ remainingMs }) => remainingMs))
      const wanted = (seconds - this.#world.slackSeconds) * 1000
      assert(longest >= wanted, `${address} is granted for ${longest} ms, not ${wanted}`)
    }
  }
}

function messagesOf(
  question: AskedQuestion,
  chosen: string | null,
  nextId: () => number,
): ClientMessage[] {
  const { name, type, ednsBytes, isDnssecOk, isCheckingDisabled } = question
  return question.clients.flatMap((client) =>
    Array.from({ length: question.times }, (): ClientMessage => {
      const bytes = buildMessage({
        id: nextId(),
        flags: FLAG_RD | (isCheckingDisabled ? FLAG_CD : 0),
        question: `${name} ${question.class} ${type}`,
        ...(ednsBytes === null ? {} : { edns: { udpBytes: ednsBytes, isDnssecOk } }),
      })
      const server = chosen ?? clusterDns(client)
      return { client, server, isTcp: question.isTcp, bytes }
    }),
  )
}

function clusterDns(client: string): string {
  return client.includes(':') ? CLUSTER_DNS.v6 : CLUSTER_DNS.v4
}
