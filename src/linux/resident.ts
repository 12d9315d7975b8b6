/**
 * Gives back the memory that only the start needed: code and constants of Node itself, of which a
 * start touches 50 MiB and a process that serves less than half.
 *
 * What must stay true: only pages that can be read from their file again are given back, so a page
 * that is wanted after all comes back by itself, mostly from the page cache without any reading.
 * That holds for mappings that nobody may write and that have no page of their own (relocations
 * make some). Source: madvise(2), proc_pid_smaps(5).
 */
import { readFileSync } from 'node:fs'
import { MADV_DONTNEED } from './constants.ts'
import * as libc from './libc.ts'

interface Mapping {
  readonly address: bigint
  readonly bytes: number
}

/**
 * Once the process serves; the bytes of address space that were given back: 0 on a kernel that does
 * not tell what may be.
 */
export function releaseStartPages(): number {
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
