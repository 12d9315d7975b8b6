/**
 * Plans the transaction that makes the table in the kernel equal to a rendered one.
 *
 * driver.ts reads what is present (reader.ts), asks here, and hands the text to `nft -f -`, which
 * applies it as a whole or not at all. Pure.
 *
 * What must stay true:
 * - A set that packets write is created or removed, never made anew: its elements are grants. One
 *   that exists with another size keeps it until its port set goes.
 * - Nothing to change: no text, so that nothing is written and no generation is bumped for others.
 * - Everything in one transaction: a packet meets the old rules or the new ones, never half.
 *
 * What a chain of ours holds in the kernel can't be compared with our text, since nft prints rules
 * in its own words. So we remember what we wrote (`known`), and trust that only while the listing is
 * the one that came back after writing (the mark in the chain `about`). Otherwise every chain and
 * fixed set is filled again, in one transaction, which is cheap and seldom.
 */
import type { RenderedChain } from './rules.ts'
import { TABLE, quoted } from './names.ts'
import type { RenderedSet, RenderedTable } from './ruleset.ts'

/** Names in the kernel; what they hold is told by the fingerprint. */
export interface PresentTable {
  readonly sets: ReadonlyMap<string, 'set' | 'map'>
  readonly chains: ReadonlySet<string>
}

/**
 * @param present  null: there is no table
 * @param known  what is in the table for certain; null: only the names are known
 * @returns nft commands, one a line; empty when nothing changes
 */
export function planTable(
  present: PresentTable | null,
  known: RenderedTable | null,
  desired: RenderedTable,
): string[] {
  const here = present ?? { sets: new Map<string, 'set' | 'map'>(), chains: new Set<string>() }
  const knownChains = new Map(known?.chains.map((chain) => [chain.name, chain]))
  const knownSets = new Map(known?.sets.map((set) => [set.name, set]))
  const plan: Plan = { create: [], clear: [], fill: [], remove: [] }
  if (present === null) plan.create.push(`add table inet ${TABLE}`)
  for (const set of desired.sets) planSet(plan, here, knownSets.get(set.name), set)
  for (const chain of desired.chains) planChain(plan, here, knownChains.get(chain.name), chain)
  const wanted = new Set([...desired.chains, ...desired.sets].map((object) => object.name))
  const wantedChains = new Set(desired.chains.map((chain) => chain.name))
  for (const name of here.chains) {
    if (wantedChains.has(name) || name === ABOUT_CHAIN) continue
    plan.clear.push(`flush chain inet ${TABLE} ${name}`)
    plan.remove.push(`delete chain inet ${TABLE} ${name}`)
  }
  for (const [name, kind] of here.sets) {
    if (wanted.has(name)) continue
    // A map's verdicts hold its chains: emptied before they go.
    plan.clear.push(`flush ${kind} inet ${TABLE} ${name}`)
    plan.remove.push(`delete ${kind} inet ${TABLE} ${name}`)
  }
  return [...plan.create, ...plan.clear, ...plan.fill, ...plan.remove]
}

/** Never hooked; its one rule says what the table is. */
export const ABOUT_CHAIN = 'about'

/** Writes the mark; the second transaction of an `apply`. */
export function planAbout(isNew: boolean, text: string): string[] {
  const chain = `inet ${TABLE} ${ABOUT_CHAIN}`
  return [
    isNew ? `add chain ${chain} { comment "what this table was made from"; }` : '',
    `flush chain ${chain}`,
    `add rule ${chain} return comment "${text}"`,
  ].filter((line) => line !== '')
}

interface Plan {
  readonly create: string[]
  readonly clear: string[]
  readonly fill: string[]
  readonly remove: string[]
}

function planSet(
  plan: Plan,
  present: PresentTable,
  known: RenderedSet | undefined,
  set: RenderedSet,
): void {
  const name = `inet ${TABLE} ${set.name}`
  const isPresent = present.sets.has(set.name)
  if (!isPresent) plan.create.push(`add ${set.kind} ${name} { ${set.definition}; }`)
  if (set.isLive) return
  if (!isPresent || known === undefined) {
    if (isPresent) plan.clear.push(`flush ${set.kind} ${name}`)
    pushElements(plan.fill, 'add', name, set.elements)
    return
  }
  const before = new Set(known.elements)
  const after = new Set(set.elements)
  const gone = known.elements.filter((element) => !after.has(element))
  // A map is told by its key which element goes, and refuses a value that is not the present one.
  pushElements(plan.clear, 'delete', name, gone)
  pushElements(
    plan.fill,
    'add',
    name,
    set.elements.filter((element) => !before.has(element)),
  )
}

function planChain(
  plan: Plan,
  present: PresentTable,
  known: RenderedChain | undefined,
  chain: RenderedChain,
): void {
  const name = `inet ${TABLE} ${chain.name}`
  const isPresent = present.chains.has(chain.name)
  if (isPresent && known !== undefined && isSameChain(known, chain)) return
  if (isPresent) plan.clear.push(`flush chain ${name}`)
  else plan.create.push(`add chain ${name}${chainBody(chain)}`)
  plan.fill.push(...chain.rules.map((rule) => `add rule ${name} ${rule}`))
}

/** Hook and comment of a chain can't be changed: names of chains stand for both. */
function chainBody(chain: RenderedChain): string {
  const comment = chain.comment === '' ? '' : `comment ${quoted(chain.comment)};`
  const body = `${chain.hook} ${comment}`.trim()
  return body === '' ? '' : ` { ${body} }`
}

function isSameChain(a: RenderedChain, b: RenderedChain): boolean {
  return a.rules.length === b.rules.length && a.rules.every((rule, n) => rule === b.rules[n])
}

/** nft reads a line of any length, but a transaction of one line has no line number in an error. */
const ELEMENTS_A_LINE = 256

export function pushElements(
  lines: string[],
  verb: 'add' | 'delete',
  name: string,
  elements: readonly string[],
): void {
  for (let from = 0; from < elements.length; from += ELEMENTS_A_LINE) {
    const some = elements.slice(from, from + ELEMENTS_A_LINE)
    lines.push(`${verb} element ${name} { ${some.join(', ')} }`)
  }
}
