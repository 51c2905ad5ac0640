// A table without a key: all of its rows in one snapshot, in parts as they come. The mark is put
// where the snapshot is known: a consumer forgets the table's rows there, takes the rows that come
// and every change behind the mark, and has what the table has when the end mark comes:
//
//   rows read = what the snapshot saw, and what transactions that it did not see and that were
//               journaled before the mark added to it and took from it;
//   changes behind the mark of transactions that the snapshot saw are left out of the stream.
//
// A row may be deleted in the stream before it is read: counted, it comes out even at the end.
#include "source/snapshot/job.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/snapshot/progress.h"

#define MISSED_US INT64_C(200000)
#define FAILED_US INT64_C(60000000)

void bag_reset(struct job *j)
{
    bag_free(j->bag);
    j->bag = NULL;
    view_fini(&j->view);
    j->viewed = false;
    j->whole_due = 0;
    while (j->queue) {
        struct chunk *next = j->queue->next;
        j->host->held_bytes -= chunk_memory(j->queue);
        chunk_free(j->queue);
        j->queue = next;
    }
    j->queue_end = &j->queue;
}

static int count_in(void *arg, const struct change *c)
{
    struct job *j = arg;
    if (c->relation != j->relation->id || c->op == OP_TRUNCATE)
        return -1;
    if (c->op != OP_INSERT && !c->before.p)
        return -1;
    if (c->op != OP_INSERT)
        bag_count(j->bag, c->before, c->exact_before, -1);
    if (c->op != OP_DELETE)
        bag_count(j->bag, c->after, c->exact, 1);
    return bag_bytes(j->bag) > BAG_BYTES_MAX ? -1 : 0;
}

// The rows' snapshot has become known. False: it cannot be used.
static bool take_view(struct job *j, struct chunk *c)
{
    j->view = (struct view){c->xmin, c->xmax, c->xip, c->xip_n};
    c->xip = NULL;
    c->xip_n = 0;
    j->bag = bag_new();
    if (job_misses(j, &j->view, c) || change_log_replay(j->log, &j->view, count_in, j) != 0)
        return false;
    change_log_lose(j->log);
    j->viewed = true;
    j->stuck = false;
    return true;
}

static void failed(struct job *j, const struct chunk *c)
{
    const struct err e = c->err;
    job_again(j, true, "reading it was interrupted");
    job_stuck(j, &e, FAILED_US);
}

void bag_arrived(struct job *j, struct chunk *c, struct job_tag *tag)
{
    if (c->status == CHUNK_FAILED) {
        failed(j, c);
        chunk_free(c);
        return;
    }
    if (c->status != CHUNK_OK && c->status != CHUNK_MORE) {
        chunk_free(c);
        j->restart |= j->viewed;
        range_push(&j->parts[tag->part], tag->range); // the next plan may take it over
        tag->range = NULL;
        job_wait_for_shape(j);
        return;
    }
    if (!j->viewed && !take_view(j, c)) {
        chunk_free(c);
        metric_add(j->host->metrics.retried, 1);
        job_again(j, true, "transactions that are about to become visible must be waited for");
        job_retry(j, MISSED_US);
        return;
    }
    if (c->status == CHUNK_OK)
        j->whole_due = u64_max(lsn_record_end(c->insert_lsn), 1);
    j->host->held_bytes += chunk_memory(c);
    c->next = NULL;
    *j->queue_end = c;
    j->queue_end = &c->next;
}

static void emit_row(struct job *j, struct slice row, struct slice exact)
{
    static const uint8_t empty;
    emitter_row(j->host->emitter, &(struct change){.op = OP_READ,
                                                   .relation = j->relation->id,
                                                   .after = {row.p ? row.p : &empty, row.n},
                                                   .exact = exact});
    j->rows++;
}

static void emit_added(void *arg, struct slice row, struct slice exact)
{
    emit_row(arg, row, exact);
}

static void emit_part(struct job *j, const struct chunk *c)
{
    uint64_t before = j->rows;
    struct emitter *m = j->host->emitter;
    emitter_begin(m, j->relation, j->announced != j->relation);
    bag_added(j->bag, emit_added, j);
    for (size_t i = 0; i < c->n; i++) {
        struct change row = chunk_row_change(c, &c->rows[i]);
        if (bag_take(j->bag, row.after, row.exact))
            emit_row(j, row.after, row.exact);
    }
    (void)emitter_end(m);
    if (j->rows > before)
        j->announced = j->relation;
    metric_add(j->host->metrics.rows, (int64_t)(j->rows - before));
    metric_add(j->host->metrics.bytes, (int64_t)c->data.n);
    progress_add(j->progress, j->rows - before, 0);
}

void bag_emit(struct job *j, lsn_t passed)
{
    (void)passed;
    while (j->queue && !j->exhausted && emitter_ready(j->host->emitter)) {
        struct chunk *c = j->queue;
        job_mark(j);
        emit_part(j, c);
        j->queue = c->next;
        if (!j->queue)
            j->queue_end = &j->queue;
        j->host->held_bytes -= chunk_memory(c);
        chunk_free(c);
    }
}

static bool mark_stands(const struct job *j)
{
    return j->viewed && j->begun && !j->restart;
}

static void truncated(struct job *j)
{
    j->exhausted = true; // what is left of the table comes through the stream
    job_take_back(j);
    job_drop_todo(j);
    bag_reset(j);
    j->host->cancel |= j->outstanding != 0;
}

bool bag_change(struct job *j, uint32_t xid, const struct change *c)
{
    if (j->exhausted)
        return true;
    if (!j->viewed) {
        job_log(j, xid, c);
        return true;
    }
    if (view_sees(&j->view, xid))
        return !mark_stands(j);
    change_log_add_lost(j->log, xid); // should it be begun again
    if (!mark_stands(j)) {
        if (count_in(j, c) != 0)
            job_again(j, true, "it was changed in a way that cannot be counted in");
    } else if (c->op == OP_TRUNCATE) {
        truncated(j);
    }
    return true;
}
