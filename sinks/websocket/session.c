#include "sinks/websocket/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "sinks/websocket/message.h"

#include <libwebsockets.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#define SESSION_MAGIC  0x5e5510u
#define FRAGMENT_ABOVE FRAME_LARGE_BYTES + SCRATCH_BYTES
#define MESSAGES_MAX   64 // answers that a client may let wait

void session_close(struct session *s, uint16_t code, const char *why)
{
    if (s->close_code)
        return;
    s->close_code = code;
    snprintf(s->close_text, sizeof s->close_text, "%s", why);
    lws_callback_on_writable(s->wsi);
}

// ---- subscriptions ----

static void unsubscribe(struct session *s, struct subscription *sub)
{
    struct subscription **at = &s->subscriptions;
    while (*at != sub)
        at = &(*at)->next;
    *at = sub->next;
    s->subscription_count--;
    metric_add(s->c->server->metrics.subscribers, -1);
    // A frame of it that is half out must be finished; one that is not begun goes.
    if (s->frame_of == sub->sel && s->sent == 0) {
        s->frame = frame_unref(s->frame);
        s->relations = frame_unref(s->relations);
    }
    subscription_free(sub, &s->c->selections, &s->c->frames);
}

static struct subscription *find(struct session *s, const char *id)
{
    for (struct subscription *sub = s->subscriptions; sub; sub = sub->next) {
        if (strcmp(sub->sel->id, id) == 0)
            return sub;
    }
    return NULL;
}

static bool admitted(struct session *s, const struct request *q)
{
    if (!s->text && s->subscription_count > 0) {
        message_error(s, q->id, "one_subscription",
                      "rowcast.v1.proto carries one subscription a connection: open another one",
                      false);
        return false;
    }
    if (s->subscription_count >= s->c->server->o.subscriptions_max) {
        message_error(s, q->id, "too_many_subscriptions",
                      "this connection has as many subscriptions as it may: open another one",
                      false);
        return false;
    }
    if (find(s, q->id)) {
        message_error(s, q->id, "bad_request",
                      "this connection has a subscription of that id already", false);
        return false;
    }
    return true;
}

#define BROKEN_TEXT "the source's history was broken: read the tables again, then from now; cause: "

// `stream_id`: of what the client has.
static void other_stream(struct session *s, const char *id, uint64_t stream_id)
{
    char reason[GAP_REASON_MAX], text[sizeof BROKEN_TEXT + GAP_REASON_MAX] = BROKEN_TEXT;
    if (!journal_stream_ended(s->c->server->journal, stream_id, reason)) {
        message_reset(s, id, "other_stream",
                      "the cursor belongs to another stream: read the tables again, then from now");
        return;
    }
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s", reason);
    message_reset(s, id, "other_stream", text);
}

// Whether the journal can go on from the cursor; tells the client when not.
static bool continues(struct session *s, const struct request *q)
{
    if (q->from != FROM_POSITION)
        return true;
    switch (journal_check_cursor(s->c->server->journal, &q->cursor)) {
    case CURSOR_OK:
        return true;
    case CURSOR_OTHER_STREAM:
        other_stream(s, q->id, q->cursor.stream_id);
        return false;
    case CURSOR_OTHER_TIMELINE:
        message_reset(
            s, q->id, "other_timeline",
            "the cursor is of a timeline that this server left: read the tables again, then "
            "from now");
        return false;
    case CURSOR_EXPIRED:
        break;
    }
    message_reset(
        s, q->id, "cursor_expired",
        "the journal does not reach back to this cursor: read the tables again, then from "
        "now");
    return false;
}

static void subscribe(struct session *s, struct request *q)
{
    struct context *c = s->c;
    struct journal_reader *reader;
    struct err e;
    if (!admitted(s, q) || !continues(s, q))
        return;
    if (journal_reader_open(c->server->journal, "websocket", q->from, &q->cursor, false,
                            context_wake, c, &reader, &e) != 0) {
        log_error("cannot read the journal", "sink=websocket error=%s", log_quote(e.text));
        message_error(s, q->id, "journal", "the journal cannot be read: see the server's log",
                      true);
        return;
    }
    bool resumed = q->from == FROM_POSITION;
    struct subscription *sub = subscription_new(selection_get(&c->selections, q, s->text), reader);
    sub->next = s->subscriptions;
    s->subscriptions = sub;
    s->subscription_count++;
    metric_add(c->server->metrics.subscribers, 1);
    message_subscribed(s, sub, resumed);
}

