#include "source/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/history.h"
#include "source/preflight.h"
#include "source/snapshot/chunk_reader.h"

#include <stdio.h>

#define QUERY_US INT64_C(60000000)
// A slot that another process has is looked at again after these pauses; our own former connection
// may have it for a moment, which is not worth a word.
#define BUSY_FIRST_US INT64_C(20000)
#define BUSY_MAX_US   INT64_C(500000)
#define BUSY_QUIET_US INT64_C(200000)

struct session {
    const struct session_options *o;
    struct preflight preflight;
    struct connection *c; // the walsender
    struct err failure;   // the first failed finding
    bool failed;
    struct history history;
    enum history_verdict verdict; // of find_start, then of slot_taken
    struct err why;               // what it is about
    bool skip;                    // skip_to is still to be done
    bool streaming;               // this connection sends transactions while they are open
    bool binary;                  // values are asked for in binary form
    bool slot_made;               // nobody has read from it before
    lsn_t shown;                  // see snapshot_start
    struct ack ack;
    struct stream stream;
};

static void on_finding(void *arg, enum finding level, enum err_class class, const char *object,
                       const char *cause, const char *remedy)
{
    struct session *s = arg;
    if (level == FINDING_WARN && !s->o->quiet)
        log_warn("preflight", "slot=%s object=%s cause=%s remedy=%s", s->o->source->slot,
                 log_quote(object), log_quote(cause), log_quote(remedy));
    if (level == FINDING_FAIL && !s->failed) {
        s->failed = true;
        err_set(&s->failure, class, "%s: %s%s%s", object, cause, *remedy ? "; remedy: " : "",
                remedy);
    }
}

static int preflight(struct session *s, struct err *e)
{
    s->preflight = (struct preflight){.o = s->o->source,
                                      .sql = lookup_connection(s->o->lookup),
                                      .catalog = journal_catalog(s->o->journal),
                                      .history = journal_appended(s->o->journal) != 0,
                                      .report = on_finding,
                                      .as_text = relations_binary_given_up(s->o->relations),
                                      .arg = s};
    if (preflight_run(&s->preflight, e) != 0)
        return -1;
    if (s->failed) {
        *e = s->failure;
        return -1;
    }
    if (!s->preflight.create_publication)
        return 0;
    return preflight_create_publication(&s->preflight, e);
}

// ---- the walsender ----

static int connect_stream(struct session *s, struct err *e)
{
    struct conninfo ci;
    if (conninfo_make(s->o->source, CONNINFO_STREAM, &ci, e) != 0)
        return -1;
    connection_same_server(s->preflight.sql, &ci);
    int r = connection_open(&ci, s->o->waiter, &s->c, e);
    conninfo_fini(&ci);
    return r;
}

// A pooler may drop start-up options without a word; text would then look otherwise.
static int check_pinned(struct session *s, struct err *e)
{
    static const struct {
        const char *name, *value;
    } pinned[] = {{"DateStyle", "ISO"},    {"IntervalStyle", "postgres"},
                  {"TimeZone", "UTC"},     {"extra_float_digits", "3"},
                  {"bytea_output", "hex"}, {"client_min_messages", "warning"}};
    AUTO_BUF struct buf sql = {0};
    for (size_t i = 0; i < ARRAY_LEN(pinned); i++)
        buf_printf(&sql, "%scurrent_setting('%s')", i ? ", " : "select ", pinned[i].name);
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(s->c, clock_mono_us() + QUERY_US, &r, e, "%s", buf_cstr(&sql)) != 0)
        return -1;
    for (int i = 0; i < (int)ARRAY_LEN(pinned); i++) {
        if (strncmp(result_text(r, 0, i), pinned[i].value, strlen(pinned[i].value)) != 0)
            return err_set(e, ERR_SOURCE,
                           "server: %s is %s in our session, not %s as we asked for; remedy: a "
                           "pooler in between drops options: connect to the server itself",
                           pinned[i].name, result_text(r, 0, i), pinned[i].value);
    }
    return 0;
}

