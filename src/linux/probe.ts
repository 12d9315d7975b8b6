/**
 * What this process may do, found out at start so that a missing capability is named before
 * anything else fails for the lack of it.
 *
 * Three answers: 'yes', 'no', and 'unknown' when the question itself could not be asked, which
 * must not be taken for either. A capability bit alone can mislead (inside a user namespace it is
 * set and still means nothing for the node's network), so what matters is tried on a real socket.
 * Source: capabilities(7), ip(7).
 */
import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, SOCK_DGRAM } from './constants.ts'
import { EAFNOSUPPORT, ENOPROTOOPT, EPERM } from './errno.ts'
import { close, makeTransparent, openSocket, setMark } from './socket.ts'

export type Finding = 'yes' | 'no' | 'unknown'

export interface Findings {
  /** CAP_NET_ADMIN: rules, routes, marks. */
  readonly netAdmin: Finding
  /** CAP_NET_RAW: raw packets. */
  readonly netRaw: Finding
  /** CAP_NET_BIND_SERVICE, or a kernel that lets anybody bind port 53. */
  readonly bindPort53: Finding
  /** A socket was given a mark. */
  readonly mark: Finding
  /** An IPv4 socket was made transparent. */
  readonly transparent4: Finding
  /** The same for IPv6. */
  readonly transparent6: Finding
}

export function probe(): Findings {
  const status = readText('/proc/self/status')
  const firstFree = Number(readText('/proc/sys/net/ipv4/ip_unprivileged_port_start') ?? 'NaN')
  const canBind = capability(status, CAP_NET_BIND_SERVICE)
  return {
    netAdmin: capability(status, CAP_NET_ADMIN),
    netRaw: capability(status, CAP_NET_RAW),
    bindPort53: firstFree <= 53 ? 'yes' : canBind,
    mark: trySocket(4, (fd) => setMark(fd, 1)),
    transparent4: trySocket(4, (fd) => makeTransparent(fd, true)),
    transparent6: trySocket(6, (fd) => makeTransparent(fd, false)),
  }
}

/** One line for the log: `linux: [kernel=6.1.0 arch=x64 netAdmin=yes …]`. */
export function describe(findings: Findings): string {
  const words = Object.entries(findings).map(([name, finding]) => `${name}=${finding}`)
  return `linux: [kernel=${release()} arch=${process.arch} ${words.join(' ')}]`
}

/**
 * Whether a capability is effective.
 * @param status  text of /proc/PID/status, proc_pid_status(5); undefined: it could not be read
 */
export function capability(status: string | undefined, number: number): Finding {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status ?? '')?.[1]
  if (mask === undefined) return 'unknown'
  return (BigInt(`0x${mask}`) >> BigInt(number)) & 1n ? 'yes' : 'no'
}

function trySocket(family: 4 | 6, attempt: (fd: number) => number): Finding {
  const fd = openSocket(family, SOCK_DGRAM)
  if (fd < 0) return fd === -EAFNOSUPPORT ? 'no' : 'unknown'
  const result = attempt(fd)
  close(fd)
  if (result === 0) return 'yes'
  return result === -EPERM || result === -ENOPROTOOPT ? 'no' : 'unknown'
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
