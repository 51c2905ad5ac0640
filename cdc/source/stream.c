#include "source/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/reader.h"
#include "source/reading.h"
#include "source/stall.h"

#include <poll.h>
#include <sys/prctl.h>

#define FIGURES_INTERVAL_US INT64_C(10000000)
#define SEAL_US             INT64_C(2000)
#define TURN_BYTES          (1u << 20)  // read at most this much before looking at anything else
#define ROOM_BYTES          (16u << 10) // and this much before asking for room

struct stream_metrics {
    struct metric *received, *acknowledged, *lag_bytes, *lag, *retained, *safe;
};

struct loop {
    struct stream *s;
    struct reading reading;
    struct stream_metrics metrics;
    int64_t figures_at;
    struct stall stall;
    bool drained;
    bool left;       // but for what was left to the next round
    int64_t read_at; // nothing is read before: a pause
    int64_t seal_at; // in a flood, no batch before
};

static lsn_t gate(const struct stream *s)
{
    return s->gate ? s->gate(s->gate_arg) : UINT64_MAX;
}

static void find_metrics(struct stream_metrics *m)
{
    m->received = metric_new(METRIC_GAUGE, "rowcast_lsn",
                             "WAL position, as a number, by how far it is taken care of.",
                             "kind=\"received\"", 1);
    m->acknowledged = metric_new(METRIC_GAUGE, "rowcast_lsn",
                                 "WAL position, as a number, by how far it is taken care of.",
                                 "kind=\"acknowledged\"", 1);
    m->lag_bytes = metric_new(METRIC_GAUGE, "rowcast_source_lag_bytes",
                              "WAL that the server has written and we have not received.", "", 1);
    m->lag = metric_new(METRIC_GAUGE, "rowcast_source_lag_seconds",
                        "Age of the last transaction received while more is coming; 0 at the end.",
                        "", 1000000);
    m->retained = metric_new(METRIC_GAUGE, "rowcast_slot_retained_wal_bytes",
                             "WAL that the server keeps for the slot.", "", 1);
    m->safe = metric_new(METRIC_GAUGE, "rowcast_slot_safe_wal_size_bytes",
                         "WAL that can be written before the slot is lost; -1: no limit.", "", 1);
}

// ---- status ----

static int send_status(struct stream *s, lsn_t flushed)
{
    uint8_t m[34] = {'r'};
    const uint64_t values[] = {s->ack->received, flushed, flushed,
                               (uint64_t)(clock_wall_us() - PG_EPOCH_US)};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        uint64_t be = __builtin_bswap64(values[i]);
        memcpy(m + 1 + 8 * i, &be, 8);
    }
    return PQputCopyData(s->c->pg, (const char *)m, sizeof m) == 1 ? 0 : -1;
}

int64_t stream_tick(struct stream *s)
{
    int64_t now = clock_mono_us();
    lsn_t watermark = journal_watermark(s->journal), held = gate(s);
    lsn_t flushed = ack_status(s->ack, watermark, held, now);
    // A failure shows when the connection is read.
    if (flushed && send_status(s, flushed) == 0)
        (void)PQflush(s->c->pg);
    // Progress is not added here: only the loop appends.
    return ack_deadline(s->ack, watermark, held, true);
}

// ---- frames ----

static int on_keepalive(struct loop *l, struct reader *r, struct err *e)
{
    struct stream *s = l->s;
    lsn_t wal_end = reader_be64(r);
    reader_be64(r); // the server's clock
    bool reply = reader_u8(r);
    if (!reader_done(r))
        return err_set(e, ERR_DATA, "malformed keepalive from the server");
    l->reading.caught_up = true;
    ack_keepalive(s->ack, wal_end, reply, transaction_open(s->transaction), clock_mono_us());
    if (ack_in_the_way(s->ack))
        return err_set(e, ERR_RETRY,
                       "the server is stopping and waits for what a sink has not taken: not "
                       "acknowledged, it comes again");
    if (!transaction_open(s->transaction))
        metric_set(l->metrics.lag, 0);
    return 0;
}

// *p is freed early where it is large.
static int on_frame(struct loop *l, char **p, size_t n, struct err *e)
{
    struct reader r = reader_of(*p, n);
    uint8_t kind = reader_u8(&r);
    if (kind == 'k')
        return on_keepalive(l, &r, e);
    reader_be64(&r); // start: says nothing that could be relied on
    reader_be64(&r);
    int64_t send_time = (int64_t)reader_be64(&r);
    if (unlikely(kind != 'w' || r.failed))
        return err_set(e, ERR_DATA, "unknown frame 0x%02x from the server", kind);
    return transaction_message(l->s->transaction, (struct slice){r.p, reader_left(&r)}, send_time,
                               p, e);
}

