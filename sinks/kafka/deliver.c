#include "sinks/kafka/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

#define HEADERS_BYTES_MAX 16384 // more than the headers of a record ever take
#define RECORD_OVERHEAD   120   // of a record alone in its batch, and some more
#define CLAMP_US          INT64_C(3600000000)
#define RELATION_IDS_MAX  CATALOG_RELATIONS_MAX

// ---- topics and routes ----

struct topic *topic_of(struct kafka *k, const char *name)
{
    for (struct topic *t = k->topics; t; t = t->next) {
        if (strcmp(t->name, name) == 0)
            return t;
    }
    struct topic *t = xcalloc(1, sizeof *t);
    t->name = xstrdup(name);
    t->next = k->topics;
    return k->topics = t;
}

int topic_ready(struct kafka *k, struct topic *t, const struct topic_facts *facts, struct err *e)
{
    t->bytes_max = facts->bytes_max;
    if (facts->bytes_max < k->batch_bytes) {
        k->batch_bytes = facts->bytes_max;
        kafka_break(k, "a topic takes smaller batches");
    }
    t->stale = false;
    if (!t->handle)
        t->handle = rd_kafka_topic_new(k->producer, t->name, NULL);
    return t->handle ? 0
                     : err_set(e, ERR_KAFKA, "topic %s: %s", t->name,
                               rd_kafka_err2str(rd_kafka_last_error()));
}

void topics_reset(struct kafka *k)
{
    for (struct topic *t = k->topics; t; t = t->next) {
        if (t->handle)
            rd_kafka_topic_destroy(t->handle);
        t->handle = NULL;
        t->stale = false;
    }
}

void routes_free(struct kafka *k)
{
    for (size_t i = 0; i < k->route_cap; i++) {
        if (k->routes[i])
            key_columns_free(&k->routes[i]->key);
        free(k->routes[i]);
    }
    free(k->routes);
    while (k->topics) {
        struct topic *t = k->topics;
        k->topics = t->next;
        free(t->name);
        free(t);
    }
}

static int route_make(struct kafka *k, uint32_t id, struct err *e)
{
    const struct relation *r = catalog_get(journal_catalog(k->journal), id);
    if (!r)
        return err_set(e, ERR_JOURNAL, "relation version %u is not in the journal's catalog", id);
    AUTO_BUF struct buf name = {0};
    if (topic_name(&name, k->o.topic_prefix, r->schema, r->name, e) != 0)
        return err_wrap(e, "table %s: ", r->table);
    if (topic_names_claim(k->names, buf_cstr(&name), r->table, e) != 0)
        return -1;
    if (id >= k->route_cap) {
        size_t cap = k->route_cap ? k->route_cap : 64;
        while (cap <= id)
            cap *= 2;
        k->routes = xrealloc(k->routes, cap * sizeof(void *));
        memset(k->routes + k->route_cap, 0, (cap - k->route_cap) * sizeof(void *));
        k->route_cap = cap;
    }
    struct route *route = xcalloc(1, sizeof *route);
    route->relation = r;
    route->topic = topic_of(k, (const char *)name.p);
    key_columns_init(&route->key, r);
    k->routes[id] = route;
    return 0;
}

// Whether an entry becomes a record.
static bool is_sent(const struct entry *entry)
{
    return entry->kind == ENTRY_CHANGE || entry->kind == ENTRY_SNAPSHOT ||
           entry->kind == ENTRY_SCHEMA || entry->kind == ENTRY_GAP;
}

// The topic of an entry, NULL on failure; *ret_route is NULL for what is of no table.
static struct topic *find_topic(struct kafka *k, const struct entry *entry,
                                const struct route **ret_route, struct err *e)
{
    *ret_route = NULL;
    if (entry->kind != ENTRY_CHANGE)
        return k->event_topic;
    if (entry->op == OP_MESSAGE)
        return k->message_topic;
    if (entry->relation > RELATION_IDS_MAX) {
        err_set(e, ERR_JOURNAL, "relation version %u cannot be", entry->relation);
        return NULL;
    }
    if ((entry->relation >= k->route_cap || !k->routes[entry->relation]) &&
        route_make(k, entry->relation, e) != 0)
        return NULL;
    *ret_route = k->routes[entry->relation];
    return (*ret_route)->topic;
}

// Prepares, with few requests, every topic that the rest of the batch needs.
static int prepare_topics(struct kafka *k, const struct batch *b, struct err *e)
{
    size_t n = 0;
    for (size_t i = k->next; i < b->entry_count; i++) {
        const struct route *route;
        struct err later; // said when that change is reached
        if (!is_sent(&b->entries[i]))
            continue;
        struct topic *t = find_topic(k, &b->entries[i], &route, &later);
        if (t && (!t->handle || t->stale) && !t->wanted) {
            t->wanted = true;
            n++;
        }
    }
    AUTO_FREE struct topic_facts *facts = xcalloc(n + 1, sizeof *facts);
    n = 0;
    for (struct topic *t = k->topics; t; t = t->next) {
        if (t->wanted)
            facts[n++] = (struct topic_facts){
                .name = t->name, .use = t == k->event_topic ? TOPIC_EVENTS : TOPIC_CHANGES};
        t->wanted = false;
    }
    if (admin_prepare(k->producer, &k->o, facts, n, REQUEST_MS, e) != 0)
        return -1;
    client_answered(&k->client);
    for (size_t i = 0; i < n; i++) {
        if (topic_ready(k, topic_of(k, facts[i].name), &facts[i], e) != 0)
            return -1;
    }
    return 0;
}

// ---- one record ----

