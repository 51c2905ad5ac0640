// rowcast tail: one connection at a time, made again when it is lost, from the cursor of the last
// entry that was printed. One thread; libwebsockets' own loop, with a tick to look at `stop`.
//
// A session ends in one of four ways: the server or the network ended it, or the server does not
// let us in yet (connect again), it cannot go on (`failed`), or our stdout was closed (done).
#include "base/clock.h"
#include "proto/json.h"
#include "sinks/websocket/client.h"
#include "sinks/websocket/scan.h"
#include "sinks/websocket/tail_line.h"
#include "sinks/websocket/websocket.h"

#include <errno.h>
#include <libwebsockets.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define TAIL_MAGIC       0x6c696174
#define TICK_US          100000
#define BACKOFF_FIRST_US 250000
#define BACKOFF_MAX_US   10000000
#define FRAME_BYTES_MAX  (1u << 30) // of a server's frame; its own limit is in its hello
#define RX_BUFFER_BYTES  65536
#define PING_AFTER_S     30
#define HANG_UP_AFTER_S  60

struct tail {
    uint32_t magic;
    const struct websocket_tail_options *o;
    struct address address;
    struct lws_context *context;
    lws_sorted_usec_list_t tick;
    struct lws *wsi;
    bool over;       // the session has ended
    bool refused;    // it was not let in for now (503)
    bool subscribed; // once, in any session
    bool closed;     // our stdout
    bool failed;
    bool colours;
    struct err *e;
    char cursor[CURSOR_TEXT_MAX]; // of the last entry; "": none yet
    char reason[512];             // why the session ended
    int64_t backoff_us;
    struct buf rx, out;
};