// The stream has ended by itself: what the server said.
static int end_of_copy(struct stream *s, struct err *e)
{
    AUTO_RESULT PGresult *r = PQgetResult(s->c->pg);
    ExecStatusType status = PQresultStatus(r);
    if (status == PGRES_COMMAND_OK || status == PGRES_COPY_IN || status == PGRES_TUPLES_OK)
        return err_set(e, ERR_RETRY, "the server ended the stream: it is shutting down");
    return connection_error(s->c, r, e);
}

// What comes behind the server's word of it would hide what it left out: nothing more is taken.
static int publication_skipped(struct stream *s, struct err *e)
{
    return err_set(e, ERR_SOURCE,
                   "slot %s: the server skips a publication that does not exist, or did not yet "
                   "exist at this position of WAL, and would leave out its changes; remedy: "
                   "create it, then give up what was written before: --skip-to with what SELECT "
                   "pg_current_wal_lsn() says (consumers get a gap marker); or drop the slot and "
                   "start with a new journal directory",
                   s->slot);
}

// Handles complete messages in libpq's memory until it has none, a streamed transaction is to be
// replayed, `budget` bytes are done, or -1.
static int take_messages(struct loop *l, size_t budget, size_t *ret_bytes, struct err *e)
{
    PGconn *pg = l->s->c->pg;
    size_t bytes = 0;
    int n = 0;
    char *p;
    while (bytes < budget && !transaction_replaying(l->s->transaction) &&
           (n = PQgetCopyData(pg, &p, 1)) > 0) {
        bool skipped = l->s->c->publication_skipped; // noted in front of this one
        int r = unlikely(skipped) ? publication_skipped(l->s, e) : on_frame(l, &p, (size_t)n, e);
        PQfreemem(p);
        if (unlikely(r != 0))
            return -1;
        bytes += (size_t)n;
        l->reading.messages++;
    }
    l->reading.bytes += bytes;
    *ret_bytes = bytes;
    if (n == -1)
        return end_of_copy(l->s, e);
    if (n == -2)
        return connection_error(l->s->c, NULL, e);
    return 0;
}

static void say_stalled(const struct loop *l)
{
    const char *why = l->stall.said;
    if (why) {
        log_warn("reading stopped, PostgreSQL keeps its WAL meanwhile; going on when there is room",
                 "slot=%s cause=%s", l->s->slot, log_quote(why));
        health_set(l->s->health, HEALTH_STALE, why);
    } else {
        log_info("reading again", "slot=%s", l->s->slot);
        health_set(l->s->health, HEALTH_LIVE, "streaming");
    }
}

static bool has_room(struct loop *l)
{
    const char *why = NULL;
    bool room = journal_has_room(l->s->journal, &why);
    if (unlikely(!room || l->stall.since) && stall_set(&l->stall, why, clock_mono_us()))
        say_stalled(l);
    return room;
}

// Reads until nothing complete is left, or the turn's budget is used up. What a streamed
// transaction left in its spool comes before anything else; a connection that is lost meanwhile is
// noticed behind it: all of it is here.
static int read_turn(struct loop *l, struct err *e)
{
    struct transaction *t = l->s->transaction;
    size_t turn = 0, bytes;
    l->drained = false;
    while (turn < TURN_BYTES && has_room(l)) {
        bool replay = transaction_replaying(t);
        if (replay ? transaction_replay(t, ROOM_BYTES, &bytes, e)
                   : take_messages(l, ROOM_BYTES, &bytes, e))
            return -1;
        turn += bytes;
        if (replay || bytes >= ROOM_BYTES || transaction_replaying(t))
            continue;
        if (!PQconsumeInput(l->s->c->pg))
            return connection_error(l->s->c, NULL, e);
        if (take_messages(l, ROOM_BYTES, &bytes, e) != 0)
            return -1;
        turn += bytes;
        if (transaction_replaying(t))
            continue;
        if (bytes == 0 || reading_enough(&l->reading, PQsocket(l->s->c->pg), bytes)) {
            l->drained = true;
            l->left = bytes != 0;
            return 0;
        }
    }
    return 0;
}

// ---- figures ----

