import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type Facts, compileRuleset } from '../../grant/ruleset.ts'
import { TIMEOUT_CLASS_SECONDS } from '../../grant/timeout-class.ts'
import { parseAddress } from '../../identity/address.ts'
import { NETLINK_NETFILTER, NetlinkSocket, nftGeneration } from '../../linux/netlink.ts'
import { type LoggedPacket, NflogListener } from '../../linux/nflog.ts'
import {
  ALICE,
  BOB,
  BYSTANDER,
  SERVERS,
  push,
  rulesetOf,
  type RulesetVariant,
} from '../conformance.ts'
import { type Denial, parseDenial } from '../denial.ts'
import type { GrantEntry } from '../driver.ts'
import { NftablesDriver } from './driver.ts'
import { formatTable, renderTable } from './ruleset.ts'
import { DEFAULT_TOOLS } from './tool.ts'
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
import { PacketGrantWriter } from './writer.ts'

const WEB = 1

class Node implements AsyncDisposable {
  readonly driver = new NftablesDriver()
  readonly ruleset
  readonly writer: PacketGrantWriter

  constructor(variant: RulesetVariant, facts: Partial<Facts>) {
    this.ruleset = rulesetOf({ facts: { ...FACTS, ...facts } }, variant)
    this.writer = new PacketGrantWriter({ mark: this.ruleset.marks.write, place: 1, capacity: 8 })
  }

  static async start(variant: RulesetVariant = {}, facts: Partial<Facts> = {}): Promise<Node> {
    const node = new Node(variant, facts)
    await node.driver.apply(node.ruleset)
    return node
  }

  grant(client: string, address: string): void {
    this.writer.refreshAlive()
    push(this.writer, client, address, WEB, 2)
    assert.equal(this.writer.flush(), 0)
  }