// ---- does the history go on? ----

static int make_slot(struct session *s, struct err *e)
{
    const struct source_options *o = s->o->source;
    struct slot *slot = &s->preflight.slot;
    if (!o->create)
        return err_set(e, ERR_SLOT_LOST,
                       "slot %s: it is lost, and may not be made anew (--create off); remedy: "
                       "SELECT pg_create_logical_replication_slot('%s', 'pgoutput')",
                       o->slot, o->slot);
    if (slot->lost && slot_drop_lost(s->preflight.sql, o->slot, e) != 0)
        return -1;
    s->slot_made = true;
    if (slot_create(s->c, o->slot, e) != 0 || slot_read(s->preflight.sql, o->slot, slot, e) != 0)
        return -1;
    return slot_validate(slot, o->slot, s->preflight.database, e);
}

// What the journal's readers must be told, if anything; -1: not without the operator.
static int compare(struct session *s, struct err *e)
{
    if (history_compare(&s->history, s->o->journal, &s->verdict, &s->why, e) != 0)
        return -1;
    switch (s->verdict) {
    case HISTORY_NEW:
    case HISTORY_GOES_ON:
    case HISTORY_FORGOTTEN:
        return 0;
    case HISTORY_GAP:
    case HISTORY_BROKEN:
    case HISTORY_UNTOLD:
        if (s->o->source->on_gap == ON_GAP_MARK)
            return 0;
        break;
    case HISTORY_WAITS:
    case HISTORY_DIFFERS:
        break;
    }
    *e = s->why;
    return -1;
}

// Slot and journal fit each other, or the gap can be told; then the place to start at.
static int find_start(struct session *s, lsn_t *ret_start, struct err *e)
{
    struct journal *j = s->o->journal;
    const struct slot *slot = &s->preflight.slot;
    s->history.standby = s->preflight.standby;
    s->history.database_oid = s->preflight.database_oid;
    s->history.database = s->preflight.database;
    s->history.slot_name = s->o->source->slot;
    s->history.slot = slot;
    if (compare(s, e) != 0)
        return -1;
    bool goes_on = s->verdict == HISTORY_NEW || s->verdict == HISTORY_GOES_ON;
    struct journal_identity id = history_identity(&s->history);
    if (goes_on && journal_claim(j, &id, e) != 0)
        return -1;
    if ((!slot->exists || slot->lost) && make_slot(s, e) != 0)
        return -1;
    *ret_start = slot->confirmed;
    if (s->verdict == HISTORY_GOES_ON)
        *ret_start = u64_max(journal_watermark(j), slot->confirmed);
    return 0;
}

static int prepare_snapshot(struct session *s, bool fresh, struct err *e)
{
    struct journal_identity id = {0};
    (void)journal_identity(s->o->journal, &id);
    return snapshot_prepare(s->o->snapshot, fresh, id.generation, e);
}

static void first_progress(struct session *s)
{
    struct batch_builder *bb = batch_builder_new(64);
    batch_add_progress(bb, s->preflight.slot.confirmed);
    journal_append(s->o->journal, batch_builder_take(bb, false));
    batch_builder_free(bb);
}

// Once it streams the slot is ours and stands still; until then another reader may have moved it.
static int slot_taken(struct session *s, lsn_t *start, struct err *e)
{
    struct journal *j = s->o->journal;
    struct lookup *l = s->o->lookup; // its connection may be another one by now
    if (lookup_connect(l, e) != 0 ||
        slot_read(lookup_connection(l), s->o->source->slot, &s->preflight.slot, e) != 0)
        return -1;
    if (s->preflight.slot.confirmed == 0)
        return err_set(e, ERR_RETRY, "slot %s: it streams, but the server does not say from where",
                       s->o->source->slot);
    *start = u64_max(*start, s->preflight.slot.confirmed);
    bool fresh = s->verdict == HISTORY_NEW;
    if (s->verdict == HISTORY_GOES_ON && compare(s, e) != 0)
        return -1;
    if (history_declare(&s->history, j, s->verdict, &s->why, *start, e) != 0 ||
        prepare_snapshot(s, fresh, e) != 0)
        return -1;
    // What an earlier process, or another one in between, has shown is not known.
    if (!s->slot_made && !s->preflight.standby && lookup_wal_lsn(l, &s->shown, e) != 0)
        return -1;
    if (fresh)
        first_progress(s);
    return 0;
}

