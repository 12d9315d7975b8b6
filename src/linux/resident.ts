/**
 * Gives back memory that was needed for a moment only.
 *
 *     code and constants of Node itself   a start touches 50 MiB of them, and so does a compiler that
 *                                         wakes up under load; a process that serves less than half
 *     what malloc keeps for the next time the compiler's threads take and return 15 MiB
 *
 * What must stay true: of files, only pages that can be read from them again are given back, so one
 * that is wanted after all comes back by itself, mostly from the page cache without any reading.
 * That holds for mappings that nobody may write and that have no page of their own (relocations
 * make some). Source: madvise(2), proc_pid_smaps(5), malloc_trim(3).
 */
import { readFileSync } from 'node:fs'
import { MADV_DONTNEED } from './constants.ts'
import * as libc from './libc.ts'
import { lookEvery } from './looks.ts'

const LOOK_MS = 5000
/** Who grows by more between two looks still grows. */
const GROWING_BYTES = 1 << 20
/** What heaps and pages that come back make of a process in any case. */
const SPARED_BYTES = 8 << 20

interface Mapping {
  readonly address: bigint
  readonly bytes: number
}

/** Now, and from then on whenever the process has grown by much and grows no more. */
export function keepSmall(): void {
  releaseUnused()
  const growth = new Growth()
  lookEvery(LOOK_MS, () => {
    if (growth.hasEnded(process.memoryUsage.rss())) releaseUnused()
  })
}

/** Notices when a process has grown by much and then come to rest. */
export class Growth {
  #formerBytes = 0
  /** As it was when what can be spared had been given back, and what is wanted had come back. */
  #settledBytes: number | null = null

  /** To be told the size at equal intervals; true: it is to become smaller now. */
  hasEnded(bytes: number): boolean {
    const isGrowing = bytes > this.#formerBytes + GROWING_BYTES
    this.#formerBytes = bytes
    if (this.#settledBytes === null) {
      this.#settledBytes = bytes
      return false
    }
    if (isGrowing || bytes < this.#settledBytes + SPARED_BYTES) return false
    this.#settledBytes = null
    return true
  }
}

/**
 * The bytes of address space of files that were given back: 0 on a kernel that does not tell what
 * may be.
 */
export function releaseUnused(): number {
  libc.malloc_trim?.(0)
  let smaps: string
  try {
    smaps = readFileSync('/proc/self/smaps', 'utf8')
  } catch {
    return 0
  }
  let released = 0
  for (const { address, bytes } of unchangedFiles(smaps)) {
    if (libc.madvise(address, bytes, MADV_DONTNEED) === 0) released += bytes
  }
  return released
}

/** Mappings of files that can't be written and that hold nothing but what is in the file. */
export function unchangedFiles(smaps: string): Mapping[] {
  const found: Mapping[] = []
  // A line of a mapping, then one for each number that the kernel has of it.
  const blocks = smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  for (const block of blocks) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ (\d+)/.exec(block)
    const isUnchanged = /^Anonymous: +0 kB$/m.test(block)
    if (head === null || head[3] === '0' || !isUnchanged) continue
    const address = BigInt(`0x${head[1]}`)
    found.push({ address, bytes: Number(BigInt(`0x${head[2]}`) - address) })
  }
  return found
}
