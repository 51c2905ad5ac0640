#include "source/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/reader.h"
#include "source/figures.h"
#include "source/reading.h"
#include "source/stall.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#define SEAL_US    INT64_C(2000)
#define TURN_BYTES (1u << 20)  // read at most this much before looking at anything else
#define ROOM_BYTES (16u << 10) // and this much before asking for room

struct stream_metrics {
    struct metric *received, *acknowledged, *lag;
};

struct loop {
    struct stream *s;
    struct reading reading;
    struct stream_metrics metrics;
    struct figures figures;
    bool figures_ready; // the look-up connection has something to say
    struct silence silence;
    enum silence_verdict verdict; // the last one that was said
    struct stall stall;
    bool busy;  // something came that is no sign of life
    bool heard; // something came since that was last looked at
    bool drained;
    bool left;       // but for what was left to the next round
    int64_t read_at; // nothing is read before: a pause
    int64_t seal_at; // in a flood, no batch before
};

static lsn_t gate(const struct stream *s)
{
    return s->gate ? s->gate(s->gate_arg, NULL) : UINT64_MAX;
}

static void find_metrics(struct stream_metrics *m)
{
    m->received = metric_new(METRIC_GAUGE, "rowcast_lsn",
                             "WAL position, as a number, by how far it is taken care of.",
                             "kind=\"received\"", 1);
    m->acknowledged = metric_new(METRIC_GAUGE, "rowcast_lsn",
                                 "WAL position, as a number, by how far it is taken care of.",
                                 "kind=\"acknowledged\"", 1);
    m->lag = metric_new(METRIC_GAUGE, "rowcast_source_lag_seconds",
                        "Age of the last transaction received while more is coming; 0 at the end.",
                        "", 1000000);
}

// ---- status ----

// ask: for an answer.
static int send_status(struct stream *s, lsn_t flushed, bool ask)
{
    uint8_t m[34] = {'r'};
    const uint64_t values[] = {s->ack->received, flushed, flushed,
                               (uint64_t)(clock_wall_us() - PG_EPOCH_US)};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        uint64_t be = __builtin_bswap64(values[i]);
        memcpy(m + 1 + 8 * i, &be, 8);
    }
    m[33] = ask;
    return PQputCopyData(s->c->pg, (const char *)m, sizeof m) == 1 ? 0 : -1;
}