__attribute__((format(printf, 2, 3))) static void note(const struct tail *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", t->address.authority);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static int fail(struct tail *t, enum err_class class, const char *text)
{
    t->failed = true;
    return err_set(t->e, class, "%s: %s", t->address.authority, text);
}

// ---- what the server says ----

static void keep_cursor(struct tail *t, struct slice object)
{
    struct slice cursor;
    if (scan_get(object, "cursor", &cursor) && cursor.n > 2 && cursor.n - 2 < sizeof t->cursor) {
        memcpy(t->cursor, cursor.p + 1, cursor.n - 2);
        t->cursor[cursor.n - 2] = 0;
    }
}

static int print(struct tail *t)
{
    if (t->out.n && (fwrite(t->out.p, 1, t->out.n, stdout) != t->out.n || fflush(stdout) != 0)) {
        if (errno != EPIPE && errno != EINTR)
            return fail(t, ERR_INTERNAL, strerror(errno));
        t->closed = true;
        return -1;
    }
    buf_clear(&t->out);
    return 0;
}

static int on_batch(struct tail *t, struct slice frame)
{
    struct slice entries, entry;
    if (!scan_get(frame, "entries", &entries))
        return fail(t, ERR_DATA, "a batch without entries: is this a rowcast of another version?");
    struct scan s = scan_open(entries);
    struct slice last = {0};
    while (scan_element(&s, &entry)) {
        if (t->o->json) {
            buf_put(&t->out, entry.p, entry.n);
            buf_putc(&t->out, '\n');
        } else {
            tail_line(&t->out, entry, t->colours);
        }
        last = entry;
    }
    if (s.failed)
        return fail(t, ERR_DATA, "a malformed batch: is this a rowcast of another version?");
    if (print(t) != 0)
        return -1;
    if (last.p)
        keep_cursor(t, last);
    return 0;
}

// Appends the text of a member, "" when there is none.
static const char *text_of(struct buf *scratch, struct slice frame, const char *key)
{
    struct slice value;
    buf_clear(scratch);
    if (scan_get(frame, key, &value))
        scan_text(scratch, value);
    return buf_cstr(scratch);
}

static void on_subscribed(struct tail *t, struct slice frame)
{
    AUTO_BUF struct buf text = {0};
    struct slice tables, table;
    size_t n = 0;
    if (scan_get(frame, "tables", &tables)) {
        struct scan s = scan_open(tables);
        while (scan_element(&s, &table))
            n++;
    }
    if (!t->cursor[0])
        keep_cursor(t, frame);
    const char *warning = text_of(&text, frame, "warning");
    if (*warning)
        note(t, "%s", warning);
    if (!t->subscribed && !t->o->json)
        note(t, "following %zu table%s", n, n == 1 ? "" : "s");
    else if (t->subscribed)
        note(t, "connected again");
    t->subscribed = true;
    t->backoff_us = BACKOFF_FIRST_US;
}

static int on_reset(struct tail *t, struct slice frame)
{
    AUTO_BUF struct buf code = {0}, text = {0}, earliest = {0}, all = {0};
    text_of(&earliest, frame, "earliest");
    buf_printf(&all, "cannot go on from this cursor (%s): %s", text_of(&code, frame, "code"),
               text_of(&text, frame, "text"));
    if (earliest.n)
        buf_printf(&all, "; the oldest that is kept: --from %s", buf_cstr(&earliest));
    return fail(t, ERR_SLOT_LOST, buf_cstr(&all));
}

static int on_error(struct tail *t, struct slice frame)
{
    AUTO_BUF struct buf code = {0}, text = {0};
    struct slice retry = {0};
    text_of(&code, frame, "code");
    text_of(&text, frame, "text");
    snprintf(t->reason, sizeof t->reason, "%s: %s", buf_cstr(&code), buf_cstr(&text));
    if (scan_get(frame, "retry", &retry) && slice_is(retry, "true")) {
        note(t, "%s", t->reason);
        return 0;
    }
    return fail(t, ERR_USAGE, t->reason);
}

static void on_health(struct tail *t, struct slice frame)
{
    AUTO_BUF struct buf state = {0}, text = {0};
    note(t, "the source is %s: %s", text_of(&state, frame, "state"), text_of(&text, frame, "text"));
}

static void on_hello(struct tail *t, struct slice frame)
{
    AUTO_BUF struct buf state = {0};
    if (strcmp(text_of(&state, frame, "state"), "live") != 0)
        note(t, "the source is %s", buf_cstr(&state));
}

// A whole text frame; -1 ends the session.
static int on_frame(struct tail *t, struct slice frame)
{
    struct slice type;
    if (!scan_get(frame, "type", &type))
        return fail(t, ERR_DATA, "not an answer of a rowcast");
    if (slice_is(type, "\"batch\""))
        return on_batch(t, frame);
    if (slice_is(type, "\"reset\""))
        return on_reset(t, frame);
    if (slice_is(type, "\"error\""))
        return on_error(t, frame);
    if (slice_is(type, "\"subscribed\""))
        on_subscribed(t, frame);
    else if (slice_is(type, "\"health\""))
        on_health(t, frame);
    else if (slice_is(type, "\"hello\""))
        on_hello(t, frame);
    return 0;
}

// ---- the connection ----

static int subscribe(struct tail *t)
{
    AUTO_BUF struct buf b = {0};
    buf_room(&b, LWS_PRE);
    b.n = LWS_PRE;
    const char *from = t->cursor[0] ? t->cursor : t->o->from;
    buf_puts(&b, "{\"subscribe\":{\"id\":\"\",\"from\":");
    json_string(&b, from, strlen(from));
    for (size_t i = 0; i < t->o->table_count; i++) {
        buf_puts(&b, i ? "," : ",\"tables\":[");
        json_string(&b, t->o->tables[i], strlen(t->o->tables[i]));
    }
    buf_puts(&b, t->o->table_count ? "]}}" : "}}");
    size_t n = b.n - LWS_PRE;
    return lws_write(t->wsi, b.p + LWS_PRE, n, LWS_WRITE_TEXT) < (int)n ? -1 : 0;
}

static int on_receive(struct tail *t, const void *in, size_t n)
{
    if (lws_is_first_fragment(t->wsi))
        buf_clear(&t->rx);
    if (t->rx.n + n > FRAME_BYTES_MAX)
        return fail(t, ERR_DATA, "a frame of more than 1 GiB");
    buf_put(&t->rx, in, n);
    if (!lws_is_final_fragment(t->wsi) || lws_remaining_packet_payload(t->wsi) > 0)
        return 0;
    int r = on_frame(t, buf_slice(&t->rx));
    buf_clear(&t->rx);
    return r;
}

static void session_over(struct tail *t, const char *reason, size_t n)
{
    if (reason && n && !t->reason[0])
        snprintf(t->reason, sizeof t->reason, "%.*s", (int)size_min(n, 400), reason);
    t->wsi = NULL;
    t->over = true;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t n)
{
    (void)user;
    struct tail *t = lws_context_user(lws_get_context(wsi));
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        t->wsi = wsi;
        lws_callback_on_writable(wsi);
        return 0;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return subscribe(t);
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_receive(t, in, n);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        if (n > 2)
            snprintf(t->reason, sizeof t->reason, "%.*s", (int)size_min(n - 2, 400),
                     (const char *)in + 2);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR: {
        unsigned status = lws_http_client_http_response(wsi);
        if (status >= 400 && status < 500)
            (void)fail(t, ERR_USAGE,
                       status == 403 ? "refused (403): is the name in its --allow-host?"
                                     : "refused: is this a rowcast?");
        t->refused = status == 503;
        session_over(t, in, in ? n : 0);
        return 0;
    }
    case LWS_CALLBACK_CLIENT_CLOSED:
        session_over(t, NULL, 0);
        return 0;
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {
    {"rowcast.v1.json", on_event, 0, RX_BUFFER_BYTES, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static const lws_retry_bo_t keep_alive = {
    .secs_since_valid_ping = PING_AFTER_S,
    .secs_since_valid_hangup = HANG_UP_AFTER_S,
};

static void on_tick(lws_sorted_usec_list_t *sul)
{
    struct tail *t = lws_container_of(sul, struct tail, tick);
    CHECK(t->magic == TAIL_MAGIC);
    struct pollfd fd = {.fd = STDOUT_FILENO};
    if (poll(&fd, 1, 0) == 1 && (fd.revents & POLLERR))
        t->closed = true; // head has had enough
    lws_sul_schedule(t->context, 0, &t->tick, on_tick, TICK_US);
}

static bool going(const struct tail *t, const volatile int *stop)
{
    return !*stop && !t->failed && !t->closed;
}

// From connecting to the session's end.
static void session(struct tail *t, const volatile int *stop)
{
    struct lws_client_connect_info info = {
        .context = t->context,
        .address = t->address.host,
        .port = t->address.port,
        .path = "/v1/stream",
        .host = t->address.authority,
        .protocol = protocols[0].name,
        .local_protocol_name = protocols[0].name,
        .ietf_version_or_minus_one = -1,
        .retry_and_idle_policy = &keep_alive,
        .pwsi = &t->wsi,
    };
    t->over = t->refused = false;
    t->reason[0] = 0;
    buf_clear(&t->rx);
    if (!lws_client_connect_via_info(&info))
        t->over = true; // on_event has heard why
    while (!t->over && going(t, stop)) {
        if (lws_service(t->context, 0) < 0)
            break;
    }
}

// Why a server that runs does not let us in: libwebsockets keeps the answer's text to itself.
static void ask_why_refused(struct tail *t)
{
    AUTO_BUF struct buf status = {0}, text = {0};
    struct slice stream;
    struct err e;
    if (websocket_get(t->o->url, "/v1/status", &status, &e) != 0)
        return; // it went away meanwhile: the next try tells
    if (scan_get(buf_slice(&status), "stream", &stream))
        snprintf(t->reason, sizeof t->reason, "it serves as many as its --connections-max says");
    else
        snprintf(t->reason, sizeof t->reason, "it has not reached its PostgreSQL server yet: %s",
                 text_of(&text, buf_slice(&status), "text"));
}

static void wait_before_retry(struct tail *t, const volatile int *stop)
{
    int64_t jitter = t->backoff_us / 4;
    int64_t wait_us = t->backoff_us - jitter + random() % (2 * jitter);
    note(t, "%s%s%s; trying again in %.1f s", t->refused ? "not let in" : "connection lost",
         t->reason[0] ? ": " : "", t->reason, (double)wait_us / 1e6);
    int64_t until = clock_mono_us() + wait_us;
    while (going(t, stop) && clock_mono_us() < until && lws_service(t->context, 0) >= 0)
        ;
    t->backoff_us = t->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : t->backoff_us * 2;
}

static void follow(struct tail *t, const volatile int *stop)
{
    while (going(t, stop)) {
        session(t, stop);
        if (!going(t, stop))
            return;
        if (t->refused)
            ask_why_refused(t);
        else if (!t->subscribed) {
            t->failed = true;
            (void)err_set(t->e, ERR_RETRY, NO_ANSWER, t->address.authority,
                          t->reason[0] ? t->reason : "no connection");
            return;
        }
        wait_before_retry(t, stop);
    }
}

int websocket_tail(const struct websocket_tail_options *o, const volatile int *stop, struct err *e)
{
    struct tail t = {
        .magic = TAIL_MAGIC,
        .o = o,
        .e = e,
        .backoff_us = BACKOFF_FIRST_US,
        .colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
    };
    if (address_parse(o->url, &t.address, e) != 0)
        return -1;
    srandom((unsigned)clock_mono_us());
    lws_set_log_level(0, NULL);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .fd_limit_per_thread = 16,
        .user = &t,
    };
    t.context = lws_create_context(&info);
    if (!t.context)
        return err_set(e, ERR_INTERNAL, "no libwebsockets context");
    lws_sul_schedule(t.context, 0, &t.tick, on_tick, TICK_US);
    follow(&t, stop);
    lws_sul_cancel(&t.tick);
    lws_context_destroy(t.context);
    buf_free(&t.rx);
    buf_free(&t.out);
    if (!t.failed && *stop && t.cursor[0])
        fprintf(stderr, "to go on from here: --from %s\n", t.cursor);
    return t.failed ? -1 : 0;
}
