/*
 * The upstream of the benchmarks: it knows every name. A question of type A gets one address, any
 * other type an empty answer, in the order in which they come.
 *
 *     upstream ADDRESS PORT COUNT_FILE ADDRESSES
 *
 * COUNT_FILE holds, as a 64-bit word, how many queries were answered: whoever measures reads it at
 * any time. ADDRESSES is how many different addresses the answers have: up to 256 of 192.0.2.0/24,
 * more of 198.18.0.0/15. A name always has the same one.
 *
 * It is in C so that it is never what holds a subject back. bench/upstream.ts compiles and starts it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define PACKET_BYTES 1232
#define HEADER_BYTES 12
#define RECORD_BYTES 16
#define TTL_SECONDS 3600
#define BUFFER_BYTES (8 << 20)

static unsigned char packets[BATCH][PACKET_BYTES];
static struct sockaddr_in peers[BATCH];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* Offset behind the question, or 0 for what is no question; *hash is of its name in lower case. */
static size_t skip_question(const unsigned char *packet, size_t bytes, uint32_t *hash) {
  size_t at = HEADER_BYTES;
  *hash = 2166136261u; /* FNV-1a */
  while (at < bytes && packet[at] != 0) {
    size_t end = at + 1 + packet[at];
    if (packet[at] > 63 || end > bytes) return 0;
    for (; at < end; at++) {
      unsigned char c = packet[at];
      if (c >= 'A' && c <= 'Z') c |= 0x20;
      *hash = (*hash ^ c) * 16777619u;
    }
  }
  return at + 5 <= bytes && at + 5 + RECORD_BYTES <= PACKET_BYTES ? at + 5 : 0;
}

/* Makes the query its answer, in place; its new length, or 0 to stay silent. */
static size_t answer(unsigned char *packet, size_t bytes, uint32_t addresses) {
  uint32_t hash;
  if (bytes < HEADER_BYTES || (packet[2] & 0x80) != 0) return 0;
  size_t end = skip_question(packet, bytes, &hash);
  if (end == 0) return 0;
  int is_address = packet[end - 4] == 0 && packet[end - 3] == 1;
  packet[2] = 0x80 | (packet[2] & 0x01); /* QR, and RD as it came */
  packet[3] = 0x80;                      /* RA, NOERROR */
  memset(packet + 6, 0, 6);
  packet[7] = is_address;
  if (!is_address) return end;
  uint32_t number = (hash ^ hash >> 16) % addresses;
  uint32_t address = htonl((addresses <= 256 ? 0xc0000200u : 0xc6120000u) + number);
  uint32_t ttl = htonl(TTL_SECONDS);
  static const unsigned char head[6] = {0xc0, HEADER_BYTES, 0, 1, 0, 1};
  memcpy(packet + end, head, 6);
  memcpy(packet + end + 6, &ttl, 4);
  memcpy(packet + end + 10, "\0\4", 2);
  memcpy(packet + end + 12, &address, 4);
  return end + RECORD_BYTES;
}

static volatile uint64_t *open_count(const char *file) {
  int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0) fail(file);
  void *memory = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

static int open_socket(const char *address, int port) {
  int buffer = BUFFER_BYTES;
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(port)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (inet_pton(AF_INET, address, &local.sin_addr) != 1) fail("inet_pton");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) fail("bind");
  return fd;
}

static void prepare(int index, int place, size_t bytes) {
  vectors[index] = (struct iovec){packets[place], bytes};
  messages[index].msg_hdr = (struct msghdr){
      .msg_name = &peers[place],
      .msg_namelen = sizeof peers[place],
      .msg_iov = &vectors[index],
      .msg_iovlen = 1,
  };
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "usage: upstream ADDRESS PORT COUNT_FILE ADDRESSES\n"), 2;
  int fd = open_socket(argv[1], atoi(argv[2]));
  volatile uint64_t *count = open_count(argv[3]);
  uint32_t addresses = atoi(argv[4]);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    for (int i = 0; i < BATCH; i++) prepare(i, i, PACKET_BYTES);
    int received = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    if (received < 0 && errno != EINTR) fail("recvmmsg");
    int replies = 0;
    for (int i = 0; i < received; i++) {
      size_t bytes = answer(packets[i], messages[i].msg_len, addresses);
      if (bytes > 0) prepare(replies++, i, bytes); /* replies <= i: what is read is read already */
    }
    for (int done = 0; done < replies;) {
      int now = sendmmsg(fd, messages + done, replies - done, 0);
      done += now > 0 ? now : 1; /* an error belongs to the first of them only */
    }
    *count += replies;
  }
}
