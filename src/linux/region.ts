/**
 * Regions: memory outside V8's heap that foreign calls may touch and threads share.
 *
 * This is the only place that maps foreign memory or views it. Everything that is handed to the
 * kernel (packets, socket addresses, message headers, event arrays) and everything that two
 * threads share lies in a Region, because its address is resolved once and then kept: with an
 * ordinary ArrayBuffer that keeps neither the buffer alive nor its bytes in place (tried: 3 of 4
 * runs corrupted the heap once V8 had freed a buffer of which only the address was still known).
 *
 * A region is never unmapped before the process ends. A view that outlives its memory would be a
 * use after free that no type can exclude, so regions are made at start and reused; code that
 * makes one per packet or per revision is wrong.
 *
 * Pages without access lie on both sides: a length that runs off the last page makes the system
 * call fail with EFAULT, and a library's write end the process, instead of changing a neighbour.
 */
import koffi from 'koffi'
import { assert } from '../assert.ts'
import { getpagesize, mmap, mprotect, orErrno } from './libc.ts'

// <sys/mman.h>, the same on x86-64 and arm64.
const PROT_NONE = 0
const PROT_READ_WRITE = 3
const MAP_PRIVATE_ANONYMOUS = 0x22

/** What another thread needs to attach to a region; goes through postMessage as it is. */
export interface RegionDescriptor {
  readonly address: number
  readonly bytes: number
}

export class Region {
  /** Where the memory begins in this process. Addresses have at most 52 bits: a number is exact. */
  readonly address: number
  /** Size in bytes, a multiple of 8. */
  readonly bytes: number
  readonly u8: Uint8Array
  readonly u16: Uint16Array
  readonly i32: Int32Array
  readonly u32: Uint32Array

  private constructor(address: number, bytes: number) {
    // The library makes a buffer that does not own its memory: collecting it frees nothing.
    const buffer = koffi.view(BigInt(address), bytes)
    this.address = address
    this.bytes = bytes
    this.u8 = new Uint8Array(buffer)
    this.u16 = new Uint16Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.u32 = new Uint32Array(buffer)
  }

  /**
   * Maps a new region, all zero, for the rest of the process's life. Pages cost memory when they
   * are first touched. Throws when the kernel has no room for it.
   * @param bytes  1 to 2 GiB; rounded up to a multiple of 8
   */
  static create(bytes: number): Region {
    assert(bytes > 0 && bytes <= 0x8000_0000, 'a region has 1 byte to 2 GiB')
    const pageBytes = getpagesize()
    const usable = Math.ceil(bytes / pageBytes) * pageBytes
    const guarded = usable + 2 * pageBytes
    const start = mmap(0, guarded, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0)
    if (start === -1) throw new Error(`map ${guarded} bytes: errno ${-orErrno(start)}`)
    const address = start + pageBytes
    const protectedAs = orErrno(mprotect(address, usable, PROT_READ_WRITE))
    if (protectedAs < 0) throw new Error(`make ${usable} bytes writable: errno ${-protectedAs}`)
    return new Region(address, Math.ceil(bytes / 8) * 8)
  }

  /**
   * The same memory in another thread of this process. Who writes which word, and how it is
   * published, is for the two to agree on.
   */
  static attach(descriptor: RegionDescriptor): Region {
    return new Region(descriptor.address, descriptor.bytes)
  }

  /** The address of byte `at` as a bigint, for calls in hot code: make it once and keep it. */
  pointer(at: number): bigint {
    assert(at >= 0 && at <= this.bytes, 'a pointer points into its region')
    return BigInt(this.address + at)
  }

  get descriptor(): RegionDescriptor {
    return { address: this.address, bytes: this.bytes }
  }
}
