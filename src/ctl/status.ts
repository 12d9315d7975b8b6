/**
 * `namegate status`: how this node is served, from both daemons. Exit 1 when something is not as
 * it should be, with the reasons first, because that is what a person or an alert wants to know.
 */
import type { Degradation, StatusReport } from '../observe/status.ts'
import type { CounterName } from '../pipeline/counters.ts'
import { printable } from '../printable.ts'
import { askOne, NoAnswer, type Role, ROLES } from './client.ts'
import { EXIT_NO, EXIT_OK, EXIT_UNREACHABLE, Failure } from './failure.ts'
import { compareTexts } from './list.ts'
import { type CommonOptions, daemonPlace, type Surroundings } from './surroundings.ts'
import { ageText, type Column, countOf, sizeText, tableLines } from './table.ts'

/** What -o json prints. */
export interface StatusOutput {
  readonly degraded: readonly (Degradation & { readonly process: Role })[]
  /** null: it does not answer. */
  readonly agent: StatusReport | null
  readonly proxy: StatusReport | null
}

export async function runStatus(
  options: CommonOptions,
  surroundings: Surroundings,
): Promise<number> {
  const { run, config } = daemonPlace(options, surroundings)
  const answers = await Promise.all(ROLES.map((role) => report(run, role)))
  if (answers.every((answer) => answer instanceof NoAnswer)) {
    const tried = answers.map((answer) => answer.message).join('; ')
    throw new Failure(
      EXIT_UNREACHABLE,
      `no daemon answers: ${tried}; start one (namegate proxy -c FILE), or give the FILE that it was started with by -c`,
    )
  }
  // A cache alone may run as one process; with clients to govern, one is one too few.
  const needsBoth = config !== null && (config.policy !== null || config.intercept !== null)
  const output = summarize(answers, needsBoth)
  if (options.output === 'json') surroundings.out(`${JSON.stringify(output)}\n`)
  else surroundings.out(`${statusLines(output).map(printable).join('\n')}\n`)
  return output.degraded.length > 0 ? EXIT_NO : EXIT_OK
}

async function report(run: string, role: Role): Promise<StatusReport | NoAnswer> {
  try {
    for await (const row of askOne<StatusReport>(run, role, 'status', {})) return row
    return new NoAnswer(role, `the ${role} has no status`, true)
  } catch (error) {
    if (error instanceof NoAnswer) return error
    throw error
  }
}

/** @param answers  in the order of ROLES */
export function summarize(
  answers: readonly (StatusReport | NoAnswer)[],
  needsBoth: boolean,
): StatusOutput {
  const degraded: StatusOutput['degraded'][number][] = []
  for (const answer of answers) {
    if (!(answer instanceof NoAnswer)) {
      for (const reason of answer.degraded) degraded.push({ process: answer.role, ...reason })
      continue
    }
    const isAbsent = answer.message.endsWith('is not running')
    if (isAbsent && !needsBoth) continue
    const code = isAbsent ? 'absent' : 'silent'
    degraded.push({ process: answer.role, code, message: answer.message })
  }
  const [agent, proxy] = answers.map((answer) => (answer instanceof NoAnswer ? null : answer))
  return { degraded, agent: agent ?? null, proxy: proxy ?? null }
}

/** The page that people read. */
export function statusLines(output: StatusOutput): string[] {
  const reports = [output.agent, output.proxy].filter((report) => report !== null)
  const first = reports[0]!
  const isFine = output.degraded.length === 0
  const lines = [`${first.node}: ${isFine ? 'all is well' : 'DEGRADED'}`]
  for (const { process, code, message } of output.degraded) {
    // What a process could not say itself begins with its name.
    const isSaid = !message.startsWith(`${process} `)
    lines.push(`  ${isSaid ? `${process}: ` : ''}${message} [${code}]`)
  }
  lines.push('', ...tableLines(PROCESS_COLUMNS, reports))
  lines.push('', ...tableLines(WORK_COLUMNS, reports))
  lines.push('', ...upstreamLines(reports), ...chosenLines(reports))
  lines.push('', ...policyLines(reports))
  lines.push('', ...clientLines(first))
  return lines
}

const PROCESS_COLUMNS: readonly Column<StatusReport>[] = [
  { title: 'PROCESS', cell: (report) => report.role },
  { title: 'STATE', cell: (report) => report.alive[report.role] },
  { title: 'PID', align: 'right', cell: (report) => report.pid },
  { title: 'UP', align: 'right', cell: (report) => ageText(report.uptimeSeconds) },
  { title: 'POLICY', align: 'right', cell: (report) => report.policy.revision },
  { title: 'FROM', cell: (report) => report.policy.from },
  {
    title: 'SOCKETS',
    cell: ({ sockets }) =>
      `${sockets.addresses.join(' ')} (${sockets.isShared ? 'shared' : 'alone'}, generation ${sockets.generation})`,
  },
  {
    title: 'KERNEL',
    cell: ({ kernel }) =>
      kernel.detail === '' ? kernel.state : `${kernel.state}: ${kernel.detail}`,
  },
  { title: 'VERSION', cell: (report) => report.version },
]

