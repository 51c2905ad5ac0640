// The WebSocket sink: one port for /v1/stream, health, metrics, the generated schema and the page.
// tests and clients: see README.md, "WebSocket".
#pragma once

#include "base/health.h"
#include "sinks/sink.h"

struct websocket_options {
    const char *listen;   // ADDR:PORT, [ADDR6]:PORT; port 0: any (logged)
    char *const *origins; // allowed besides the same origin; "*": all
    size_t origin_count;
    char *const *hosts; // allowed Host values besides loopback names and the bound address
    size_t host_count;
    uint32_t connections_max;   // beyond it: 503
    uint32_t subscriptions_max; // a connection
    size_t request_bytes_max;   // a client's message; beyond it: error, close 1009
    size_t frame_bytes_max;     // a row that does not fit a frame alone: see row_policy in README
    int contexts;               // lws contexts, one thread each
    struct health *health;
    bool test_page; // the live page at /
};

extern const struct sink_ops websocket_sink;

// A client of it, for `rowcast tail` and `rowcast schema ws://..`.
struct websocket_tail_options {
    const char *url; // ws://HOST:PORT
    char *const *tables;
    size_t table_count;
    const char *from; // now, earliest, cursor
    bool json;        // print the JSON entries; else a line for people
};
// Prints changes to stdout until *stop is set; reconnects and resumes. Exit by error: e.
int websocket_tail(const struct websocket_tail_options *o, const volatile int *stop,
                   struct err *e) MUST_CHECK;
// GET http://HOST:PORT/path of a running rowcast; body appended to out. -1 unless 200.
int websocket_get(const char *url, const char *path, struct buf *out, struct err *e) MUST_CHECK;