static void act(struct session *s, struct request *q)
{
    struct subscription *sub;
    switch (q->kind) {
    case REQUEST_SUBSCRIBE:
        subscribe(s, q);
        break;
    case REQUEST_UNSUBSCRIBE:
        sub = find(s, q->id);
        if (!sub) {
            message_error(s, q->id, "bad_request", "this connection has no subscription of that id",
                          false);
            break;
        }
        unsubscribe(s, sub);
        message_unsubscribed(s, q->id);
        break;
    case REQUEST_ASK:
        for (sub = s->subscriptions; sub; sub = sub->next)
            sub->ask = true;
        break;
    }
    session_wake(s);
}

// ---- life ----

struct session *session_new(struct context *c, struct lws *wsi, bool text, struct request *q,
                            enum request_fault fault, const char *why)
{
    struct session *s = xcalloc(1, sizeof *s);
    s->magic = SESSION_MAGIC;
    s->c = c;
    s->wsi = wsi;
    s->text = text;
    s->last = &s->first;
    s->heard_us = clock_mono_us();
    s->next = c->sessions;
    s->link = &c->sessions;
    if (s->next)
        s->next->link = &s->next;
    c->sessions = s;
    metric_add(c->server->metrics.connections, 1);
    context_look_at_identity(c);
    message_hello(s);
    if (fault == REQUEST_CURSOR)
        message_reset(s, "", "unknown_cursor", why);
    else if (q)
        act(s, q);
    return s;
}

void session_end(struct session *s)
{
    while (s->subscriptions)
        unsubscribe(s, s->subscriptions);
}

void session_free(struct session *s)
{
    if (!s)
        return;
    CHECK(s->magic == SESSION_MAGIC);
    session_end(s);
    while (s->first)
        message_drop(s);
    frame_unref(s->frame);
    frame_unref(s->relations);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    metric_add(s->c->server->metrics.connections, -1);
    buf_free(&s->in);
    free(s->known);
    s->magic = 0;
    free(s);
}

// ---- receiving ----

static void take_message(struct session *s)
{
    struct request q;
    struct err e;
    enum request_fault fault = s->text ? request_json(buf_slice(&s->in), &q, &e)
                                       : request_proto(buf_slice(&s->in), &q, &e);
    buf_free(&s->in);
    switch (fault) {
    case REQUEST_OK:
        act(s, &q);
        request_fini(&q);
        return;
    case REQUEST_BAD:
        message_error(s, q.id, "bad_request", e.text, false);
        return;
    case REQUEST_CURSOR:
        message_reset(s, q.id, "unknown_cursor", e.text);
        return;
    case REQUEST_MALFORMED:
        message_error(s, "", "malformed", e.text, false);
        session_close(s, LWS_CLOSE_STATUS_INVALID_PAYLOAD, "malformed message");
        return;
    }
}

// While something waits, only what the client takes of it is a sign of life (see look_for_life): a
// program may talk on and on and never read.
void session_heard(struct session *s)
{
    s->pinged = false;
    if (!s->frame && !s->first)
        s->heard_us = clock_mono_us();
}

