/**
 * The chains around our own packets: DNS on its way to our sockets and back, and packets that write
 * grants.
 *
 *     raw        swallow     what workers wrote to themselves ends here
 *     raw + 10   prerouting  who sent this? DNS → our sockets; strangers on a client's link → drop
 *     raw        output      packets that write grants; replies of our sockets
 *
 * chains.ts puts them into the table. What the node itself asks comes here through own-node.ts.
 */
import { DNS_PORT, type Ruleset } from '../../grant/ruleset.ts'
import { TIMEOUT_CLASS_SECONDS } from '../../grant/timeout-class.ts'
import { ALIVE_MS } from '../driver.ts'
import { ALIVE_PORT, grantSetName, LEAVING_PORT, quoted } from './names.ts'
import { isOwnNodeServed } from './own-node.ts'
import {
  DNS,
  FAMILIES,
  type RenderedChain,
  anyOf,
  hex,
  isMark,
  linkRules,
  ownersOf,
  setMark,
} from './rules.ts'

export function interceptionChains(ruleset: Ruleset): RenderedChain[] {
  return [
    swallow(ruleset),
    prerouting(ruleset),
    ...senders(ruleset),
    ...ways(ruleset),
    ...output(ruleset),
    ...writers(ruleset),
  ]
}

/**
 * A packet that wrote a grant has done its work in the output hook. It comes out of `lo` because
 * the socket is connected to loopback; before anybody else sees it, it ends.
 */
function swallow(ruleset: Ruleset): RenderedChain {
  return {
    name: 'swallow',
    comment: 'packets that wrote grants end here',
    hook: 'type filter hook prerouting priority raw; policy accept;',
    rules: [`iifname "lo" ${isMark(ruleset, ruleset.marks.write)} drop`],
  }
}

/**
 * raw + 10: before conntrack and everybody's DNAT, but behind raw, where of two equal priorities
 * the table that registered last would run first (Calico's rpfilter).
 *
 * The chain knows clients by interface and source. Anything else on the link of a governed client
 * is that client under another address, and dropped. So is a governed client's address on any other
 * link: behind this chain, and in the worker, an address alone says who asks (pipeline/identify.ts),
 * and who could ask in another's name would open what the other may.
 */
function prerouting(ruleset: Ruleset): RenderedChain {
  return {
    name: 'prerouting',
    comment: 'who sent this?',
    hook: 'type filter hook prerouting priority raw + 10; policy accept;',
    rules: [
      isOwnNodeServed(ruleset) ? 'iifname "lo" goto own_node' : 'iifname "lo" accept',
      ...FAMILIES.map(
        ({ family, ip }) => `iifname . ${ip} saddr @governed_v${family} goto governed`,
      ),
      ...FAMILIES.map(
        ({ family, ip }) => `${ip} saddr @governed_addresses_v${family} goto other_source`,
      ),
      ...FAMILIES.map(
        ({ family, ip }) => `iifname . ${ip} saddr @ungoverned_v${family} goto ungoverned`,
      ),
      ...FAMILIES.map(({ family, ip }) => `${ip} saddr @unplaced_v${family} goto unplaced`),
      'iifname @governed_interfaces goto other_source',
      ...ruleset.interfaces.map((pattern) =>
        ruleset.unknown === 'open'
          ? `iifname ${quoted(pattern)} goto ungoverned`
          : `iifname ${quoted(pattern)} ${DNS} goto ${governedDns(ruleset)}`,
      ),
    ],
  }
}

/** By who sent it. */
function senders(ruleset: Ruleset): RenderedChain[] {
  const { marks } = ruleset
  const ownNode: RenderedChain = {
    name: 'own_node',
    comment: 'processes of the node that ask us; never our own upstream queries',
    hook: '',
    rules: [
      isMark(ruleset, marks.own, ...ownersOf(ruleset)) + ' return',
      'jump ungoverned',
      // Somebody was alive a moment ago, and has no socket any more. The next try goes elsewhere; a
      // refusal would be final.
      isMark(ruleset, marks.node) + ' counter drop',
    ],
  }
  return [
    ...(isOwnNodeServed(ruleset) ? [ownNode] : []),
    {
      name: 'governed',
      comment: 'DNS to any server comes to us; the rest gets the mark that the guard asks for',
      hook: '',
      rules: [`${DNS} goto ${governedDns(ruleset)}`, setMark(ruleset, marks.seen)],
    },
    {
      name: 'other_source',
      comment: "no client's own; it may be without an address for as long as it asks for one",
      hook: '',
      // What returns here is judged again by input and forward; only input knows these packets.
      rules: [...linkRules('return'), 'goto deny_source'],
    },
    {
      name: 'unplaced',
      comment: '',
      hook: '',
      rules: [...linkRules('return'), 'goto deny_unplaced'],
    },
    {
      name: 'ungoverned',
      comment: 'DNS to the servers whose place we take',
      hook: '',
      rules: FAMILIES.map(
        ({ family, ip }) => `${ip} daddr @servers_v${family} ${DNS} goto stand_in`,
      ),
    },
  ]
}

