/**
 * How much memory: when idle, with 100,000 answers in the cache, and after a flood of names that
 * nobody asks for twice, more than the cache may hold.
 */
import { join } from 'node:path'
import { sleep } from '../test/support/process.ts'
import { askOne, type Role, ROLES } from '../src/ctl/client.ts'
import type { StatusReport } from '../src/observe/status.ts'
import { load } from './load.ts'
import { writeFreshNames } from './names.ts'
import { type BenchOptions, type BenchReport, fixed, median, type Target } from './report.ts'
import { inRounds } from './rounds.ts'
import { type Memory, Server } from './server.ts'
import { Stage } from './stage.ts'
import { FLOOR, OURS, OURS_BOTH, OURS_PLAIN, SUBJECTS } from './subjects.ts'
import { Workplace } from './workplace.ts'

const ADDRESSES = 32
const ANSWERS = 100_000
const FLOOD_LOOK = 250_000
const FLOOD_RECORD = 1_000_000
/** A fraction of the flood fits. */
const FLOOD_CACHE = '8MiB'
const FLOOD_CACHE_MIB = 8
/** By then is given back what only a start or a load needs: two looks of 5 s (linux/resident.ts). */
const SETTLE_MS = 11_000

const STEPS = ['idle', 'filled', 'flooded'] as const

interface Measurement {
  readonly subject: string
  readonly round: number
  readonly step: (typeof STEPS)[number]
  /** By process. */
  readonly processes: readonly Memory[]
  /** As Namegate itself says, by process. */
  readonly cacheMiB: readonly number[]
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  using workplace = new Workplace()
  const [answers, flood] = [
    join(workplace.directory, 'answers'),
    join(workplace.directory, 'flood'),
  ]
  writeFreshNames(answers, 0, ANSWERS)
  const floodCount = options.rounds === 1 ? FLOOD_LOOK : FLOOD_RECORD
  writeFreshNames(flood, ANSWERS, floodCount)
  const wanted = SUBJECTS.map(({ name }) => name).filter(
    (name) => name !== OURS_PLAIN && !name.startsWith(FLOOR),
  )
  const measurements: Measurement[] = []
  const present = await inRounds(options, wanted, async (subject, round) => {
    const look = async (server: Server, step: Measurement['step']): Promise<void> => {
      await sleep(SETTLE_MS)
      const processes = server.memory()
      const cacheMiB = await cacheBytes(server)
      measurements.push({ subject: subject.name, round, step, processes, cacheMiB })
      const texts = processes.map(({ residentMiB }) => `${fixed(residentMiB, 0)} MiB`)
      options.progress(`round ${round + 1} ${subject.name}, ${step}: ${texts.join(' + ')}`)
    }
    await using stage = await Stage.build(workplace, ADDRESSES)
    await using server = await Server.start(stage, subject)
    await look(server, 'idle')
    await load(stage, { file: answers, passes: 1, secondsMax: 40, clients: 100 })
    await look(server, 'filled')
    if (subject.name !== OURS) return
    await using other = await Stage.build(workplace, ADDRESSES)
    await using small = await Server.start(other, subject, { cacheSize: FLOOD_CACHE })
    await load(other, { file: flood, passes: 1, secondsMax: 120, clients: 100 })
    await look(small, 'flooded')
  })
  const names = Object.keys(present.subjects)
  return {
    ...present,
    measurements,
    tables: STEPS.filter((step) => measurements.some((one) => one.step === step)).map((step) => ({
      title: {
        idle: 'idle, MiB',
        filled: '100,000 cached answers, MiB',
        flooded: `${floodCount.toLocaleString('en-US')} names through a cache of ${FLOOD_CACHE}, MiB`,
      }[step],
      columns: ['', 'resident', 'of each', 'proportional', 'cache'],
      rows: names
        .filter((name) => measurements.some((one) => one.subject === name && one.step === step))
        .map((name) =>
          rowOf(
            measurements.filter((one) => one.subject === name && one.step === step),
            name,
          ),
        ),
    })),
    targets: targetsOf(measurements),
    notes: [
      'resident: VmRSS of all processes, shared pages counted for each; proportional: shared pages divided.',
      'dnsmasq takes the memory of its whole cache at its start.',
      'cache: bytes of the cache as Namegate reports them, of all processes.',
    ],
  }
}

/** Of each process of ours; empty for others. */
async function cacheBytes(server: Server): Promise<number[]> {
  const found: number[] = []
  for (const role of server.subject.name.startsWith(OURS) ? ROLES : []) {
    const status = await statusOf(server, role)
    if (status !== null) found.push(status.cache.bytes / (1 << 20))
  }
  return found
}

async function statusOf(server: Server, role: Role): Promise<StatusReport | null> {
  try {
    for await (const row of askOne<StatusReport>(
      join(server.directory, 'run'),
      role,
      'status',
      {},
    )) {
      return row
    }
  } catch {
    // This role was not started.
  }
  return null
}

function rowOf(own: readonly Measurement[], name: string): string[] {
  const total = (pick: (one: Memory) => number): string =>
    fixed(median(own.map(({ processes }) => sum(processes.map(pick)))), 1)
  const each = own[0]!.processes.map((_, index) =>
    fixed(median(own.map(({ processes }) => processes[index]!.residentMiB)), 1),
  )
  const cache =
    own[0]!.cacheMiB.length === 0 ? '–' : fixed(median(own.map((one) => sum(one.cacheMiB))), 1)
  return [
    name,
    total(({ residentMiB }) => residentMiB),
    each.join(' + '),
    total(({ proportionalMiB }) => proportionalMiB),
    cache,
  ]
}

function targetsOf(measurements: readonly Measurement[]): Target[] {
  const of = (
    subject: string,
    step: Measurement['step'],
    pick: (one: Measurement) => number,
  ): number =>
    median(measurements.filter((one) => one.subject === subject && one.step === step).map(pick))
  const resident = ({ processes }: Measurement): number =>
    sum(processes.map(({ residentMiB }) => residentMiB))
  const cache = ({ cacheMiB }: Measurement): number => sum(cacheMiB)
  return [
    {
      what: 'MiB of the proxy, idle',
      measured: of(OURS_BOTH, 'idle', ({ processes }) => processes[1]!.residentMiB),
      limit: 75,
    },
    { what: 'MiB of agent and proxy, idle', measured: of(OURS_BOTH, 'idle', resident), limit: 155 },
    {
      what: 'MiB of the agent with 100,000 answers, against idle + cache × 1.1',
      measured: of(OURS, 'filled', resident),
      limit: of(OURS, 'idle', resident) + of(OURS, 'filled', cache) * 1.1,
    },
    {
      what: 'MiB of the cache after the flood',
      measured: of(OURS, 'flooded', cache),
      limit: FLOOD_CACHE_MIB * 1.1,
    },
    {
      what: 'MiB of the agent after the flood, against idle + cache.size × 1.1',
      measured: of(OURS, 'flooded', resident),
      limit: of(OURS, 'idle', resident) + FLOOD_CACHE_MIB * 1.1,
    },
  ].filter(({ measured, limit }) => !Number.isNaN(measured + limit))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, one) => total + one, 0)
}
