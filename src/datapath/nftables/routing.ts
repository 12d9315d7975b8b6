/**
 * What stands outside nftables: policy routing for intercepted packets, and the guard.
 *
 * driver.ts applies it. Everything is tagged (rules and routes by a protocol number, guard policies
 * by a priority), so that what an earlier configuration left is found and removed without knowing
 * that configuration.
 *
 * RULES, at rulePriority + n
 *     0  IPv4  packets marked `intercepted` whose *source* is looked up: as usual. With
 *              src_valid_mark=1 (wg-quick, Calico with WireGuard) the kernel looks the source up
 *              with the packet's mark, finds it "local" by rule 1, and drops it as a martian (tried).
 *     1        packets marked `intercepted`: to this node, whatever their destination
 *     2        packets marked `write`: nowhere. They go to 127.0.0.1 by the table `local`, which
 *              comes first; this rule ends them when the table that swallows them is gone.
 *     3        packets marked `node`: to this node as well. A mark of their own, because the kernel
 *              looks up what a process sends as coming in from `lo`: rule 0 would send it away.
 *
 * THE ADDRESSES that we serve DNS on are the node's by routes of type `local`, which is all that the
 * kernel asks to find whether an address is its own: no interface is needed for it, and none that
 * has the address already, or gets it later, is touched (docs/adr/009-addresses-are-routes.md).
 *
 * THE GUARD keeps governed clients closed after `nft flush ruleset` by somebody else: what nothing
 * of ours has marked `seen` is not forwarded. It is a blocking IPsec policy of direction `fwd` for
 * each governed address, which asks for the mark, in both families. Tried against the alternative,
 * `ip rule iif X prohibit` behind a rule that lets the mark pass: that one also breaks the path of
 * *replies* wherever rp_filter is 1 or 2 on the uplink, because the kernel then looks the reply's
 * reverse path up as coming in from X, unmarked. What the guard can't cover: packets to the node's
 * own addresses, and other source addresses on the client's link, until the table is back.
 * Source: ip-rule(8), ip-xfrm(8), net/ipv4/fib_frontend.c (__fib_validate_source).
 */
import type { Ruleset } from '../../grant/ruleset.ts'
import { type Tools, NftError, runTool } from './tool.ts'

/** Our number among those who make rules and routes; below 256, used by no daemon we know. */
export const ROUTE_PROTOCOL = 78
/** The kernel's own table of ordinary routes. */
const MAIN_TABLE = 254
/** The kernel's own table of the node's addresses. */
const LOCAL_TABLE = 255
/** Another than the kernel's own routes have, so that both may stand side by side. */
const ROUTE_METRIC = 20039
/** Priority of our guard policies: any other number of somebody else's is not ours. */
export const GUARD_PRIORITY = 20039

export type Family = 4 | 6

export interface RoutingState {
  /** 'fwmark 0x4e470000/0xffff0000 lookup 20551', by `priority: …` as `ip rule` prints it. */
  readonly rules: readonly string[]
  readonly routes: readonly string[]
  /** Governed addresses with their mark: '10.0.0.7/32 0/0xffff0000'. */
  readonly guards: readonly string[]
  /** False: this kernel or ip knows no IPsec policies; governed clients stay unguarded. */
  readonly hasGuard: boolean
}

/** What must be there, spelled as `ip` lists it. */
export function desiredRouting(ruleset: Ruleset, family: Family): RoutingState {
  const { marks, rulePriority: priority, routingTable: table } = ruleset
  const mask = hex(marks.mask)
  const rules = [
    `${priority + 1} fwmark ${hex(marks.intercepted)}/${mask} lookup ${table}`,
    `${priority + 2} fwmark ${hex(marks.write)}/${mask} blackhole`,
    `${priority + 3} fwmark ${hex(marks.node)}/${mask} lookup ${table}`,
  ]
  if (family === 4) {
    rules.unshift(
      `${priority} fwmark ${hex(marks.intercepted)}/${mask} iif lo lookup ${MAIN_TABLE}`,
    )
  }
  return {
    rules,
    routes: [
      `local default dev lo table ${table}`,
      ...ruleset.listen
        .filter((address) => address.includes(':') === (family === 6))
        .map((address) => `local ${address} dev lo table ${LOCAL_TABLE}`),
    ],
    guards: desiredGuards(ruleset, family),
    hasGuard: true,
  }
}

