/**
 * Takes processor time away from a process, by a control group of its own: version 2 where the
 * processor controller is there, else version 1.
 *
 *     using group = CpuGroup.create(`ngt-${process.pid}`)
 *     group.limit(daemon.pid, 5)
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const PERIOD_US = 100_000
const V2_ROOTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']
const V1_ROOTS = ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/cpu,cpuacct']

export class CpuGroup implements Disposable {
  readonly #folder: string
  readonly #root: string

  /** Throws when this machine has none: ask `missingForCpuGroups` first. */
  static create(name: string): CpuGroup {
    const root = rootOfGroups()
    if (root === null) throw new Error('no control group for processor time can be made here')
    return new CpuGroup(root, join(root, name))
  }

  private constructor(root: string, folder: string) {
    this.#root = root
    this.#folder = folder
    mkdirSync(folder)
    process.on('exit', this.#remove)
  }

  /** The process, all its threads, gets so much of one processor from now on. */
  limit(pid: number, percent: number): void {
    const quota = (PERIOD_US * percent) / 100
    if (existsSync(join(this.#folder, 'cpu.max'))) this.#write('cpu.max', `${quota} ${PERIOD_US}`)
    else {
      this.#write('cpu.cfs_period_us', PERIOD_US)
      this.#write('cpu.cfs_quota_us', quota)
    }
    this.#write('cgroup.procs', pid)
  }

  /** Gives the process back what it had. */
  release(pid: number): void {
    writeFileSync(join(this.#root, 'cgroup.procs'), String(pid))
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove)
    this.#remove()
  }

  readonly #remove = (): void => {
    const left = readFileSync(join(this.#folder, 'cgroup.procs'), 'utf8').split('\n')
    for (const pid of left.filter(Boolean)) this.release(Number(pid))
    rmdirSync(this.#folder)
  }

  #write(file: string, value: string | number): void {
    writeFileSync(join(this.#folder, file), String(value))
  }
}

/** Why no group can be made here, as a reason to skip with; false when one can. */
export function missingForCpuGroups(): string | false {
  return rootOfGroups() === null ? 'needs a writable control group with the cpu controller' : false
}

/** A folder in which a new group has a limit for processor time. */
function rootOfGroups(): string | null {
  for (const root of [...V2_ROOTS, ...V1_ROOTS]) {
    const folder = join(root, `ngt-${process.pid}-try`)
    try {
      mkdirSync(folder)
    } catch {
      continue // not there, or not ours to write
    }
    const can = ['cpu.max', 'cpu.cfs_quota_us'].some((file) => existsSync(join(folder, file)))
    rmdirSync(folder)
    if (can) return root
  }
  return null
}
