/* Prints the IPv4 addresses that this C library's resolver (or, with -DCARES, c-ares) finds, sorted, for each
 * name. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>

enum { kMax = 64 };
static char found[kMax][INET_ADDRSTRLEN];
static int count;

static void add(const void* address) {
  if (count < kMax && inet_ntop(AF_INET, address, found[count], sizeof found[0]) != NULL) ++count;
}

#ifdef CARES
/* ares.h is in a package of its own; this is all that is needed of it. */
int ares_library_init(int flags);
int ares_init(void** channel);
void ares_gethostbyname(void* channel, const char* name, int family,
                        void (*done)(void*, int, int, struct hostent*), void* user);
int ares_fds(void* channel, fd_set* in, fd_set* out);
struct timeval* ares_timeout(void* channel, struct timeval* most, struct timeval* room);
void ares_process(void* channel, fd_set* in, fd_set* out);

static void done(void* user, int status, int timeouts, struct hostent* host) {
  (void)user, (void)timeouts;
  for (int i = 0; status == 0 && host->h_addr_list[i] != NULL; ++i) add(host->h_addr_list[i]);
}
static void resolve(const char* name) {
  static void* channel;
  if (channel == NULL && (ares_library_init(1) != 0 || ares_init(&channel) != 0)) exit(2);
  ares_gethostbyname(channel, name, AF_INET, done, NULL);
  while (1) {
    fd_set in, out;
    struct timeval room;
    FD_ZERO(&in);
    FD_ZERO(&out);
    const int most = ares_fds(channel, &in, &out);
    if (most == 0) return;
    select(most, &in, &out, NULL, ares_timeout(channel, NULL, &room));
    ares_process(channel, &in, &out);
  }
}
#else
static void resolve(const char* name) {
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *all = NULL;
  if (getaddrinfo(name, NULL, &hints, &all) != 0) return;
  for (struct addrinfo* one = all; one != NULL; one = one->ai_next)
    add(&((struct sockaddr_in*)one->ai_addr)->sin_addr);
  freeaddrinfo(all);
}
#endif

static int order(const void* a, const void* b) { return strcmp(a, b); }

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    count = 0;
    resolve(argv[i]);
    qsort(found, (size_t)count, sizeof found[0], order);
    printf("%s:", argv[i]);
    for (int k = 0; k < count; ++k) printf(" %s", found[k]);
    printf("\n");
  }
  return 0;
}
