/**
 * The world of real daemons: `namegate agent` in a node's namespace, with real sockets and nft;
 * clients in pods, upstream servers on the other side of the node (stage.ts). Each scenario gets a
 * daemon of its own, an empty kernel, and files as an operator would write them; time passes as it
 * does.
 *
 * The agent is alone: with a proxy beside it a question goes to whoever is free, and how often an
 * upstream is asked would be chance. What the two do for each other is test/e2e's matter.
 *
 * As in process, every reply that arrives is held against the first promise (promise.ts), here with
 * the policy that the daemon wrote to disk and the grants that nft lists.
 */
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { askOne } from '../../../src/ctl/client.ts'
import { parseGrantSetName, TABLE } from '../../../src/datapath/nftables/names.ts'
import type { GrantEntry } from '../../../src/datapath/driver.ts'
import type { QuestionFlow } from '../../../src/flow/decode.ts'
import { compileMarks } from '../../../src/grant/ruleset.ts'
import type { FlowRow } from '../../../src/observe/flow-row.ts'
import type { GrantRow } from '../../../src/observe/rows.ts'
import type { StatusReport } from '../../../src/observe/status.ts'
import type { Snapshot } from '../../../src/policy/snapshot.ts'
import { parseMessage } from '../../../src/wire/message.ts'
import { type RunningProcess, sleep, until } from '../process.ts'
import type { Somebody } from './internet-program.ts'
import type { Outcome, Received, Sent, SentMessage, Tried } from './pod-program.ts'
import { clientsFile } from './policy-text.ts'
import { checkPromise, givenAddresses } from './promise.ts'
import {
  CLUSTER_DNS,
  type KernelState,
  type RecordChange,
  type Scenario,
  type ScenarioClient,
  type ServerFault,
  serversOf,
} from './scenario.ts'
import type { Stage } from './stage.ts'
import type { ClientMessage, Connection, Exchange, GrantInForce, Reply, World } from './world.ts'

const NAMEGATE = join(import.meta.dirname, '..', '..', '..', 'namegate')
/** Processes get their turn on a busy machine. */
const LATE_MS = 150
/** A SYN that was dropped is sent again only after a second. */
const CONNECT_MS = 300
/** Grants are taken back after the rules have changed, when the proxy, if there is one, agrees. */
const REVOKE_MS = 500
const FLOW_MS = 1000
const FLOWS_MAX = 1000
/** Somebody else's table on the node, for kernels that don't take grants. */
const STRANGER = 'stranger'
const MARK = { value: 0x4e470000, mask: 0xffff0000 }
/** Destination ports of packets that write grants; below are others of ours (nftables/names.ts). */
const GRANT_PORTS = '16-65535'

interface OwnExchange extends Exchange {
  readonly port: number
  readonly reply: Promise<Reply | null>
  /** Rejects when what came breaks the first promise. */
  readonly judged: Promise<void>
}

export class InNamespacesWorld implements World {
  /** While we look, programs start and connections are waited for. */
  readonly slackSeconds = 2
  readonly #stage: Stage
  readonly #scenario: Scenario
  /** What an operator would have in /etc, /run and /var. */
  readonly #files: string
  readonly #exchanges: OwnExchange[] = []
  #agent!: RunningProcess
  #revision = 0
  #policyChanges = 0

  /** The stage is this scenario's alone until the world is disposed of. */
  static async begin(stage: Stage, scenario: Scenario): Promise<InNamespacesWorld> {
    const world = new InNamespacesWorld(stage, scenario)
    try {
      await world.#begin()
      return world
    } catch (error) {
      await world.#end()
      throw error
    }
  }

  private constructor(stage: Stage, scenario: Scenario) {
    this.#stage = stage
    this.#scenario = scenario
    this.#files = join(stage.directory, 'files')
  }

  async changeRecords(change: RecordChange): Promise<void> {
    await this.#stage.internet.call('records', change)
  }

  async setFault(server: string, fault: ServerFault): Promise<void> {
    await this.#stage.internet.call('fault', { server, fault })
  }