const WORK_COLUMNS: readonly Column<StatusReport>[] = [
  { title: 'PROCESS', cell: (report) => report.role },
  counterColumn('QUERIES', 'queries'),
  counterColumn('CACHED', 'answersCached'),
  counterColumn('STALE', 'answersStale'),
  counterColumn('DENIED', 'denied'),
  counterColumn('FAILED', 'answersFailed'),
  { title: 'LIMITED', align: 'right', cell: limitedText },
  { title: 'ANSWERS', align: 'right', cell: ({ cache }) => cache.entries.toLocaleString('en-US') },
  {
    title: 'CACHE',
    align: 'right',
    cell: ({ cache }) => `${sizeText(cache.bytes)}/${sizeText(cache.bytesMax)}`,
  },
  {
    title: 'GRANTS',
    align: 'right',
    cell: ({ kernel }) => kernel.grantCount?.toLocaleString('en-US') ?? '-',
  },
  { title: 'FLOWS', align: 'right', cell: ({ flows }) => flows.recorded.toLocaleString('en-US') },
  { title: 'LOST', align: 'right', cell: ({ flows }) => flows.lost.toLocaleString('en-US') },
]

function counterColumn(title: string, counter: string): Column<StatusReport> {
  const cell = (report: StatusReport) => report.counters[counter]?.toLocaleString('en-US') ?? '-'
  return { title, align: 'right', cell }
}

/** Bounds of one client each: pipeline/share.ts. */
const LIMIT_COUNTERS = [
  'clientLimit',
  'rateLimit',
  'grantLimit',
] as const satisfies readonly CounterName[]

function limitedText({ counters }: StatusReport): string {
  let count = 0
  for (const name of LIMIT_COUNTERS) count += counters[name] ?? 0
  return count.toLocaleString('en-US')
}

function upstreamLines(reports: readonly StatusReport[]): string[] {
  const rows = reports.flatMap((report) =>
    report.upstreams
      .filter(({ isChosen }) => !isChosen)
      .map((upstream) => ({ process: report.role, ...upstream })),
  )
  return tableLines<(typeof rows)[number]>(
    [
      { title: 'UPSTREAM', cell: (row) => row.server },
      { title: 'ZONES', cell: (row) => row.zones.join(' ') },
      { title: 'BY', cell: (row) => row.transport },
      { title: 'PROCESS', cell: (row) => row.process },
      { title: 'STATE', cell: (row) => row.state },
      { title: 'ROUND TRIP', align: 'right', cell: (row) => `${row.roundTripMs.toFixed(1)}ms` },
      { title: 'ASKED', align: 'right', cell: (row) => row.queries.toLocaleString('en-US') },
      { title: 'FAILED', align: 'right', cell: (row) => row.failures.toLocaleString('en-US') },
    ],
    rows,
  )
}

/** There may be hundreds of these; each is found with -o json. */
function chosenLines(reports: readonly StatusReport[]): string[] {
  return reports.flatMap(({ role, upstreams, counters }) => {
    const count = upstreams.filter(({ isChosen }) => isChosen).length
    const gaveWay = counters['serversGaveWay'] ?? 0
    const refused = counters['serversRefused'] ?? 0
    if (count + gaveWay + refused === 0) return []
    return [
      `${role}: ${countOf(count, 'server')} of clients' choice, ` +
        `${gaveWay.toLocaleString('en-US')} gave way to others, ` +
        `${refused.toLocaleString('en-US')} refused`,
    ]
  })
}

function policyLines(reports: readonly StatusReport[]): string[] {
  const names = new Set(reports.flatMap(({ policy }) => policy.policies.map(({ name }) => name)))
  if (names.size === 0) return ['no policy: every client is ungoverned']
  const columns: Column<string>[] = [{ title: 'POLICY', cell: (name) => name }]
  for (const report of reports) {
    const states = new Map(report.policy.policies.map(({ name, state }) => [name, state]))
    const title = `IN ${report.role.toUpperCase()} (${report.policy.mode})`
    columns.push({ title, cell: (name) => states.get(name) ?? '-' })
  }
  return tableLines(columns, [...names].toSorted(compareTexts))
}

function clientLines({ clients }: StatusReport): string[] {
  const { governed, ungoverned, ungovernable } = clients
  const lines = [
    `${countOf(governed.length, 'governed client')}, ${ungoverned.length} ungoverned${listed(ungoverned)}`,
  ]
  for (const { client, why } of ungovernable) lines.push(`  NOT GOVERNED: ${client}: ${why}`)
  return lines
}

/** Names in parentheses; more than these are found with -o json. */
const LISTED_MAX = 10

function listed(names: readonly string[]): string {
  if (names.length === 0) return ''
  const more = names.length > LISTED_MAX ? ', …' : ''
  return ` (${names.slice(0, LISTED_MAX).join(', ')}${more})`
}
