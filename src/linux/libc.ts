/**
 * The Linux calls that this program makes, each with its C prototype and manual page.
 *
 * Only files of src/linux use this; only this file and region.ts import the FFI library, and
 * event-loop.ts its poll. What must stay true:
 * - Every pointer points into a Region: never into an ordinary buffer, which V8 may move or free.
 * - Results are declared `int` also where C says ssize_t: every length we pass is below 2³¹, and a
 *   64-bit result would cost a conversion.
 * - fcntl is variadic in C and declared here with the one argument that we give it. The ABIs of
 *   x86-64 and arm64 Linux pass integers to both kinds alike.
 * - A wrong signature crashes the process: change one only with the manual page open.
 *
 * Names stay C's, so that each can be looked up.
 */
import koffi from 'koffi'

/** The program itself: node is linked against the C library of this machine, glibc or musl. */
const program = koffi.load(null)

/**
 * `result` of a call that returns -1 on failure, or the negated errno. Must be the first thing
 * done with a result, before another call overwrites errno.
 */
export function orErrno(result: number): number {
  return result >= 0 ? result : -koffi.errno()
}

function optional(prototype: string): ((...values: number[]) => number) | null {
  try {
    return program.func(prototype)
  } catch {
    return null
  }
}

/**
 * An address inside a Region. A bigint made once (`region.pointer(at)`) costs nothing to pass; a
 * number that V8 holds as a double is boxed anew for every call (16 bytes, tried). Hot code passes
 * bigints, the rest may pass `region.address + at`.
 */
export type Address = number | bigint

// -- memory ---------------------------------------------------------------------------------------

/** void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset) — mmap(2) */
export const mmap: (
  address: Address,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => number = program.func('intptr_t mmap(uintptr_t, size_t, int, int, int, intptr_t)')

/** int mprotect(void *addr, size_t len, int prot) — mprotect(2) */
export const mprotect: (address: Address, length: number, protection: number) => number =
  program.func('int mprotect(uintptr_t, size_t, int)')

/** int madvise(void *addr, size_t length, int advice) — madvise(2) */
export const madvise: (address: Address, length: number, advice: number) => number = program.func(
  'int madvise(uintptr_t, size_t, int)',
)

/** int malloc_trim(size_t pad) — malloc_trim(3). glibc's own: null with another C library. */
export const malloc_trim: ((pad: number) => number) | null = optional('int malloc_trim(size_t)')

/** int getpagesize(void) — getpagesize(2) */
export const getpagesize: () => number = program.func('int getpagesize()')

// -- sockets --------------------------------------------------------------------------------------

/** int socket(int domain, int type, int protocol) — socket(2) */
export const socket: (domain: number, type: number, protocol: number) => number = program.func(
  'int socket(int, int, int)',
)

/** int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen) — bind(2) */
export const bind: (fd: number, name: Address, nameBytes: number) => number = program.func(
  'int bind(int, uintptr_t, uint32_t)',
)

/** int listen(int sockfd, int backlog) — listen(2) */
export const listen: (fd: number, backlog: number) => number = program.func('int listen(int, int)')

/** int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags) — accept(2) */
export const accept4: (fd: number, name: Address, nameBytes: Address, flags: number) => number =
  program.func('int accept4(int, uintptr_t, uintptr_t, int)')

/** int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen) — connect(2) */
export const connect: (fd: number, name: Address, nameBytes: number) => number = program.func(
  'int connect(int, uintptr_t, uint32_t)',
)

/** int socketpair(int domain, int type, int protocol, int sv[2]) — socketpair(2) */
export const socketpair: (
  domain: number,
  type: number,
  protocol: number,
  descriptors: Address,
) => number = program.func('int socketpair(int, int, int, uintptr_t)')

/** int shutdown(int sockfd, int how) — shutdown(2) */
export const shutdown: (fd: number, how: number) => number = program.func('int shutdown(int, int)')

/** int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen) — getsockname(2) */
export const getsockname: (fd: number, name: Address, nameBytes: Address) => number = program.func(
  'int getsockname(int, uintptr_t, uintptr_t)',
)

/** int setsockopt(int fd, int level, int name, const void *value, socklen_t len) — setsockopt(2) */
export const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Address,
  valueBytes: number,
) => number = program.func('int setsockopt(int, int, int, uintptr_t, uint32_t)')

