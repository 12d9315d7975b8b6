/**
 * The process itself: clocks, its end, locks.
 *
 * What a worker thread can't ask Node for, or not without allocating. Clocks are milliseconds as
 * numbers, and CLOCK_MONOTONIC is the same in every process of the machine, so that two of them
 * can compare times. Source: clock_gettime(2), _exit(2), flock(2).
 */
import { closeSync, openSync } from 'node:fs'
import { constants, getPriority, setPriority } from 'node:os'
import {
  CLOCK_MONOTONIC,
  CLOCK_PROCESS_CPUTIME_ID,
  CLOCK_THREAD_CPUTIME_ID,
  LOCK_EX,
  LOCK_NB,
} from './constants.ts'
import { EAGAIN, EINTR } from './errno.ts'
import { TIMESPEC_BYTES, TIMESPEC_NANOSECONDS } from './layout.ts'
import * as libc from './libc.ts'
import { orErrno } from './libc.ts'
import { Region } from './region.ts'
import { SocketError } from './socket.ts'

const TEXT_AT = TIMESPEC_BYTES
const TEXT_BYTES_MAX = 4096
/** Made before anything fails: a process that is about to end must not have to map memory. */
const scratch = Region.create(TIMESPEC_BYTES + TEXT_BYTES_MAX)
const timePointer = scratch.pointer(0)
const textPointer = scratch.pointer(TEXT_AT)
const encoder = new TextEncoder()

/**
 * Ends the process at once, from any thread: no exit handler runs, nothing is flushed, and other
 * threads, however stuck, end with it. Its sockets live on in the peer that holds them too.
 */
export function exitNow(code: number): never {
  libc._exit(code)
  throw new Error('_exit came back')
}

/**
 * Writes to standard error without Node's streams, which a worker thread only has through the main
 * thread. The last words before `exitNow`: what is longer than 4096 bytes is cut.
 */
export function writeStderr(text: string): void {
  const area = scratch.u8.subarray(TEXT_AT, TEXT_AT + TEXT_BYTES_MAX)
  const { written } = encoder.encodeInto(text, area)
  libc.write(2, textPointer, written)
}

/**
 * Milliseconds since the machine started, less the time it slept; whole, and 0.15 µs to ask for.
 * For 24 days it fits V8's small integers and allocates nothing; later a reading that escapes
 * costs 16 bytes. Kernel timeouts count by the same clock.
 */
export function monotonicMs(): number {
  libc.clock_gettime(CLOCK_MONOTONIC, timePointer)
  return scratch.i32[0]! * 1000 + ((scratch.i32[TIMESPEC_NANOSECONDS >> 2]! / 1e6) | 0)
}

/**
 * Lets other threads have the processor first from now on. On Linux a thread has a nice value of
 * its own; threads and processes that it begins later have the same, those before it keep theirs.
 * Needs no privilege. Where it is forbidden all the same, nothing changes. Source: setpriority(2).
 */
export function giveWay(): void {
  const { PRIORITY_BELOW_NORMAL } = constants.priority
  try {
    if (getPriority() < PRIORITY_BELOW_NORMAL) setPriority(PRIORITY_BELOW_NORMAL)
  } catch {
    // A sandbox's filter: threads of equal rank are slower, not wrong.
  }
}

/**
 * Lets those first who wait for this thread's processor, and returns at once if nobody does (0.5 µs).
 * For work that nobody waits for, after each stretch of some 50 µs: a thread that has slept may
 * otherwise run for a millisecond before one that must answer gets its turn, whatever its nice
 * value. Where it is forbidden, nothing changes. Source: sched_yield(2).
 */
export function letOthersRun(): void {
  libc.sched_yield()
}

/** CPU time that this process has used, in milliseconds with fractions. */
export function processCpuMs(): number {
  return readClockMs(CLOCK_PROCESS_CPUTIME_ID)
}

/** CPU time that the calling thread has used, in milliseconds with fractions. */
export function threadCpuMs(): number {
  return readClockMs(CLOCK_THREAD_CPUTIME_ID)
}

/** Seconds are read as their low word: 2³² s are 136 years of running. */
function readClockMs(clock: number): number {
  libc.clock_gettime(clock, timePointer)
  return scratch.u32[0]! * 1000 + scratch.u32[TIMESPEC_NANOSECONDS >> 2]! / 1e6
}

/**
 * Takes the lock of a file, which is created if missing (mode 0600) and never removed. The lock
 * goes with the last copy of the descriptor, however the process ends: no stale lock can remain.
 * The descriptor, which `closeSync` gives back; null when somebody else has it. Throws Node's
 * error when the file can't be opened.
 */
export function lockFile(path: string): number | null {
  const fd = openSync(path, 'a', 0o600)
  let result = orErrno(libc.flock(fd, LOCK_EX | LOCK_NB))
  while (result === -EINTR) result = orErrno(libc.flock(fd, LOCK_EX | LOCK_NB))
  if (result === 0) return fd
  closeSync(fd)
  if (result === -EAGAIN) return null
  throw new SocketError(`lock ${path}`, -result)
}

/** Index of a network interface of this namespace, or 0 when there is none of that name. */
export function interfaceIndex(name: string): number {
  const area = scratch.u8.subarray(TEXT_AT, TEXT_AT + TEXT_BYTES_MAX - 1)
  const { written } = encoder.encodeInto(name, area)
  scratch.u8[TEXT_AT + written] = 0
  return libc.if_nametoindex(textPointer)
}
