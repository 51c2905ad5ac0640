// Jobs wait in the order of their coming; a few at a time are read, and share the connections.
#include "source/snapshot/snapshot.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/snapshot/job.h"
#include "source/snapshot/progress.h"
#include "source/snapshot/request.h"

#define HELD_BYTES_MAX (16u << 20)      // of chunks that are under way or wait
#define KEEP_US        INT64_C(200000)  // between two looks at what is durable
#define LOOK_US        INT64_C(1000000) // while something is read

struct snapshot {
    struct job_host host;
    struct requests *requests;
    const char *why;     // the next table is read
    struct job *jobs;    // all
    struct job **active; // begun by this process: those that are read, and those that wait to be
    size_t active_n, active_max;
    struct job **by_relation; // of each relation id, while `watching`
    size_t by_relation_n;
    bool started, fresh, session_before, standby, watching;
    int64_t kept_at, said_at;
};

static void find_metrics(struct snapshot_metrics *m)
{
    m->tables = metric_new(METRIC_GAUGE, "rowcast_snapshot_tables",
                           "Tables whose existing rows are read or wait for it.", "", 1);
    m->active = metric_new(METRIC_GAUGE, "rowcast_snapshot_active",
                           "Tables whose existing rows are being read now.", "", 1);
    m->done = metric_new(METRIC_COUNTER, "rowcast_snapshot_tables_done_total",
                         "Tables whose existing rows were read to the end.", "", 1);
    m->rows = metric_new(METRIC_COUNTER, "rowcast_snapshot_rows_total",
                         "Existing rows read and put into the journal.", "", 1);
    m->bytes = metric_new(METRIC_COUNTER, "rowcast_snapshot_bytes_total",
                          "Bytes of existing rows, encoded.", "", 1);
    m->retried = metric_new(METRIC_COUNTER, "rowcast_snapshot_chunks_retried_total",
                            "Chunks of existing rows that had to be read again.", "", 1);
}

struct snapshot *snapshot_new(const struct snapshot_options *o)
{
    struct snapshot *s = xcalloc(1, sizeof *s);
    s->host.o = *o;
    s->host.catalog = journal_catalog(o->journal);
    s->host.emitter = emitter_new(o->journal, o->source->batch_bytes);
    s->host.due = UINT64_MAX;
    s->why = "its existing rows are wanted";
    s->requests = requests_new();
    find_metrics(&s->host.metrics);
    return s;
}

static void forget_map(struct snapshot *s)
{
    free(s->by_relation);
    s->by_relation = NULL;
    s->by_relation_n = 0;
}

static void remove_job(struct snapshot *s, struct job *j)
{
    requests_set_busy(s->requests, j->table, false);
    metric_add(s->host.metrics.tables, -1);
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference,clang-analyzer-unix.Malloc): uthash's own
    HASH_DEL(s->jobs, j);
    forget_map(s);
    job_free(j);
}

static void drop_jobs(struct snapshot *s)
{
    struct job *j, *next;
    HASH_ITER (hh, s->jobs, j, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        remove_job(s, j);
    }
    s->active_n = 0;
    s->watching = false;
}

void snapshot_free(struct snapshot *s, bool clean)
{
    if (!s)
        return;
    s->host.o.chunks.cancel(s->host.o.chunks.arg);
    drop_jobs(s);
    emitter_free(s->host.emitter);
    if (s->host.state)
        state_settle(s->host.state);
    state_close(s->host.state, clean);
    requests_free(s->requests);
    free(s->by_relation);
    free(s->active);
    free(s);
}

// ---- which tables ----

static struct job *find_job(const struct snapshot *s, const char *table)
{
    struct job *j;
    HASH_FIND_STR(s->jobs, table, j);
    return j;
}

static struct job *add_job(struct snapshot *s, const char *table, const char *why)
{
    struct job *j = job_new(&s->host, table, why);
    HASH_ADD_KEYPTR(hh, s->jobs, j->table, strlen(j->table), j);
    metric_add(s->host.metrics.tables, 1);
    requests_set_busy(s->requests, table, true);
    return j;
}

static void start_job(struct snapshot *s, struct job *j)
{
    if (s->active_n == s->active_max) {
        s->active_max = s->active_max ? 2 * s->active_max : SNAPSHOT_TABLES_AT_ONCE;
        s->active = xrealloc(s->active, s->active_max * sizeof(struct job *));
    }
    job_start(j);
    s->active[s->active_n++] = j;
    s->watching = true;
    forget_map(s);
}

static bool wanted(const struct snapshot *s)
{
    return s->host.o.source->snapshot != SNAPSHOT_MODE_NEVER;
}

// Whether what is recorded of a table says that it is to be read.
static void consider(void *arg, const char *table)
{
    struct snapshot *s = arg;
    uint32_t generation;
    const struct state_table *t = state_find(s->host.state, table);
    enum state_step step = t ? t->step : STATE_NONE;
    bool unread = step == STATE_NONE && wanted(s) && state_ready(s->host.state, &generation);
    if ((!unread && step != STATE_BEGUN) || find_job(s, table))
        return;
    struct job *j = add_job(s, table, s->why);
    // One that is read in part is not out of sight for a change: its rows may move to where
    // everything was read, without their large values.
    if (step == STATE_BEGUN)
        start_job(s, j);
}

