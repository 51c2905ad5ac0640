#include "source/snapshot/job.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/snapshot/progress.h"

#include <stdio.h>

#define BACKOFF_FIRST_US INT64_C(50000)
#define BACKOFF_MAX_US   INT64_C(5000000)

struct job *job_new(struct job_host *h, const char *table, const char *why)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->host = h;
    j->table = xstrdup(table);
    j->why = why;
    j->log = change_log_new();
    j->wants = want_new();
    j->queue_end = &j->queue;
    return j;
}

static void free_tags(struct job *j)
{
    while (j->tags) {
        struct job_tag *next = j->tags->next;
        range_free(j->tags->range);
        free(j->tags);
        j->tags = next;
    }
    j->outstanding = j->older = j->list_left = 0;
}

static void free_parts(struct job *j)
{
    job_drop_todo(j);
    free(j->parts);
    j->parts = NULL;
    j->part_count = 0;
}

void job_free(struct job *j)
{
    if (!j)
        return;
    job_drop_held(j);
    bag_reset(j);
    free_tags(j);
    free_parts(j);
    chunk_plan_free(j->plan);
    change_log_free(j->log);
    want_free(j->wants);
    view_fini(&j->floor);
    progress_free(j->progress);
    free(j->table);
    free(j);
}

// ---- saying, waiting ----

void job_stuck(struct job *j, const struct err *e, int64_t final_us)
{
    j->stuck = true;
    job_say(j, e);
    job_retry(j, e->class == ERR_RETRY ? 0 : final_us);
}

void job_log(struct job *j, uint32_t xid, const struct change *c)
{
    if (j->stuck)
        change_log_add_lost(j->log, xid);
    else
        change_log_add(j->log, xid, c);
}

void job_say(struct job *j, const struct err *e)
{
    if (strncmp(j->said, e->text, sizeof j->said - 1) == 0)
        return;
    snprintf(j->said, sizeof j->said, "%.255s", e->text);
    log_warn("existing rows cannot be read now, trying again", "table=%s cause=%s",
             log_quote(j->table), log_quote(e->text));
}

void job_retry(struct job *j, int64_t least_us)
{
    j->backoff_us = j->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US
                    : j->backoff_us                    ? j->backoff_us * 2
                                                       : BACKOFF_FIRST_US;
    int64_t wait = j->backoff_us > least_us ? j->backoff_us : least_us;
    j->retry_at = clock_mono_us() + wait;
}

static void say_settling(struct job *j, uint64_t xid)
{
    struct err e;
    err_set(&e, ERR_RETRY,
            "transaction %llu is older than what rowcast remembers of the stream: with "
            "synchronous_standby_names it may have committed before, and wait for a standby; "
            "remedy: end it, or let its standby come",
            (unsigned long long)xid);
    job_say(j, &e);
}

void job_host_settle(struct job_host *h, int64_t us)
{
    h->settle_until = clock_mono_us() + us;
    h->settle_next = 0;
}

bool job_misses(struct job *j, const struct view *v, const struct chunk *c)
{
    struct job_host *h = j->host;
    if (change_log_misses(j->log, v))
        return true;
    if (h->settle_next == 0)
        h->settle_next = u64_max(c->next_xid, v->xmax);
    // The oldest that runs; the newest ones are not listed: they are from xmax on.
    uint64_t oldest = v->xip_n ? v->xip[0] : v->xmax;
    if (oldest >= h->settle_next)
        return false;
    // Which of these are in WAL nobody knows.
    int64_t now = clock_mono_us();
    if (c->synchronous && now >= h->settle_until)
        say_settling(j, oldest);
    if (c->synchronous)
        h->synchronous_until = now + JOB_SETTLE_US;
    return now < h->settle_until || now < h->synchronous_until;
}

// ---- phases ----

static void forget_wants(struct job *j)
{
    want_clear(j->wants);
    j->list_left = 0;
}

void job_again(struct job *j, bool mark, const char *reason)
{
    job_take_back(j);
    job_drop_held(j);
    bag_reset(j);
    if (mark) {
        free_parts(j);
        forget_wants(j);
        j->restart |= j->begun;
        snprintf(j->reason, sizeof j->reason, "%s", reason);
    }
    log_info(mark ? "existing rows of a table are read again from its beginning"
                  : "existing rows of a table: going on with a new plan",
             "table=%s cause=%s", log_quote(j->table), log_quote(reason));
    j->relation = NULL;
    j->phase = JOB_DRAINING;
    j->host->cancel |= j->keyless && j->outstanding;
}

void job_cancelled(struct job *j)
{
    job_take_back(j);
    free_tags(j);
    view_fini(&j->floor);
    if (j->phase == JOB_PLANNING)
        j->phase = JOB_DRAINING;
}

void job_lost(struct job *j)
{
    job_take_back(j);
    free_tags(j);
    job_drop_held(j);
    change_log_lose(j->log);
    want_ask_again(j->wants);
    view_fini(&j->floor);
    j->retry_at = 0;
    if (j->phase == JOB_QUEUED || j->phase == JOB_DONE)
        return;
    if (j->keyless && j->viewed) {
        job_again(j, true, "the connection to the source was lost");
    } else if (j->phase == JOB_READING) {
        j->phase = JOB_DRAINING;
        j->relation = NULL;
        bag_reset(j);
    } else if (j->phase == JOB_PLANNING || j->phase == JOB_WAITING) {
        j->phase = JOB_DRAINING;
    }
}

