#include "sinks/websocket/reply.h"

#include "base/clock.h"
#include "proto/json.h"
#include "rowcast.pb-c.h"

#include <stdio.h>

#define SERVER_NAME "rowcast/" ROWCAST_VERSION

static void pack(struct buf *out, const Rowcast__V1__ServerFrame *frame)
{
    size_t n = rowcast__v1__server_frame__get_packed_size(frame);
    out->n += rowcast__v1__server_frame__pack(frame, buf_room(out, n));
}

// ,"key":"text"
static void put(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_string(out, text, strlen(text));
}

static void put_id(struct buf *out, const char *id)
{
    if (*id)
        put(out, "id", id);
}

void reply_hello(struct buf *out, bool text, const struct reply_hello *m)
{
    char stream[17];
    snprintf(stream, sizeof stream, "%016lx", (unsigned long)m->stream_id);
    const char *state = health_state_name(m->state);
    if (text) {
        buf_printf(out,
                   "{\"type\":\"hello\",\"server\":\"%s\",\"stream\":\"%s\",\"timeline\":%u,"
                   "\"frame_bytes_max\":%zu,\"request_bytes_max\":%zu,\"ping_seconds\":%u,"
                   "\"state\":\"%s\"}",
                   SERVER_NAME, stream, m->timeline, m->frame_bytes_max, m->request_bytes_max,
                   m->ping_seconds, state);
        return;
    }
    Rowcast__V1__Hello hello = ROWCAST__V1__HELLO__INIT;
    hello.server = (char *)SERVER_NAME;
    hello.stream_id = stream;
    hello.has_timeline = hello.has_frame_bytes_max = hello.has_request_bytes_max =
        hello.has_ping_seconds = true;
    hello.timeline = m->timeline;
    hello.frame_bytes_max = m->frame_bytes_max;
    hello.request_bytes_max = m->request_bytes_max;
    hello.ping_seconds = m->ping_seconds;
    hello.state = (char *)state;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.hello = &hello;
    pack(out, &frame);
}

static void subscribed_json(struct buf *out, const struct reply_subscribed *m, const char *cursor)
{
    char lsn[LSN_TEXT_MAX];
    // The id stands here even when it is empty: it answers the client's own.
    buf_puts(out, "{\"type\":\"subscribed\"");
    put(out, "id", m->id);
    put(out, "cursor", cursor);
    put(out, "lsn", lsn_text(m->lsn, lsn));
    if (m->resumed)
        buf_puts(out, ",\"recovered\":true");
    buf_puts(out, ",\"tables\":[");
    for (size_t i = 0; i < m->table_count; i++) {
        if (i)
            buf_putc(out, ',');
        json_string(out, m->tables[i], strlen(m->tables[i]));
    }
    buf_putc(out, ']');
    if (m->warning)
        put(out, "warning", m->warning);
    buf_putc(out, '}');
}

void reply_subscribed(struct buf *out, bool text, const struct reply_subscribed *m)
{
    char cursor[CURSOR_TEXT_MAX];
    cursor_text(&m->start, cursor);
    if (text) {
        subscribed_json(out, m, cursor);
        return;
    }
    Rowcast__V1__Subscribed subscribed = ROWCAST__V1__SUBSCRIBED__INIT;
    subscribed.id = (char *)m->id;
    subscribed.cursor = cursor;
    subscribed.has_lsn = true;
    subscribed.lsn = m->lsn;
    subscribed.has_recovered = m->resumed;
    subscribed.recovered = m->resumed;
    subscribed.n_table = m->table_count;
    subscribed.table = (char **)m->tables;
    subscribed.warning = (char *)m->warning;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.subscribed = &subscribed;
    pack(out, &frame);
}

void reply_unsubscribed(struct buf *out, bool text, const char *id)
{
    if (text) {
        buf_puts(out, "{\"type\":\"unsubscribed\"");
        put(out, "id", id);
        buf_putc(out, '}');
        return;
    }
    Rowcast__V1__Unsubscribed unsubscribed = ROWCAST__V1__UNSUBSCRIBED__INIT;
    unsubscribed.id = (char *)id;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.unsubscribed = &unsubscribed;
    pack(out, &frame);
}

void reply_reset(struct buf *out, bool text, const char *id, const char *code, const char *why,
                 const struct cursor *earliest)
{
    char cursor[CURSOR_TEXT_MAX] = "";
    if (earliest)
        cursor_text(earliest, cursor);
    if (text) {
        buf_puts(out, "{\"type\":\"reset\"");
        put_id(out, id);
        put(out, "code", code);
        put(out, "text", why);
        if (earliest)
            put(out, "earliest", cursor);
        buf_putc(out, '}');
        return;
    }
    Rowcast__V1__Reset reset = ROWCAST__V1__RESET__INIT;
    reset.code = (char *)code;
    reset.text = (char *)why;
    reset.earliest = earliest ? cursor : NULL;
    reset.id = *id ? (char *)id : NULL;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.reset = &reset;
    pack(out, &frame);
}

void reply_error(struct buf *out, bool text, const char *id, const char *code, const char *why,
                 bool retry)
{
    if (text) {
        buf_puts(out, "{\"type\":\"error\"");
        put_id(out, id);
        put(out, "code", code);
        put(out, "text", why);
        buf_printf(out, ",\"retry\":%s}", retry ? "true" : "false");
        return;
    }
    Rowcast__V1__Error error = ROWCAST__V1__ERROR__INIT;
    error.id = *id ? (char *)id : NULL;
    error.code = (char *)code;
    error.text = (char *)why;
    error.has_retry = true;
    error.retry = retry;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.error = &error;
    pack(out, &frame);
}

void reply_health(struct buf *out, bool text, enum health_state state, int64_t since_us,
                  const char *why)
{
    if (text) {
        char since[CLOCK_TEXT_MAX];
        clock_text(since_us, since);
        buf_puts(out, "{\"type\":\"health\"");
        put(out, "state", health_state_name(state));
        put(out, "since", since);
        put(out, "text", why);
        buf_putc(out, '}');
        return;
    }
    Rowcast__V1__Health health = ROWCAST__V1__HEALTH__INIT;
    health.state = (char *)health_state_name(state);
    health.has_since = true;
    health.since = since_us;
    health.text = (char *)why;
    Rowcast__V1__ServerFrame frame = ROWCAST__V1__SERVER_FRAME__INIT;
    frame.health = &health;
    pack(out, &frame);
}