/** Where a query goes. */
function ways(ruleset: Ruleset): RenderedChain[] {
  const { mask } = ruleset.marks
  const accepted =
    'tcp flags & (fin | syn | rst | ack) != syn socket transparent 1 ' +
    `socket mark & ${hex(mask)} ${anyOf(ownersOf(ruleset))}`
  return [
    {
      name: 'governed_dns',
      comment: 'to us, or nowhere',
      hook: '',
      // Without a socket of ours `tproxy` breaks off and the packet comes back here.
      rules: ['meta l4proto tcp jump orphans', 'jump capture', 'counter drop'],
    },
    {
      name: 'stand_in',
      comment: 'to us while anybody is alive; else it goes on, as if we were not there',
      hook: '',
      rules: ['meta l4proto tcp jump orphans', 'meta mark & 0x0 @anybody goto capture'],
    },
    {
      name: 'orphans',
      comment: 'a TCP connection whose owner is dead or hung is reset, else it is his to the end',
      hook: '',
      // Only of DNS and never a SYN: `socket transparent` alone took a stranger's listener (tried).
      // An owner that is about to stop has it although nobody is there for further questions.
      rules: [
        `${accepted} socket mark & ${hex(mask)} != @owners counter reject with tcp reset`,
        `${accepted} goto capture`,
      ],
    },
    {
      name: 'capture',
      comment: 'untracked in both directions, the original destination kept',
      hook: '',
      rules: captureRules(ruleset),
    },
  ]
}

/** Audit denies nothing, so a client that it watches falls through like an ungoverned one. */
function governedDns(ruleset: Ruleset): 'governed_dns' | 'stand_in' {
  return ruleset.mode === 'enforce' ? 'governed_dns' : 'stand_in'
}

/**
 * One rule from tproxy to accept: when there is no socket the rule breaks off before it has marked
 * or untracked anything.
 */
function captureRules(ruleset: Ruleset): string[] {
  const rest = `${setMark(ruleset, ruleset.marks.intercepted)} counter notrack accept`
  const rules: string[] = []
  const { v4, v6 } = ruleset.sockets
  const head = 'meta l4proto { tcp, udp } tproxy'
  if (v4 !== null) rules.push(`meta nfproto ipv4 ${head} ip to ${v4}:${DNS_PORT} ${rest}`)
  if (v6 !== null) rules.push(`meta nfproto ipv6 ${head} ip6 to [${v6}]:${DNS_PORT} ${rest}`)
  return rules
}

/**
 * Replies are untracked too: tracked, each would leave an entry "server:53 → client" in conntrack,
 * and after a fall-through the same client port would get nothing (tried: 0 of 5). Upstream queries
 * stay tracked, for they need kube-proxy's DNAT; theirs is another source port.
 */
function output(ruleset: Ruleset): RenderedChain[] {
  const { marks } = ruleset
  const alive = `update @alive { udp sport timeout ${ALIVE_MS}ms }`
  const replies = `meta l4proto { tcp, udp } th sport ${DNS_PORT} notrack`
  return [
    {
      name: 'output',
      comment: 'grants, and replies of our sockets',
      hook: 'type filter hook output priority raw; policy accept;',
      rules: [
        `${isMark(ruleset, marks.write)} goto write`,
        `${isMark(ruleset, marks.own, ...ownersOf(ruleset))} ${replies}`,
      ],
    },
    {
      name: 'write',
      comment:
        'source: client; destination: address; UDP source port: place; destination port: set',
      hook: '',
      // Falling off the end is EPERM for the writer: dead, set full, or its own probe (writer.ts).
      rules: [
        `udp dport ${anyOf([ALIVE_PORT, LEAVING_PORT].map(String))} goto refresh`,
        'udp sport @alive udp dport vmap @writers',
        'counter drop',
      ],
    },
    {
      name: 'refresh',
      comment: `a worker is alive for ${ALIVE_MS} ms`,
      hook: '',
      rules: [
        `udp sport != ${anyOf(ruleset.places.map(String))} drop`,
        ...ruleset.places.map((place) => {
          const owner = hex(marks.owners[place]!)
          return `udp sport ${place} update @owners { meta mark & 0x0 | ${owner} timeout ${ALIVE_MS}ms }`
        }),
        // A constant key (0, whatever the mark) makes a set a flag that runs out by itself.
        `udp dport != ${LEAVING_PORT} update @anybody { meta mark & 0x0 timeout ${ALIVE_MS}ms }`,
        // Accepted if it stood: in a table made anew it does not, and so its writer notices.
        `udp sport @alive ${alive} notrack accept`,
        `${alive} drop`,
        'drop',
      ],
    },
  ]
}

/** `update` and not `add`: it extends what is there. A full set breaks the rule off: no accept. */
function writers(ruleset: Ruleset): RenderedChain[] {
  return ruleset.portSets.flatMap((portSet) =>
    TIMEOUT_CLASS_SECONDS.map((seconds) => ({
      name: `write_${portSet.id}_${seconds}`,
      comment: '',
      hook: '',
      rules: FAMILIES.map(({ family, ip }) => {
        const set = grantSetName(portSet.id, seconds, family)
        return `update @${set} { ${ip} saddr . ${ip} daddr } notrack accept`
      }),
    })),
  )
}