void job_mark(struct job *j)
{
    struct job_host *h = j->host;
    if (j->begun && !j->restart)
        return;
    enum snapshot_step step = j->begun ? SNAPSHOT_RESTART : SNAPSHOT_BEGIN;
    struct position at = emitter_next(h->emitter);
    const struct relation *r = catalog_latest(h->catalog, j->table);
    j->shape = j->relation ? j->relation->id : r ? r->id : 0;
    j->state = state_begin(h->state, j->table, j->shape, at);
    (void)emitter_mark(h->emitter, step, j->table, 0, j->begun ? j->reason : j->why);
    j->begun = true;
    j->restart = j->exhausted = j->emitted = false;
    j->rows = 0;
    j->announced = NULL;
    progress_restart(j->progress);
    forget_wants(j);
}

static void keep_want(void *arg, struct row_key key)
{
    want_add(((struct job *)arg)->wants, key);
}

void job_start(struct job *j)
{
    struct job_host *h = j->host;
    const struct relation *r = catalog_latest(h->catalog, j->table);
    j->begun_us = clock_mono_us();
    j->progress = progress_new(j->table);
    for (uint32_t i = 0; i < RECENT_XIDS && i < h->recent.n; i++) // the log begins here
        change_log_add_lost(j->log, h->recent.xids[i]);
    j->phase = JOB_DRAINING;
    j->state = state_find(h->state, j->table);
    if (j->state && j->state->step == STATE_BEGUN) { // of an earlier process
        j->begun = true;
        j->restart = j->state->lost;
        j->rows = j->state->rows;
        j->emitted = j->state->part_count != 0;
        j->shape = j->state->shape;
        snprintf(j->reason, sizeof j->reason,
                 "the machine was restarted, or continuity was broken, while it was being read");
        want_each(j->state->wants, keep_want, j);
    }
    j->keyless = r != NULL;
    for (size_t i = 0; r && i < r->column_count; i++)
        j->keyless &= !r->columns[i].key;
    if (j->keyless && j->begun && !j->restart) {
        j->restart = true;
        snprintf(j->reason, sizeof j->reason,
                 "rowcast was ended while the table was being read, "
                 "and without a key it is read in one go");
    }
}

void job_end(struct job *j, const char *reason)
{
    struct job_host *h = j->host;
    if (j->begun) {
        struct position at = emitter_mark(h->emitter, SNAPSHOT_END, j->table, j->rows, reason);
        state_end(h->state, j->state, j->rows, at);
    }
    log_info("existing rows of a table are read", "table=%s rows=%llu seconds=%.1f%s%s",
             log_quote(j->table), (unsigned long long)j->rows,
             (double)(clock_mono_us() - j->begun_us) / 1e6, reason ? " note=" : "",
             reason ? log_quote(reason) : "");
    j->phase = JOB_DONE;
}

static void finish(struct job *j, lsn_t passed)
{
    bool todo = j->outstanding || j->held || j->queue;
    for (size_t i = 0; i < j->part_count && !todo && !j->exhausted; i++)
        todo = j->parts[i].todo != NULL;
    if (todo || (!j->exhausted && (want_count(j->wants) || j->list_left)))
        return;
    if (j->keyless && !j->exhausted && (!j->whole_due || passed < j->whole_due))
        return;
    if (j->keyless && !j->exhausted && !bag_empty(j->bag)) {
        job_again(j, true, "rows that were deleted meanwhile were not among those read");
        job_retry(j, 0);
        return;
    }
    job_end(j, NULL);
}

void job_emit(struct job *j, lsn_t passed)
{
    if (j->phase == JOB_WAITING && passed >= j->wait_lsn)
        j->phase = JOB_DRAINING;
    if (j->phase == JOB_DRAINING && j->outstanding == 0 && clock_mono_us() >= j->retry_at &&
        emitter_ready(j->host->emitter)) {
        chunk_plan_free(j->plan);
        j->plan = NULL;
        if (!j->keyless)
            job_mark(j);
        job_ask_plan(j);
    }
    if (j->phase != JOB_READING)
        return;
    if (j->keyless)
        bag_emit(j, passed);
    else
        held_emit(j, passed);
    if (j->phase == JOB_READING && emitter_ready(j->host->emitter))
        finish(j, passed);
}

int64_t job_deadline(const struct job *j)
{
    bool waits = j->phase == JOB_DRAINING || j->phase == JOB_READING;
    return waits && j->retry_at > clock_mono_us() ? j->retry_at : INT64_MAX;
}

bool job_change(struct job *j, uint32_t xid, const struct change *c)
{
    if (j->phase == JOB_QUEUED || j->phase == JOB_DONE)
        return true;
    return j->keyless ? bag_change(j, xid, c) : held_change(j, xid, c);
}

// CHUNK_MORE does not answer the order.
static void untag(struct job *j, struct job_tag *t)
{
    j->outstanding--;
    if (t->era != j->era && j->older)
        j->older--;
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
}

void job_chunk(struct chunk *c)
{
    struct job_tag *t = c->order.tag;
    struct job *j = t->job;
    bool answered = c->status != CHUNK_MORE, plan = c->order.kind == CHUNK_PLAN;
    bool unreachable = c->unreachable;
    if (answered)
        untag(j, t);
    if (!plan && (t->stale || j->phase != JOB_READING))
        chunk_free(c);
    else if (plan)
        job_take_plan(j, c);
    else if (j->keyless)
        bag_arrived(j, c, t);
    else
        held_arrived(j, c, t);
    if (unreachable) // which says nothing of the table
        j->stuck = false;
    if (!answered)
        return;
    range_free(t->range);
    free(t);
}
