import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { Facts } from '../../grant/ruleset.ts'
import { parseAddress } from '../../identity/address.ts'
import { ALICE, BYSTANDER, rulesetOf, type RulesetVariant } from '../conformance.ts'
import { NftablesDriver } from './driver.ts'
import { findInputDrops } from './firewall.ts'
import { OwnSockets } from '../../../test/support/datapath/own-sockets.ts'
import {
  DNS_SERVER,
  FACTS,
  Prober,
  feedNode,
  inNode,
  inPod,
  kernelState,
  onNode,
  ownAddress,
  startProbers,
} from '../../../test/support/datapath/world.ts'
import { DEFAULT_TOOLS } from './tool.ts'
import { PacketGrantWriter } from './writer.ts'

const SERVICE = '10.96.0.10'
const SERVICE_V6 = '2001:db8:96::a'
const ELSEWHERE = { v4: '192.0.2.12', v6: '2001:db8:2::12' } as const

/** The datapath with sockets, and a worker at place 1 that says every 50 ms that it is alive. */
class Node implements AsyncDisposable {
  readonly driver = new NftablesDriver()
  readonly ruleset
  readonly sockets: OwnSockets
  readonly writer: PacketGrantWriter
  #timer: NodeJS.Timeout | undefined

  constructor(variant: RulesetVariant = {}, facts: Partial<Facts> = {}) {
    this.ruleset = rulesetOf({ facts: { ...FACTS, ...facts } }, variant)
    this.sockets = new OwnSockets(this.ruleset, 1)
    this.writer = new PacketGrantWriter({ mark: this.ruleset.marks.write, place: 1, capacity: 8 })
  }

  static async start(variant: RulesetVariant = {}, facts: Partial<Facts> = {}): Promise<Node> {
    const node = new Node(variant, facts)
    await node.driver.apply(node.ruleset)
    node.live()
    return node
  }

  live(): void {
    this.writer.refreshAlive()
    this.#timer = setInterval(() => this.writer.refreshAlive(), 50)
  }