  /** With SIGHUP: by itself the daemon looks at its files once a second. */
  async setPolicies(policies: readonly string[]): Promise<void> {
    const begin = this.#agent.stderr.length
    const said = (): string => this.#agent.stderr.slice(begin)
    const hasGrants = (await this.grants()).length > 0
    this.#writePolicies(policies)
    this.#agent.kill('SIGHUP')
    const revision = (): number => Number(lineOf(said(), 'policy applied')?.['revision'] ?? 0)
    await until('the policy is applied', () => revision() > this.#revision)
    this.#revision = revision()
    // When no grant is to be taken back, nothing says so.
    const endMs = performance.now() + REVOKE_MS
    const isRevoked = (): boolean => lineOf(said(), 'grants revoked') !== undefined
    if (hasGrants)
      await until('the grants are looked through', () => isRevoked() || performance.now() > endMs)
  }

  async setKernel(state: KernelState): Promise<void> {
    assert(state !== 'vanishes', 'only in process')
    this.#removeTables(STRANGER)
    if (state === 'takes grants') return
    const held = state === 'is full' ? await this.#kernelGrants() : []
    const pairs = held
      .filter(({ client }) => !client.includes(':'))
      .map(({ client, address }) => `${client} . ${address}`)
    const { mask, write } = compileMarks(MARK)
    this.#stage.node.execWithInput(
      `table inet ${STRANGER} {
        set held {
          type ipv4_addr . ipv4_addr
          ${pairs.length === 0 ? '' : `elements = { ${[...new Set(pairs)].join(', ')} }`}
        }
        chain output {
          type filter hook output priority raw - 10;
          ip saddr . ip daddr @held accept
          meta mark & ${mask} == ${write} udp dport ${GRANT_PORTS} drop
        }
      }`,
      'nft',
      '-f',
      '-',
    )
  }

  async pass(ms: number): Promise<void> {
    await sleep(ms)
  }

