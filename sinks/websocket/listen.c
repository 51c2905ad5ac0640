#include "sinks/websocket/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#define BACKLOG 1024
// What may wait in the kernel unsent, a connection: more would only make a slow client later.
#define NOTSENT_BYTES (256 << 10)

static int where_error(const char *where, struct err *e)
{
    return err_set(e, ERR_USAGE,
                   "listen address %s: ADDR:PORT is wanted (127.0.0.1:7654, [::1]:7654, *:7654)",
                   where);
}

// Cuts "ADDR:PORT" in two; host is "" for every address.
static int split(const char *where, char host[64], const char **ret_port, struct err *e)
{
    const char *colon = strrchr(where, ':');
    if (!colon || colon[1] == 0)
        return where_error(where, e);
    size_t n = (size_t)(colon - where);
    if (where[0] == '[') {
        if (n < 3 || where[n - 1] != ']')
            return where_error(where, e);
        where++;
        n -= 2;
    }
    if (n >= 64)
        return where_error(where, e);
    memcpy(host, where, n);
    host[n] = 0;
    if (strcmp(host, "*") == 0)
        host[0] = 0;
    *ret_port = colon + 1;
    return 0;
}

static int listen_on(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, off = 0;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static const char *remedy(int why)
{
    switch (why) {
    case EADDRINUSE:
        return "stop what holds the port, or choose another with --listen";
    case EADDRNOTAVAIL:
        return "the address is none of this machine's: choose another with --listen";
    case EACCES:
        return "ports below 1024 need a privilege: choose another with --listen";
    default:
        return "choose another with --listen";
    }
}

// "1.2.3.4" or "1::2" of a socket's own end, and the port; "" and 0 when it has none.
static int address_text(int fd, char ret_text[ADDRESS_TEXT_MAX])
{
    union {
        struct sockaddr_in6 in6;
        struct sockaddr_in in;
        struct sockaddr any;
    } at = {0};
    socklen_t n = sizeof at;
    ret_text[0] = 0;
    if (getsockname(fd, &at.any, &n) != 0)
        return 0;
    if (at.any.sa_family != AF_INET6) {
        inet_ntop(AF_INET, &at.in.sin_addr, ret_text, ADDRESS_TEXT_MAX);
        return ntohs(at.in.sin_port);
    }
    if (IN6_IS_ADDR_V4MAPPED(&at.in6.sin6_addr))
        inet_ntop(AF_INET, &at.in6.sin6_addr.s6_addr[12], ret_text, ADDRESS_TEXT_MAX);
    else
        inet_ntop(AF_INET6, &at.in6.sin6_addr, ret_text, ADDRESS_TEXT_MAX);
    return ntohs(at.in6.sin6_port);
}

// On the first of the addresses that can be had: *ret_fd, or -1 and errno.
static int listen_any(const char *host, const char *port, int family, int *ret_fd)
{
    struct addrinfo want = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all;
    int r = getaddrinfo(host, port, &want, &all);
    if (r != 0)
        return r;
    *ret_fd = -1;
    for (const struct addrinfo *a = all; a && *ret_fd < 0; a = a->ai_next)
        *ret_fd = listen_on(a);
    int why = errno;
    freeaddrinfo(all);
    errno = why;
    return 0;
}

int listen_open(const char *where, int *ret_fd, char ret_text[ADDRESS_TEXT_MAX], struct err *e)
{
    char host[64] = "";
    const char *port = NULL;
    if (split(where, host, &port, e) != 0)
        return -1;
    int fd = -1;
    // Every address: IPv6, and IPv4 through it; IPv4 alone where the machine has no IPv6.
    int r = listen_any(*host ? host : NULL, port, *host ? AF_UNSPEC : AF_INET6, &fd);
    if (!*host && r == 0 && fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        r = listen_any(NULL, port, AF_INET, &fd);
    if (r != 0)
        return err_set(e, ERR_LISTEN, "listen on %s: %s: check the address and port in --listen",
                       where, gai_strerror(r));
    if (fd < 0)
        return err_set(e, ERR_LISTEN, "listen on %s: %s: %s", where, strerror(errno),
                       remedy(errno));
    char address[ADDRESS_TEXT_MAX];
    int number = address_text(fd, address);
    bool v6 = strchr(address, ':');
    snprintf(ret_text, ADDRESS_TEXT_MAX, v6 ? "[%.60s]:%d" : "%.60s:%d", address, number);
    *ret_fd = fd;
    return 0;
}

int listen_accept(int fd)
{
    int on = 1, unsent = NOTSENT_BYTES;
    int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (c < 0)
        return -1;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    return c;
}

void listen_local(int fd, char ret_text[ADDRESS_TEXT_MAX])
{
    (void)address_text(fd, ret_text);
}