/** int getsockopt(int fd, int level, int name, void *value, socklen_t *len) — getsockopt(2) */
export const getsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Address,
  valueBytes: Address,
) => number = program.func('int getsockopt(int, int, int, uintptr_t, uintptr_t)')

/** ssize_t send(int sockfd, const void *buf, size_t len, int flags) — send(2) */
export const send: (fd: number, buffer: Address, bytes: number, flags: number) => number =
  program.func('int send(int, uintptr_t, size_t, int)')

/** ssize_t recv(int sockfd, void *buf, size_t len, int flags) — recv(2) */
export const recv: (fd: number, buffer: Address, bytes: number, flags: number) => number =
  program.func('int recv(int, uintptr_t, size_t, int)')

/** ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags) — send(2) */
export const sendmsg: (fd: number, message: Address, flags: number) => number = program.func(
  'int sendmsg(int, uintptr_t, int)',
)

/** ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags) — recv(2) */
export const recvmsg: (fd: number, message: Address, flags: number) => number = program.func(
  'int recvmsg(int, uintptr_t, int)',
)

/** int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) — sendmmsg(2) */
export const sendmmsg: (fd: number, messages: Address, count: number, flags: number) => number =
  program.func('int sendmmsg(int, uintptr_t, uint32_t, int)')

/**
 * int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
 * struct timespec *timeout) — recvmmsg(2)
 */
export const recvmmsg: (
  fd: number,
  messages: Address,
  count: number,
  flags: number,
  timeout: Address,
) => number = program.func('int recvmmsg(int, uintptr_t, uint32_t, int, uintptr_t)')

/** unsigned int if_nametoindex(const char *name) — if_nametoindex(3); 0 on failure */
export const if_nametoindex: (name: Address) => number = program.func(
  'int if_nametoindex(uintptr_t)',
)

// -- any descriptor -------------------------------------------------------------------------------

/** ssize_t read(int fd, void *buf, size_t count) — read(2) */
export const read: (fd: number, buffer: Address, bytes: number) => number = program.func(
  'int read(int, uintptr_t, size_t)',
)

/** ssize_t write(int fd, const void *buf, size_t count) — write(2) */
export const write: (fd: number, buffer: Address, bytes: number) => number = program.func(
  'int write(int, uintptr_t, size_t)',
)

/** int close(int fd) — close(2) */
export const close: (fd: number) => number = program.func('int close(int)')

/** int fcntl(int fd, int cmd, long arg) — fcntl(2) */
export const fcntl: (fd: number, command: number, argument: number) => number = program.func(
  'int fcntl(int, int, intptr_t)',
)

/** int fchmod(int fd, mode_t mode) — chmod(2) */
export const fchmod: (fd: number, mode: number) => number = program.func(
  'int fchmod(int, uint32_t)',
)

/** int flock(int fd, int operation) — flock(2) */
export const flock: (fd: number, operation: number) => number = program.func('int flock(int, int)')

/** int epoll_create1(int flags) — epoll_create(2) */
export const epoll_create1: (flags: number) => number = program.func('int epoll_create1(int)')

/** int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) — epoll_ctl(2) */
export const epoll_ctl: (epoll: number, operation: number, fd: number, event: Address) => number =
  program.func('int epoll_ctl(int, int, int, uintptr_t)')

/** int epoll_wait(int epfd, struct epoll_event *events, int count, int timeout) — epoll_wait(2) */
export const epoll_wait: (
  epoll: number,
  events: Address,
  count: number,
  timeoutMs: number,
) => number = program.func('int epoll_wait(int, uintptr_t, int, int)')

/** int poll(struct pollfd *fds, nfds_t count, int timeout) — poll(2) */
export const poll: (descriptors: Address, count: number, timeoutMs: number) => number =
  program.func('int poll(uintptr_t, size_t, int)')

/** int eventfd(unsigned int initval, int flags) — eventfd(2) */
export const eventfd: (value: number, flags: number) => number = program.func(
  'int eventfd(uint32_t, int)',
)

// -- the process ----------------------------------------------------------------------------------

/** int sched_yield(void) — sched_yield(2) */
export const sched_yield: () => number = program.func('int sched_yield(void)')

/** int clock_gettime(clockid_t clock, struct timespec *tp) — clock_gettime(2) */
export const clock_gettime: (clock: number, time: Address) => number = program.func(
  'int clock_gettime(int, uintptr_t)',
)

/** void _exit(int status) — _exit(2): every thread ends, nothing is flushed or run */
export const _exit: (status: number) => void = program.func('void _exit(int)')
