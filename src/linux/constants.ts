/**
 * Constants of Linux headers, under C's names, as far as this folder uses them.
 *
 * x86-64 and arm64 share all of these (some O_ flags differ between them: none of those is here).
 * layout.test.ts compares every export with what gcc says, so a new line needs no test of its own.
 */

// <sys/socket.h>
export const AF_UNSPEC = 0
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_SEQPACKET = 5
export const SOCK_NONBLOCK = 0o4000
export const SOCK_CLOEXEC = 0o2000000
export const SHUT_WR = 1
export const MSG_CTRUNC = 0x8
export const MSG_TRUNC = 0x20
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
export const MSG_CMSG_CLOEXEC = 0x40000000
export const SCM_RIGHTS = 1
export const SOL_SOCKET = 1
export const SO_ERROR = 4
export const SO_SNDBUF = 7
export const SO_RCVBUF = 8
export const SO_REUSEADDR = 2
export const SO_REUSEPORT = 15
export const SO_PEERCRED = 17
export const SO_SNDBUFFORCE = 32
export const SO_RCVBUFFORCE = 33
export const SO_MARK = 36

// <netinet/in.h>, <netinet/tcp.h>; ip(7), ipv6(7), tcp(7)
export const SOL_IP = 0
export const IP_PKTINFO = 8
export const IP_MTU_DISCOVER = 10
export const IP_PMTUDISC_OMIT = 5
export const IP_FREEBIND = 15
export const IP_TRANSPARENT = 19
/** Both the option that asks for it and the type of the control message. */
export const IP_ORIGDSTADDR = 20
export const SOL_IPV6 = 41
export const IPV6_V6ONLY = 26
export const IPV6_RECVPKTINFO = 49
export const IPV6_PKTINFO = 50
/** Both the option that asks for it and the type of the control message. */
export const IPV6_ORIGDSTADDR = 74
export const IPV6_TRANSPARENT = 75
export const IPV6_FREEBIND = 78
export const SOL_TCP = 6
export const TCP_NODELAY = 1

// <poll.h>
export const POLLIN = 0x1

// <sys/epoll.h>, <sys/eventfd.h>
export const EPOLL_CLOEXEC = 0o2000000
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
export const EPOLLIN = 0x1
export const EPOLLOUT = 0x4
export const EPOLLERR = 0x8
export const EPOLLHUP = 0x10
export const EPOLLRDHUP = 0x2000
export const EPOLLEXCLUSIVE = 1 << 28
/** Bit 31: negative, as `events` is kept in an Int32Array. */
export const EPOLLET = 1 << 31
export const EFD_NONBLOCK = 0o4000
export const EFD_CLOEXEC = 0o2000000

// <sys/mman.h>
export const MADV_DONTNEED = 4

// <fcntl.h>, <sys/file.h>, <time.h>
export const F_GETFD = 1
export const CLOCK_MONOTONIC = 1
export const CLOCK_PROCESS_CPUTIME_ID = 2
export const CLOCK_THREAD_CPUTIME_ID = 3
export const LOCK_EX = 2
export const LOCK_NB = 4

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/xfrm.h>
export const SOL_NETLINK = 270
export const NETLINK_ADD_MEMBERSHIP = 1
export const NETLINK_ROUTE = 0
export const NETLINK_XFRM = 6
export const RTNLGRP_LINK = 1
export const RTNLGRP_IPV4_ROUTE = 7
export const RTNLGRP_IPV4_RULE = 8
export const RTNLGRP_IPV6_ROUTE = 11
export const RTNLGRP_IPV6_RULE = 19
export const XFRMNLGRP_POLICY = 4

// <linux/capability.h>
export const CAP_NET_BIND_SERVICE = 10
export const CAP_NET_ADMIN = 12
export const CAP_NET_RAW = 13
