/**
 * Sequenced-packet sockets between the processes of one node: the peer sync.
 *
 * Messages keep their bounds and order; a message may carry file descriptors (SCM_RIGHTS), which
 * is how the listening sockets come into every process. The path decides who may connect: mode
 * 0600, in a directory of ours.
 *
 * What must stay true: a received descriptor is ours to close, also when the message is refused;
 * a cut message is an error, never a short one. Main thread only: names are made by blocking file
 * calls. Source: unix(7), cmsg(3), seqpacket in socket(2).
 */
import { closeSync, lstatSync, unlinkSync } from 'node:fs'
import { assert } from '../assert.ts'
import {
  AF_UNIX,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOL_SOCKET,
  SO_PEERCRED,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
} from './constants.ts'
import { EADDRINUSE, ECONNREFUSED, EMSGSIZE, ENAMETOOLONG } from './errno.ts'
import {
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSGHDR_BYTES,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_BYTES,
  MSGHDR_FLAGS,
  MSGHDR_IOVEC,
  MSGHDR_IOVEC_COUNT,
  SOCKADDR_UN_BYTES,
  SOCKADDR_UN_PATH,
  UCRED_BYTES,
  UCRED_GID,
  UCRED_PID,
  UCRED_UID,
  controlLength,
  controlSpace,
  writeAddress,
  writePointer,
} from './layout.ts'
import * as libc from './libc.ts'
import { type Address, orErrno } from './libc.ts'
import { lockFile } from './process.ts'
import { Region } from './region.ts'
import { SocketError, close, mustWork, setBuffer } from './socket.ts'

/** Descriptors that one message can carry; the kernel's own bound is 253. */
export const DESCRIPTORS_MAX = 16

/**
 * What may wait in a connection. Without CAP_NET_ADMIN it is cut to net.core.wmem_max (208 KiB
 * unless somebody changed it, which the kernel doubles); a message longer than the buffer is
 * refused with EMSGSIZE, so that messages of up to 128 KiB pass everywhere.
 */
const BUFFER_BYTES = 1024 * 1024

const BACKLOG = 16

export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

export interface ReceivedMessage {
  /** Bytes; 0: the peer has closed; -errno: -EAGAIN for nothing there, -EMSGSIZE for a cut one. */
  readonly bytes: number
  /** The caller's, to keep or to close. */
  readonly descriptors: readonly number[]
}

// One header for sending and receiving: calls are synchronous.
const IOVEC_AT = MSGHDR_BYTES
const CONTROL_AT = IOVEC_AT + IOVEC_BYTES
const CONTROL_BYTES = controlSpace(DESCRIPTORS_MAX * 4)
const CREDENTIALS_AT = CONTROL_AT + CONTROL_BYTES
const CREDENTIALS_BYTES_AT = CREDENTIALS_AT + UCRED_BYTES
const NAME_AT = CREDENTIALS_BYTES_AT + 4
const scratch = Region.create(NAME_AT + SOCKADDR_UN_BYTES)
const { i32, u32 } = scratch
writePointer(scratch, MSGHDR_IOVEC, IOVEC_AT)
u32[MSGHDR_IOVEC_COUNT >> 2] = 1
writePointer(scratch, MSGHDR_CONTROL, CONTROL_AT)

/**
 * A listening socket at `path`; its descriptor, and the path's removal at the end, are the
 * caller's. A path that nobody listens at any more is replaced; where somebody answers, it throws
 * SocketError with EADDRINUSE. Who comes first is decided under a lock on `path`.lock.
 */
export function listenSeqpacket(path: string): number {
  const tried = `listen at ${path}`
  const lock = lockFile(`${path}.lock`)
  if (lock === null) throw new SocketError(`${tried}: somebody is starting there`, EADDRINUSE)
  let fd = -1
  try {
    fd = mustWork(tried, openSeqpacket())
    // Before bind: on Linux the file gets the socket's own mode, so it never exists with another.
    mustWork(`${tried}: set its mode`, orErrno(libc.fchmod(fd, 0o600)))
    let result = bindTo(fd, path)
    if (result === -EADDRINUSE && removeStale(path)) result = bindTo(fd, path)
    mustWork(`${tried}: bind`, result)
    mustWork(tried, orErrno(libc.listen(fd, BACKLOG)))
    return fd
  } catch (error) {
    if (fd >= 0) close(fd)
    throw error
  } finally {
    closeSync(lock)
  }
}

/** The next waiting connection, or -errno (-EAGAIN: none). */
export function acceptSeqpacket(listener: number): number {
  const fd = orErrno(libc.accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC))
  if (fd >= 0) enlargeBuffers(fd)
  return fd
}

/**
 * A connection to whoever listens at `path`, or -errno: -ENOENT and -ECONNREFUSED for nobody,
 * -EAGAIN for somebody who does not accept.
 */
export function connectSeqpacket(path: string): number {
  const fd = openSeqpacket()
  if (fd < 0) return fd
  const result = connectTo(fd, path)
  if (result === 0) return fd
  close(fd)
  return result
}

/**
 * Sends one message without waiting. Bytes sent, which are all of them, or -errno: -EAGAIN when
 * the peer's buffer is full, -EMSGSIZE for a message that will never fit, -EPIPE when it is gone.
 * @param bytes  at least 1: an empty message reads as the end
 * @param descriptors  at most DESCRIPTORS_MAX; the peer gets copies, these stay the caller's
 */
