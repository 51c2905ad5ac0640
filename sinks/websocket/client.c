#include "sinks/websocket/client.h"

#include "sinks/websocket/websocket.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define GET_TIMEOUT_S      10
#define GET_BODY_BYTES_MAX (64u << 20)
#define GET_CHUNK_BYTES    16384

static const char *skip(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int refuse(const char *url, struct err *e)
{
    return err_set(e, ERR_USAGE, "\"%.200s\" is no address of a rowcast: give ws://HOST:PORT", url);
}

int address_parse(const char *url, struct address *ret_a, struct err *e)
{
    struct address a = {.port = ADDRESS_PORT_DEFAULT};
    const char *at = skip(url, "ws://");
    if (!at)
        at = skip(url, "http://");
    if (skip(url, "wss://") || skip(url, "https://"))
        return err_set(e, ERR_USAGE,
                       "\"%.200s\": this client speaks no TLS: give ws://HOST:PORT, through a "
                       "tunnel where that is needed",
                       url);
    at = at ? at : url;
    bool brackets = *at == '[';
    at += brackets;
    size_t n = strcspn(at, brackets ? "]" : ":/");
    if (n == 0 || n >= sizeof a.host || (brackets && at[n] != ']') || strpbrk(url, " @?#\"\r\n"))
        return refuse(url, e);
    memcpy(a.host, at, n);
    at += n + brackets;
    if (*at == ':') {
        char *end;
        size_t digits = strspn(at + 1, "0123456789");
        long port = strtol(at + 1, &end, 10);
        if (digits == 0 || digits > 5 || port < 1 || port > 65535)
            return refuse(url, e);
        a.port = (int)port;
        at = end;
    }
    if (*at && strcmp(at, "/") != 0 && strcmp(at, "/v1/stream") != 0)
        return refuse(url, e);
    snprintf(a.authority, sizeof a.authority, brackets ? "[%s]:%d" : "%s:%d", a.host, a.port);
    *ret_a = a;
    return 0;
}

// ---- GET ----

static int dial(const struct address *a, struct err *e)
{
    char port[8];
    snprintf(port, sizeof port, "%d", a->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int r = getaddrinfo(a->host, port, &hints, &list);
    if (r != 0)
        return err_set(e, ERR_RETRY, "host %s: %s", a->host, gai_strerror(r));
    int fd = -1;
    for (const struct addrinfo *i = list; i && fd < 0; i = i->ai_next) {
        fd = socket(i->ai_family, i->ai_socktype | SOCK_CLOEXEC, i->ai_protocol);
        struct timeval limit = {.tv_sec = GET_TIMEOUT_S};
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, i->ai_addr, i->ai_addrlen) != 0) {
            int no = errno;
            close(fd);
            errno = no;
            fd = -1;
        }
    }
    if (fd < 0)
        (void)err_set(e, ERR_RETRY, NO_ANSWER, a->authority, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

// All that comes until the server closes.
static int read_all(int fd, const struct address *a, struct buf *reply, struct err *e)
{
    for (;;) {
        ssize_t n = read(fd, buf_room(reply, GET_CHUNK_BYTES), GET_CHUNK_BYTES);
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, ERR_RETRY, "reading from %s", a->authority);
        reply->n += (size_t)n;
        if (reply->n > GET_BODY_BYTES_MAX)
            return err_set(e, ERR_RETRY, "%s answers with more than 64 MiB", a->authority);
    }
}

// "HTTP/1.1 200 ..": appends the body.
static int take_body(struct buf *reply, const struct address *a, const char *path, struct buf *out,
                     struct err *e)
{
    const char *text = buf_cstr(reply);
    const char *body = memmem(text, reply->n, "\r\n\r\n", 4);
    long status = skip(text, "HTTP/1.") && reply->n > 12 ? strtol(text + 9, NULL, 10) : 0;
    if (!body || status == 0)
        return err_set(e, ERR_RETRY, "%s does not answer as a rowcast does", a->authority);
    body += 4;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    size_t n = reply->n - (size_t)(body - text);
    if (length && length < body && strtoull(length + 17, NULL, 10) != n)
        return err_set(e, ERR_RETRY, "%s ended its answer too early", a->authority);
    if (status != 200)
        return err_set(e, status >= 500 ? ERR_RETRY : ERR_USAGE, "%s%s: status %ld: %.*s",
                       a->authority, path, status, (int)size_min(strcspn(body, "\r\n"), 300), body);
    buf_put(out, body, n);
    return 0;
}

int websocket_get(const char *url, const char *path, struct buf *out, struct err *e)
{
    struct address a = {0};
    if (address_parse(url, &a, e) != 0)
        return -1;
    AUTO_CLOSE int fd = dial(&a, e);
    if (fd < 0)
        return -1;
    AUTO_BUF struct buf request = {0};
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path,
               a.authority);
    for (size_t at = 0; at < request.n;) {
        ssize_t n = send(fd, request.p + at, request.n - at, MSG_NOSIGNAL);
        if (n < 0)
            return err_errno(e, ERR_RETRY, "writing to %s", a.authority);
        at += (size_t)n;
    }
    AUTO_BUF struct buf reply = {0};
    if (read_all(fd, &a, &reply, e) != 0)
        return -1;
    return take_body(&reply, &a, path, out, e);
}
