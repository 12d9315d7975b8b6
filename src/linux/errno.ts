/**
 * Error numbers of Linux calls and their names.
 *
 * Calls in this folder return `-errno` where C returns -1 and sets errno; the constants here are
 * positive, so a comparison reads `result === -EAGAIN`. x86-64 and arm64 share one table (other
 * architectures do not). Source: <asm-generic/errno.h>; layout.test.ts compares it with gcc's.
 */
import { getSystemErrorMap } from 'node:util'

export const EPERM = 1
export const ENOENT = 2
export const EINTR = 4
export const EBADF = 9
export const EAGAIN = 11
export const EACCES = 13
export const EFAULT = 14
export const EBUSY = 16
export const EEXIST = 17
export const EINVAL = 22
export const EMFILE = 24
export const EPIPE = 32
export const ENAMETOOLONG = 36
export const EMSGSIZE = 90
export const ENOPROTOOPT = 92
export const EPROTONOSUPPORT = 93
export const EAFNOSUPPORT = 97
export const EADDRINUSE = 98
export const EADDRNOTAVAIL = 99
export const ENETUNREACH = 101
export const ECONNRESET = 104
export const ENOBUFS = 105
export const ETIMEDOUT = 110
export const ECONNREFUSED = 111
export const EINPROGRESS = 115

/** Names from 1 on; '-' is a number that Linux does not use (41 and 58 are other names of others). */
const NAMES = `
  EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
  ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
  ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
  ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR
  EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE
  ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG
  ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK
  EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
  EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET
  ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT
  ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL
  EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED
  EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
`
  .trim()
  .split(/\s+/)

/** 'EPERM' for 1; 'errno 999' for what has no name. */
export function errnoName(errno: number): string {
  const name = NAMES[errno - 1]
  return name === undefined || name === '-' ? `errno ${errno}` : name
}

/** 'EPERM (operation not permitted)' for 1; the name alone where nobody has words for it. */
export function errnoText(errno: number): string {
  const words = getSystemErrorMap().get(-errno)?.[1]
  return words === undefined ? errnoName(errno) : `${errnoName(errno)} (${words})`
}