  die(): void {
    clearInterval(this.#timer)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.die()
    this.sockets.close()
    this.writer[Symbol.dispose]()
    await this.driver.remove()
    this.driver[Symbol.dispose]()
    onNode('nft', 'flush', 'ruleset')
  }
}

interface Question {
  readonly address: string
  readonly protocol?: 'udp' | 'tcp'
  readonly source?: string
  readonly sourcePort?: number
  readonly data?: string
  readonly waitMs?: number
}

function ask(pod: Prober, question: Question): Promise<unknown> {
  return pod.do({ do: 'ask', protocol: 'udp', port: 53, data: 'q', waitMs: 500, ...question })
}

function hex(address: string): string {
  return Buffer.from(parseAddress(address)!).toString('hex')
}

/**
 * Like kube-proxy: service addresses that are translated in prerouting and output. The node has a
 * route for them, as for everything else in the world.
 */
function addService(): void {
  onNode('ip', 'route', 'replace', `${SERVICE}/32`, 'via', DNS_SERVER.v4)
  onNode('ip', 'route', 'replace', `${SERVICE_V6}/128`, 'via', DNS_SERVER.v6)
  const rules = `meta l4proto { tcp, udp } th dport 53 ip daddr ${SERVICE} dnat ip to ${DNS_SERVER.v4}:53;
    meta l4proto { tcp, udp } th dport 53 ip6 daddr ${SERVICE_V6} dnat ip6 to [${DNS_SERVER.v6}]:53`
  feedNode(
    `table inet kube {
      chain services { type nat hook prerouting priority dstnat; ${rules}; }
      chain own { type nat hook output priority -100; ${rules}; }
    }`,
    'nft',
    '-f',
    '-',
  )
}

if (inNode(import.meta.url, 120_000)) {
  const probers = await startProbers()
  after(() => {
    for (const prober of Object.values(probers)) prober.end()
  })
  const { alice, bystander } = probers

  test("a governed client's DNS comes to us whatever server it asks, and leaves no trace in conntrack", async () => {
    await using node = await Node.start()
    for (const protocol of ['udp', 'tcp'] as const) {
      for (const family of ['v4', 'v6'] as const) {
        const address = ELSEWHERE[family]
        const source = ALICE[family]
        assert.equal(
          await ask(alice, { protocol, address, source }),
          'us:q',
          `${protocol} ${family}`,
        )
        assert.equal(node.sockets.seen.at(-1), `${protocol} ${hex(address)} q`)
      }
    }
    assert.doesNotMatch(onNode('conntrack', '-L'), /dport=53\b/)
    assert.doesNotMatch(onNode('conntrack', '-L', '-f', 'ipv6'), /dport=53\b/)
  })

  test('queries in fragments are intercepted', async () => {
    await using node = await Node.start()
    const data = 'q'.repeat(3000)
    for (const family of ['v4', 'v6'] as const) {
      const reply = await ask(alice, { address: ELSEWHERE[family], source: ALICE[family], data })
      assert.equal(reply, `us:${'q'.repeat(97)}`, family)
    }
    assert.equal(node.sockets.seen.length, 2)
  })

  test('an ungoverned client is ours only at the servers whose place we take', async () => {
    await using _node = await Node.start()
    for (const protocol of ['udp', 'tcp'] as const) {
      for (const family of ['v4', 'v6'] as const) {
        const source = BYSTANDER[family]
        assert.equal(
          await ask(bystander, { protocol, address: DNS_SERVER[family], source }),
          'us:q',
        )
        assert.equal(
          await ask(bystander, { protocol, address: ELSEWHERE[family], source }),
          'net:q',
        )
      }
    }
  })

  test("who asks under a governed client's address on another link does not reach us", async () => {
    await using node = await Node.start()
    const stolen = [ALICE.v4, ALICE.v6]
    try {
      for (const address of stolen) inPod('bystander', 'ip', ...ownAddress('add', address))
      for (const protocol of ['udp', 'tcp'] as const) {
        for (const family of ['v4', 'v6'] as const) {
          const question = { protocol, address: DNS_SERVER[family], waitMs: 200 }
          assert.equal(await ask(bystander, { ...question, source: ALICE[family] }), null)
          assert.deepEqual(node.sockets.seen, [], `${protocol} ${family}`)
          assert.equal(await ask(alice, { ...question, source: ALICE[family] }), 'us:q')
          assert.equal(await ask(bystander, { ...question, source: BYSTANDER[family] }), 'us:q')
          node.sockets.seen.length = 0
        }
      }
    } finally {
      for (const address of stolen) inPod('bystander', 'ip', ...ownAddress('del', address))
    }
  })

  test('with nobody alive a governed client gets no DNS, others fall through within 300 ms', async () => {
    await using node = await Node.start()
    const port = 40001
    const question = { address: DNS_SERVER.v4, source: BYSTANDER.v4, sourcePort: port, waitMs: 50 }
    assert.equal(await ask(bystander, question), 'us:q')
    node.sockets.isAnswering = false
    node.die()
    const diedMs = Date.now()
    let reply: unknown = null
    while (reply !== 'net:q' && Date.now() < diedMs + 2000) reply = await ask(bystander, question)
    const tookMs = Date.now() - diedMs
    assert.equal(reply, 'net:q')
    assert.ok(tookMs <= 300, `fell through after ${tookMs} ms, from the same port`)
    const v6 = { address: DNS_SERVER.v6, source: BYSTANDER.v6 }
    assert.equal(await ask(bystander, v6), 'net:q')
    assert.equal(await ask(bystander, { ...v6, protocol: 'tcp' }), 'net:q')
    node.sockets.close()
    for (const family of ['v4', 'v6'] as const) {
      for (const protocol of ['udp', 'tcp'] as const) {
        const address = DNS_SERVER[family]
        assert.equal(await ask(alice, { protocol, address, source: ALICE[family] }), null)
      }
    }
  })

  test('another table that translates the service address neither hides it from us nor breaks the fall-through', async () => {
    addService()
    await using node = await Node.start()
    const question = { address: SERVICE, source: BYSTANDER.v4 }
    for (const protocol of ['udp', 'tcp'] as const) {
      assert.equal(await ask(bystander, { ...question, protocol }), 'us:q')
      assert.equal(await ask(alice, { ...question, protocol, source: ALICE.v4 }), 'us:q')
    }
    node.die()
    await new Promise((resolve) => setTimeout(resolve, 300))
    for (const protocol of ['udp', 'tcp'] as const) {
      assert.equal(await ask(bystander, { ...question, protocol, waitMs: 800 }), 'net:q')
    }
  })

  test('interception survives src_valid_mark and strict reverse path filters', async () => {
    const keys = ['all.src_valid_mark', 'all.rp_filter', 'v-alice.rp_filter', 'v-net.rp_filter']
    const set = (value: number): void => {
      for (const key of keys)
        feedNode(`${value}`, 'tee', `/proc/sys/net/ipv4/conf/${key.replace('.', '/')}`)
    }
    await using _node = await Node.start()
    try {
      set(1)
      for (const protocol of ['udp', 'tcp'] as const) {
        const question = { protocol, address: ELSEWHERE.v4, source: ALICE.v4 }
        assert.equal(await ask(alice, question), 'us:q')
      }
    } finally {
      set(0)
    }
  })

  test("other people's bits of a mark stay as they were", async () => {
    feedNode(
      `table inet other {
        counter kept { }
        counter every { }
        chain before { type filter hook prerouting priority raw - 10; meta mark set meta mark | 0x4080
        }
        chain behind { type filter hook prerouting priority mangle
          iifname "v-alice" counter name every
          iifname "v-alice" meta mark & 0xffff == 0x4080 counter name kept
        }
      }`,
      'nft',
      '-f',
      '-',
    )
    await using _node = await Node.start()
    assert.equal(await ask(alice, { address: ELSEWHERE.v4, source: ALICE.v4 }), 'us:q')
    await alice.do({ do: 'connect', address: ELSEWHERE.v4, port: 80, waitMs: 100 })
    const counters = onNode('nft', 'list', 'counters')
    const count = (name: string): number =>
      Number(new RegExp(`counter ${name} \\{\\s+packets (\\d+)`).exec(counters)?.[1])
    assert.ok(count('kept') >= 2, counters)
    assert.equal(count('kept'), count('every'))
  })

  test('a TCP connection is reset when its owner is dead, and only then', async () => {
    addService()
    await using own = new NodeProcess()
    const waitMs = 400
    for (const { who, address } of [
      { who: alice, address: ELSEWHERE.v4 },
      { who: own, address: SERVICE },
      { who: own, address: OwnAddress.TEXT },
    ]) {
      await using node = await Node.start()
      assert.equal(await who.do({ do: 'hold', name: address, address, port: 53, waitMs }), 'open')
      const say = (data: string) => who.do({ do: 'say', name: address, data, waitMs })
      assert.equal(await say('one'), 'us:one')
      await new Promise((resolve) => setTimeout(resolve, 300))
      assert.equal(await say('two'), 'us:two')
      // Hung: its sockets are still there, nobody reads. Another process lives.
      node.sockets.isAnswering = false
      node.die()
      const other = new PacketGrantWriter({ mark: node.ruleset.marks.write, place: 2, capacity: 8 })
      const timer = setInterval(() => other.refreshAlive(), 50)
      try {
        await new Promise((resolve) => setTimeout(resolve, 200))
        assert.equal(await say('three'), 'reset', address)
      } finally {
        clearInterval(timer)
        other[Symbol.dispose]()
      }
    }
  })

  test('who leaves has its connections to the end, while further questions of others go to the service', async () => {
    addService()
    await using node = await Node.start({}, { servers: [SERVICE, SERVICE_V6] })
    const source = BYSTANDER.v4
    const waitMs = 400
    const held = { name: 'held', address: SERVICE, port: 53, source, waitMs } as const
    assert.equal(await bystander.do({ do: 'hold', ...held }), 'open')
    const say = (data: string) => bystander.do({ do: 'say', name: 'held', data, waitMs })
    assert.equal(await say('one'), 'us:one')
    node.die()
    const timer = setInterval(() => node.writer.refreshAlive(true), 50)
    try {
      await new Promise((resolve) => setTimeout(resolve, 250))
      for (const protocol of ['udp', 'tcp'] as const) {
        assert.equal(await ask(bystander, { protocol, address: SERVICE, source }), 'net:q')
        const governed = { protocol, address: SERVICE, source: ALICE.v4 }
        assert.equal(await ask(alice, governed), 'us:q', 'governed: to us or nowhere')
      }
      assert.equal(await say('two'), 'us:two')
    } finally {
      clearInterval(timer)
    }
    node.sockets.isAnswering = false
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.equal(await say('three'), 'reset')
  })

  test("the node's own processes are answered at our address, also when it is on no interface but lo", async () => {
    await using here = new OwnAddress()
    await using _node = await Node.start()
    for (const protocol of ['udp', 'tcp'] as const) {
      const reply = await ask(here.own, { protocol, address: OwnAddress.TEXT })
      assert.equal(reply, 'us:q', protocol)
    }
  })

  test("where unknown clients are refused, the node's own processes reach what they would without us", async () => {
    await using here = new OwnAddress()
    await here.own.do({ do: 'serve', name: 'node', address: OwnAddress.TEXT, port: 53 })
    const asked = async (variant: RulesetVariant): Promise<unknown[]> => {
      await using _node = await Node.start(variant)
      const replies: unknown[] = []
      for (const protocol of ['udp', 'tcp'] as const) {
        replies.push(await ask(here.own, { protocol, address: OwnAddress.TEXT }))
      }
      return replies
    }
    assert.deepEqual(await asked({ unknown: 'closed' }), ['node:q', 'node:q'])
    // On an address that is only ours the endpoints of the server that we stand in for answer.
    onNode('ip', ...ownAddress('del', OwnAddress.TEXT))
    {
      const endpoints = [{ address: DNS_SERVER.v4, port: 53 }]
      await using _node = await Node.start({ unknown: 'closed' }, { endpoints })
      for (const protocol of ['udp', 'tcp'] as const) {
        assert.equal(await ask(here.own, { protocol, address: OwnAddress.TEXT }), 'net:q')
      }
    }
    onNode('ip', ...ownAddress('add', OwnAddress.TEXT))
    // Audit refuses nobody.
    assert.deepEqual(await asked({ unknown: 'closed', mode: 'audit' }), ['us:q', 'us:q'])
    assert.deepEqual(await asked({ unknown: 'open' }), ['us:q', 'us:q'])
  })

  test('the node itself is answered at the service address while anybody is alive, and by the service otherwise', async () => {
    addService()
    await using own = new NodeProcess()
    await using node = await Node.start({}, { servers: [SERVICE, SERVICE_V6] })
    const askAll = async (): Promise<unknown[]> => {
      const replies: unknown[] = []
      for (const address of [SERVICE, SERVICE_V6]) {
        for (const protocol of ['udp', 'tcp'] as const) {
          replies.push(await ask(own, { address, protocol, waitMs: 800 }))
        }
      }
      return replies
    }
    const us = Array.from({ length: 4 }, () => 'us:q')
    const net = us.map(() => 'net:q')
    assert.deepEqual(await askAll(), us)
    assert.doesNotMatch(onNode('conntrack', '-L'), /src=192\.0\.2\.1 dst=10\.96\.0\.10 /)
    assert.doesNotMatch(onNode('conntrack', '-L', '-f', 'ipv6'), /dst=2001:db8:96::a /)
    node.sockets.isAnswering = false
    node.die()
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.deepEqual(await askAll(), net, 'hung')
    node.sockets.isAnswering = true
    node.live()
    assert.deepEqual(await askAll(), us, 'alive again')
    node.die()
    node.sockets.close()
    const during = { address: SERVICE, protocol: 'tcp', waitMs: 2000 } as const
    assert.equal(await ask(own, during), 'net:q', 'the SYN is sent once more, nobody is refused')
    assert.deepEqual(await askAll(), net, 'dead')
  })

  test('of the node itself only what is meant for us is ours: no other server, no resolver on 127.0.0.53', async () => {
    addService()
    await using own = new NodeProcess()
    await own.do({ do: 'serve', name: 'stub', address: '127.0.0.53', port: 53 })
    await using node = await Node.start()
    for (const protocol of ['udp', 'tcp'] as const) {
      assert.equal(await ask(own, { protocol, address: '127.0.0.53' }), 'stub:q')
      assert.equal(await ask(own, { protocol, address: ELSEWHERE.v4 }), 'net:q')
      assert.equal(await ask(own, { protocol, address: ELSEWHERE.v6 }), 'net:q')
    }
    assert.deepEqual(node.sockets.seen, [])
  })

  test('what we send to the service ourselves is translated as ever', async () => {
    addService()
    await using own = new NodeProcess()
    await using node = await Node.start({}, { servers: [SERVICE, SERVICE_V6] })
    for (const mark of [node.ruleset.marks.own, node.ruleset.marks.owners[1]!]) {
      // In place of a socket of ours, which has the mark from the beginning.
      feedNode(
        `table inet marker {
          chain output { type route hook output priority raw - 10; th dport 53 meta mark set ${mark}; }
        }`,
        'nft',
        '-f',
        '-',
      )
      node.writer.refreshAlive() // nft held up its timer
      for (const address of [SERVICE, SERVICE_V6]) {
        for (const protocol of ['udp', 'tcp'] as const) {
          assert.equal(await ask(own, { address, protocol }), 'net:q')
        }
      }
      onNode('nft', 'delete', 'table', 'inet', 'marker')
    }
    assert.deepEqual(node.sockets.seen, [])
  })

  test('intercept.node: false leaves the node to its own servers, and answers at our address', async () => {
    addService()
    await using own = new NodeProcess()
    await using _node = await Node.start({}, { isNodeServed: false })
    for (const protocol of ['udp', 'tcp'] as const) {
      assert.equal(await ask(own, { protocol, address: SERVICE }), 'net:q')
      assert.equal(await ask(own, { protocol, address: OwnAddress.TEXT }), 'us:q')
    }
  })

  test('our address is on the node without an interface, and leads to the endpoints while nobody is alive', async () => {
    const endpoints = [
      { address: DNS_SERVER.v4, port: 53 },
      { address: ELSEWHERE.v4, port: 53 },
      { address: DNS_SERVER.v6, port: 53 },
    ]
    const listen = [OwnAddress.TEXT, 'fd00:20::10']
    await using own = new NodeProcess()
    await using node = await Node.start({}, { listen, endpoints })
    const askers = [
      { who: own, v4: undefined, v6: undefined },
      { who: bystander, v4: BYSTANDER.v4, v6: BYSTANDER.v6 },
      { who: alice, v4: ALICE.v4, v6: ALICE.v6 },
    ]
    const askAll = async (): Promise<unknown[][]> => {
      const all: unknown[][] = []
      for (const { who, v4, v6 } of askers) {
        const replies: unknown[] = []
        for (const protocol of ['udp', 'tcp'] as const) {
          const question = { protocol, waitMs: 400 }
          const [first, second] = [v4, v6].map((source) => (source ? { source } : {}))
          replies.push(await ask(who, { ...question, address: listen[0]!, ...first }))
          replies.push(await ask(who, { ...question, address: listen[1]!, ...second }))
        }
        all.push(replies)
      }
      return all
    }
    const four = (reply: unknown): unknown[] => Array.from({ length: 4 }, () => reply)
    assert.match(onNode('ip', 'route', 'get', listen[0]!), /^local /)
    assert.deepEqual(await askAll(), [four('us:q'), four('us:q'), four('us:q')])
    node.sockets.isAnswering = false
    node.die()
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.deepEqual(await askAll(), [four('net:q'), four('net:q'), four(null)], 'hung')
    node.sockets.close()
    assert.deepEqual(await askAll(), [four('net:q'), four('net:q'), four(null)], 'dead')
    const counts = [
      ...onNode('nft', 'list', 'chain', 'inet', 'namegate', 'straight_v4').matchAll(
        /packets (\d+)/g,
      ),
    ]
    assert.equal(counts.length, 2)
  })

  test('a host firewall that drops what we intercept is found, and the advice helps', async () => {
    await using node = await Node.start()
    feedNode(
      `table inet firewall {
        chain input { type filter hook input priority filter; policy drop;
          ct state established,related accept
          iifname "lo" accept
        }
      }`,
      'nft',
      '-f',
      '-',
    )
    const question = { address: ELSEWHERE.v4, source: ALICE.v4 }
    assert.equal(await ask(alice, question), null)
    const { mask, intercepted: value } = node.ruleset.marks
    const [drop] = await findInputDrops(DEFAULT_TOOLS, { value, mask })
    assert.equal(drop?.where, 'chain inet firewall input (policy drop)')
    const [program = '', ...words] = drop.cure.split(' ')
    onNode(program, ...words)
    assert.equal(await ask(alice, question), 'us:q')
    assert.deepEqual(await findInputDrops(DEFAULT_TOOLS, { value, mask }), [])
  })

  test('an address that was on the node before us is there after us', async () => {
    await using _here = new OwnAddress()
    const before = kernelState()
    {
      await using node = await Node.start()
      assert.match(
        onNode('ip', '-N', 'route', 'show', 'table', 'local'),
        /169\.254\.20\.10.* proto 78/,
      )
      onNode('ip', 'route', 'flush', 'table', 'local', 'proto', '78')
      assert.match(await node.driver.verify(node.ruleset), /'local 169\.254\.20\.10 .*' is missing/)
      await node.driver.apply(node.ruleset)
      assert.equal(await node.driver.verify(node.ruleset), 'same')
    }
    assert.equal(kernelState(), before)
  })

  test('the node itself is answered in spite of src_valid_mark and strict reverse path filters', async () => {
    addService()
    const keys = ['all', 'lo', 'v-net'].flatMap((name) => [
      `${name}/src_valid_mark`,
      `${name}/rp_filter`,
    ])
    const set = (value: number): void => {
      for (const key of keys) feedNode(`${value}`, 'tee', `/proc/sys/net/ipv4/conf/${key}`)
    }
    await using own = new NodeProcess()
    await using node = await Node.start()
    try {
      set(1)
      node.writer.refreshAlive() // programs that ran meanwhile held up its timer
      for (const protocol of ['udp', 'tcp'] as const) {
        assert.equal(await ask(own, { protocol, address: SERVICE }), 'us:q')
        assert.equal(await ask(own, { protocol, address: OwnAddress.TEXT }), 'us:q')
      }
    } finally {
      set(0)
    }
  })
}

/** A process of the node. */
class NodeProcess extends Prober implements AsyncDisposable {
  constructor() {
    super(null)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end()
  }
}

/** Our address on the node, and a process there. */
class OwnAddress implements AsyncDisposable {
  static readonly TEXT = '169.254.20.10'
  readonly own = new Prober(null)

  constructor() {
    onNode('ip', ...ownAddress('add', OwnAddress.TEXT))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.own.end()
    onNode('ip', ...ownAddress('del', OwnAddress.TEXT))
  }
}