// ---- waiting for the slot ----

static void say_busy(struct session *s)
{
    const struct slot *slot = &s->preflight.slot;
    const char *name = s->o->source->slot;
    lsn_t had = journal_appended(s->o->journal);
    char text[160];
    snprintf(text, sizeof text, "slot %s is in use by process %d; waiting until it is free", name,
             slot->pid);
    log_warn("standing by", "slot=%s cause=%s", name, log_quote(text));
    if (had && slot->confirmed > had && s->o->source->on_gap == ON_GAP_STOP)
        log_warn("this journal lacks what the other reader of the slot had: taking over would end "
                 "this process; set on-gap = mark to tell the gap instead, or share the other's "
                 "journal",
                 "slot=%s slot_lsn=%X/%X journal_lsn=%X/%X", name, LSN_ARG(slot->confirmed),
                 LSN_ARG(had));
    int64_t since;
    char before[160];
    enum health_state state = health_get(s->o->health, &since, before, sizeof before);
    health_set(s->o->health, state == HEALTH_LIVE ? HEALTH_STALE : state, text);
}

// Another process has it: its row is looked at until it has not, which costs the server little.
// ret_waited: what the preflight learned is of before.
static int wait_for_slot(struct session *s, bool *ret_waited, struct err *e)
{
    int64_t pause = BUSY_FIRST_US, began = clock_mono_us();
    bool said = false;
    *ret_waited = false;
    while (s->preflight.slot.active) {
        *ret_waited = true;
        if (!said && clock_mono_us() >= began + BUSY_QUIET_US) {
            say_busy(s);
            said = true;
        }
        if (waiter_wait(s->o->waiter, -1, 0, clock_mono_us() + pause) == WAIT_STOPPED)
            return err_set(e, ERR_RETRY, "%s", "");
        pause = pause * 2 < BUSY_MAX_US ? pause * 2 : BUSY_MAX_US;
        if (slot_read(s->preflight.sql, s->o->source->slot, &s->preflight.slot, e) != 0)
            return -1;
    }
    if (said)
        log_info("the slot is free: taking over", "slot=%s", s->o->source->slot);
    return 0;
}

// ---- start ----

static int start_failed(struct session *s, struct err *e)
{
    struct err cause = *e;
    const char *slot = s->o->source->slot;
    if (strcmp(s->c->sqlstate, "55006") == 0) // the text has the pid
        return err_set(e, ERR_RETRY, "slot %s is in use: %.600s; waiting until it is free", slot,
                       cause.text);
    return err_wrap(e, "slot %s: ", slot);
}

// 1: whole transactions, in commit order. The others have what streaming needs.
static int protocol(const struct session *s)
{
    int v = s->c->version;
    return !s->streaming ? 1 : v >= 160000 ? 4 : v >= 150000 ? 3 : 2;
}

static int start(struct session *s, lsn_t from, struct err *e)
{
    const struct source_options *o = s->o->source;
    s->streaming = s->c->version >= 140000 && transaction_streams(s->o->transaction);
    AUTO_BUF struct buf sql = {0}, names = {0};
    for (size_t i = 0; i < o->publication_count; i++) {
        if (i)
            buf_putc(&names, ',');
        sql_identifier(&names, o->publications[i]);
    }
    buf_printf(&sql,
               "START_REPLICATION SLOT \"%s\" LOGICAL %X/%X (\"proto_version\" '%d', "
               "\"publication_names\" ",
               o->slot, LSN_ARG(from), protocol(s));
    sql_literal(&sql, buf_cstr(&names));
    if (o->messages && s->c->version >= 140000)
        buf_puts(&sql, ", \"messages\" 'on'");
    if (s->streaming)
        buf_puts(&sql, ", \"streaming\" 'on'");
    if (s->binary)
        buf_puts(&sql, ", \"binary\" 'on'");
    if (o->origin_none)
        buf_puts(&sql, ", \"origin\" 'none'");
    buf_putc(&sql, ')');
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(s->c, clock_mono_us() + QUERY_US, &r, e, "%s", buf_cstr(&sql)) != 0)
        return start_failed(s, e);
    if (PQresultStatus(r) != PGRES_COPY_BOTH)
        return err_set(e, ERR_RETRY, "slot %s: the server did not start to stream", o->slot);
    return 0;
}