  async send(messages: readonly ClientMessage[]): Promise<Exchange[]> {
    const clients = [...new Set(messages.map(({ client }) => client))]
    const exchanges = await Promise.all(
      clients.map(async (client) => {
        const own = messages.filter((message) => message.client === client)
        const sent = await this.#stage.podOf(client).call<Sent[]>('send', {
          messages: own.map(
            ({ bytes, ...rest }): SentMessage => ({
              ...rest,
              hex: Buffer.from(bytes).toString('hex'),
            }),
          ),
        })
        return sent.map(({ id, port }, index): OwnExchange => {
          const message = own[index]!
          const reply = this.#receive(client, id)
          const judged = reply.then((one) => this.#judge(client, one))
          judged.catch(() => {}) // a scenario that does not wait for it hears of it at its end
          return { message, port, reply, judged }
        })
      }),
    )
    this.#exchanges.push(...exchanges.flat())
    return exchanges.flat()
  }

  async reply(exchange: Exchange, limitMs: number): Promise<Reply | null> {
    const { reply, judged } = exchange as OwnExchange
    const timer = sleep(limitMs + LATE_MS).then(() => null)
    const first = await Promise.race([reply, timer])
    if (first === null || first.afterMs > limitMs + LATE_MS) return null
    await judged
    return first
  }

  async flow(exchange: Exchange): Promise<QuestionFlow | null> {
    const { message, port } = exchange as OwnExchange
    let found: QuestionFlow[] = []
    const look = async (): Promise<boolean> => {
      const rows = await this.#ask<FlowRow>('observe', { last: FLOWS_MAX })
      found = rows.flatMap(({ flow }) => {
        const isIt = flow.source.address === message.client && flow.source.port === port
        return flow.type === 'question' && isIt ? [flow] : []
      })
      return found.length > 0
    }
    await until('its flow is recorded', look, FLOW_MS).catch(() => {})
    assert(found.length <= 1, 'a query ends in exactly one flow')
    return found[0] ?? null
  }

  /** As `namegate grants list` has them. */
  async grants(): Promise<GrantInForce[]> {
    const rows = await this.#ask<GrantRow>('grants-list', {})
    return rows.map(({ clientAddress, address, remainingSeconds }) => ({
      client: clientAddress,
      address,
      remainingMs: remainingSeconds * 1000,
    }))
  }

  async canConnect(connection: Connection): Promise<boolean> {
    const { client, address, protocol, port } = connection
    const somebody: Somebody = { protocol, address, port }
    await this.#stage.internet.call('listen', somebody)
    const tried: Tried = { ...connection, limitMs: CONNECT_MS }
    const outcome = await this.#stage.podOf(client).call<Outcome>('connect', tried)
    return outcome === 'open'
  }

  askedCount(server: string, name: string, isTcp: boolean | null): Promise<number> {
    return this.#stage.internet.call('asked', { server, name, isTcp })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#check()
    } finally {
      await this.#end()
    }
  }

  async #begin(): Promise<void> {
    const { clients, policies } = this.#scenario
    this.#stage.cast(clients)
    await this.#replyCounts() // a scenario that failed may have left some
    await this.#stage.internet.call('begin', { servers: serversOf(this.#scenario) })
    mkdirSync(this.#files)
    const configuration = join(this.#files, 'namegate.yaml')
    writeFileSync(configuration, this.#configuration())
    const interfaceOf = (client: ScenarioClient): string =>
      this.#stage.interfaceOf(clients.indexOf(client))
    writeFileSync(join(this.#files, 'clients.yaml'), clientsFile(clients, interfaceOf))
    this.#writePolicies(policies)
    const words = ['agent', '-c', configuration]
    this.#agent = await this.#stage.node.start(NAMEGATE, words, { ready: '"serving"' })
    await until('it serves', () => lineOf(this.#agent.stderr, 'serving') !== undefined)
    this.#revision = Number(lineOf(this.#agent.stderr, 'serving')!['revision'])
  }

  /** namegate.yaml; JSON is YAML. */
  #configuration(): string {
    const { groups, settings } = this.#scenario
    const configuration: Record<string, unknown> = {
      node: 'worker-1',
      state: 'state',
      run: 'run',
      listen: { addresses: ['169.254.20.10'] },
      intercept: {
        interfaces: ['veth*'],
        mark: `${MARK.value}/${MARK.mask}`,
        servers: Object.values(CLUSTER_DNS),
      },
      upstreams: groups,
      cache: { size: '8MiB' },
      policy: { directory: 'policies' },
      clients: { file: 'clients.yaml' },
    }
    for (const [key, value] of settings) {
      const [mapping = '', name = ''] = key.split('.')
      configuration[mapping] = { ...(configuration[mapping] as object), [name]: value }
    }
    return JSON.stringify(configuration, null, 2)
  }

  /** All at once, like a mounted ConfigMap: nobody sees some old and some new ones. */
  #writePolicies(policies: readonly string[]): void {
    const directory = join(this.#files, `policies-${++this.#policyChanges}`)
    mkdirSync(directory)
    for (const [index, text] of policies.entries()) {
      writeFileSync(join(directory, `policy-${index + 1}.yaml`), text)
    }
    symlinkSync(directory, join(this.#files, 'new'))
    renameSync(join(this.#files, 'new'), join(this.#files, 'policies'))
  }

  async #receive(client: string, id: number): Promise<Reply | null> {
    const received = await this.#stage.podOf(client).call<Received | null>('reply', { id })
    if (received === null) return null
    const { hex, afterMs } = received
    return { bytes: Uint8Array.from(Buffer.from(hex, 'hex')), afterMs }
  }

  /** As soon as a reply is here, by what the kernel holds now. */
  async #judge(client: string, reply: Reply | null): Promise<void> {
    if (reply === null || !givesAddresses(reply.bytes)) return
    const hereMs = performance.now()
    const snapshot = await this.#snapshot()
    if (snapshot.mode === 'audit') return
    const grants = await this.#kernelGrants()
    const agoMs = performance.now() - hereMs
    const then = grants.map((grant) => ({ ...grant, remainingMs: grant.remainingMs + agoMs }))
    checkPromise(snapshot, then, client, reply.bytes)
  }

  /** What the daemon says that it enforces; it writes that down a little later. */
  async #snapshot(): Promise<Snapshot> {
    const file = join(this.#files, 'state', 'policy.json')
    let text = ''
    await until(`policy.json has revision ${this.#revision}`, () => {
      text = existsSync(file) ? readFileSync(file, 'utf8') : ''
      return Number(/^namegate-policy .*revision=(\d+)/.exec(text)?.[1] ?? 0) >= this.#revision
    })
    return JSON.parse(text.slice(text.indexOf('\n') + 1)) as Snapshot
  }

  /** As nft lists them, in whole seconds that are rounded up here. */
  async #kernelGrants(): Promise<GrantEntry[]> {
    const words = ['-j', 'list', 'table', 'inet', TABLE]
    const { code, stdout, stderr } = await this.#stage.node.run('nft', words)
    assert.equal(code, 0, stderr)
    const { nftables } = JSON.parse(stdout) as { nftables: NftObject[] }
    return nftables.flatMap(({ set }) => {
      const name = set === undefined ? null : parseGrantSetName(set.name)
      if (name === null) return []
      return (set!.elem ?? []).map(({ elem }) => ({
        client: elem.val.concat[0],
        address: elem.val.concat[1],
        portSet: name.portSet,
        timeoutSeconds: elem.timeout,
        remainingMs: (elem.expires + 1) * 1000,
      }))
    })
  }

  async #status(): Promise<StatusReport> {
    const [report] = await this.#ask<StatusReport>('status', {})
    return report!
  }

  #ask<Row>(command: string, args: Record<string, unknown>): Promise<Row[]> {
    return Array.fromAsync(askOne<Row>(join(this.#files, 'run'), 'agent', command, args))
  }

  async #check(): Promise<void> {
    for (const { judged } of this.#exchanges) {
      await Promise.race([judged, sleep(0)]) // what has come so far
    }
    const { counters } = await this.#status()
    assert.equal(counters['answersReleasedUnprogrammed'], 0)
    const unexpected = linesOf(this.#agent.stderr).filter((line) => line['unexpected'] === true)
    assert.deepEqual(unexpected, [], 'nothing unexpected is logged')
    const counts = await this.#replyCounts()
    assert(Math.max(0, ...counts) <= 1, 'a query ends in exactly one reply')
  }

  /** Of each message since the last time. */
  async #replyCounts(): Promise<number[]> {
    const programs = this.#scenario.clients.map(({ addresses }) => this.#stage.podOf(addresses[0]!))
    return (await Promise.all(programs.map((program) => program.call<number[]>('end')))).flat()
  }

  /** Nothing of the scenario is left to the next one. */
  async #end(): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]()
    this.#removeTables(STRANGER, TABLE)
    rmSync(this.#files, { recursive: true, force: true, maxRetries: 5 })
  }

  /** Also when they are not there. */
  #removeTables(...names: string[]): void {
    const lines = names.flatMap((name) => [`table inet ${name}`, `delete table inet ${name}`])
    this.#stage.node.execWithInput(lines.join('\n'), 'nft', '-f', '-')
  }
}

interface NftObject {
  readonly set?: {
    readonly name: string
    readonly elem?: readonly {
      readonly elem: {
        readonly val: { readonly concat: readonly [string, string] }
        readonly timeout: number
        readonly expires: number
      }
    }[]
  }
}

function givesAddresses(bytes: Uint8Array): boolean {
  const message = parseMessage(bytes)
  return message === null || givenAddresses(message).length > 0
}

/** Lines of a daemon's log; the last one may still be on its way. */
function linesOf(log: string): Record<string, unknown>[] {
  const whole = log.slice(0, log.lastIndexOf('\n') + 1).split('\n')
  return whole.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
}

/** The last one that says so. */
function lineOf(log: string, sentence: string): Record<string, unknown> | undefined {
  return linesOf(log).findLast(({ msg }) => msg === sentence)
}
