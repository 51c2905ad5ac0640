// Many WebSocket subscribers in one process, as cheap as can be, so that what is measured is
// rowcast.
//
//   subscribers HOST PORT PATH COUNT UNTIL_CHANGES SECONDS_MAX [STEADY_SECONDS]
//
// Opens COUNT connections in the protobuf form, prints "ready" when all are upgraded, reads until
// each has UNTIL_CHANGES changes (0: until standard input closes) or SECONDS_MAX have passed, and
// prints one JSON line: frames, changes, bytes, seconds from the first to the last change, CPU, and
// the latency from commit (as PostgreSQL stamped it) to arrival, of changes that arrive after
// STEADY_SECONDS.
#include "base/clock.h"
#include "base/reader.h"
#include "proto/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES  (256 * 1024)
#define SAMPLES_MAX 4000000

struct subscriber {
    int fd;
    bool upgraded, done;
    struct buf in; // not yet a whole frame
    uint64_t changes;
};

static struct {
    struct subscriber *all;
    int count, upgraded, done;
    uint64_t until, frames, changes, bytes;
    int64_t first_us, last_us, steady_us;
    int32_t *samples; // microseconds
    size_t sample_count;
} run;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void dial(struct subscriber *s, const char *host, int port, const char *path)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        die("address");
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    AUTO_BUF struct buf req = {0};
    buf_printf(&req,
               "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Protocol: rowcast.v1.proto\r\n\r\n",
               path, host, port);
    if (write(s->fd, req.p, req.n) != (ssize_t)req.n)
        die("write");
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

static void sample(int64_t commit_us, int64_t now_us)
{
    if (run.first_us == 0 || now_us - run.first_us < run.steady_us)
        return;
    if (run.sample_count < SAMPLES_MAX)
        run.samples[run.sample_count++] = (int32_t)(now_us - commit_us);
}

// Counts the changes of one frame; a sample for each transaction's first change in it.
static void take_frame(struct subscriber *s, struct slice payload)
{
    int64_t now = clock_wall_us(), commit_us = 0;
    struct reader r = reader_of(payload.p, payload.n);
    struct wire_field entry, kind, f;
    uint64_t before = s->changes;
    while (wire_next(&r, &entry)) {
        if (entry.number != 1)
            continue; // hello, subscribed ..
        struct reader inner = reader_of(entry.bytes.p, entry.bytes.n);
        if (!wire_next(&inner, &kind))
            continue;
        if (kind.number == 2) {
            s->changes++;
            if (commit_us)
                sample(commit_us, now);
            commit_us = 0;
        } else if (kind.number == 1) {
            struct reader begin = reader_of(kind.bytes.p, kind.bytes.n);
            while (wire_next(&begin, &f)) {
                if (f.number == 2)
                    commit_us = unzigzag(f.v);
            }
        }
    }
    run.frames++;
    run.changes += s->changes - before;
    if (s->changes > before) {
        run.first_us = run.first_us ? run.first_us : now;
        run.last_us = now;
    }
    if (run.until && s->changes >= run.until && !s->done) {
        s->done = true;
        run.done++;
    }
}

static void pong(struct subscriber *s)
{
    const uint8_t frame[] = {0x8a, 0x80, 0, 0, 0, 0};
    if (write(s->fd, frame, sizeof frame) < 0)
        die("pong");
}

// Takes one whole WebSocket frame (RFC 6455, 5.2; a server's frames are not masked) off the front.
static size_t frame_take(struct subscriber *s, const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    size_t head = 2, len = p[1] & 0x7f;
    if (len >= 126) {
        size_t more = len == 126 ? 2 : 8;
        if (n < 2 + more)
            return 0;
        len = 0;
        for (size_t i = 0; i < more; i++)
            len = len << 8 | p[2 + i];
        head += more;
    }
    if (n - head < len)
        return 0;
    uint8_t opcode = p[0] & 0x0f;
    if (opcode == 9)
        pong(s);
    else if (opcode == 8)
        fprintf(stderr, "subscribers: closed by the server: %.*s\n", (int)(len - 2), p + head + 2);
    else
        take_frame(s, (struct slice){p + head, len});
    return head + len;
}