/**
 * Reads what of ours is there, with one run of `ip`.
 * @param hasGuard  whether this kernel knows IPsec policies: `canGuard` said so
 */
export async function readRouting(
  tools: Tools,
  family: Family,
  hasGuard: boolean,
): Promise<RoutingState> {
  const questions = ['rule show', `route show table all proto ${ROUTE_PROTOCOL}`]
  // Last, for `ip xfrm policy` ends the whole batch when it has listed or deleted (tried).
  if (hasGuard) questions.push(`xfrm policy list dir fwd priority ${GUARD_PRIORITY}`)
  // -N: numbers, whatever /etc/iproute2 calls them.
  const options = ['-N', `-${family}`, '-batch', '-']
  const listed = await ip(tools, options, `${questions.join('\n')}\n`, 'read routing rules')
  const policiesAt = /^src /m.exec(listed)?.index ?? listed.length
  const lines = listed
    .slice(0, policiesAt)
    .split('\n')
    .map((line) => line.trim().replace(/\s+/g, ' '))
  return {
    rules: lines.filter(isOurRule).map(ruleText),
    routes: lines.filter((line) => line !== '' && !/^\d+:/.test(line)).map(routeText),
    guards: guardTexts(listed.slice(policiesAt)),
    hasGuard,
  }
}

/** Whether this kernel knows IPsec policies; without them governed clients stay unguarded. */
export async function canGuard(tools: Tools): Promise<boolean> {
  try {
    await ip(tools, ['xfrm', 'policy', 'count'], '', 'look for IPsec policies')
    return true
  } catch (error) {
    if (error instanceof NftError && error.code === 'failed') return false
    throw error
  }
}

/** Lines for `ip -batch`, to be run before and after the nft rules change. */
export interface RoutingPlan {
  readonly before: readonly string[]
  /** RoutingState.guards to remove, before as well. */
  readonly guardsGone: readonly string[]
  readonly after: readonly string[]
}

/**
 * What is new comes before the rules that need it, what is old goes after the rules that needed it.
 * The guard the other way round: it blocks what no rule marks, so it comes after the rules.
 */
export function planRouting(
  present: RoutingState,
  desired: RoutingState,
  family: Family,
): RoutingPlan {
  const { routes, rules, guards } = present
  const wanted = present.hasGuard ? desired.guards : []
  const route = (verb: string) => (text: string) => `route ${verb} ${text} proto ${ROUTE_PROTOCOL}`
  const addRoute = (text: string): string => `${route('add')(text)} metric ${ROUTE_METRIC}`
  return {
    before: [
      ...missing(desired.routes, routes).map(addRoute),
      ...missing(desired.rules, rules).map((rule) => ruleLine('add', rule)),
    ],
    guardsGone: missing(guards, wanted),
    after: [
      ...missing(rules, desired.rules).map((rule) => ruleLine('del', rule)),
      ...missing(routes, desired.routes).map(route('del')),
      ...missing(wanted, guards).map((guard) => guardLine(guard, family)),
    ],
  }
}

export async function applyRouting(
  tools: Tools,
  family: Family,
  lines: readonly string[],
  tried: string,
): Promise<void> {
  if (lines.length === 0) return
  await ip(tools, [`-${family}`, '-batch', '-'], `${lines.join('\n')}\n`, tried)
}

/**
 * One run each: `ip xfrm policy delete` does not send a mark whose value is 0, so it never finds
 * these; `deleteall` finds them by address and priority, and then ends the batch that it is in.
 */
export async function removeGuards(
  tools: Tools,
  family: Family,
  guards: readonly string[],
): Promise<void> {
  for (const guard of guards) {
    const line = `xfrm policy deleteall src ${guard.split(' ')[0]!} dir fwd priority ${GUARD_PRIORITY}`
    await applyRouting(tools, family, [line], 'remove a guard')
  }
}

/** Removes everything that carries our tags, whatever configuration it came from. */
export async function removeRouting(
  tools: Tools,
  family: Family,
  hasGuard: boolean,
): Promise<void> {
  const tried = 'remove routing rules'
  const guard = `xfrm policy deleteall dir fwd priority ${GUARD_PRIORITY}`
  const rules = `rule flush protocol ${ROUTE_PROTOCOL}`
  const routes = `route flush table all proto ${ROUTE_PROTOCOL}`
  if (hasGuard) await applyRouting(tools, family, [guard], tried)
  await applyRouting(tools, family, [rules, routes], tried)
}