int session_received(struct session *s, const void *p, size_t n, bool binary, bool final)
{
    CHECK(s->magic == SESSION_MAGIC);
    session_heard(s);
    if (s->close_code)
        return 0; // it is past listening to
    metric_add(s->c->server->metrics.requests, final);
    if (binary == s->text) {
        message_error(s, "", "malformed",
                      s->text
                          ? "rowcast.v1.json takes text frames: offer rowcast.v1.proto for binary"
                          : "rowcast.v1.proto takes binary frames: offer rowcast.v1.json for text",
                      false);
        session_close(s, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE, "wrong kind of frame");
        return 0;
    }
    size_t max = s->c->server->o.request_bytes_max;
    if (n > max - size_min(max, s->in.n)) {
        char why[128];
        snprintf(why, sizeof why, "a message may have %zu bytes (--request-max)", max);
        message_error(s, "", "too_large", why, false);
        session_close(s, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message too large");
        buf_free(&s->in);
        return 0;
    }
    buf_put(&s->in, p, n);
    if (!final)
        return 0;
    if (message_count(s) >= MESSAGES_MAX) {
        session_close(s, LWS_CLOSE_STATUS_POLICY_VIOLATION, "too many requests unread answers");
        return 0;
    }
    take_message(s);
    return 0;
}

// ---- sending ----

static bool known(const struct session *s, uint32_t id)
{
    return id < s->known_bits && (s->known[id / 8] >> id % 8 & 1);
}

// A client goes by the shape of a table that it was told last: an earlier one, used again after a
// restart or by another subscription, must be told again.
static void forget_other_shapes(struct session *s, uint32_t id)
{
    const struct catalog *catalog = s->c->frames.catalog;
    const struct relation *r = catalog_get(catalog, id);
    for (uint32_t i = 1; r && i < s->known_bits; i++) {
        const struct relation *other = known(s, i) ? catalog_get(catalog, i) : NULL;
        if (other && strcmp(other->table, r->table) == 0)
            s->known[i / 8] &= (uint8_t) ~(1 << i % 8);
    }
}

static void know(struct session *s, uint32_t id)
{
    forget_other_shapes(s, id);
    if (id >= s->known_bits) {
        uint32_t bits = (id / 64 + 1) * 64;
        s->known = xrealloc(s->known, bits / 8);
        memset(s->known + s->known_bits / 8, 0, (bits - s->known_bits) / 8);
        s->known_bits = bits;
    }
    s->known[id / 8] |= (uint8_t)(1 << id % 8);
}

static struct frame *unknown_relations(struct session *s, const struct selection *sel,
                                       const struct frame *f)
{
    uint32_t n = 0, *ids = xmalloc(f->use_count * sizeof *ids);
    for (uint32_t i = 0; i < f->use_count; i++) {
        if (known(s, f->uses[i]))
            continue;
        know(s, f->uses[i]);
        ids[n++] = f->uses[i];
    }
    struct frame *relations = frame_relations(&s->c->frames, sel, ids, n);
    free(ids);
    return relations->data ? relations : frame_unref(relations);
}

// Takes the subscription's frame over; with the shapes that this client does not know yet.
static void take_frame(struct session *s, struct subscription *sub)
{
    struct frame *f = sub->frame;
    sub->frame = NULL;
    s->frame = f;
    s->frame_of = sub->sel;
    s->live = sub->live;
    s->sent = 0;
    uint32_t i = 0;
    while (i < f->use_count && known(s, f->uses[i]))
        i++;
    if (i < f->use_count)
        s->relations = unknown_relations(s, sub->sel, f);
}

// Ends a subscription that cannot go on.
static void give_up(struct session *s, struct subscription *sub, enum subscription_state state,
                    const struct err *e)
{
    char id[REQUEST_ID_MAX + 1];
    memcpy(id, sub->sel->id, sizeof id);
    bool over = sub->ended == READ_OTHER_STREAM;
    uint64_t stream_id = sub->stream_id;
    unsubscribe(s, sub);
    if (state == SUBSCRIPTION_RESET && over) {
        other_stream(s, id, stream_id);
        return;
    }
    if (state == SUBSCRIPTION_RESET) {
        message_reset(
            s, id, "cursor_expired",
            "this client was slower than the journal keeps: read the tables again, then from "
            "now");
        return;
    }
    log_error("cannot read the journal", "sink=websocket error=%s", log_quote(e->text));
    message_error(s, id, "journal", "the journal cannot be read: see the server's log", true);
    session_close(s, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "journal");
}

// The next frame of entries into s->frame. True when session_writeable has something to do.
static bool pump(struct session *s)
{
    bool more = false;
    context_look_at_identity(s->c);
    if (unlikely(s->identity_version != s->c->identity_version))
        message_hello(s); // cursors are put together from it
    // A subscription that had its turn goes to the end: fair among several.
    for (uint32_t turns = s->subscription_count; turns > 0 && !s->frame; turns--) {
        struct subscription *sub = s->subscriptions;
        struct subscription **end = &s->subscriptions;
        struct err e;
        CHECK(sub);
        *end = sub->next;
        sub->next = NULL;
        while (*end)
            end = &(*end)->next;
        *end = sub;
        enum subscription_state state = subscription_next(sub, &s->c->frames, &e);
        if (state == SUBSCRIPTION_FRAME)
            take_frame(s, sub);
        else if (state == SUBSCRIPTION_MORE)
            more = true;
        else if (state != SUBSCRIPTION_TAIL)
            give_up(s, sub, state, &e);
    }
    return more || s->frame || s->first;
}

void session_wake(struct session *s)
{
    if (s->close_code)
        return;
    if (s->health_version != s->c->health_version)
        message_health(s);
    if (!s->frame && pump(s))
        lws_callback_on_writable(s->wsi);
}

static int put(struct session *s, uint8_t *p, size_t n, int how)
{
    s->written += n;
    metric_add(s->c->server->metrics.bytes, (int64_t)n);
    return lws_write(s->wsi, p, n, (enum lws_write_protocol)how) < (int)n ? -1 : 0;
}

static int opcode(const struct session *s)
{
    return s->text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY;
}

// The next piece of a large frame; it is copied, for the header of a piece would overwrite the
// bytes before it.
static int put_fragment(struct session *s, const struct frame *f)
{
    uint8_t *to = s->c->scratch + SCRATCH_HEADROOM;
    size_t n = size_min(SCRATCH_BYTES, f->n - s->sent);
    memcpy(to, f->data + s->sent, n);
    int how = s->sent ? LWS_WRITE_CONTINUATION : opcode(s);
    s->sent += n;
    if (s->sent < f->n)
        how |= LWS_WRITE_NO_FIN;
    return put(s, to, n, how);
}

static void frame_sent(struct session *s)
{
    struct context *c = s->c;
    struct frame *f = s->frame;
    metric_add(c->server->metrics.frames, 1);
    metric_add(c->server->metrics.changes, f->changes);
    // Once a batch, and not for those who catch up.
    if (s->live && f->commit_time_us && position_cmp(f->last, c->observed) > 0) {
        c->observed = f->last;
        int64_t us = clock_wall_us() - f->commit_time_us;
        histogram_observe(c->server->metrics.latency, us > 0 ? us : 0);
    }
    s->frame = frame_unref(f);
    s->sent = 0;
}

static int put_frame(struct session *s)
{
    struct frame *f = s->frame;
    if (s->relations) {
        int r = put(s, s->relations->data, s->relations->n, opcode(s));
        s->relations = frame_unref(s->relations);
        return r;
    }
    bool large = f->n > FRAGMENT_ABOVE;
    int r = large ? put_fragment(s, f) : put(s, f->data, f->n, opcode(s));
    if (r == 0 && (!large || s->sent == f->n))
        frame_sent(s);
    return r;
}

static int put_message(struct session *s)
{
    struct buf *b = message_first(s);
    int r = put(s, b->p + SCRATCH_HEADROOM, b->n - SCRATCH_HEADROOM, opcode(s));
    message_drop(s);
    return r;
}

// With a byte in it, which the pong brings back: libwebsockets swallows a pong that is empty.
static int put_ping(struct session *s)
{
    uint8_t room[LWS_PRE + 1];
    s->ping_due = false;
    s->pinged = true;
    room[LWS_PRE] = 'r';
    return lws_write(s->wsi, room + LWS_PRE, 1, LWS_WRITE_PING) < 1 ? -1 : 0;
}

int session_writeable(struct session *s)
{
    CHECK(s->magic == SESSION_MAGIC);
    int r = 0;
    if (s->ping_due) {
        r = put_ping(s);
    } else if (s->sent > 0) { // a message of several fragments must not be interrupted
        r = put_frame(s);
    } else if (s->first) {
        r = put_message(s);
    } else if (s->close_code) {
        lws_close_reason(s->wsi, s->close_code, (unsigned char *)s->close_text,
                         strlen(s->close_text));
        return -1;
    } else if (s->frame || pump(s)) {
        if (s->frame)
            r = put_frame(s);
    }
    if (r != 0)
        return -1;
    if (s->ping_due || s->close_code || s->first || s->frame || pump(s))
        lws_callback_on_writable(s->wsi);
    return 0;
}

// What waits may keep a client from seeing a ping for long: while its kernel takes bytes, it lives.
static void look_for_life(struct session *s, int64_t now_us)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    if (getsockopt(lws_get_socket_fd(s->wsi), IPPROTO_TCP, TCP_INFO, &info, &n) != 0 ||
        info.tcpi_bytes_acked == s->taken)
        return;
    s->taken = info.tcpi_bytes_acked;
    s->heard_us = now_us;
}

bool session_tick(struct session *s, int64_t now_us)
{
    s->stalled = s->frame && s->written == s->written_before;
    s->written_before = s->written;
    bool waits = s->frame || s->first;
    if (waits)
        look_for_life(s, now_us);
    int64_t silent = now_us - s->heard_us;
    if (silent > INT64_C(1000000) * SILENCE_SECONDS)
        return true;
    if (!waits && silent > INT64_C(1000000) * PING_SECONDS && !s->pinged && !s->ping_due) {
        s->ping_due = true;
        lws_callback_on_writable(s->wsi);
    }
    for (struct subscription *sub = s->subscriptions; sub; sub = sub->next)
        subscription_tick(sub);
    session_wake(s);
    return false;
}
