#include "sinks/websocket/message.h"

#include "base/log.h"
#include "sinks/websocket/reply.h"
#include "sinks/websocket/tables.h"

#include <libwebsockets.h>

#define SUBSCRIBED_NAME_MAX 1000 // tables named in `subscribed`

// A message other than entries, waiting to be sent.
struct message {
    struct message *next;
    struct buf buf; // with SCRATCH_HEADROOM
};

static struct message *queue(struct session *s)
{
    struct message *m = xcalloc(1, sizeof *m);
    *s->last = m;
    s->last = &m->next;
    buf_room(&m->buf, SCRATCH_HEADROOM);
    m->buf.n = SCRATCH_HEADROOM;
    lws_callback_on_writable(s->wsi);
    return m;
}

static struct buf *begin(struct session *s)
{
    return &queue(s)->buf;
}

void message_drop(struct session *s)
{
    struct message *m = s->first;
    s->first = m->next;
    if (!s->first)
        s->last = &s->first;
    if (s->health == m)
        s->health = NULL;
    buf_free(&m->buf);
    free(m);
}

void message_error(struct session *s, const char *id, const char *code, const char *why, bool retry)
{
    reply_error(begin(s), s->text, id, code, why, retry);
}

void message_hello(struct session *s)
{
    struct context *c = s->c;
    struct reply_hello m = {
        .stream_id = c->frames.json.stream_id,
        .timeline = c->frames.json.timeline,
        .frame_bytes_max = c->server->o.frame_bytes_max,
        .request_bytes_max = c->server->o.request_bytes_max,
        .ping_seconds = PING_SECONDS,
        .state = c->health,
    };
    s->health_version = c->health_version;
    s->identity_version = c->identity_version;
    reply_hello(begin(s), s->text, &m);
}

void message_subscribed(struct session *s, const struct subscription *sub, bool resumed)
{
    const struct selection *sel = sub->sel;
    size_t n;
    const struct relation **tables =
        tables_newest(s->c->frames.catalog, sel->tables, sel->table_count, &n);
    struct reply_subscribed m = {
        .id = sel->id,
        .start = journal_reader_start(sub->reader),
        .lsn = sub->passed,
        .resumed = resumed,
        .table_count = size_min(n, SUBSCRIBED_NAME_MAX),
    };
    const char **names = xmalloc((m.table_count + 1) * sizeof *names);
    for (size_t i = 0; i < m.table_count; i++)
        names[i] = tables[i]->table;
    m.tables = names;
    if (n == 0)
        m.warning = "no table that was changed so far matches: nothing comes until one does";
    else if (n > m.table_count)
        m.warning = "more tables match than are named here";
    reply_subscribed(begin(s), s->text, &m);
    free(names);
    free(tables);
}

void message_reset(struct session *s, const char *id, const char *code, const char *why)
{
    struct cursor earliest = journal_earliest(s->c->server->journal);
    reply_reset(begin(s), s->text, id, code, why, &earliest);
    AUTO_BUF struct buf labels = {0};
    metrics_label(&labels, "code", code);
    metric_add(metric_new(METRIC_COUNTER, "rowcast_websocket_resets_total",
                          "Subscriptions ended because their position cannot be continued.",
                          buf_cstr(&labels), 1),
               1);
    log_info("subscription reset", "sink=websocket code=%s", code);
}

void message_unsubscribed(struct session *s, const char *id)
{
    reply_unsubscribed(begin(s), s->text, id);
}

// Of several that would wait, only the newest is of use.
void message_health(struct session *s)
{
    struct context *c = s->c;
    s->health_version = c->health_version;
    if (!s->health)
        s->health = queue(s);
    struct buf *out = &s->health->buf;
    out->n = SCRATCH_HEADROOM;
    reply_health(out, s->text, c->health, c->health_since_us, c->health_text);
}

size_t message_count(const struct session *s)
{
    size_t n = 0;
    for (const struct message *m = s->first; m; m = m->next)
        n++;
    return n;
}

struct buf *message_first(struct session *s)
{
    return &s->first->buf;
}
