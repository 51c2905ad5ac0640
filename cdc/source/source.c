#include "source/source.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "source/poison.h"
#include "source/snapshot/chunk_reader.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define BACKOFF_FIRST_US INT64_C(50000)
#define BACKOFF_MAX_US   INT64_C(5000000)
#define BACKOFF_BUSY_US  INT64_C(1000000)  // a slot that is in use is free any moment
#define STEADY_US        INT64_C(10000000) // streaming for so long is as good as before the error

struct source {
    struct source_options o;
    struct journal *journal;
    struct health *health;
    _Atomic bool stopped;
    struct waiter waiter;
    lsn_t (*gate)(void *arg, const char **ret_who);
    struct watch watch;
    struct detach detach;
    _Atomic bool let_go, attach;
    _Atomic bool detached;
    void *gate_arg;
    struct metric *reconnects;

    bool ever_live;
    int64_t backoff_us;
    char said[1024]; // the last cause that was logged
    struct poison poison;
    pthread_mutex_t snapshot_lock; // for those who ask
    struct snapshot *snapshot;     // NULL: it does not run
};

struct source *source_new(const struct source_options *o, struct journal *j, struct health *h)
{
    struct source *s = xcalloc(1, sizeof *s);
    s->o = *o;
    s->journal = j;
    s->watch.limits =
        (struct watch_limits){o->warn_retained_bytes, o->warn_safe_bytes, o->warn_xmin_age};
    detach_init(&s->detach, &o->detach);
    s->health = h;
    pthread_mutex_init(&s->snapshot_lock, NULL);
    s->waiter.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(s->waiter.wake_fd >= 0);
    s->waiter.stopped = &s->stopped;
    s->backoff_us = BACKOFF_FIRST_US;
    s->reconnects = metric_new(METRIC_COUNTER, "rowcast_reconnects_total",
                               "Connections to the source that were lost or refused.", "", 1);
    return s;
}

void source_free(struct source *s)
{
    if (!s)
        return;
    close(s->waiter.wake_fd);
    pthread_mutex_destroy(&s->snapshot_lock);
    free(s);
}

void source_set_gate(struct source *s, lsn_t (*durable)(void *arg, const char **ret_who), void *arg)
{
    s->gate = durable;
    s->gate_arg = arg;
}

void source_wake(struct source *s)
{
    uint64_t one = 1;
    // Full is as good as written: it is readable.
    if (write(s->waiter.wake_fd, &one, sizeof one) < 0)
        return;
}

void source_stop(struct source *s)
{
    atomic_store(&s->stopped, true);
    source_wake(s);
}

bool source_attach(struct source *s)
{
    atomic_store(&s->let_go, false);
    if (!atomic_load(&s->detached))
        return false;
    atomic_store(&s->attach, true);
    source_wake(s);
    return true;
}

void source_detach(struct source *s)
{
    atomic_store(&s->let_go, true);
    source_wake(s);
}

// ---- what to do about an error ----

// Turns *e into the final error when it does not pass by itself.
static bool is_final(struct source *s, const struct session_end *end, struct err *e)
{
    // Passwords and their files are rotated, roles and databases are renamed while we run: that can
    // be undone.
    if ((e->class == ERR_SOURCE || e->class == ERR_USAGE) && s->ever_live && end->refused)
        return false;
    bool again = e->class == ERR_DATA || (e->class == ERR_SOURCE && *end->sqlstate);
    if (e->class == ERR_RETRY || (end->streamed_at && again)) {
        if (!poison_met(&s->poison, end, e->class, journal_appended(s->journal)))
            return false;
        poison_explain(&s->poison, end, s->o.slot, e);
    }
    return true;
}

static int64_t jittered(int64_t us)
{
    uint32_t random = 0;
    (void)getrandom(&random, sizeof random, GRND_NONBLOCK); // 0 is a jitter too
    return us / 2 + (int64_t)(random % (uint32_t)us) / 2;
}

static void back_off(struct source *s, const struct session_end *end, const struct err *e)
{
    bool busy = strcmp(end->sqlstate, "55006") == 0;
    int64_t wait =
        jittered(busy && s->backoff_us > BACKOFF_BUSY_US ? BACKOFF_BUSY_US : s->backoff_us);
    if (strcmp(s->said, e->text) != 0) { // once a change of cause
        snprintf(s->said, sizeof s->said, "%s", e->text);
        log_warn("not connected to the source, retrying", "slot=%s cause=%s", s->o.slot,
                 log_quote(e->text));
    }
    health_set(s->health, s->ever_live ? HEALTH_STALE : HEALTH_STARTING, e->text);
    metric_add(s->reconnects, 1);
    (void)waiter_wait(&s->waiter, -1, 0, clock_mono_us() + wait);
    s->backoff_us = s->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : s->backoff_us * 2;
}

// ---- running ----

static int add_to_journal(void *arg, struct relation *r, struct err *e)
{
    return journal_add_relation(arg, r, e);
}