  /** Grants of `count` addresses. */
  fill(client: string, count: number, classIndex: number): void {
    for (let n = 0; n < count; n++) {
      const tail = client.includes(':') ? `::${(n + 1).toString(16)}` : `.${n >> 8}.${n & 255}`
      const address = client.includes(':') ? `2001:db8:9${tail}` : `198.18${tail}`
      if (n % 100 === 0) this.writer.refreshAlive()
      push(this.writer, client, address, WEB, classIndex)
      assert.equal(this.writer.flush(), 0)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.writer[Symbol.dispose]()
    await this.driver.remove()
    this.driver[Symbol.dispose]()
    onNode('nft', 'flush', 'ruleset')
  }
}

/** As `grant` gives it, as if it had been read back. */
function heldGrant(client: string, address: string): GrantEntry {
  const timeoutSeconds = TIMEOUT_CLASS_SECONDS[2]
  return { client, address, portSet: '00000080', timeoutSeconds, remainingMs: 0 }
}

interface Attempt {
  readonly port?: number
  readonly source?: string
}

function connect(pod: Prober, address: string, attempt: Attempt = {}): Promise<unknown> {
  return pod.do({ do: 'connect', address, port: 80, waitMs: 400, ...attempt })
}

/** What the kernel reported while `body` ran. */
async function denials(body: () => Promise<void>): Promise<(Denial & { packet: string })[]> {
  const seen: (Denial & { packet: string })[] = []
  using _listener = new NflogListener(4747, (packet) => {
    const denial = parseDenial(packet.prefix)
    if (denial !== null) seen.push({ ...denial, packet: packetText(packet) })
  })
  await body()
  await new Promise((resolve) => setTimeout(resolve, 250))
  return seen
}

function packetText(packet: LoggedPacket): string {
  const source = Buffer.from(packet.source).toString('hex')
  const destination = Buffer.from(packet.destination).toString('hex')
  assert.ok(packet.interfaceIndex > 0)
  return `${source} ${destination} ${packet.protocol} ${packet.destinationPort} ${packet.tcpFlags}`
}

if (inNode(import.meta.url, 150_000)) {
  const probers = await startProbers()
  after(() => {
    for (const prober of Object.values(probers)) prober.end()
  })
  const { alice, bob, bystander, net } = probers

  test('the kernel names the subject of a denial, with addresses, port and flags', async () => {
    await using node = await Node.start({ hasDestinations: true })
    const subject = node.ruleset.subjects[0]!.id
    const seen = await denials(async () => {
      assert.equal(await connect(alice, SERVERS.v4[0]), 'closed')
      assert.equal(await connect(alice, SERVERS.v6[2]), 'closed')
    })
    const base = { isAudit: false, subject }
    assert.deepEqual(seen[0], {
      ...base,
      reason: 'policy',
      destination: -1,
      packet: '0a000007 c000020a 6 80 2',
    })
    const denied = seen.find(({ reason }) => reason === 'rule')
    assert.deepEqual(denied, {
      ...base,
      reason: 'rule',
      destination: 1,
      packet: '20010db8000100000000000000000007 20010db8000200000000000000000012 6 80 2',
    })
  })

  test('a group has one listener: a second is told so, until the first has gone', () => {
    const first = new NflogListener(4747, () => {})
    assert.throws(() => new NflogListener(4747, () => {}), { code: 'EBUSY', message: /group 4747/ })
    first[Symbol.dispose]()
    new NflogListener(4747, () => {})[Symbol.dispose]()
  })

  test('audit mode reports what it would have denied', async () => {
    await using _node = await Node.start({ mode: 'audit' })
    const seen = await denials(async () => {
      assert.equal(await connect(alice, SERVERS.v4[0]), 'open')
    })
    assert.deepEqual([seen[0]?.isAudit, seen[0]?.reason], [true, 'policy'])
  })

  test("another source address on a governed client's link is dropped, and reported", async () => {
    await using node = await Node.start()
    node.grant(BOB.v4, SERVERS.v4[0])
    node.grant(BOB.v6, SERVERS.v6[0])
    const stolen = [BOB.v4, BOB.v6, '10.0.0.77', '2001:db8:1::77']
    for (const address of stolen) inPod('alice', 'ip', ...ownAddress('add', address))
    onNode('ip', 'route', 'add', '10.0.0.77', 'dev', 'v-alice')
    onNode('ip', '-6', 'route', 'add', '2001:db8:1::77', 'dev', 'v-alice')
    const seen = await denials(async () => {
      for (const source of stolen) {
        const address = source.includes(':') ? SERVERS.v6[0] : SERVERS.v4[0]
        assert.equal(await connect(alice, address, { source }), 'closed', source)
      }
    })
    for (const source of stolen) {
      const bytes = Buffer.from(parseAddress(source)!).toString('hex')
      const reasons = seen
        .filter(({ packet }) => packet.startsWith(bytes))
        .map(({ reason }) => reason)
      assert.deepEqual([...new Set(reasons)], ['source'], source)
    }
  })

  test("a governed client's address on another link is dropped, and reported", async () => {
    await using node = await Node.start()
    const stolen = [ALICE.v4, ALICE.v6]
    try {
      for (const address of stolen) inPod('bystander', 'ip', ...ownAddress('add', address))
      const seen = await denials(async () => {
        for (const source of stolen) {
          const address = source.includes(':') ? SERVERS.v6[0] : SERVERS.v4[0]
          node.grant(source, address)
          assert.equal(await connect(bystander, address, { source }), 'closed', source)
        }
      })
      for (const source of stolen) {
        const bytes = Buffer.from(parseAddress(source)!).toString('hex')
        const mine = seen.filter(({ packet }) => packet.startsWith(bytes))
        assert.deepEqual([...new Set(mine.map(({ reason }) => reason))], ['source'], source)
      }
      assert.equal(await connect(bystander, SERVERS.v4[0]), 'open', 'its own address')
      assert.equal(await connect(alice, SERVERS.v4[0]), 'open', 'the one whose address it is')
    } finally {
      for (const address of stolen) inPod('bystander', 'ip', ...ownAddress('del', address))
    }
  })

  test("the node's own addresses are no way out of a policy", async () => {
    await using _node = await Node.start()
    const own = new Prober(null)
    try {
      for (const address of ['192.0.2.1', '2001:db8:2::1']) {
        await own.do({ do: 'serve', name: 'node', address, port: 8081 })
        assert.equal(await connect(alice, address, { port: 8081 }), 'closed')
        assert.equal(await connect(bystander, address, { port: 8081 }), 'open')
      }
    } finally {
      own.end()
    }
  })

  test('an answer that holds a service address opens it, whoever translates it', async () => {
    await using node = await Node.start()
    feedNode(
      `table inet kube {
        chain services { type nat hook prerouting priority dstnat; policy accept;
          ip daddr 10.96.0.20 tcp dport 80 dnat ip to ${SERVERS.v4[0]}:8080
          ip6 daddr 2001:db8:96::20 tcp dport 80 dnat ip6 to [${SERVERS.v6[0]}]:8080
        }
      }`,
      'nft',
      '-f',
      '-',
    )
    const services = [
      [ALICE.v4, '10.96.0.20', SERVERS.v4[0]],
      [ALICE.v6, '2001:db8:96::20', SERVERS.v6[0]],
    ] as const
    for (const [client, service, endpoint] of services) {
      assert.equal(await connect(alice, service), 'closed')
      node.grant(client, service)
      assert.equal(await connect(alice, service), 'open')
      assert.equal(await connect(alice, endpoint, { port: 8080 }), 'closed', 'not the endpoint')
    }
  })

  test('a deny rule about the endpoint holds for a granted service address too', async () => {
    await using node = await Node.start({ hasDestinations: true })
    const dnat = `ip daddr 10.96.0.20 tcp dport 80 dnat ip to ${SERVERS.v4[2]}:80`
    feedNode(
      `table inet kube {
        chain services { type nat hook prerouting priority dstnat; policy accept; ${dnat}; }
      }`,
      'nft',
      '-f',
      '-',
    )
    node.grant(ALICE.v4, '10.96.0.20')
    assert.equal(await connect(alice, '10.96.0.20'), 'closed')
  })

  test('revoking ends a connection, also one in which only the server speaks', async () => {
    await using node = await Node.start()
    const waitMs = 400
    for (const family of ['v4', 'v6'] as const) {
      const [first, second] = SERVERS[family]
      node.grant(ALICE[family], first)
      node.grant(ALICE[family], second)
      for (const [name, address] of [
        ['gone', first],
        ['kept', second],
      ] as const) {
        assert.equal(await alice.do({ do: 'hold', name, address, port: 80, waitMs }), 'open')
        assert.equal(await alice.do({ do: 'say', name, data: '1', waitMs }), 'net:1')
      }
      await node.driver.revoke([heldGrant(ALICE[family], first)])
      // The server's segment must not make a new entry in which the client's are replies.
      await net.do({ do: 'push', data: 'unasked' })
      await new Promise((resolve) => setTimeout(resolve, 100))
      assert.equal(await alice.do({ do: 'heard', name: 'gone' }), 'net:1', family)
      assert.equal(await alice.do({ do: 'heard', name: 'kept' }), 'net:1unasked', family)
      assert.equal(await alice.do({ do: 'say', name: 'gone', data: '2', waitMs }), null, family)
      assert.equal(await alice.do({ do: 'say', name: 'kept', data: '2', waitMs }), 'net:2', family)
    }
  })

  test('a full set does not keep the other grants of a revocation in force', async () => {
    await using node = await Node.start({ grantsMax: 2 })
    node.grant(ALICE.v4, SERVERS.v4[0])
    node.grant(ALICE.v4, SERVERS.v4[1])
    // The third has ended meanwhile.
    const { v4 } = SERVERS
    await node.driver.revoke([v4[2], v4[1], v4[0]].map((address) => heldGrant(ALICE.v4, address)))
    assert.deepEqual(await node.driver.readGrants(), [])
  })

  test('a revocation of thousands out of full sets is a matter of two commits', async () => {
    const size = 3000
    await using node = await Node.start({ grantsMax: size })
    using netlink = new NetlinkSocket(NETLINK_NETFILTER)
    // Class 0 lasts 15 s, class 2 longer; both are full, and so is class 0 over IPv6.
    node.fill(ALICE.v4, size, 0)
    node.fill(ALICE.v6, size, 0)
    node.fill(ALICE.v4, size, 2)
    const held = await node.driver.readGrants()
    assert.equal(held.length, 3 * size)
    const kept = held.filter((_, index) => index % 100 === 0)
    const taken = held.filter((_, index) => index % 100 !== 0)
    const gone = heldGrant(ALICE.v4, '203.0.113.7')
    const before = nftGeneration(netlink)
    await node.driver.revoke([...taken, gone, ...taken.slice(0, 10)])
    const commits = nftGeneration(netlink) - before
    assert.equal(commits, 2)
    const textOf = (grant: GrantEntry): string => `${grant.timeoutSeconds} ${grant.address}`
    assert.deepEqual(
      (await node.driver.readGrants()).map(textOf).toSorted(),
      kept.map(textOf).toSorted(),
    )
  })

  test('grants that end while they are revoked are no fault, though their set is full', async () => {
    // Each run of nft takes longer than one of the grants has left.
    const nft = ['sh', '-c', 'sleep 0.5; exec nft "$@"', 'nft']
    using slow = new NftablesDriver({ ...DEFAULT_TOOLS, nft })
    for (const taken of [1, 8]) {
      await using node = await Node.start({ grantsMax: 8 })
      node.fill(ALICE.v4, 7, 0)
      const short = '{ 10.0.0.7 . 203.0.113.7 timeout 1s }'
      onNode('nft', `add element inet namegate grants_00000080_15_v4 ${short}`)
      const held = await node.driver.readGrants()
      const ending = held.filter(({ remainingMs }) => remainingMs < 2000)
      assert.deepEqual([held.length, ending.length], [8, 1])
      await slow.revoke(taken === 1 ? ending : held)
      assert.equal((await node.driver.readGrants()).length, 8 - taken)
    }
  })

  test('a source that is no known client gets what clients.unknown says', async () => {
    const interfaceOf = Object.fromEntries(
      Object.entries(FACTS.interfaceOf).filter(([, device]) => device !== 'v-by'),
    )
    const facts = { ...FACTS, interfaceOf }
    await using _node = await Node.start({ unknown: 'open' }, { interfaceOf })
    assert.equal(await connect(bystander, SERVERS.v4[0]), 'open')
    const closed = rulesetOf({ facts }, { unknown: 'closed' })
    await _node.driver.apply(closed)
    for (const family of ['v4', 'v6'] as const) {
      assert.equal(await connect(bystander, SERVERS[family][0]), 'closed')
      const question = { protocol: 'udp', port: 53, data: 'q', waitMs: 300 } as const
      const address = DNS_SERVER[family]
      const source = BYSTANDER[family]
      assert.equal(await bystander.do({ do: 'ask', ...question, address, source }), null)
    }
  })

  test('reject tells the client at once', async () => {
    await using _node = await Node.start({}, { denyAction: 'reject' })
    assert.equal(await connect(alice, SERVERS.v4[0]), 'reset')
    assert.equal(await connect(alice, SERVERS.v6[0]), 'reset')
  })

  test('the guard lets granted connections through whatever rp_filter is', async () => {
    await using node = await Node.start()
    node.grant(ALICE.v4, SERVERS.v4[0])
    try {
      for (const value of ['1', '2']) {
        feedNode(value, 'tee', '/proc/sys/net/ipv4/conf/v-net/rp_filter')
        assert.equal(await connect(alice, SERVERS.v4[0]), 'open', `rp_filter=${value}`)
      }
    } finally {
      feedNode('0', 'tee', '/proc/sys/net/ipv4/conf/v-net/rp_filter')
    }
    await node.driver.remove()
  })

  test('an unchanged ruleset writes nothing, and grants of others’ changes stay', async () => {
    await using node = await Node.start()
    using netlink = new NetlinkSocket(NETLINK_NETFILTER)
    const before = nftGeneration(netlink)
    await node.driver.apply(node.ruleset)
    const again = new NftablesDriver()
    await again.apply(node.ruleset)
    assert.equal(await again.verify(node.ruleset), 'same')
    again[Symbol.dispose]()
    assert.equal(nftGeneration(netlink), before)
    node.grant(ALICE.v4, SERVERS.v4[0])
    assert.equal(nftGeneration(netlink), before, 'a grant is no commit')
  })

  test('tampering is noticed and mended', async () => {
    await using node = await Node.start()
    const { driver, ruleset } = node
    const forward = ['inet', 'namegate', 'forward']
    const tampering: [RegExp, () => void][] = [
      [/not those that we wrote/, () => onNode('nft', 'insert', 'rule', ...forward, 'accept')],
      [/not those that we wrote/, () => onNode('nft', 'flush', 'chain', ...forward)],
      [
        /not those that we wrote/,
        () => onNode('nft', 'flush', 'set', 'inet', 'namegate', 'governed_v4'),
      ],
      [
        /not those that we wrote/,
        () => onNode('nft', 'add element inet namegate clients_v4 { "v-x" . 10.0.0.7 : accept }'),
      ],
      [/is missing/, () => onNode('nft', 'delete', 'table', 'inet', 'namegate')],
      [/IPv4 rule .* is missing/, () => onNode('ip', 'rule', 'del', 'pref', '101')],
      [/IPv6 rule .* is missing/, () => onNode('ip', '-6', 'rule', 'flush', 'protocol', '78')],
      [/IPv4 route .* is missing/, () => onNode('ip', 'route', 'flush', 'table', '20551')],
      [/IPv6 guard .* is missing/, () => onNode('ip', 'xfrm', 'policy', 'flush')],
    ]
    for (const [words, tamper] of tampering) {
      assert.equal(await driver.verify(ruleset), 'same')
      tamper()
      assert.match(await driver.verify(ruleset), words)
      await driver.apply(ruleset)
    }
    assert.equal(await driver.verify(ruleset), 'same')
    assert.equal(await connect(alice, SERVERS.v4[0]), 'closed')
  })

  test('another process takes over the structure and keeps the grants', async () => {
    await using node = await Node.start()
    node.grant(ALICE.v4, SERVERS.v4[0])
    const proxy = new NftablesDriver()
    try {
      const facts = { ...FACTS, nflogGroups: [4748] }
      await proxy.apply(rulesetOf({ facts }))
      assert.equal(await connect(alice, SERVERS.v4[0]), 'open')
      assert.equal(await connect(bob, SERVERS.v4[0]), 'closed')
      assert.notEqual(await node.driver.verify(node.ruleset), 'same')
    } finally {
      proxy[Symbol.dispose]()
    }
  })

  test('another configuration replaces marks, table and priority without a rest', async () => {
    await using node = await Node.start()
    const mark = { value: 0x10, mask: 0xf0 }
    const other = { ...FACTS, mark, routingTable: 300, rulePriority: 500 }
    const ruleset = rulesetOf({ facts: other })
    await node.driver.apply(ruleset)
    assert.equal(await node.driver.verify(ruleset), 'same')
    assert.equal(await connect(bystander, SERVERS.v4[0]), 'open')
    assert.doesNotMatch(onNode('ip', 'rule'), /20551|0x4e47/)
    assert.equal(onNode('ip', 'route', 'show', 'table', '300').split('\n').length, 2)
    const writer = new PacketGrantWriter({ mark: ruleset.marks.write, place: 1, capacity: 8 })
    writer.refreshAlive()
    push(writer, ALICE.v6, SERVERS.v6[0], WEB, 2)
    assert.equal(writer.flush(), 0)
    assert.equal(await connect(alice, SERVERS.v6[0]), 'open')
    writer[Symbol.dispose]()
  })

  test('remove leaves no trace beside what was there before', async () => {
    feedNode(
      `table inet stranger { chain c { type filter hook forward priority 0; policy accept; }
      }`,
      'nft',
      '-f',
      '-',
    )
    onNode('ip', 'rule', 'add', 'pref', '42', 'fwmark', '0x80/0x80', 'lookup', 'main')
    onNode('ip', 'xfrm', 'policy', 'add', 'src', '203.0.113.1', 'dst', '203.0.113.2', 'dir', 'out')
    const before = kernelState()
    {
      const node = await Node.start({ hasDestinations: true })
      node.grant(ALICE.v4, SERVERS.v4[0])
      assert.notEqual(kernelState(), before)
      await node.driver.remove()
      assert.equal(kernelState(), before)
      await node[Symbol.asyncDispose]()
    }
    onNode('ip', 'rule', 'del', 'pref', '42')
    onNode('ip', 'xfrm', 'policy', 'flush')
  })

  test('the whole table as a file is one that nft takes', () => {
    for (const unknown of ['open', 'closed'] as const) {
      const ruleset = rulesetOf({ facts: FACTS }, { unknown, hasDestinations: true })
      feedNode(formatTable(renderTable(ruleset)), 'nft', '-c', '-f', '-')
    }
  })

  test('500 clients and 40 subjects are applied in one transaction', async () => {
    await using node = await Node.start()
    const clients = Array.from({ length: 500 }, (_, n) => ({
      namespace: 'team-b',
      name: `pod-${n}`,
      labels: {},
      addresses: [`10.0.${4 + (n >> 8)}.${n & 255}`, `2001:db8:3::${(n + 1).toString(16)}`],
      interface: `cali${n}`,
      subject: n % 40,
    }))
    const subjects = Array.from({ length: 40 }, (_, n) => ({
      id: `c000000000${String(n).padStart(2, '0')}`,
      policies: ['team-b/web'],
      isFaulty: false,
      questions: [],
      names: [],
      destinations: [],
    }))
    const snapshot = {
      layout: 1 as const,
      revision: 2,
      mode: 'enforce' as const,
      denyResponse: 'refused' as const,
      unknown: 'open' as const,
      clients,
      places: [],
      subjects,
      portSets: node.ruleset.portSets,
      policies: [],
    }
    const ruleset = compileRuleset(snapshot, FACTS)
    const startMs = performance.now()
    await node.driver.apply(ruleset)
    const tookMs = performance.now() - startMs
    assert.equal(await node.driver.verify(ruleset), 'same')
    assert.ok(tookMs < 10_000, `${tookMs} ms`)
  })
}
