// A libwebsockets context and the thread that serves it: sessions, their frames, a clock of one
// second. Only context_give, context_wake and the two totals may be called from other threads.
#pragma once

#include "sinks/websocket/frame.h"
#include "sinks/websocket/guard.h"
#include "sinks/websocket/listen.h"
#include "sinks/websocket/websocket.h"

#include <pthread.h>

#define PING_SECONDS    20 // of silence, then a ping
#define SILENCE_SECONDS 60 // of silence, then the connection is given up
// Bytes of a request's line and headers. Browsers send the cookies of everything that runs on
// localhost to each of its ports. The room is allocated only while headers are read.
#define REQUEST_HEADERS_MAX (32 << 10)
#define SCRATCH_BYTES       (64 << 10)
#define SCRATCH_HEADROOM    64

struct lws_context;
struct lws_vhost;
struct session;
struct ticker;

struct server_metrics {
    struct metric *connections, *subscribers, *slow;
    struct metric *frames, *bytes, *changes, *requests;
    struct metric *position, *lag_bytes, *lag_time; // of the subscription that is last
    struct histogram *latency;
};

struct server { // what contexts share
    struct sink sink;
    struct websocket_options o;
    struct guard guard;
    struct journal *journal;
    struct server_metrics metrics;
    _Atomic int sockets; // connections of any kind
    char address[ADDRESS_TEXT_MAX];
    int listener, wake; // the listening socket; an eventfd that ends the accepting thread
    pthread_t acceptor;
    struct context **contexts;
    int context_count;
    int next; // context to give a connection to
};

struct context {
    struct server *server;
    struct lws_context *lws;
    struct lws_vhost *vhost;
    struct ticker *ticker;
    pthread_t thread;
    bool running;
    int done;              // an eventfd: the thread has ended
    _Atomic bool woken;    // a wake is under way
    _Atomic bool stopping; // close all sessions, then end
    _Atomic bool stopped;  // end at once
    pthread_mutex_t lock;  // of what is given
    struct buf given;      // accepted sockets (int)

    // the thread's own
    struct session *sessions;
    struct selection *selections;
    struct frame_maker frames;
    struct position observed; // newest position in the latency histogram
    bool closing;             // sessions were told to close
    uint64_t health_version;
    uint32_t identity_version;
    enum health_state health;
    int64_t health_since_us;
    char health_text[512];
    uint8_t *scratch; // SCRATCH_HEADROOM + SCRATCH_BYTES

    // told at each second, for metrics
    _Atomic uint64_t position; // of the last subscription; the journal's end when none is behind
    _Atomic uint64_t behind;   // its distance from the journal's end
    _Atomic int64_t had_us;    // and its had_us; 0: not known, or not behind
    _Atomic int slow;
};

int context_new(struct server *server, struct context **ret_c, struct err *e) MUST_CHECK;
// Tells sessions to close; the thread ends when they are gone.
void context_stop(struct context *c);
// Waits for that until `deadline_us` (monotonic).
void context_wait(struct context *c, int64_t deadline_us);
// Ends the thread, also with sessions open, and frees. NULL is fine.
void context_free(struct context *c);
// Hands over an accepted socket.
void context_give(struct context *c, int fd);
// Something may have changed: the journal, the health. Any thread, cheap.
void context_wake(void *context);

// Stream and timeline of frames are the journal's at this moment.
bool context_identify(struct context *c, struct journal_identity *ret_id);
// The same where it has changed: another timeline or generation, which sessions tell their clients.
void context_look_at_identity(struct context *c);