/** What differs, in words; '' when nothing does. */
export function compareRouting(
  present: RoutingState,
  desired: RoutingState,
  family: Family,
): string {
  const differences: string[] = []
  const compare = (what: string, is: readonly string[], shall: readonly string[]): void => {
    for (const text of missing(shall, is)) differences.push(`${what} '${text}' is missing`)
    for (const text of missing(is, shall)) differences.push(`${what} '${text}' is too much`)
  }
  compare(`IPv${family} rule`, present.rules, desired.rules)
  compare(`IPv${family} route`, present.routes, desired.routes)
  if (present.hasGuard) compare(`IPv${family} guard`, present.guards, desired.guards)
  return differences.slice(0, 3).join('; ')
}

function desiredGuards(ruleset: Ruleset, family: Family): string[] {
  if (ruleset.mode === 'audit') return []
  const governed = [
    ...ruleset.clients.filter((client) => client.subject !== null),
    ...ruleset.unplaced,
  ]
  const isV6 = family === 6
  const addresses = governed
    .map((client) => client.address)
    .filter((address) => address.includes(':') === isV6)
  const suffix = `/${isV6 ? 128 : 32} 0/${hex(ruleset.marks.mask)}`
  return [...new Set(addresses.map((address) => `${address}${suffix}`))].toSorted()
}

function isOurRule(line: string): boolean {
  return /^\d+:/.test(line) && line.endsWith(` proto ${ROUTE_PROTOCOL}`)
}

/**
 * '100: from all fwmark 0x… lookup 254 proto 78' → '100 fwmark 0x… lookup 254'. With -N some
 * releases print an action as its number too: 6 is blackhole, 2 is local (<linux/rtnetlink.h>).
 */
function ruleText(line: string): string {
  return line
    .replace(/^(\d+):\s*from all /, '$1 ')
    .replace(/ proto \d+$/, '')
    .replace(/ 6$/, ' blackhole')
}

/** `ip` prints defaults that are not ours to say: scope, metric, preference. */
function routeText(line: string): string {
  const table = /\btable (\S+)/.exec(line)?.[1] ?? 'main'
  const device = /\bdev (\S+)/.exec(line)?.[1] ?? ''
  const head = line.split(' dev ')[0]!.replace(/^2 /, 'local ')
  return `${head} dev ${device} table ${table}`
}

/** One policy: 'src … dst …', then indented lines with priority and mark. */
function guardTexts(listed: string): string[] {
  const guards: string[] = []
  for (const policy of listed.split(/^(?=src )/m)) {
    const source = /^src (\S+) dst \S+/.exec(policy)?.[1]
    const mark = /\bmark (\S+)/.exec(policy)?.[1]
    if (source === undefined || mark === undefined) continue
    // Host addresses are printed with their length by every release that we know, but be sure.
    const address = source.includes('/') ? source : `${source}/${source.includes(':') ? 128 : 32}`
    guards.push(`${address} ${mark}`)
  }
  return guards.toSorted()
}

function ruleLine(verb: 'add' | 'del', rule: string): string {
  const [priority, ...rest] = rule.split(' ')
  return `rule ${verb} pref ${priority} ${rest.join(' ')} protocol ${ROUTE_PROTOCOL}`
}

function guardLine(guard: string, family: Family): string {
  const [source, mark = ''] = guard.split(' ')
  const [value, mask] = mark.split('/')
  const selector = `src ${source} dst ${family === 4 ? '0.0.0.0/0' : '::/0'} dir fwd`
  const action = `action block priority ${GUARD_PRIORITY}`
  return `xfrm policy add ${selector} mark ${value} mask ${mask} ${action}`
}

function missing(wanted: readonly string[], present: readonly string[]): string[] {
  const known = new Set(present)
  return wanted.filter((text) => !known.has(text))
}

function ip(
  tools: Tools,
  commandArguments: readonly string[],
  input: string,
  tried: string,
): Promise<string> {
  return runTool(tools.ip, commandArguments, input, tried, tools.timeoutMs)
}

/** As `ip` prints marks: no leading zeros. */
function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`
}