static void know(void *arg, const char *table)
{
    struct snapshot *s = arg;
    if (!state_find(s->host.state, table))
        state_known(s->host.state, table);
}

// No mark may say that a table is whole when changes of it were missed since its rows were read.
static int broken(struct snapshot *s, uint32_t generation, struct err *e)
{
    static const char why[] = "continuity was broken";
    bool forget = s->host.o.source->snapshot == SNAPSHOT_MODE_WHEN_NEEDED;
    if (forget) {
        log_info("continuity was broken: the existing rows of all tables are read again",
                 "generation=%u", generation);
        drop_jobs(s);
        s->why = why;
    }
    for (size_t i = 0; i < s->active_n; i++)
        job_again(s->active[i], true, why);
    job_host_settle(&s->host, JOB_SETTLE_US); // of those that were missed
    return state_break(s->host.state, generation, forget, e);
}

int snapshot_prepare(struct snapshot *s, bool fresh, uint32_t generation, struct err *e)
{
    uint32_t had;
    CHECK(!s->started);
    if (!s->host.state && state_open(s->host.o.journal, &s->host.state, e) != 0)
        return -1;
    s->fresh |= fresh;
    bool ready = state_ready(s->host.state, &had);
    if (had == 0 && state_break(s->host.state, generation, false, e) != 0) // it is the first one
        return -1;
    if (had && had != generation && broken(s, generation, e) != 0)
        return -1;
    if (ready || !wanted(s))
        return 0;
    if (!fresh)
        requests_each(s->requests, know, s);
    return state_switch_on(s->host.state, generation, e);
}

int snapshot_gap(struct snapshot *s, struct err *e)
{
    uint32_t generation;
    (void)state_ready(s->host.state, &generation);
    return broken(s, generation, e);
}

static void start_standby(struct snapshot *s)
{
    static const char why[] = "the server is a standby, which does not tell what transactions run "
                              "on its primary; remedy: stream from the primary";
    s->standby = true;
    requests_refuse(s->requests, why);
    requests_each(s->requests, consider, s);
    if (s->jobs)
        log_warn("existing rows are not read", "cause=%s", log_quote(why));
}

void snapshot_start(struct snapshot *s, bool standby, lsn_t shown)
{
    CHECK(s->host.state);
    emitter_shown(s->host.emitter, lsn_record_end(shown));
    s->started = true;
    if (standby) {
        start_standby(s);
        return;
    }
    s->standby = false;
    requests_refuse(s->requests, NULL);
    if (!s->session_before)
        job_host_settle(&s->host, s->fresh ? 0 : JOB_SETTLE_US);
    requests_each(s->requests, consider, s);
    s->session_before = true;
    s->why = "the table is new";
}

void snapshot_table(struct snapshot *s, const char *table, const char *root)
{
    requests_know(s->requests, table, root);
    if (s->started)
        consider(s, table);
}

void snapshot_lost(struct snapshot *s)
{
    s->started = false;
    requests_refuse(s->requests, "the source is not connected; remedy: ask again when it is");
    if (!s->jobs)
        return;
    s->host.o.chunks.cancel(s->host.o.chunks.arg);
    for (size_t i = 0; i < s->active_n; i++)
        job_lost(s->active[i]);
}

void snapshot_detached(struct snapshot *s)
{
    if (!s->standby)
        requests_refuse(s->requests, NULL);
}

// ---- the stream ----

void snapshot_transaction(struct snapshot *s, uint32_t xid)
{
    struct recent_xids *r = &s->host.recent;
    r->xids[r->n++ % RECENT_XIDS] = xid;
    if (r->n == 2 * RECENT_XIDS)
        r->n = RECENT_XIDS;
}

const bool *snapshot_watching(const struct snapshot *s)
{
    return &s->watching;
}

// The job of a relation's table, looked up once.
static struct job *job_of(struct snapshot *s, uint32_t relation)
{
    static struct job none;
    if (relation >= s->by_relation_n) {
        size_t n = (size_t)catalog_count(s->host.catalog) + 1;
        s->by_relation = xrealloc(s->by_relation, n * sizeof(void *));
        memset(s->by_relation + s->by_relation_n, 0, (n - s->by_relation_n) * sizeof(void *));
        s->by_relation_n = n;
    }
    struct job **at = &s->by_relation[relation];
    if (!*at) {
        struct job *j = find_job(s, catalog_get(s->host.catalog, relation)->table);
        *at = j ? j : &none;
    }
    return *at == &none ? NULL : *at;
}

bool snapshot_change(struct snapshot *s, uint32_t xid, const struct change *c)
{
    if (!s->watching || c->relation == 0)
        return true;
    struct job *j = job_of(s, c->relation);
    return !j || job_change(j, xid, c);
}

const lsn_t *snapshot_due(const struct snapshot *s)
{
    return &s->host.due;
}

