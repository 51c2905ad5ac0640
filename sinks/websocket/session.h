// A WebSocket connection: what its client asked for, and what it is sent next.
//
// Everything goes out of session_writeable, one WebSocket frame (or fragment) a call: first answers
// and other messages, then the frames of its subscriptions in turn. Frames are shared, so a session
// holds next to nothing; a large one goes out in fragments through the context's scratch buffer,
// for libwebsockets copies what the socket does not take.
#pragma once

#include "sinks/websocket/context.h"
#include "sinks/websocket/request.h"
#include "sinks/websocket/subscription.h"

struct lws;
struct message;

struct session {
    uint32_t magic;
    bool text;           // JSON, else protobuf
    uint16_t close_code; // 0: open
    char close_text[100];
    struct session *next, **link; // in the context's list; link: what points here
    struct context *c;
    struct lws *wsi;
    uint64_t health_version;
    uint32_t identity_version; // of the hello that the client has

    struct subscription *subscriptions;
    uint32_t subscription_count;
    uint32_t known_bits;
    uint8_t *known; // bits by relation version: told on this connection

    struct buf in;                 // a client's message that is not whole yet
    struct message *first, **last; // messages that wait
    struct message *health;        // the one among them about the source's health
    struct frame *frame;           // of entries, on its way
    struct frame *relations;       // to be sent before it
    struct selection *frame_of;    // whose frame it is; only compared
    size_t sent;                   // bytes of a frame that goes out in fragments
    bool live;                     // it is of a subscription that keeps up

    bool stalled; // a frame waited for the whole last second
    bool pinged, ping_due;
    int64_t heard_us;        // the client's last sign of life
    uint64_t written_before; // at the last tick
    uint64_t written;        // bytes handed to the socket
    uint64_t taken;          // and what the client's kernel has of them
};

// From the URL: `q` is taken over; NULL when the URL asks for nothing. `fault` and `why` as
// request_argument gave them.
struct session *session_new(struct context *c, struct lws *wsi, bool text, struct request *q,
                            enum request_fault fault, const char *why);
void session_free(struct session *s);
// Ends its subscriptions.
void session_end(struct session *s);

// Events of the connection. -1: libwebsockets is to close it.
int session_received(struct session *s, const void *p, size_t n, bool binary, bool final);
int session_writeable(struct session *s);
void session_heard(struct session *s); // a sign of life: a pong, a message

// The journal or the health may have news.
void session_wake(struct session *s);
// Once a second: progress, pings, silence. True: give the connection up.
bool session_tick(struct session *s, int64_t now_us);
// Sends what waits, then closes. The first reason counts.
void session_close(struct session *s, uint16_t code, const char *why);