static void take_bytes(struct subscriber *s)
{
    size_t at = 0;
    if (!s->upgraded) {
        const uint8_t *end = memmem(s->in.p, s->in.n, "\r\n\r\n", 4);
        if (!end)
            return;
        if (memcmp(s->in.p, "HTTP/1.1 101", 12) != 0) {
            fprintf(stderr, "subscribers: refused: %.*s\n", (int)s->in.n, s->in.p);
            exit(1);
        }
        at = (size_t)(end + 4 - s->in.p);
        s->upgraded = true;
        if (++run.upgraded == run.count) {
            puts("ready");
            fflush(stdout);
        }
    }
    for (size_t n; (n = frame_take(s, s->in.p + at, s->in.n - at)) > 0;)
        at += n;
    memmove(s->in.p, s->in.p + at, s->in.n - at);
    s->in.n -= at;
}

static void readable(struct subscriber *s)
{
    ssize_t n = read(s->fd, buf_room(&s->in, READ_BYTES / (run.count > 50 ? 8 : 1)),
                     READ_BYTES / (run.count > 50 ? 8 : 1));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        fprintf(stderr, "subscribers: the connection ended\n");
        exit(1);
    }
    run.bytes += (uint64_t)n;
    s->in.n += (size_t)n;
    take_bytes(s);
}

static int by_value(const void *a, const void *b)
{
    return *(const int32_t *)a < *(const int32_t *)b ? -1
                                                     : *(const int32_t *)a > *(const int32_t *)b;
}

static double quantile_ms(double q)
{
    if (run.sample_count == 0)
        return 0;
    size_t i = (size_t)(q * (double)(run.sample_count - 1));
    return run.samples[i] / 1000.0;
}

static void report(void)
{
    qsort(run.samples, run.sample_count, sizeof *run.samples, by_value);
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("{\"subscribers\":%d,\"done\":%d,\"frames\":%lu,\"changes\":%lu,\"bytes\":%lu,"
           "\"seconds\":%.6f,\"cpu\":%.3f,\"samples\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f}\n",
           run.count, run.done, run.frames, run.changes, run.bytes,
           (double)(run.last_us - run.first_us) / 1e6,
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
           run.sample_count, quantile_ms(0.5), quantile_ms(0.99), quantile_ms(1));
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fputs("usage: subscribers HOST PORT PATH COUNT UNTIL_CHANGES SECONDS_MAX [STEADY]\n",
              stderr);
        return 2;
    }
    run.count = (int)strtol(argv[4], NULL, 10);
    run.until = strtoull(argv[5], NULL, 10);
    int64_t end = clock_mono_us() + strtoll(argv[6], NULL, 10) * 1000000;
    run.steady_us = argc > 7 ? strtoll(argv[7], NULL, 10) * 1000000 : 0;
    run.all = xcalloc((size_t)run.count, sizeof *run.all);
    run.samples = xmalloc(SAMPLES_MAX * sizeof *run.samples);
    struct rlimit files = {(rlim_t)run.count + 100, (rlim_t)run.count + 100};
    setrlimit(RLIMIT_NOFILE, &files);
    int ep = epoll_create1(0);
    for (int i = 0; i < run.count; i++) {
        dial(&run.all[i], argv[1], (int)strtol(argv[2], NULL, 10), argv[3]);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &run.all[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, run.all[i].fd, &ev);
    }
    struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL};
    if (!run.until)
        epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &in);
    bool stop = false;
    while (!stop && clock_mono_us() < end && (!run.until || run.done < run.count)) {
        struct epoll_event evs[256];
        int n = epoll_wait(ep, evs, 256, 100);
        for (int i = 0; i < n; i++) {
            if (evs[i].data.ptr)
                readable(evs[i].data.ptr);
            else
                stop = true; // standard input closed
        }
    }
    report();
    return run.until && run.done < run.count ? 1 : 0;
}
