/*
 * A generator that keeps its pace: queries leave at a fixed rate whether answers come or not, and
 * what is measured is the time from when a query was due, not from when it could be sent. So a
 * server (or a generator) that stands still shows in all the queries that were due meanwhile.
 *
 *     pace SERVER FILE RATE SECONDS SOCKETS FIRST_PORT
 *
 * Between two queries it sleeps: a generator that spins would take a processor from whom it
 * measures. FILE has lines as dnsperf's; all questions are of type A. It prints one line of JSON:
 *
 *     sent, answered, failed   counts; failed: not NOERROR; what is missing was lost
 *     p50 p99 p999 max         ms from when a query was due to its answer
 *     gaps                     the longest times without any answer, ms
 *     own                      the longest times by which this program itself was late, ms
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define SOCKETS_MAX 100
#define NAMES_MAX 20000
#define QUERY_BYTES 300
#define BATCH 64
#define LONGEST 5
#define LATE_MS 1000 /* how long answers are waited for at the end */
#define LATENCY_US_MAX 3000000

static int sockets[SOCKETS_MAX];
static unsigned char queries[NAMES_MAX][QUERY_BYTES];
static size_t query_bytes[NAMES_MAX];
static int name_count, socket_count, epoll;
/* When the query with this ID on this socket was due; 0: none waits. */
static double due[SOCKETS_MAX][65536];
/* How many answers took so many µs. */
static uint32_t latencies[LATENCY_US_MAX + 1];
static long sent, answered, failed;
static double gaps[LONGEST], own[LONGEST];
static unsigned char packets[BATCH][1500];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void read_names(const char *file) {
  char line[512];
  FILE *in = fopen(file, "r");
  if (!in) fail(file);
  while (name_count < NAMES_MAX && fgets(line, sizeof line, in)) {
    static const unsigned char head[12] = {0, 0, 1, 0, 0, 1};
    unsigned char *at = queries[name_count];
    line[strcspn(line, " \n")] = 0;
    if (strlen(line) > 255) continue;
    memcpy(at, head, sizeof head);
    at += sizeof head;
    for (char *label = strtok(line, "."); label; label = strtok(NULL, ".")) {
      size_t length = strlen(label);
      *at++ = length;
      memcpy(at, label, length);
      at += length;
    }
    memcpy(at, "\0\0\1\0\1", 5);
    query_bytes[name_count] = at + 5 - queries[name_count];
    name_count++;
  }
  fclose(in);
}

static void open_sockets(const char *address, int first_port) {
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
  if (inet_pton(AF_INET, address, &server.sin_addr) != 1) fail("inet_pton");
  for (int i = 0; i < socket_count; i++) {
    int buffer = 4 << 20;
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(first_port + i)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&local, sizeof local) < 0) fail("bind");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
    sockets[i] = fd;
  }
  for (int i = 0; i < BATCH; i++) {
    vectors[i] = (struct iovec){packets[i], sizeof packets[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
  }
}

/* Keeps the longest, the longest first. */
static void note(double *longest, double us) {
  for (int i = 0; i < LONGEST; i++) {
    if (us <= longest[i]) continue;
    memmove(longest + i + 1, longest + i, (LONGEST - 1 - i) * sizeof *longest);
    longest[i] = us;
    return;
  }
}

/* The sockets are not connected: their source is rewritten on the way. */
static void send_one(const char *address, double due_us) {
  static struct sockaddr_in server;
  if (server.sin_family == 0) {
    server.sin_family = AF_INET;
    server.sin_port = htons(53);
    inet_pton(AF_INET, address, &server.sin_addr);
  }
  int which = sent % socket_count, name = sent % name_count;
  uint16_t id = sent / socket_count;
  unsigned char *query = queries[name];
  query[0] = id >> 8;
  query[1] = id;
  due[which][id] = due_us;
  sendto(sockets[which], query, query_bytes[name], 0, (struct sockaddr *)&server, sizeof server);
  sent++;
}

/* Whether there was an answer. */
static int receive(int which) {
  int count = recvmmsg(sockets[which], messages, BATCH, 0, NULL);
  double now = now_us();
  for (int i = 0; i < count; i++) {
    unsigned char *packet = packets[i];
    if (messages[i].msg_len < 12) continue;
    double *was_due = &due[which][packet[0] << 8 | packet[1]];
    if (*was_due == 0) continue;
    double us = now - *was_due;
    *was_due = 0;
    answered++;
    failed += (packet[3] & 15) != 0;
    latencies[us < 0 ? 0 : us > LATENCY_US_MAX ? LATENCY_US_MAX : (int)us]++;
  }
  return count > 0;
}

/* Until an answer is there or the next query is due; how many sockets have answers. */
static int wait_until(double us, struct epoll_event *ready, int ready_max) {
  double left = us - now_us();
  struct timespec rest = {0, left > 0 ? left * 1e3 : 0}; /* always less than a second */
  int count = epoll_pwait2(epoll, ready, ready_max, &rest, NULL);
  return count < 0 ? 0 : count;
}

static double percentile(double share) {
  long wanted = answered * share, sum = 0;
  for (int us = 0; us <= LATENCY_US_MAX; us++)
    if ((sum += latencies[us]) > wanted) return us / 1e3;
  return 0;
}

static void print_list(const char *name, const double *longest, const char *end) {
  printf("\"%s\":[", name);
  for (int i = 0; i < LONGEST; i++) printf("%s%.3f", i ? "," : "", longest[i] / 1e3);
  printf("]%s", end);
}

int main(int argc, char **argv) {
  if (argc != 7)
    return fprintf(stderr, "usage: pace SERVER FILE RATE SECONDS SOCKETS FIRST_PORT\n"), 2;
  double interval = 1e6 / atof(argv[3]), seconds = atof(argv[4]);
  socket_count = atoi(argv[5]);
  if (socket_count < 1 || socket_count > SOCKETS_MAX) return fprintf(stderr, "too many\n"), 2;
  prctl(PR_SET_TIMERSLACK, 1); /* ns; by default timers may come 50 us late */
  if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll");
  read_names(argv[2]);
  open_sockets(argv[1], atoi(argv[6]));
  double begun = now_us(), end = begun + seconds * 1e6, next = begun;
  double last_answer = begun, now = begun;
  while (now < end + LATE_MS * 1e3 && (now < end || answered < sent)) {
    struct epoll_event ready[SOCKETS_MAX];
    double until = next < end ? next : now + 1e3;
    int count = wait_until(until, ready, SOCKETS_MAX);
    now = now_us();
    if (now < end) note(own, now - until);
    for (int i = 0; i < count; i++) {
      if (!receive(ready[i].data.u32)) continue;
      if (now < end) note(gaps, now - last_answer);
      last_answer = now;
    }
    /* After a pause of ours all that was due leaves, in pieces between which answers are read. */
    for (int i = 0; i < 16 && next <= now && next < end; i++, next += interval) send_one(argv[1], next);
  }
  printf("{\"sent\":%ld,\"answered\":%ld,\"failed\":%ld,", sent, answered, failed);
  printf("\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,", percentile(.5), percentile(.99), percentile(.999));
  printf("\"max\":%.3f,", percentile(1 - 1e-12));
  print_list("gaps", gaps, ",");
  print_list("own", own, "}\n");
}
