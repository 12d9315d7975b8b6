/**
 * Whether the links, routes, routing rules or IPsec policies of this network namespace may have
 * changed: the kernel tells whoever joins its multicast groups. Who reads them with a tool asks
 * here first, because a tool costs a process and this a system call.
 *
 * Main thread only. What must stay true: no change is missed. What the kernel had to drop
 * (ENOBUFS) counts as one, and so does everything before the first question.
 *
 * Source: rtnetlink(7), <linux/rtnetlink.h>, <linux/xfrm.h>.
 */
import {
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_ROUTE,
  NETLINK_XFRM,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
  RTNLGRP_LINK,
  SOL_NETLINK,
  XFRMNLGRP_POLICY,
} from './constants.ts'
import { EAGAIN, EPROTONOSUPPORT } from './errno.ts'
import { NetlinkSocket } from './netlink.ts'
import { SocketError, setOption } from './socket.ts'

const GROUPS: readonly { readonly protocol: number; readonly groups: readonly number[] }[] = [
  {
    protocol: NETLINK_ROUTE,
    groups: [
      RTNLGRP_LINK,
      RTNLGRP_IPV4_ROUTE,
      RTNLGRP_IPV6_ROUTE,
      RTNLGRP_IPV4_RULE,
      RTNLGRP_IPV6_RULE,
    ],
  },
  { protocol: NETLINK_XFRM, groups: [XFRMNLGRP_POLICY] },
]

/** Read in one call of `take`; what is left then counts at the next. */
const READS_MAX = 64

export class NetworkChanges implements Disposable {
  readonly #sockets: NetlinkSocket[] = []
  #isFirst = true

  /** Throws SocketError. A kernel without IPsec has no policies that could change. */
  constructor() {
    for (const { protocol, groups } of GROUPS) {
      try {
        const socket = new NetlinkSocket(protocol)
        this.#sockets.push(socket)
        for (const group of groups) join(socket, group)
      } catch (error) {
        const isMissing = error instanceof SocketError && error.errno === EPROTONOSUPPORT
        if (isMissing && protocol === NETLINK_XFRM) continue
        this[Symbol.dispose]()
        throw error
      }
    }
  }

  /** Whether anything may have changed since the last call. Read afterwards, not before. */
  take(): boolean {
    let hasChanged = this.#isFirst
    this.#isFirst = false
    for (const socket of this.#sockets) {
      for (let reads = 0; reads < READS_MAX; reads++) {
        if (socket.receive(0, ignore) === -EAGAIN) break
        hasChanged = true
      }
    }
    return hasChanged
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.splice(0)) socket[Symbol.dispose]()
  }
}

function join(socket: NetlinkSocket, group: number): void {
  const result = setOption(socket.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
  if (result < 0) throw new SocketError('listen for changes of the network', -result)
}

function ignore(): void {}
