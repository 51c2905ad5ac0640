#include "sinks/kafka/internal.h"

#include "base/clock.h"
#include "base/log.h"

static int open_reader(struct kafka *k, enum journal_from from, const struct cursor *c,
                       struct err *e)
{
    struct journal_reader *reader;
    if (journal_reader_open(k->journal, "kafka", from, c, k->o.gate, kafka_wake, k, &reader, e) !=
        0)
        return -1;
    // Closed after the new one holds its place: nothing in between can go.
    journal_reader_close(k->reader);
    k->reader = reader;
    return 0;
}

// What to write to have rowcast forget a position.
static void put_remedy(const struct kafka *k, struct buf *out)
{
    buf_printf(out, "printf '%.*s|' | kcat -P -b %s -t %s -K '|' -Z", (int)k->position_key.n,
               (const char *)k->position_key.p, k->o.brokers, k->position_topic->name);
}

static int lost(const struct kafka *k, const char *what, struct err *e)
{
    AUTO_BUF struct buf remedy = {0};
    put_remedy(k, &remedy);
    return err_set(
        e, ERR_SLOT_LOST,
        "topic %s: the position of stream %s %s; use another --topic-prefix, or, to go "
        "on from the oldest change that the journal has (what is missing before it stays "
        "missing in Kafka), delete the position: %s",
        k->position_topic->name, k->o.stream, what, buf_cstr(&remedy));
}

// ---- the first time ----

// Why the journal cannot go on behind the position; NULL: it can.
static const char *find_obstacle(const struct kafka *k, const struct journal_identity *id,
                                 struct kafka_position *p)
{
    bool same = id->system_id == p->system_id && id->database_oid == p->database_oid;
    // A new journal does not know of breaks before it; the source's history is the same.
    if (same && p->generation > id->generation)
        p->cursor.stream_id = id->stream_id;
    enum cursor_check check = journal_check_cursor(k->journal, &p->cursor);
    // The slot may have moved up to the watermark, and a new journal begins there: no transaction
    // stands between the last one that was delivered and it. A journal that has what follows the
    // position may have existing rows and marks there, below the watermark.
    struct position whole = position_before(p->watermark);
    bool empty = journal_latest(k->journal).at.lsn == 0;
    if ((empty || check == CURSOR_EXPIRED) && position_cmp(p->cursor.at, whole) < 0) {
        p->cursor.at = whole;
        p->cursor.attempt = 0;
        check = journal_check_cursor(k->journal, &p->cursor);
    }
    switch (check) {
    case CURSOR_OK:
        return NULL;
    case CURSOR_OTHER_STREAM:
        return same ? "is of another stream" : "is of another server or database";
    case CURSOR_OTHER_TIMELINE:
        return "is on a timeline that the server's history does not contain";
    case CURSOR_EXPIRED:
        break;
    }
    return "is older than all that the journal has kept";
}

// From the oldest that the journal has, with what is missing before it told.
static int go_on_with_gap(struct kafka *k, const struct kafka_position *p, const char *why,
                          struct err *e)
{
    lsn_t to = journal_earliest(k->journal).at.lsn + 1;
    if (journal_latest(k->journal).at.lsn == 0)
        return err_set(e, ERR_RETRY, "the journal has nothing yet");
    if (open_reader(k, FROM_EARLIEST, NULL, e) != 0)
        return -1;
    AUTO_FREE char *reason = xasprintf("Kafka's position %s", why);
    log_warn("Kafka goes on with a gap",
             "sink=kafka stream=%s from=" LSN_FMT " to=" LSN_FMT " reason=%s", k->o.stream,
             LSN_ARG(p->watermark), LSN_ARG(to), log_quote(reason));
    struct batch_builder *bb = batch_builder_new(1024);
    batch_add_gap(bb, p->watermark, to, reason);
    k->flight = flights_open(&k->flights, batch_builder_take(bb, false));
    batch_builder_free(bb);
    k->skip = (struct position){0, 0};
    k->next = 0;
    k->sent = 0;
    return 0;
}

void resume_forget(struct kafka *k)
{
    CHECK(k->flights.count == 0);
    memset(&k->flights.done, 0, sizeof k->flights.done);
    k->known = k->delivered = k->dirty = k->stranded = false;
}

int resume_prepare(struct kafka *k, struct err *e)
{
    struct topic_facts facts = {.name = k->position_topic->name, .use = TOPIC_POSITION};
    if (admin_prepare(k->producer, &k->o, &facts, 1, REQUEST_MS, e) != 0 ||
        topic_ready(k, k->position_topic, &facts, e) != 0)
        return -1;
    if (facts.limit_known && (!facts.compacted || facts.deleted) && !k->known)
        log_warn("Kafka may delete the position", "sink=kafka topic=%s remedy=%s", facts.name,
                 log_quote("set its cleanup.policy to compact"));
    client_answered(&k->client);
    return 0;
}