// ---- giving up what cannot be decoded ----

// Decides, before the stream starts, whether skip_to is still to be done: then *start is moved.
static int skip_plan(struct session *s, lsn_t *start, struct err *e)
{
    const struct source_options *o = s->o->source;
    s->skip = false;
    if (o->skip_to == 0)
        return 0;
    if (o->skip_to > s->history.end)
        return err_set(e, ERR_USAGE,
                       "skip-to %X/%X: the server's WAL ends at %X/%X; remedy: give a position "
                       "that it has written",
                       LSN_ARG(o->skip_to), LSN_ARG(s->history.end));
    if (o->skip_to <= u64_max(*start, journal_appended(s->o->journal))) {
        if (!s->o->quiet)
            log_info("skip-to is behind us already, nothing is skipped", "slot=%s skip_to=%X/%X",
                     o->slot, LSN_ARG(o->skip_to));
        return 0;
    }
    s->skip = true;
    *start = o->skip_to;
    return 0;
}

// The slot is ours and starts behind what is given up: consumers are told.
static int skip_done(struct session *s, struct err *e)
{
    if (!s->skip)
        return 0;
    if (snapshot_gap(s->o->snapshot, e) != 0)
        return -1;
    return journal_gap(s->o->journal, s->o->source->skip_to, "given up by --skip-to", e);
}

static int64_t tick(void *arg)
{
    struct session *s = arg;
    return stream_tick(&s->stream);
}

// WAL that the server has kept while we were detached.
static void look_at_gathered(struct session *s)
{
    int64_t gathered;
    enum detach_finding found =
        detach_attached(s->o->detach, s->history.end, s->o->on_demand, clock_mono_us(), &gathered);
    if (found == DETACH_FINE)
        return;
    log_warn("more WAL had gathered than idle-wal-budget allows", "slot=%s bytes=%lld then=%s",
             s->o->source->slot, (long long)gathered,
             found == DETACH_OVER ? "\"attaching more often\""
                                  : "\"attaching as often as it can\"");
}

static int stream(struct session *s, lsn_t from, struct session_end *end, struct err *e)
{
    ack_init(&s->ack, from, s->preflight.slot.confirmed, s->preflight.sender_timeout_us,
             clock_mono_us());
    s->ack.far = u64_max(s->history.end, from) + FAR_BYTES;
    s->stream = (struct stream){
        .c = s->c,
        .waiter = s->o->waiter,
        .transaction = s->o->transaction,
        .ack = &s->ack,
        .journal = s->o->journal,
        .lookup = s->o->lookup,
        .slot = s->o->source->slot,
        .gate = s->o->gate,
        .gate_arg = s->o->gate_arg,
        .health = s->o->health,
        .snapshot = s->o->snapshot,
        .watch = s->o->watch,
        .detach = s->o->detach,
        .let_go = s->o->let_go,
        .silence_us = s->o->source->silence_us,
        .sender_timeout_us = s->preflight.sender_timeout_us,
    };
    transaction_start(s->o->transaction, &s->ack);
    log_info("streaming",
             "slot=%s lsn=%X/%X server=%d.%d timeline=%u open-transactions=%s values=%s",
             s->stream.slot, LSN_ARG(from), s->c->version / 10000, s->c->version % 10000,
             s->history.timeline, s->streaming ? "streamed" : "held-back",
             s->binary ? "binary" : "text");
    health_set(s->o->health, HEALTH_LIVE, "streaming");
    s->o->waiter->tick = tick;
    s->o->waiter->arg = s;
    chunk_reader_follow(s->o->chunks, s->c);
    snapshot_start(s->o->snapshot, s->preflight.standby, s->shown);
    look_at_gathered(s);
    int r = stream_run(&s->stream, e);
    end->detached = s->stream.detached;
    snapshot_lost(s->o->snapshot);
    s->o->waiter->tick = NULL;
    const char *table;
    end->txn_lsn = transaction_in_work(s->o->transaction, &table);
    end->error_lsn = s->c->error_lsn;
    snprintf(end->table, sizeof end->table, "%s", table ? table : "");
    if (r == 0) { // stopped: what is durable is acknowledged with the last word
        s->ack.reply = true;
        s->ack.sent_at = INT64_MIN / 2;
        (void)stream_tick(&s->stream);
    }
    transaction_lost(s->o->transaction);
    return r;
}

