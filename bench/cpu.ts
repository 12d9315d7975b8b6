/**
 * CPU time as the operating system has accounted it: of processes, and of the whole machine.
 *
 * What the kernel does in soft interrupts (receiving on a veth pair or on loopback) it does in the
 * time of whoever sent, as a rule: a query's way to the subject's socket is the generator's time,
 * interception included, and a reply's way to the generator's socket is the subject's. So CPU of
 * the subject alone is not all that it costs; the CPU of the generator is shown beside it.
 */
import { readdirSync, readFileSync } from 'node:fs'

/** Kernels account in ticks of 10 ms on every architecture that we run on: sysconf(_SC_CLK_TCK). */
const TICK_MS = 10

/**
 * Milliseconds of CPU of a process so far, user and system, with all its threads, its children
 * that still run and those that it has waited for. Throws when it is gone.
 * Source: proc_pid_stat(5), fields 14 to 17, in ticks; Documentation/scheduler/sched-stats.rst,
 * /proc/PID/schedstat, ns, of threads that still run. The same clock, so the larger one is right.
 */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the program's name in brackets and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = (index: number): number =>
    (Number(fields[index]) + Number(fields[index + 1])) * TICK_MS
  let exactMs = 0
  let childrenMs = ticks(13)
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const task = `/proc/${pid}/task/${thread}`
    exactMs += Number(readText(`${task}/schedstat`).split(' ')[0]) / 1e6
    for (const child of readText(`${task}/children`).split(' ')) {
      if (child.trim() !== '') childrenMs += cpuMs(Number(child))
    }
  }
  return Math.max(exactMs, ticks(11)) + childrenMs
}

/** Milliseconds of CPU of the kernel's threads for soft interrupts: what nobody's time had room for. */
export function softirqThreadsMs(): number {
  return softirqThreads.reduce((sum, pid) => sum + cpuMs(pid), 0)
}

/** None where a process sees only its own container's. */
const softirqThreads = readdirSync('/proc')
  .map(Number)
  .filter((pid) => readText(`/proc/${pid}/comm`).startsWith('ksoftirqd/'))

/** Milliseconds of CPU that the machine has spent so far on anything at all. proc_stat(5). */
export function machineCpuMs(): number {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!.trim().split(/\s+/).slice(1)
  const [user, nice, system, , , irq, softirq] = fields.map(Number)
  return (user! + nice! + system! + irq! + softirq!) * TICK_MS
}

/** Resident memory of a process now, in bytes. Pages that it shares with others count in full. */
export function residentBytes(pid: number): number {
  return kibOf(readFileSync(`/proc/${pid}/status`, 'utf8'), 'VmRSS') * 1024
}

/** Its share: pages that several processes map are divided among them. */
export function proportionalBytes(pid: number): number {
  return kibOf(readText(`/proc/${pid}/smaps_rollup`), 'Pss') * 1024
}

function kibOf(text: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN)
}

/** Empty for a thread that has ended between two looks. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
