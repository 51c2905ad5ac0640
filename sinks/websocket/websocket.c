// Starts and stops the WebSocket sink: the listening socket, the thread that accepts, the contexts
// that serve, and the metrics of all.
//
// A full server: up to connections_max WebSockets are served; a few more connections are let in so
// that health and metrics can still be read and a refused upgrade gets a proper 503; beyond those,
// connections are turned away where they are accepted.
#include "sinks/websocket/websocket.h"

#include "base/clock.h"
#include "base/log.h"
#include "sinks/websocket/http.h"

#include <errno.h>
#include <libwebsockets.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define SOCKETS_SPARE 64   // connections besides WebSockets
#define FILES_SPARE   1024 // file descriptors for everything else in the process

static struct server *server_of(struct sink *s)
{
    return (struct server *)s;
}

// ---- accepting ----

static void turn_away(int fd)
{
    static const char answer[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n"
        "Connection: close\r\nContent-Length: 61\r\n\r\n"
        "rowcast has as many connections as it may: --connections-max\n";
    char request[2048];
    // What it asked is read first: closing over unread bytes would destroy the answer.
    (void)!read(fd, request, sizeof request);
    (void)!write(fd, answer, sizeof answer - 1);
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void accept_one(struct server *server)
{
    int fd = listen_accept(server->listener);
    if (fd < 0) {
        if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
            return; // the client went away
        log_warn("cannot accept a connection", "sink=websocket error=%s retry_ms=100",
                 log_quote(strerror(errno)));
        struct pollfd end = {.fd = server->wake, .events = POLLIN};
        (void)poll(&end, 1, 100);
        return;
    }
    if (server->sockets >= (int)server->o.connections_max + SOCKETS_SPARE) {
        turn_away(fd);
        return;
    }
    server->sockets++;
    context_give(server->contexts[server->next], fd);
    server->next = (server->next + 1) % server->context_count;
}

static void *accept_all(void *arg)
{
    struct server *server = arg;
    for (;;) {
        struct pollfd fds[] = {{.fd = server->wake, .events = POLLIN},
                               {.fd = server->listener, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            break;
        if (fds[1].revents)
            accept_one(server);
    }
    return NULL;
}

// ---- metrics ----

static void update_metrics(void *arg)
{
    struct server *server = arg;
    const struct context *last = server->contexts[0];
    int slow = 0;
    for (int i = 0; i < server->context_count; i++) {
        const struct context *c = server->contexts[i];
        if (c->position < last->position)
            last = c;
        slow += c->slow;
    }
    metric_set(server->metrics.slow, slow);
    if (last->position == UINT64_MAX) // no stream yet
        return;
    metric_set(server->metrics.position, (int64_t)last->position);
    metric_set(server->metrics.lag_bytes, (int64_t)last->behind);
    metric_set(server->metrics.lag_time, last->had_us ? clock_age_us(last->had_us) : 0);
}

static void make_metrics(struct server_metrics *m)
{
    static const char sink[] = "sink=\"websocket\"";
    m->connections = metric_new(METRIC_GAUGE, "rowcast_websocket_connections",
                                "Open WebSocket connections.", "", 1);
    m->subscribers =
        metric_new(METRIC_GAUGE, "rowcast_websocket_subscribers", "Active subscriptions.", "", 1);
    m->slow = metric_new(METRIC_GAUGE, "rowcast_websocket_slow_readers",
                         "Subscriptions whose client takes nothing, or that read the journal's "
                         "files, behind what is in memory.",
                         "", 1);
    m->frames = metric_new(METRIC_COUNTER, "rowcast_websocket_frames_total",
                           "Frames of changes sent to subscribers.", "", 1);
    m->bytes = metric_new(METRIC_COUNTER, "rowcast_websocket_bytes_total",
                          "Bytes sent to subscribers.", "", 1);
    m->changes = metric_new(METRIC_COUNTER, "rowcast_websocket_changes_total",
                            "Changes sent, counted once for each subscriber.", "", 1);
    m->requests = metric_new(METRIC_COUNTER, "rowcast_websocket_requests_total",
                             "Messages received from clients.", "", 1);
    m->position = metric_new(METRIC_GAUGE, "rowcast_sink_position_lsn",
                             "LSN up to which the sink has delivered.", sink, 1);
    m->lag_bytes =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_bytes",
                   "WAL bytes between the journal's end and the sink's position.", sink, 1);
    m->lag_time =
        metric_new(METRIC_GAUGE, "rowcast_sink_lag_seconds",
                   "Age of the oldest commit that the sink has not delivered.", sink, 1000000);
    m->latency = histogram_new("rowcast_commit_to_sink_seconds",
                               "From the commit to the sink, once a batch.", sink);
}

// ---- life ----

static void limit_files(uint32_t connections_max)
{
    // Exactly what is needed: libwebsockets allocates tables for as many as the process may open,
    // and misbehaves where that is "unlimited".
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    rlim_t wanted = (rlim_t)connections_max + SOCKETS_SPARE + FILES_SPARE;
    if (wanted > files.rlim_max) {
        log_warn("fewer connections are possible than --connections-max",
                 "sink=websocket files=%lu wanted=%lu remedy=%s", (unsigned long)files.rlim_max,
                 (unsigned long)wanted, log_quote("raise the limit of open files (ulimit -Hn)"));
        wanted = files.rlim_max;
    }
    files.rlim_cur = wanted;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

static void lws_log(int level, const char *line)
{
    (void)level;
    // All that it tells of headers beyond REQUEST_HEADERS_MAX: it closes before we can answer.
    if (strstr(line, "Ran out of header data space"))
        http_refused("headers");
    // Its words are about single connections, and clients can provoke them.
    log_debug("libwebsockets", "text=%s", log_quote(line));
}

static void server_free(struct server *server)
{
    if (!server)
        return;
    for (int i = 0; i < server->context_count; i++)
        context_free(server->contexts[i]);
    free(server->contexts);
    if (server->listener >= 0)
        close(server->listener);
    if (server->wake >= 0)
        close(server->wake);
    free(server);
}

static int websocket_start(const void *options, struct journal *j, struct sink **ret_s,
                           struct err *e)
{
    struct server *server = xcalloc(1, sizeof *server);
    server->sink.ops = &websocket_sink;
    server->o = *(const struct websocket_options *)options;
    server->guard = (struct guard){server->o.origins, server->o.origin_count, server->o.hosts,
                                   server->o.host_count};
    server->journal = j;
    server->listener = server->wake = -1;
    make_metrics(&server->metrics);
    if (listen_open(server->o.listen, &server->listener, server->address, e) != 0)
        goto failed;
    limit_files(server->o.connections_max);
    lws_set_log_level(LLL_ERR | LLL_WARN, lws_log);
    server->wake = eventfd(0, EFD_CLOEXEC);
    CHECK(server->wake >= 0);
    int count = server->o.contexts > 0 ? server->o.contexts : 1;
    server->contexts = xcalloc((size_t)count, sizeof(struct context *));
    server->context_count = count;
    for (int i = 0; i < count; i++) {
        if (context_new(server, &server->contexts[i], e) != 0)
            goto failed;
    }
    metrics_on_render(update_metrics, server);
    CHECK(pthread_create(&server->acceptor, NULL, accept_all, server) == 0);
    log_info("listening", "sink=websocket address=%s", server->address);
    *ret_s = &server->sink;
    return 0;
failed:
    server_free(server);
    return -1;
}

static lsn_t websocket_durable(struct sink *s)
{
    (void)s;
    return UINT64_MAX; // a WebSocket client's place is its own matter
}

static bool websocket_failed(struct sink *s, struct err *ret_e)
{
    (void)s;
    (void)ret_e;
    return false;
}

static void websocket_stop(struct sink *s, int64_t grace_us)
{
    struct server *server = server_of(s);
    uint64_t one = 1;
    (void)!write(server->wake, &one, sizeof one);
    CHECK(pthread_join(server->acceptor, NULL) == 0);
    metrics_off_render(update_metrics, server);
    for (int i = 0; i < server->context_count; i++)
        context_stop(server->contexts[i]);
    int64_t deadline = clock_mono_us() + grace_us;
    for (int i = 0; i < server->context_count; i++)
        context_wait(server->contexts[i], deadline);
    log_info("stopped", "sink=websocket connections_cut=%ld",
             (long)metric_get(server->metrics.connections));
    server_free(server);
}

const struct sink_ops websocket_sink = {
    .name = "websocket",
    .start = websocket_start,
    .durable = websocket_durable,
    .failed = websocket_failed,
    .stop = websocket_stop,
};
