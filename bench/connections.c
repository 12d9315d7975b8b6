/*
 * A generator that asks each question in a TCP connection of its own: connect, ask, read, close.
 *
 *     connections SERVER FILE QUERIES CONCURRENCY SECONDS
 *
 * FILE has lines as dnsperf's, of which only the names count: all questions are of type A. What it
 * prints are the lines of dnsperf that bench/load.ts reads. dnsperf itself has a limit of queries
 * for each connection, but opens only some 200 new ones in a second.
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
#include <time.h>
#include <unistd.h>

#define CONCURRENCY_MAX 1000
#define NAMES_MAX 200000
#define MESSAGE_BYTES 1024
#define TIMEOUT_MS 2000

struct connection {
  int fd; /* -1: free */
  int has_asked;
  size_t bytes;
  double begun;
  unsigned char reply[MESSAGE_BYTES];
};

static struct connection connections[CONCURRENCY_MAX];
static unsigned char *queries[NAMES_MAX];
static size_t query_bytes[NAMES_MAX];
static struct sockaddr_in server = {.sin_family = AF_INET};
static int name_count, epoll;
static long sent, completed, good, lost;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* The message for a name, with its length in front. */
static void add_query(char *name) {
  static const unsigned char head[14] = {0, 0, 0x12, 0x34, 1, 0, 0, 1};
  unsigned char *query = malloc(strlen(name) + 20), *at = query + sizeof head;
  memcpy(query, head, sizeof head);
  for (char *label = strtok(name, "."); label; label = strtok(NULL, ".")) {
    size_t length = strlen(label);
    *at++ = length;
    memcpy(at, label, length);
    at += length;
  }
  memcpy(at, "\0\0\1\0\1", 5);
  at += 5;
  query[1] = at - query - 2;
  query_bytes[name_count] = at - query;
  queries[name_count++] = query;
}

static void read_names(const char *file) {
  char line[512];
  FILE *in = fopen(file, "r");
  if (!in) fail(file);
  while (name_count < NAMES_MAX && fgets(line, sizeof line, in)) {
    line[strcspn(line, " \n")] = 0;
    add_query(line);
  }
  fclose(in);
}

static void end(struct connection *c) {
  close(c->fd);
  c->fd = -1;
}

static void begin(struct connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) fail("socket");
  c->has_asked = 0;
  c->bytes = 0;
  c->begun = now_ms();
  sent++;
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
  if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
    fail("connect");
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) fail("epoll_ctl");
}

static void ask(struct connection *c) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  int which = sent % name_count;
  if (write(c->fd, queries[which], query_bytes[which]) != (ssize_t)query_bytes[which]) {
    lost++;
    end(c);
    return;
  }
  c->has_asked = 1;
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void take(struct connection *c) {
  ssize_t count = read(c->fd, c->reply + c->bytes, sizeof c->reply - c->bytes);
  if (count < 0 && errno == EAGAIN) return;
  if (count > 0) c->bytes += count;
  if (count > 0 && (c->bytes < 2 || c->bytes < 2u + (c->reply[0] << 8 | c->reply[1]))) return;
  if (count <= 0) lost++;
  else {
    completed++;
    good += (c->reply[5] & 15) == 0 && c->reply[9] == 1;
  }
  end(c);
}

int main(int argc, char **argv) {
  if (argc != 6) return fprintf(stderr, "usage: connections SERVER FILE QUERIES CONCURRENCY SECONDS\n"), 2;
  long wanted = atol(argv[3]);
  int concurrency = atoi(argv[4]), open = 0;
  if (concurrency < 1 || concurrency > CONCURRENCY_MAX) return fprintf(stderr, "too many\n"), 2;
  server.sin_port = htons(53);
  if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) fail("inet_pton");
  read_names(argv[2]);
  if (name_count == 0 || (epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("begin");
  for (int i = 0; i < concurrency; i++) connections[i].fd = -1;
  double begun = now_ms(), until = begun + atof(argv[5]) * 1e3;
  do {
    double now = now_ms();
    open = 0;
    for (int i = 0; i < concurrency; i++) {
      struct connection *c = &connections[i];
      if (c->fd >= 0 && now - c->begun > TIMEOUT_MS) lost++, end(c);
      if (c->fd < 0 && sent < wanted && now < until) begin(c);
      open += c->fd >= 0;
    }
    struct epoll_event ready[64];
    int count = epoll_wait(epoll, ready, 64, 20);
    for (int i = 0; i < count; i++) {
      struct connection *c = ready[i].data.ptr;
      if (c->has_asked) take(c);
      else if (ready[i].events & (EPOLLERR | EPOLLHUP)) lost++, end(c);
      else ask(c);
    }
  } while (open > 0);
  printf("Queries sent: %ld\nQueries completed: %ld\nQueries lost: %ld\n", sent, completed, lost);
  printf("Response codes: NOERROR %ld\nRun time (s): %.6f\n", good, (now_ms() - begun) / 1e3);
}