// ---- what is asked for ----

static void choose_form(struct session *s)
{
    s->binary = s->o->source->binary && s->c->version >= 140000 && !s->preflight.as_text;
    relations_set_binary(s->o->relations, s->binary ? s->c->version : 0);
}

// What the server failed at need not come back where less is asked of it.
static int ask_for_less(struct session *s, struct err *e)
{
    static const char no_send_function[] = "42883", internal[] = "XX000";
    if (s->binary && strcmp(s->c->sqlstate, no_send_function) == 0) {
        // A value without a binary form, of a column that came after our check.
        relations_give_up_binary(s->o->relations);
        e->class = ERR_RETRY;
        return err_wrap(e, "asking for values as text from now on: ");
    }
    if (s->streaming && strcmp(s->c->sqlstate, internal) == 0) {
        // Tables that a transaction made, and then took back while it was being decoded, may not be
        // found any more.
        transaction_stop_streaming(s->o->transaction);
        e->class = ERR_RETRY;
        return err_wrap(e, "going on without streaming for an hour: ");
    }
    return -1;
}

static int session_body(struct session *s, struct session_end *end, struct err *e)
{
    lsn_t from;
    end->refused = true;
    if (lookup_connect(s->o->lookup, e) != 0)
        return -1;
    end->refused = false;
    bool waited;
    if (preflight(s, e) != 0)
        return -1;
    end->checked = true;
    if (wait_for_slot(s, &waited, e) != 0 || (waited && preflight(s, e) != 0))
        return -1;
    end->refused = true;
    if (connect_stream(s, e) != 0)
        return -1;
    end->refused = false;
    lookup_follow(s->o->lookup, s->c);
    if (check_pinned(s, e) != 0 || history_read(s->c, &s->history, e) != 0 ||
        find_start(s, &from, e) != 0 || skip_plan(s, &from, e) != 0)
        return -1;
    choose_form(s);
    // Before anything is read: numbers come from attnums, which renaming does not change.
    if (relations_seed(s->o->relations, e) != 0 || start(s, from, e) != 0 ||
        slot_taken(s, &from, e) != 0 || skip_done(s, e) != 0)
        return -1;
    end->streamed_at = clock_mono_us();
    return stream(s, from, end, e) == 0 ? 0 : ask_for_less(s, e);
}

int session_run(const struct session_options *o, struct session_end *ret_end, struct err *e)
{
    struct session *s = xcalloc(1, sizeof *s);
    s->o = o;
    *ret_end = (struct session_end){0};
    int r = session_body(s, ret_end, e);
    const struct connection *sql = lookup_connection(o->lookup);
    const struct connection *c = s->c ? s->c : sql;
    if (r != 0 && c)
        memcpy(ret_end->sqlstate, c->sqlstate, sizeof ret_end->sqlstate);
    lookup_follow(o->lookup, NULL);
    lookup_disconnect(o->lookup);
    connection_close(s->c);
    free(s);
    return r;
}