export function sendMessage(
  fd: number,
  address: Address,
  bytes: number,
  descriptors: readonly number[] = [],
): number {
  const count = descriptors.length
  assert(bytes > 0 && count <= DESCRIPTORS_MAX, 'a message has a byte and at most 16 descriptors')
  writeAddress(scratch, IOVEC_AT, Number(address))
  u32[(IOVEC_AT + IOVEC_LENGTH) >> 2] = bytes
  u32[MSGHDR_CONTROL_BYTES >> 2] = count === 0 ? 0 : controlSpace(count * 4)
  u32[CONTROL_AT >> 2] = controlLength(count * 4)
  i32[(CONTROL_AT + CMSG_LEVEL) >> 2] = SOL_SOCKET
  i32[(CONTROL_AT + CMSG_TYPE) >> 2] = SCM_RIGHTS
  for (let n = 0; n < count; n++) i32[((CONTROL_AT + CMSG_DATA) >> 2) + n] = descriptors[n]!
  return orErrno(libc.sendmsg(fd, scratch.address, MSG_DONTWAIT | MSG_NOSIGNAL))
}

/** Receives one message, of at most `bytesMax` bytes to `address`, without waiting. */
export function receiveMessage(fd: number, address: Address, bytesMax: number): ReceivedMessage {
  writeAddress(scratch, IOVEC_AT, Number(address))
  u32[(IOVEC_AT + IOVEC_LENGTH) >> 2] = bytesMax
  u32[MSGHDR_CONTROL_BYTES >> 2] = CONTROL_BYTES
  const bytes = orErrno(libc.recvmsg(fd, scratch.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC))
  if (bytes < 0) return { bytes, descriptors: [] }
  const descriptors = readDescriptors()
  if ((i32[MSGHDR_FLAGS >> 2]! & (MSG_TRUNC | MSG_CTRUNC)) === 0) return { bytes, descriptors }
  for (const descriptor of descriptors) close(descriptor)
  return { bytes: -EMSGSIZE, descriptors: [] }
}

/** Who connected, as the kernel noted it at that moment. Throws SocketError. */
export function peerCredentials(fd: number): PeerCredentials {
  u32[CREDENTIALS_BYTES_AT >> 2] = UCRED_BYTES
  const value = scratch.address + CREDENTIALS_AT
  const valueBytes = scratch.address + CREDENTIALS_BYTES_AT
  const result = orErrno(libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, valueBytes))
  mustWork('ask who is at the other end', result)
  return {
    pid: i32[(CREDENTIALS_AT + UCRED_PID) >> 2]!,
    uid: u32[(CREDENTIALS_AT + UCRED_UID) >> 2]!,
    gid: u32[(CREDENTIALS_AT + UCRED_GID) >> 2]!,
  }
}

function openSeqpacket(): number {
  const type = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC
  const fd = orErrno(libc.socket(AF_UNIX, type, 0))
  if (fd >= 0) enlargeBuffers(fd)
  return fd
}

function enlargeBuffers(fd: number): void {
  setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, BUFFER_BYTES)
  setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, BUFFER_BYTES)
}

/** Whether `path` was a socket that nobody listens at, and is now gone. */
function removeStale(path: string): boolean {
  // Connecting to a file that is no socket is refused as well: never remove such a one.
  if (!lstatSync(path).isSocket()) return false
  const fd = openSeqpacket()
  if (fd < 0) return false
  const result = connectTo(fd, path)
  close(fd)
  if (result !== -ECONNREFUSED) return false
  unlinkSync(path)
  return true
}

function bindTo(fd: number, path: string): number {
  const bytes = writeName(path)
  return bytes < 0 ? bytes : orErrno(libc.bind(fd, scratch.address + NAME_AT, bytes))
}

function connectTo(fd: number, path: string): number {
  const bytes = writeName(path)
  return bytes < 0 ? bytes : orErrno(libc.connect(fd, scratch.address + NAME_AT, bytes))
}

/** Writes a sockaddr_un; its size, or -ENAMETOOLONG past 107 bytes of path. */
function writeName(path: string): number {
  const bytes = new TextEncoder().encode(path)
  const end = SOCKADDR_UN_PATH + bytes.length
  if (end >= SOCKADDR_UN_BYTES) return -ENAMETOOLONG
  scratch.u8[NAME_AT] = AF_UNIX
  scratch.u8[NAME_AT + 1] = 0
  scratch.u8.set(bytes, NAME_AT + SOCKADDR_UN_PATH)
  scratch.u8[NAME_AT + end] = 0
  return end + 1
}

/** The descriptors in the control buffer; the kernel puts all of a message into one report. */
function readDescriptors(): number[] {
  const descriptors: number[] = []
  const end = CONTROL_AT + u32[MSGHDR_CONTROL_BYTES >> 2]!
  for (let at = CONTROL_AT; at + CMSG_DATA <= end; ) {
    const length = u32[at >> 2]!
    if (length < CMSG_DATA) break
    const isRights =
      i32[(at + CMSG_LEVEL) >> 2] === SOL_SOCKET && i32[(at + CMSG_TYPE) >> 2] === SCM_RIGHTS
    for (let data = at + CMSG_DATA; isRights && data + 4 <= at + length; data += 4) {
      descriptors.push(i32[data >> 2]!)
    }
    at += (length + 7) & ~7
  }
  return descriptors
}