// Away from the server until the schedule, or somebody, says otherwise. True: on demand.
static bool stay_detached(struct source *s)
{
    atomic_store(&s->detached, true);
    bool asked = atomic_exchange(&s->let_go, false);
    char when[CLOCK_TEXT_MAX];
    clock_text(clock_wall_us() + s->detach.attach_at - clock_mono_us(), when);
    AUTO_FREE char *text = xasprintf("detached, %s; attaching again at %s",
                                     asked ? "as was asked for" : "as nothing happened", when);
    health_warn(s->health, "");
    health_set(s->health, HEALTH_DETACHED, text);
    log_info("detached", "slot=%s until=%s", s->o.slot, when);
    while (!atomic_load(&s->stopped) && !atomic_load(&s->attach) &&
           clock_mono_us() < s->detach.attach_at) {
        short none;
        waiter_sleep(&s->waiter, -1, 0, -1, 0, s->detach.attach_at, &none, &none);
    }
    atomic_store(&s->detached, false);
    return atomic_exchange(&s->attach, false);
}

static int supervise(struct source *s, struct session_options *session, struct err *e)
{
    for (;;) {
        struct session_end end;
        lsn_t before = journal_appended(s->journal);
        int r = session_run(session, &end, e);
        if (atomic_load(&s->stopped) || (r == 0 && !end.detached))
            return 0;
        if (r == 0) {
            s->ever_live = session->quiet = true;
            snapshot_detached(session->snapshot);
            session->on_demand = stay_detached(s);
            continue;
        }
        session->quiet |= end.checked;
        s->ever_live |= end.streamed_at != 0;
        // Streaming alone is no success: it may fail at the same place each time.
        if (end.streamed_at && (journal_appended(s->journal) > before ||
                                clock_mono_us() >= end.streamed_at + STEADY_US)) {
            s->said[0] = 0;
            s->backoff_us = BACKOFF_FIRST_US;
        }
        if (is_final(s, &end, e)) {
            health_set(s->health, HEALTH_DOWN, e->text);
            return -1;
        }
        health_warn(s->health, ""); // of that connection
        back_off(s, &end, e);
        if (atomic_load(&s->stopped))
            return 0;
    }
}

// ---- existing rows ----

static void wake(void *arg)
{
    source_wake(arg);
}

static void order_chunk(void *arg, struct chunk_order *o)
{
    chunk_reader_order(arg, o);
}

static struct chunk *take_chunk(void *arg)
{
    return chunk_reader_take(arg);
}

static void cancel_chunks(void *arg)
{
    chunk_reader_cancel(arg);
}

static size_t pending_chunks(void *arg)
{
    return chunk_reader_pending(arg);
}

static size_t chunk_threads(void *arg)
{
    return chunk_reader_threads(arg);
}

static int renew(void *arg, const struct table_info *info, const struct relation **ret_r,
                 struct err *e)
{
    const struct session_options *session = arg;
    return relations_renew(session->relations, info, ret_r, e);
}

static int wal_lsn(void *arg, lsn_t *ret_lsn, struct err *e)
{
    const struct session_options *session = arg;
    return lookup_wal_lsn(session->lookup, ret_lsn, e);
}

static void on_table(void *arg, const char *table, const char *root)
{
    const struct session_options *session = arg;
    snapshot_table(session->snapshot, table, root);
}

static void show_snapshot(struct source *s, struct snapshot *snapshot)
{
    pthread_mutex_lock(&s->snapshot_lock);
    s->snapshot = snapshot;
    pthread_mutex_unlock(&s->snapshot_lock);
}

static void make_snapshot(struct source *s, struct session_options *session)
{
    session->chunks =
        chunk_reader_new(&(struct chunk_reader_options){.source = &s->o, .wake = wake, .arg = s});
    session->snapshot = snapshot_new(&(struct snapshot_options){
        .source = &s->o,
        .journal = s->journal,
        .health = s->health,
        .chunks = {session->chunks, order_chunk, take_chunk, cancel_chunks, pending_chunks,
                   chunk_threads},
        .renew = renew,
        .wal_lsn = wal_lsn,
        .arg = session,
    });
    show_snapshot(s, session->snapshot);
}

int source_request_snapshot(struct source *s, const char *glob, struct buf *out, struct err *e)
{
    pthread_mutex_lock(&s->snapshot_lock);
    int r = s->snapshot ? snapshot_request(s->snapshot, glob, out, e)
                        : err_set(e, ERR_RETRY, "snapshot: rowcast is only starting, or ends");
    pthread_mutex_unlock(&s->snapshot_lock);
    if (r == 0 && !source_attach(s)) // it cannot be read from afar
        source_wake(s);
    return r;
}

// ---- the whole ----

int source_run(struct source *s, struct err *e)
{
    struct session_options session = {
        .source = &s->o,
        .journal = s->journal,
        .health = s->health,
        .waiter = &s->waiter,
        .lookup = lookup_new(&s->o, &s->waiter),
        .gate = s->gate,
        .gate_arg = s->gate_arg,
        .watch = &s->watch,
        .detach = &s->detach,
        .let_go = &s->let_go,
        .on_demand = true,
    };
    session.relations = relations_new(&(struct relations_options){
        .source = &s->o,
        .lookup = session.lookup,
        .catalog = journal_catalog(s->journal),
        .add = add_to_journal,
        .arg = s->journal,
        .on_table = on_table,
        .on_table_arg = &session,
    });
    make_snapshot(s, &session);
    session.transaction =
        transaction_new(&(struct transaction_options){.source = &s->o,
                                                      .journal = s->journal,
                                                      .relations = session.relations,
                                                      .snapshot = session.snapshot});
    int r = supervise(s, &session, e);
    show_snapshot(s, NULL);
    transaction_free(session.transaction);
    snapshot_free(session.snapshot, r == 0);
    chunk_reader_free(session.chunks);
    relations_free(session.relations);
    lookup_free(session.lookup);
    return r;
}