static int read_position(struct kafka *k, bool *ret_found, struct kafka_position *ret_p,
                         struct err *e)
{
    AUTO_BUF struct buf value = {0};
    if (client_read_last(&k->client, &k->o, k->position_topic->name, buf_slice(&k->position_key),
                         2 * REQUEST_MS, ret_found, &value, e) != 0)
        return -1;
    if (*ret_found && position_decode(buf_slice(&value), ret_p, e) != 0)
        return lost(k, "cannot be read", e);
    return 0;
}

// From now on what is delivered counts for the journal's contents of this era.
static void known_from(struct kafka *k, uint32_t era, lsn_t durable)
{
    k->durable = durable;
    k->seen_watermark = durable;
    k->era = era;
    k->known = true;
}

int resume_first(struct kafka *k, struct err *e)
{
    struct kafka_position p = {0};
    struct journal_identity id;
    bool found;
    char cursor[CURSOR_TEXT_MAX];
    if (read_position(k, &found, &p, e) != 0)
        return -1;
    uint32_t era = journal_era(k->journal); // what is looked at from here on is of it, or newer
    if (!found) {
        if (open_reader(k, FROM_EARLIEST, NULL, e) != 0)
            return -1;
        known_from(k, era, 0);
        log_info("Kafka has no position of this stream: it gets all that the journal has",
                 "sink=kafka stream=%s topic=%s", k->o.stream, k->position_topic->name);
        return 0;
    }
    if (!journal_identity(k->journal, &id))
        return err_set(e, ERR_RETRY, "the journal does not know its stream yet");
    const char *why = find_obstacle(k, &id, &p);
    if (why && !k->o.mark_gaps)
        return lost(k, why, e);
    if (why) {
        if (go_on_with_gap(k, &p, why, e) != 0)
            return -1;
        known_from(k, era, 0);
        return 0;
    }
    if (open_reader(k, FROM_POSITION, &p.cursor, e) != 0)
        return -1;
    k->flights.done.at = p.cursor.at;
    k->flights.done.attempt = p.cursor.attempt;
    k->flights.done.watermark = p.watermark;
    k->delivered = true;
    known_from(k, era, p.watermark);
    cursor_text(&p.cursor, cursor);
    log_info("Kafka goes on behind its position", "sink=kafka stream=%s cursor=%s", k->o.stream,
             cursor);
    return 0;
}

int resume_again(struct kafka *k, struct err *e)
{
    if (!k->delivered)
        return open_reader(k, FROM_EARLIEST, NULL, e);
    struct cursor c = journal_latest(k->journal);
    c.at = k->flights.done.at;
    c.attempt = k->flights.done.attempt;
    return open_reader(k, FROM_POSITION, &c, e);
}

// ---- writing ----

static bool is_due(const struct kafka *k)
{
    return k->stop_at || k->flights.done.bytes - k->written_bytes >= POSITION_BYTES ||
           clock_mono_us() - k->written_at >= POSITION_US;
}

void position_write(struct kafka *k)
{
    struct journal_identity id;
    if (!k->dirty || k->position_out || !is_due(k) || !journal_identity(k->journal, &id))
        return;
    // Counted up before the identity changes: the identity is that of what was delivered.
    if (k->era != journal_era(k->journal))
        return;
    struct kafka_position p = {.cursor = {.stream_id = id.stream_id, .timeline = id.timeline},
                               .watermark = k->flights.done.watermark,
                               .system_id = id.system_id,
                               .database_oid = id.database_oid,
                               .generation = id.generation};
    p.cursor.at = k->flights.done.at;
    p.cursor.attempt = k->flights.done.attempt;
    AUTO_BUF struct buf value = {0};
    position_encode(&value, &p);
    if (rd_kafka_produce(k->position_topic->handle, 0, RD_KAFKA_MSG_F_COPY, value.p, value.n,
                         k->position_key.p, k->position_key.n, &k->writing) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            kafka_break(k, rd_kafka_err2str(rd_kafka_last_error()));
        return;
    }
    k->writing = p;
    k->position_out = true;
    k->dirty = false;
    k->written_at = clock_mono_us();
    k->written_bytes = k->flights.done.bytes;
}

void position_reported(struct kafka *k, bool delivered)
{
    k->position_out = false;
    if (!delivered) {
        k->dirty = true;
        return;
    }
    if (k->era != journal_era(k->journal))
        return;
    k->durable = u64_max(k->durable, k->writing.watermark);
    journal_reader_acknowledge(k->reader, k->writing.cursor.at);
}
