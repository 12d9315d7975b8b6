/**
 * Sets of ports: the one spelling of each, its id, and its number.
 *
 * Name rules with the same ports share a port set, and a port set has kernel sets of its own. Its
 * number stands in the packets that write grants, so it must mean the same to every process that
 * is alive and to every kernel set that still holds something: numbers come from the snapshot
 * before, and a new one is the next after the highest, not the lowest that is free.
 *
 * Source of 'any': Cilium's ANY is TCP, UDP and SCTP.
 */
import { contentId } from './content-hash.ts'
import { PORT_SETS_MAX, type PortRange, type PortSet } from './snapshot.ts'

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const
const PORT_SET_ID_DIGITS = 8

/** Every port of TCP, UDP and SCTP. */
export const ALL_PORTS: PortRange = { protocol: 'any', first: 0, last: 65535 }

/**
 * The same ports in the one form that they have in a snapshot: ranges joined, 'any' where all
 * three protocols agree, sorted by protocol name and first port.
 */
export function normalPorts(ports: readonly PortRange[]): PortRange[] {
  const lists = PROTOCOLS.map((protocol) => {
    const own = ports.filter((port) => port.protocol === protocol || port.protocol === 'any')
    return joinRanges(own.map(({ first, last }) => ({ protocol, first, last })))
  })
  const shared = lists[0]!.filter((range) =>
    lists.every((list) => list.some((other) => isSameRange(range, other))),
  )
  const single = lists.flat().filter((range) => !shared.some((other) => isSameRange(range, other)))
  const any = shared.map(({ first, last }): PortRange => ({ protocol: 'any', first, last }))
  return [...any, ...single].toSorted(
    (a, b) => compareText(a.protocol, b.protocol) || a.first - b.first,
  )
}

/** Whether the ports hold this one. An empty list holds none. */
export function hasPort(
  ports: readonly PortRange[],
  protocol: PortRange['protocol'],
  port: number,
): boolean {
  return ports.some(
    (range) =>
      (range.protocol === 'any' || range.protocol === protocol) &&
      range.first <= port &&
      port <= range.last,
  )
}

/** '80/tcp 443-445/tcp sctp': a protocol alone is every port of it. */
export function formatPorts(ports: readonly PortRange[]): string {
  return ports
    .map(({ protocol, first, last }) => {
      if (first === 0) return protocol
      return first === last ? `${first}/${protocol}` : `${first}-${last}/${protocol}`
    })
    .join(' ')
}

/**
 * Gives each content (normalPorts, as JSON) its port set.
 * @param former  the port sets whose numbers are taken: those of the snapshot before, and any
 *   other that a process or the kernel may still know
 * @returns by content; a content that found all PORT_SETS_MAX numbers taken is missing
 */
export function numberPortSets(
  contents: Iterable<string>,
  former: readonly PortSet[],
): Map<string, PortSet> {
  const known = new Map(former.map((set) => [JSON.stringify(set.ports), set]))
  const taken = new Set(former.map((set) => set.number))
  const ids = new Set(former.map((set) => set.id))
  const given = new Map<string, PortSet>()
  let last = former.reduce((highest, set) => Math.max(highest, set.number), 0)
  for (const content of [...new Set(contents)].toSorted(compareText)) {
    const before = known.get(content)
    if (before !== undefined) {
      given.set(content, before)
      continue
    }
    if (taken.size === PORT_SETS_MAX) continue
    do last = (last % PORT_SETS_MAX) + 1
    while (taken.has(last))
    taken.add(last)
    const ports = JSON.parse(content) as PortRange[]
    const id = freshId(content, ids)
    ids.add(id)
    given.set(content, { number: last, id, ports })
  }
  return given
}

/** For sorting: by UTF-16 units, the same in every locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function freshId(content: string, ids: ReadonlySet<string>): string {
  for (let salt = 0; ; salt++) {
    const id = contentId(content, PORT_SET_ID_DIGITS, salt)
    if (!ids.has(id)) return id
  }
}

function joinRanges(ranges: readonly PortRange[]): PortRange[] {
  const joined: PortRange[] = []
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = joined.at(-1)
    if (before === undefined || range.first > before.last + 1) joined.push(range)
    else if (range.last > before.last) joined[joined.length - 1] = { ...before, last: range.last }
  }
  return joined
}

function isSameRange(a: PortRange, b: PortRange): boolean {
  return a.first === b.first && a.last === b.last
}