static int check_size(const struct topic *t, const struct record *r, struct position at,
                      struct err *e)
{
    char lsn[LSN_TEXT_MAX];
    size_t n = r->key.n + r->value.n + RECORD_OVERHEAD;
    for (size_t i = 0; i < r->header_count; i++)
        n += strlen(r->headers[i].name) + r->headers[i].value.n + 4;
    if (n <= t->bytes_max)
        return 0;
    return err_set(
        e, ERR_KAFKA,
        "topic %s: the record of LSN %s, ordinal %llu (key %zu bytes, value %zu bytes) is "
        "larger than its max.message.bytes, %zu: raise that limit, or exclude the large "
        "column",
        t->name, lsn_text(at.lsn, lsn), (unsigned long long)at.ordinal, r->key.n, r->value.n,
        t->bytes_max);
}

// Commit time in milliseconds. An older one would have the broker delete the record by its age, one
// in the future would be refused.
static int64_t record_time(int64_t commit_us, int64_t now_us)
{
    int64_t us = commit_us < now_us - CLAMP_US ? now_us - CLAMP_US
                 : commit_us > now_us          ? now_us
                                               : commit_us;
    return us / 1000;
}

static rd_kafka_headers_t *make_headers(const struct record *r)
{
    rd_kafka_headers_t *h = rd_kafka_headers_new(r->header_count);
    for (size_t i = 0; i < r->header_count; i++)
        rd_kafka_header_add(h, r->headers[i].name, -1, r->headers[i].value.p,
                            (ssize_t)r->headers[i].value.n);
    return h;
}

static rd_kafka_resp_err_t produce(struct kafka *k, struct topic *t, int32_t partition,
                                   const struct record *r, int64_t time_ms)
{
    rd_kafka_headers_t *headers = make_headers(r);
    rd_kafka_vu_t v[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = t->handle},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = r->borrowed ? 0 : RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)r->value.p, .size = r->value.n}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)r->key.p, .size = r->key.n}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = time_ms},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = k->flight},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(k->producer, v, ARRAY_LEN(v));
    if (!error) {
        flight_sent(&k->flights, k->flight);
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(headers);
    return code;
}

// ---- one change ----

static enum send_result send_failed(struct kafka *k, struct topic *t, rd_kafka_resp_err_t code)
{
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return SEND_FULL;
    char why[300];
    snprintf(why, sizeof why, "topic %s: %s", t->name, rd_kafka_err2str(code));
    kafka_break(k, why);
    return SEND_BROKEN;
}

static enum send_result held_by(struct kafka *k, const struct err *e)
{
    hold_back(k, e);
    return SEND_HELD;
}

static enum send_result send_entry(struct kafka *k, const struct batch *b,
                                   const struct entry *entry, int64_t time_ms)
{
    const struct route *route;
    struct err e;
    struct topic *t = find_topic(k, entry, &route, &e);
    if (!t)
        return held_by(k, &e);
    if ((!t->handle || t->stale) && prepare_topics(k, b, &e) != 0)
        return held_by(k, &e);
    if (k->broken)
        return SEND_BROKEN;
    struct record records[RECORDS_MAX];
    int n = entry->kind == ENTRY_CHANGE
                ? encoder_change(&k->encoder, b, entry, route ? route->relation : NULL,
                                 route ? &route->key : NULL, records, &e)
                : encoder_event(&k->encoder, b, entry, records, &e);
    if (n < 0)
        return held_by(k, &e);
    bool everywhere = entry->op == OP_TRUNCATE || entry->kind == ENTRY_GAP;
    if (everywhere && admin_partitions(k->producer, t->handle, REQUEST_MS, &n, &e) != 0)
        return held_by(k, &e);
    for (; k->sent < n; k->sent++) {
        const struct record *r = &records[everywhere ? 0 : k->sent];
        if (unlikely(r->key.n + r->value.n + HEADERS_BYTES_MAX > t->bytes_max) &&
            check_size(t, r, batch_entry_position(b, entry, &k->encoder.context.begin), &e) != 0)
            return held_by(k, &e);
        rd_kafka_resp_err_t code =
            produce(k, t, everywhere ? k->sent : RD_KAFKA_PARTITION_UA, r, time_ms);
        if (code)
            return send_failed(k, t, code);
    }
    return SEND_DONE;
}

enum send_result deliver(struct kafka *k)
{
    const struct batch *b = k->flight->batch;
    const struct begin *begin = &k->encoder.context.begin;
    struct cursor latest = journal_latest(k->journal);
    int64_t now_us = clock_wall_us(), time_ms = 0;
    encoder_identify(&k->encoder, latest.stream_id, latest.timeline);
    for (; k->next < b->entry_count; k->next++, k->sent = 0) {
        const struct entry *entry = &b->entries[k->next];
        if (entry->kind == ENTRY_BEGIN) {
            encoder_begin(&k->encoder, b, entry);
            time_ms = 0;
        }
        if (!is_sent(entry) || position_cmp(batch_entry_position(b, entry, begin), k->skip) <= 0)
            continue;
        bool outside = entry->kind == ENTRY_SNAPSHOT || entry->kind == ENTRY_GAP;
        if (time_ms == 0 && !outside) // of rows that a snapshot read there may be none
            time_ms = record_time(begin->commit_time_us ? begin->commit_time_us : now_us, now_us);
        enum send_result r = send_entry(k, b, entry, outside ? now_us / 1000 : time_ms);
        if (r != SEND_DONE)
            return r;
    }
    flights_close(&k->flights);
    k->flight = NULL;
    return SEND_DONE;
}
