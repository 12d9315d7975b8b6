/**
 * The chains for whoever asks from the node itself, and for addresses that are ours alone.
 *
 *     raw     from_node        a process of the node asks a server whose place we take → `lo`, to us
 *     dstnat  fall_through     nobody of us is alive, and a pod asks an address of ours ┐ straight to
 *     -100    fall_through_own the same from a process of the node                      ┘ the endpoints
 *     srcnat  fall_through_way back: what a process sends from an address of ours goes out as the node
 *
 * A packet that `from_node` marks is routed anew, comes out of `lo`, and is captured there like a
 * pod's (interception.ts). It is untracked from the beginning: tracked, kube-proxy's DNAT in the
 * output hook would send it elsewhere. With nobody alive nothing is marked and nothing untracked, so
 * that it goes where it would go without us.
 *
 * Behind a server whose place we take stands that server. Behind an address of ours (169.254.20.10)
 * stands nobody, so a DNAT rule leads to the endpoints themselves: a packet is translated once, and
 * a ClusterIP would stay one. It needs to ask for no sign of life where packets come in, because
 * what we answer is untracked and never gets there.
 *
 * Source: nft(8), route chains: a mark that changes in output makes the kernel route anew.
 */
import { DNS_PORT, type Ruleset } from '../../grant/ruleset.ts'
import { quoted } from './names.ts'
import { DNS, FAMILIES, type RenderedChain, isMark, ownersOf, setMark } from './rules.ts'

export function ownNodeChains(ruleset: Ruleset): RenderedChain[] {
  return [...(isOwnNodeServed(ruleset) ? [fromNode(ruleset)] : []), ...fallThrough(ruleset)]
}

/**
 * The node's own processes are no known client. Where those are refused, what they ask is left
 * alone and reaches what it would reach without us: the worker can't tell them from a stranger.
 */
export function isOwnNodeServed(ruleset: Ruleset): boolean {
  return ruleset.unknown === 'open' || ruleset.mode === 'audit'
}

function fromNode(ruleset: Ruleset): RenderedChain {
  const { marks } = ruleset
  const servers = ruleset.isNodeServed ? 'servers' : 'listen'
  const capture = `meta mark & 0x0 @anybody ${setMark(ruleset, marks.node)} counter notrack accept`
  return {
    name: 'from_node',
    comment: 'DNS of the node itself, while anybody is alive; never what we send',
    hook: 'type route hook output priority raw; policy accept;',
    rules: [
      `${isMark(ruleset, marks.own, marks.write, ...ownersOf(ruleset))} return`,
      ...FAMILIES.map(({ family, ip }) => `${ip} daddr @${servers}_v${family} ${DNS} ${capture}`),
    ],
  }
}

/** None where nobody knows what stands behind the servers whose place we take. */
function fallThrough(ruleset: Ruleset): RenderedChain[] {
  const served = FAMILIES.filter(({ family }) => endpointsOf(ruleset, family).length > 0)
  if (served.length === 0 || ruleset.listen.length === 0) return []
  const rules = (match: (family: 4 | 6, ip: string) => string[]): string[] =>
    served.flatMap(({ family, ip }) =>
      match(family, ip).map((who) =>
        `${who} ${ip} daddr @listen_v${family} ${DNS} goto straight_v${family}`.trimStart(),
      ),
    )
  return [
    {
      name: 'fall_through',
      comment: 'pods that ask an address of ours while nobody is alive',
      hook: 'type nat hook prerouting priority dstnat; policy accept;',
      rules: rules((family, ip) => pods(ruleset, family, ip)),
    },
    {
      name: 'fall_through_own',
      comment: 'the same for the node itself',
      hook: 'type nat hook output priority -100; policy accept;',
      rules: rules(() => ['']),
    },
    {
      name: 'fall_through_way',
      comment: 'an address of ours says nothing to others: leave as the node',
      hook: 'type nat hook postrouting priority srcnat; policy accept;',
      rules: served.map(
        ({ family, ip }) =>
          `ct status dnat ct original ${ip} daddr @listen_v${family} fib saddr type local masquerade`,
      ),
    },
    ...served.map(({ family, ip }) => straight(ruleset, family, ip)),
  ]
}

/** Those who may ask us; a governed client's DNS was dropped long before, unless we only watch. */
function pods(ruleset: Ruleset, family: 4 | 6, ip: string): string[] {
  const sets = ruleset.mode === 'audit' ? ['governed', 'ungoverned'] : ['ungoverned']
  return [
    ...sets.map((set) => `iifname . ${ip} saddr @${set}_v${family}`),
    ...(isOwnNodeServed(ruleset) ? ruleset.interfaces : []).map(
      (pattern) => `iifname ${quoted(pattern)}`,
    ),
  ]
}

/** Each endpoint gets its share of what the ones before it left. */
function straight(ruleset: Ruleset, family: 4 | 6, ip: string): RenderedChain {
  const endpoints = endpointsOf(ruleset, family)
  return {
    name: `straight_v${family}`,
    comment: 'what stands behind the servers whose place we take',
    hook: '',
    rules: endpoints.map(({ address, port }, index) => {
      const left = endpoints.length - index
      const share = left === 1 ? '' : `numgen random mod ${left} 0 `
      const target = family === 4 ? `${address}:${port}` : `[${address}]:${port}`
      return `meta l4proto { tcp, udp } th dport ${DNS_PORT} ${share}counter dnat ${ip} to ${target}`
    }),
  }
}

function endpointsOf(ruleset: Ruleset, family: 4 | 6): Ruleset['endpoints'] {
  return ruleset.endpoints.filter(({ address }) => address.includes(':') === (family === 6))
}