static void poll_figures(struct loop *l, int64_t now)
{
    struct slot_figures f;
    if (now >= l->figures_at) {
        l->figures_at = now + FIGURES_INTERVAL_US;
        lookup_ask_figures(l->s->lookup);
    }
    if (!lookup_figures(l->s->lookup, &f))
        return;
    lsn_t received = l->s->ack->received;
    metric_set(l->metrics.lag_bytes, f.wal_lsn > received ? (int64_t)(f.wal_lsn - received) : 0);
    metric_set(l->metrics.retained,
               f.restart && f.wal_lsn > f.restart ? (int64_t)(f.wal_lsn - f.restart) : 0);
    metric_set(l->metrics.safe, f.safe_wal_size);
}

static void update_metrics(struct loop *l)
{
    const struct ack *a = l->s->ack;
    metric_set(l->metrics.received, (int64_t)a->received);
    metric_set(l->metrics.acknowledged, (int64_t)a->flushed);
    int64_t commit = transaction_last_commit(l->s->transaction);
    if (l->reading.flood_since && commit)
        metric_set(l->metrics.lag, clock_age_us(commit));
    else if (l->drained)
        metric_set(l->metrics.lag, 0);
}

// ---- the loop ----

// What follows from what was read: batches, progress, status. Returns when it has to be done again.
static int64_t settle(struct loop *l)
{
    struct stream *s = l->s;
    int64_t now = clock_mono_us();
    // Between short pauses, a Unix socket's, batches would be many and small.
    if (l->drained && (!l->read_at || now >= l->seal_at)) {
        transaction_drained(s->transaction);
        l->seal_at = now + SEAL_US;
    }
    bool open = transaction_open(s->transaction);
    lsn_t progress = ack_progress(s->ack, open, now);
    if (progress)
        transaction_progress(s->transaction, progress);
    lsn_t watermark = journal_watermark(s->journal), held = gate(s);
    lsn_t flushed = ack_status(s->ack, watermark, held, now);
    // A failure shows when the connection is read; which flushes too, but for during a replay.
    if (flushed && send_status(s, flushed) == 0 && transaction_replaying(s->transaction))
        (void)PQflush(s->c->pg);
    return ack_deadline(s->ack, watermark, held, open);
}

static int sleep_until(struct loop *l, int64_t deadline, struct err *e)
{
    struct stream *s = l->s;
    if (l->read_at && !l->stall.since && l->read_at < deadline)
        deadline = l->read_at;
    if (stall_deadline(&l->stall) < deadline)
        deadline = stall_deadline(&l->stall);
    if (l->figures_at < deadline)
        deadline = l->figures_at;
    // Nothing is read while stalled: only this tells then that the connection is gone.
    short events = l->stall.since ? POLLRDHUP : l->read_at ? 0 : POLLIN;
    int pending = PQflush(s->c->pg);
    if (pending < 0)
        return connection_error(s->c, NULL, e);
    if (pending == 1) // both, or both sides could wait for each other
        events |= POLLOUT | POLLIN;
    short revents, unused, lookup_events = 0;
    int lookup = lookup_fd(s->lookup, &lookup_events);
    // A socket that nobody waits for is cheaper to write to.
    int fd = events ? PQsocket(s->c->pg) : -1;
    waiter_sleep(s->waiter, fd, events, lookup, lookup_events, deadline, &revents, &unused);
    bool gone = revents & (POLLERR | POLLHUP | POLLNVAL | POLLRDHUP);
    if (l->stall.since && gone)
        return err_set(e, ERR_RETRY, "the connection was lost while reading had stopped");
    if (pending == 1 && (revents & POLLIN) && !PQconsumeInput(s->c->pg)) // lets the server read
        return connection_error(s->c, NULL, e);
    if (gone || clock_mono_us() >= l->read_at)
        l->read_at = 0;
    return 0;
}

int stream_run(struct stream *s, struct err *e)
{
    struct loop l = {.s = s};
    find_metrics(&l.metrics);
    (void)prctl(PR_SET_TIMERSLACK, 1UL); // pauses are shorter than the default adds
    reading_attach(&l.reading, PQsocket(s->c->pg), clock_mono_us());
    while (!atomic_load(s->waiter->stopped)) {
        if (!l.read_at && read_turn(&l, e) != 0)
            return -1;
        if (s->c->publication_skipped)
            return publication_skipped(s, e);
        int64_t now = clock_mono_us();
        if (l.drained && !l.read_at) {
            reading_round(&l.reading, now);
            int64_t pause = reading_pause_us(&l.reading, now);
            l.read_at = pause ? now + pause : 0;
            // Without a pause poll would have to see what is left, and under TLS cannot.
            l.drained = pause || !l.left;
        }
        int64_t deadline = settle(&l);
        update_metrics(&l);
        poll_figures(&l, now);
        if ((l.drained || l.stall.since) && sleep_until(&l, deadline, e) != 0)
            return -1;
    }
    return 0;
}