int64_t stream_tick(struct stream *s)
{
    int64_t now = clock_mono_us();
    lsn_t watermark = journal_watermark(s->journal), held = gate(s);
    lsn_t flushed = ack_status(s->ack, watermark, held, now);
    // A failure shows when the connection is read.
    if (flushed && send_status(s, flushed, false) == 0)
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
    if (ack_check(s->ack, wal_end, e) != 0)
        return -1;
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
    l->busy = true;
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
    l->heard |= bytes != 0;
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

// ---- the server's state ----

// What of ours holds acknowledgement back; NULL: nothing but reading. Static.
static const char *behind(const struct loop *l)
{
    const struct stream *s = l->s;
    const char *who = NULL;
    if (l->stall.said)
        return l->stall.said;
    if (s->gate && s->gate(s->gate_arg, &who) < journal_watermark(s->journal))
        return who;
    return NULL;
}

// Before anything is decided about silence: what waits in the socket is a word too.
static bool heard(const struct loop *l)
{
    int waiting = 0;
    return ioctl(PQsocket(l->s->c->pg), FIONREAD, &waiting) == 0 && waiting > 0;
}

static int look_at_silence(struct loop *l, int64_t now, struct err *e)
{
    enum silence_verdict v = silence_judge(&l->silence, &l->figures.witness, now);
    if (likely(v == SILENCE_FINE) && l->verdict == SILENCE_FINE)
        return 0;
    if (l->stall.since || transaction_replaying(l->s->transaction) ||
        heard(l)) { // then it is we who do not listen
        silence_heard(&l->silence, now);
        v = SILENCE_FINE;
    }
    if (v == SILENCE_LOOK)
        figures_hurry(&l->figures);
    else if (v == SILENCE_BUSY && l->verdict != v)
        log_info("the server is silent, but at work: a large transaction that has nothing for us?",
                 "slot=%s pid=%d", l->s->slot, l->figures.pid);
    l->verdict = v == SILENCE_LOOK ? l->verdict : v;
    long seconds = (long)(l->silence.limit_us / 1000000);
    if (v == SILENCE_ENDED)
        return err_set(e, ERR_RETRY,
                       "the server has given up the stream, and we did not hear it: "
                       "something in between cut the connection silently");
    if (v == SILENCE_DEAF)
        return err_set(e, ERR_RETRY,
                       "no word in the stream for %ld s, though the server works and was asked: "
                       "something in between swallows it, or its walsender (pid %d) stands still",
                       seconds, l->figures.pid);
    if (v == SILENCE_GONE)
        return err_set(e, ERR_RETRY, "no word from the server for %ld s, though it was asked",
                       seconds);
    return 0;
}

// A quiet time, or somebody's word, lets the connection go: between transactions, and when all that
// came is acknowledged, for nobody acknowledges it meanwhile.
static bool may_detach(struct loop *l, int64_t now)
{
    const struct stream *s = l->s;
    bool asked = atomic_load(s->let_go);
    if (l->busy || snapshot_busy(s->snapshot))
        detach_busy(s->detach, now);
    l->busy = false;
    if (likely(!asked && now < detach_due(s->detach)))
        return false;
    if (transaction_open(s->transaction) || transaction_replaying(s->transaction) || !l->drained ||
        snapshot_busy(s->snapshot))
        return false;
    if (s->ack->flushed < s->ack->appended && !asked)
        return false;
    detach_cap(s->detach, l->figures.last.idle_timeout_us);
    detach_left(s->detach, s->ack->received, now);
    return true;
}

static int look_at_server(struct loop *l, int64_t now, struct err *e)
{
    struct figures_ours ours = {l->s->ack->received, behind(l)};
    figures_step(&l->figures, l->figures_ready, &ours, now);
    l->figures_ready = false;
    if (figures_stopping(&l->figures, now))
        return err_set(e, ERR_RETRY,
                       "the server is stopping, and what it still has for us would hold it up: it "
                       "comes again");
    return look_at_silence(l, now, e);
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
    if (unlikely(snapshot_busy(s->snapshot)))
        transaction_snapshot(s->transaction, s->ack->received);
    lsn_t watermark = journal_watermark(s->journal), held = gate(s);
    lsn_t flushed = ack_status(s->ack, watermark, held, now);
    if (flushed) {
        bool ask = now >= l->silence.heard_at + s->ack->interval_us / 2;
        // A failure shows when the connection is read; which flushes too, but for during a replay.
        if (send_status(s, flushed, ask) == 0 && transaction_replaying(s->transaction))
            (void)PQflush(s->c->pg);
        if (ask)
            silence_asked(&l->silence, now);
    }
    return ack_deadline(s->ack, watermark, held, open);
}

static int sleep_until(struct loop *l, int64_t deadline, struct err *e)
{
    struct stream *s = l->s;
    if (l->read_at && !l->stall.since && l->read_at < deadline)
        deadline = l->read_at;
    if (stall_deadline(&l->stall) < deadline)
        deadline = stall_deadline(&l->stall);
    const int64_t others[] = {figures_deadline(&l->figures), snapshot_deadline(s->snapshot),
                              silence_deadline(&l->silence, &l->figures.witness, clock_mono_us())};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        deadline = others[i] < deadline ? others[i] : deadline;
    // Nothing is read while stalled: only this tells then that the connection is gone.
    short events = l->stall.since ? POLLRDHUP : l->read_at ? 0 : POLLIN;
    int pending = PQflush(s->c->pg);
    if (pending < 0)
        return connection_error(s->c, NULL, e);
    if (pending == 1) // both, or both sides could wait for each other
        events |= POLLOUT | POLLIN;
    short revents, lookup_revents, lookup_events = 0;
    int lookup = lookup_fd(s->lookup, &lookup_events);
    // A socket that nobody waits for is cheaper to write to.
    int fd = events ? PQsocket(s->c->pg) : -1;
    waiter_sleep(s->waiter, fd, events, lookup, lookup_events, deadline, &revents, &lookup_revents);
    l->figures_ready = lookup_revents != 0;
    l->heard |= (revents & POLLIN) != 0; // perhaps only a part of a huge message
    bool gone = revents & (POLLERR | POLLHUP | POLLNVAL | POLLRDHUP);
    if (l->stall.since && gone)
        return err_set(e, ERR_RETRY, "the connection was lost while reading had stopped");
    if (pending == 1 && (revents & POLLIN) && !PQconsumeInput(s->c->pg)) // lets the server read
        return connection_error(s->c, NULL, e);
    if (gone || clock_mono_us() >= l->read_at)
        l->read_at = 0;
    return 0;
}

static int turn(struct loop *l, struct err *e)
{
    if (!l->read_at && read_turn(l, e) != 0)
        return -1;
    if (l->s->c->publication_skipped)
        return publication_skipped(l->s, e);
    int64_t now = clock_mono_us();
    if (l->drained && !l->read_at) {
        reading_round(&l->reading, now);
        l->reading.open = transaction_in_part(l->s->transaction);
        int64_t pause = reading_pause_us(&l->reading, now);
        l->read_at = pause ? now + pause : 0;
        // Without a pause poll would have to see what is left, and under TLS cannot.
        l->drained = pause || !l->left;
    }
    if (l->heard)
        silence_heard(&l->silence, now);
    l->heard = false;
    int64_t deadline = settle(l);
    update_metrics(l);
    if (look_at_server(l, now, e) != 0)
        return -1;
    if (unlikely(may_detach(l, now))) {
        l->s->detached = true;
        return 0;
    }
    int64_t due = detach_due(l->s->detach);
    deadline = due > now && due < deadline ? due : deadline;
    return l->drained || l->stall.since ? sleep_until(l, deadline, e) : 0;
}

int stream_run(struct stream *s, struct err *e)
{
    struct loop l = {.s = s};
    int64_t now = clock_mono_us();
    int r = 0;
    find_metrics(&l.metrics);
    figures_init(&l.figures, s->lookup, s->slot, s->watch, s->health, PQbackendPID(s->c->pg), now);
    silence_init(&l.silence, s->silence_us, s->sender_timeout_us, now);
    (void)prctl(PR_SET_TIMERSLACK, 1UL); // pauses are shorter than the default adds
    reading_attach(&l.reading, PQsocket(s->c->pg), now);
    while (r == 0 && !s->detached && !atomic_load(s->waiter->stopped))
        r = turn(&l, e);
    figures_fini(&l.figures);
    return r;
}
