/**
 * Where the fields of C's structs lie, in bytes from their start, on 64-bit Linux.
 *
 * x86-64 and arm64 agree on all of them but epoll_event. layout.test.ts prints sizeof and offsetof
 * with gcc and compares: a constant that is added here gets a line there.
 *
 * A pointer or size_t has 8 bytes. Those that we write once are written whole (`writePointer`);
 * lengths that change per call are written as their low word, the high one stays zero.
 */
import type { Region } from './region.ts'

/*
 * struct sockaddr_in                          struct sockaddr_in6
 *     0  family  2 bytes                          0  family  2 bytes
 *     2  port    2 bytes, big endian              2  port    2 bytes, big endian
 *     4  address 4 bytes                          4  flow information
 *     8  zero    8 bytes                          8  address 16 bytes
 *                                                24  scope   4 bytes: interface of a link-local
 */
export const SOCKADDR_PORT = 2
export const SOCKADDR_IN_ADDRESS = 4
export const SOCKADDR_IN_BYTES = 16
export const SOCKADDR_IN6_ADDRESS = 8
export const SOCKADDR_IN6_SCOPE = 24
export const SOCKADDR_IN6_BYTES = 28
/** Room for either, a multiple of 8. */
export const SOCKADDR_ROOM = 32

/* struct sockaddr_un: family, then the path with its final zero byte. */
export const SOCKADDR_UN_PATH = 2
export const SOCKADDR_UN_BYTES = 110

/*
 * struct mmsghdr
 *     0  msg_name        pointer ─┐
 *     8  msg_namelen     4 bytes  │
 *    16  msg_iov         pointer  │
 *    24  msg_iovlen      8 bytes  │ struct msghdr
 *    32  msg_control     pointer  │
 *    40  msg_controllen  8 bytes  │
 *    48  msg_flags       4 bytes ─┘
 *    56  msg_len         4 bytes: what the kernel sent or received
 */
export const MSGHDR_NAME = 0
export const MSGHDR_NAME_BYTES = 8
export const MSGHDR_IOVEC = 16
export const MSGHDR_IOVEC_COUNT = 24
export const MSGHDR_CONTROL = 32
export const MSGHDR_CONTROL_BYTES = 40
export const MSGHDR_FLAGS = 48
export const MSGHDR_BYTES = 56
export const MMSGHDR_LENGTH = 56
export const MMSGHDR_BYTES = 64

/* struct iovec: pointer, length. */
export const IOVEC_LENGTH = 8
export const IOVEC_BYTES = 16

/* struct cmsghdr: cmsg_len (8 bytes, header and data), level, type; data; padding to 8. cmsg(3) */
export const CMSG_LEVEL = 8
export const CMSG_TYPE = 12
export const CMSG_DATA = 16

/* struct in_pktinfo: interface, source to send from, destination in the header. ip(7) */
export const IN_PKTINFO_INTERFACE = 0
export const IN_PKTINFO_SOURCE = 4
export const IN_PKTINFO_DESTINATION = 8
export const IN_PKTINFO_BYTES = 12

/* struct in6_pktinfo: address (source to send from, destination received), interface. ipv6(7) */
export const IN6_PKTINFO_ADDRESS = 0
export const IN6_PKTINFO_INTERFACE = 16
export const IN6_PKTINFO_BYTES = 20

/* struct pollfd: descriptor, events asked for, events returned. poll(2) */
export const POLLFD_EVENTS = 4
export const POLLFD_RETURNED = 6
export const POLLFD_BYTES = 8

/* struct epoll_event: events, data. x86-64 packs it so that 32-bit programs see the same bytes. */
const isPacked = process.arch === 'x64'
export const EPOLL_EVENT_DATA = isPacked ? 4 : 8
export const EPOLL_EVENT_BYTES = isPacked ? 12 : 16

/* struct timespec: seconds, nanoseconds, 8 bytes each. */
export const TIMESPEC_NANOSECONDS = 8
export const TIMESPEC_BYTES = 16

/* struct ucred: process, user, group. */
export const UCRED_PID = 0
export const UCRED_UID = 4
export const UCRED_GID = 8
export const UCRED_BYTES = 12

/** cmsg_len of a control message with `dataBytes` of data: CMSG_LEN in cmsg(3). */
export function controlLength(dataBytes: number): number {
  return CMSG_DATA + dataBytes
}

/** What it takes with its padding: CMSG_SPACE in cmsg(3). */
export function controlSpace(dataBytes: number): number {
  return CMSG_DATA + ((dataBytes + 7) & ~7)
}

/** Writes the address of byte `target` of the region into the pointer at byte `at`. */
export function writePointer(region: Region, at: number, target: number): void {
  writeAddress(region, at, region.address + target)
}

/** Writes a pointer to anywhere at byte `at`, a multiple of 8. */
export function writeAddress(region: Region, at: number, address: number): void {
  region.u32[at >> 2] = address % 2 ** 32
  region.u32[(at >> 2) + 1] = Math.floor(address / 2 ** 32)
}
