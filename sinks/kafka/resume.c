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

static int check_history(const struct kafka *k, struct kafka_position *p, struct err *e)
{
    struct journal_identity id;
    if (!journal_identity(k->journal, &id))
        return err_set(e, ERR_RETRY, "the journal does not know its stream yet");
    if (id.system_id != p->system_id || id.database_oid != p->database_oid)
        return lost(k, "is of another server or database", e);
    if (id.generation != p->generation) {
        // A break of continuity was declared since: the stream has another name now, its LSNs go
        // on.
        log_warn("Kafka: the stream's generation changed", "sink=kafka generation=%u was=%u",
                 id.generation, p->generation);
        p->cursor.stream_id = id.stream_id;
    }
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
        return 0;
    case CURSOR_OTHER_STREAM:
        return lost(k, "is of another stream", e);
    case CURSOR_OTHER_TIMELINE:
        return lost(k, "is on a timeline that the server's history does not contain", e);
    case CURSOR_EXPIRED:
        return lost(k, "is older than all that the journal has kept", e);
    }
    return lost(k, "cannot be continued", e);
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

int resume_first(struct kafka *k, struct err *e)
{
    struct kafka_position p = {0};
    bool found;
    char cursor[CURSOR_TEXT_MAX];
    if (read_position(k, &found, &p, e) != 0)
        return -1;
    if (!found) {
        k->known = true;
        log_info("Kafka has no position of this stream: it gets all that the journal has",
                 "sink=kafka stream=%s topic=%s", k->o.stream, k->position_topic->name);
        return 0;
    }
    if (check_history(k, &p, e) != 0 || open_reader(k, FROM_POSITION, &p.cursor, e) != 0)
        return -1;
    k->flights.done.at = p.cursor.at;
    k->flights.done.attempt = p.cursor.attempt;
    k->flights.done.watermark = p.watermark;
    k->seen_watermark = p.watermark;
    k->durable = p.watermark;
    k->known = k->delivered = true;
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
    struct kafka_position p = {.cursor = journal_latest(k->journal),
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
    k->durable = u64_max(k->durable, k->writing.watermark);
    journal_reader_acknowledge(k->reader, k->writing.cursor.at);
}
