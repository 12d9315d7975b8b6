/*
 * The floor: what a UDP server costs that does nothing. It sends each query back with the QR bit
 * set, in the same way in which the worker answers: epoll with 20 ms at most, recvmmsg and sendmmsg
 * of 64, the local address taken from the control message and sent back in one.
 *
 *     floor ADDRESS PORT [-t]     -t: a transparent socket behind a TPROXY rule, which also asks for
 *                                 the original destination, as interception does
 *
 * bench/subjects.ts starts it. What the worker does to its sockets (src/linux/udp.ts)
 * must be done here too, or the comparison is of two different things.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BATCH 64
#define PACKET_BYTES 4096
#define RECEIVED_CONTROL_BYTES 128
#define RECEIVE_BUFFER_BYTES (4 << 20)
#define SLEEP_MS 20

static unsigned char packets[BATCH][PACKET_BYTES];
static struct sockaddr_in peers[BATCH];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];
static _Alignas(struct cmsghdr) char received[BATCH][RECEIVED_CONTROL_BYTES];
static _Alignas(struct cmsghdr) char sent[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int open_socket(const char *address, int port, int is_transparent) {
  int on = 1, buffer = RECEIVE_BUFFER_BYTES, discover = IP_PMTUDISC_OMIT;
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(port)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (inet_pton(AF_INET, address, &local.sin_addr) != 1) fail("inet_pton");
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) fail("SO_REUSEADDR");
  if (setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof on) < 0) fail("IP_PKTINFO");
  if (is_transparent && setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) < 0)
    fail("IP_TRANSPARENT");
  if (is_transparent && setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof on) < 0)
    fail("IP_RECVORIGDSTADDR");
  if (setsockopt(fd, SOL_IP, IP_MTU_DISCOVER, &discover, sizeof discover) < 0)
    fail("IP_MTU_DISCOVER");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) fail("bind");
  return fd;
}

static void prepare(int index, size_t bytes, void *control, size_t control_bytes) {
  vectors[index] = (struct iovec){packets[index], bytes};
  messages[index].msg_hdr = (struct msghdr){
      .msg_name = &peers[index],
      .msg_namelen = sizeof peers[index],
      .msg_iov = &vectors[index],
      .msg_iovlen = 1,
      .msg_control = control,
      .msg_controllen = control_bytes,
  };
}

/* The address that the query came to becomes the source of the reply. */
static void turn_round(int index) {
  struct in_pktinfo info = {0};
  struct msghdr *header = &messages[index].msg_hdr;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level != SOL_IP || c->cmsg_type != IP_PKTINFO) continue;
    struct in_pktinfo came;
    memcpy(&came, CMSG_DATA(c), sizeof came);
    info.ipi_spec_dst = came.ipi_addr;
  }
  packets[index][2] |= 0x80;
  prepare(index, messages[index].msg_len, sent[index], sizeof sent[index]);
  struct cmsghdr *reply = CMSG_FIRSTHDR(&messages[index].msg_hdr);
  reply->cmsg_level = SOL_IP;
  reply->cmsg_type = IP_PKTINFO;
  reply->cmsg_len = CMSG_LEN(sizeof info);
  memcpy(CMSG_DATA(reply), &info, sizeof info);
}

static void answer(int fd) {
  for (int i = 0; i < BATCH; i++) prepare(i, PACKET_BYTES, received[i], RECEIVED_CONTROL_BYTES);
  int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
  for (int i = 0; i < count; i++) turn_round(i);
  for (int done = 0; done < count;) {
    int now = sendmmsg(fd, messages + done, count - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    done += now > 0 ? now : 1; /* an error belongs to the first of them only */
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: floor ADDRESS PORT [-t]\n"), 2;
  int fd = open_socket(argv[1], atoi(argv[2]), argc > 3 && strcmp(argv[3], "-t") == 0);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = fd};
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll");
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event ready[1];
    int count = epoll_wait(epoll, ready, 1, SLEEP_MS);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    answer(fd); /* once for each waking, with an event or without: as the worker does */
  }
}