// ---- steps ----

static void take_requests(struct snapshot *s)
{
    char *table;
    while ((table = requests_take(s->requests))) {
        if (!find_job(s, table))
            add_job(s, table, "asked for");
        free(table);
    }
}

static void take_chunks(struct snapshot *s)
{
    const struct chunk_source *cs = &s->host.o.chunks;
    struct chunk *c;
    while (s->host.held_bytes <= HELD_BYTES_MAX && (c = cs->take(cs->arg)))
        job_chunk(c);
}

static void remove_done(struct snapshot *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->active_n; i++) {
        struct job *j = s->active[i];
        if (j->phase != JOB_DONE) {
            s->active[kept++] = j;
            continue;
        }
        metric_add(s->host.metrics.done, 1);
        remove_job(s, j);
    }
    s->active_n = kept;
    s->watching = kept != 0;
}

// What cannot be read for long takes nobody's place.
static void start_jobs(struct snapshot *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->active_n; i++)
        n += !s->active[i]->stuck;
    for (struct job *j = s->jobs; j && n < SNAPSHOT_TABLES_AT_ONCE; j = j->hh.next) {
        if (j->phase != JOB_QUEUED)
            continue;
        start_job(s, j);
        n++;
    }
}

static void emit(struct snapshot *s, lsn_t passed)
{
    for (size_t i = 0; i < s->active_n; i++)
        job_emit(s->active[i], passed);
}

// Round robin over the tables, as long as there is something to do it with.
static void order(struct snapshot *s)
{
    const struct chunk_source *cs = &s->host.o.chunks;
    size_t most = 2 * cs->threads(cs->arg);
    bool any = true;
    while (any && emitter_ready(s->host.emitter)) {
        any = false;
        for (size_t i = 0; i < s->active_n; i++) {
            size_t pending = cs->pending(cs->arg);
            if (pending >= most ||
                s->host.held_bytes + (pending + 1) * CHUNK_BYTES > HELD_BYTES_MAX)
                return;
            any |= job_order(s->active[i]);
        }
    }
}

static void cancel(struct snapshot *s)
{
    s->host.cancel = false;
    s->host.o.chunks.cancel(s->host.o.chunks.arg);
    for (size_t i = 0; i < s->active_n; i++)
        job_cancelled(s->active[i]);
}

static void find_due(struct snapshot *s)
{
    s->host.due = UINT64_MAX;
    if (!emitter_ready(s->host.emitter))
        return;
    for (size_t i = 0; i < s->active_n; i++) {
        for (const struct held *h = s->active[i]->held; h; h = h->next)
            s->host.due = h->due < s->host.due ? h->due : s->host.due;
    }
}

static void say(struct snapshot *s, int64_t now)
{
    AUTO_BUF struct buf text = {0};
    char had[512];
    int64_t since;
    if (now < s->said_at && s->jobs)
        return;
    s->said_at = now + PROGRESS_INTERVAL_LOG_US;
    buf_puts(&text, "streaming");
    for (size_t i = 0; i < s->active_n; i++) {
        struct job *j = s->active[i];
        progress_log(j->progress, now);
        buf_puts(&text, text.n > 9 ? "; " : ", reading existing rows of ");
        if (j->stuck)
            buf_printf(&text, "%s: cannot be read, see the log", j->table);
        else
            progress_put(j->progress, now, &text);
    }
    if (health_get(s->host.o.health, &since, had, sizeof had) == HEALTH_LIVE)
        health_set(s->host.o.health, HEALTH_LIVE, buf_cstr(&text));
}

void snapshot_step(struct snapshot *s, lsn_t passed)
{
    if (!s->started || s->standby)
        return;
    take_requests(s);
    if (!s->jobs)
        return;
    int64_t now = clock_mono_us();
    emitter_passed(s->host.emitter, passed);
    take_chunks(s);
    emit(s, passed);
    remove_done(s);
    if (emitter_ready(s->host.emitter))
        start_jobs(s);
    if (s->host.cancel)
        cancel(s);
    emit(s, passed); // of those that just began, too
    order(s);
    find_due(s);
    metric_set(s->host.metrics.active, (int64_t)s->active_n);
    say(s, now);
    if (now >= s->kept_at || !s->jobs) {
        s->kept_at = now + KEEP_US;
        state_settle(s->host.state);
    }
}

bool snapshot_busy(const struct snapshot *s)
{
    return s->started && !s->standby && (s->jobs || requests_waiting(s->requests));
}

int64_t snapshot_deadline(const struct snapshot *s)
{
    if (!s->started || s->standby || !s->jobs)
        return INT64_MAX;
    int64_t deadline = clock_mono_us() + LOOK_US;
    for (size_t i = 0; i < s->active_n; i++) {
        int64_t at = job_deadline(s->active[i]);
        deadline = at < deadline ? at : deadline;
    }
    return deadline;
}

int snapshot_request(struct snapshot *s, const char *glob, struct buf *out, struct err *e)
{
    return requests_add(s->requests, glob, out, e);
}
