// Chunks of a table with a key: from their arrival to their rows in the journal.
#include "source/snapshot/job.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/snapshot/progress.h"

#define MISSED_US INT64_C(20000) // until a chunk that misses something is ordered again
#define FAILED_US INT64_C(60000000)

static void free_held(struct job *j, struct held *h)
{
    j->host->held_bytes -= h->bytes;
    overlay_free(h->overlay);
    view_fini(&h->view);
    range_free(h->range);
    chunk_free(h->chunk);
    free(h);
}

static void list_answered(struct job *j, uint64_t stamp, bool whole)
{
    j->list_whole &= whole;
    if (j->list_left && --j->list_left == 0)
        want_answered(j->wants, stamp, j->list_whole);
}

// It is to be read again.
static void give_back(struct job *j, struct held *h)
{
    if (h->range)
        range_push(&j->parts[h->part], h->range);
    else
        list_answered(j, h->stamp, false);
    h->range = NULL;
    metric_add(j->host->metrics.retried, 1);
    free_held(j, h);
}

void job_drop_held(struct job *j)
{
    while (j->held) {
        struct held *next = j->held->next;
        give_back(j, j->held);
        j->held = next;
    }
}

// ---- arrival ----

// A view is older than every order that is given after it came; when the orders of before have all
// come back, and what the log has was laid over the last of them, what the view sees is forgotten.
static void trim(struct job *j, const struct view *v)
{
    if (j->older)
        return;
    if (j->floor.xmax)
        change_log_trim(j->log, &j->floor);
    view_fini(&j->floor);
    view_copy(&j->floor, v);
    j->era++;
    j->older = j->outstanding;
}

struct laying {
    const struct job *j;
    struct held *h;
};

static bool changes_key(const struct job *j, const struct change *c)
{
    AUTO_BUF struct buf key = {0}, exact = {0};
    return c->op == OP_UPDATE && c->key.p && change_new_key(&j->id, c, &key, &exact) &&
           !row_key_same(change_key(c), (struct row_key){buf_slice(&key), buf_slice(&exact)});
}

static int lay_over(void *arg, const struct change *c)
{
    const struct laying *l = arg;
    // A row that is asked for by the key that it has in the stream has another one there.
    if (l->h->chunk->order.kind == CHUNK_LIST && changes_key(l->j, c))
        return -1;
    return c->relation == l->j->relation->id ? overlay_apply(l->h->overlay, c) : -1;
}

static struct held_row row_of(const struct chunk *c, const struct chunk_row *r)
{
    const uint8_t *p = c->data.p + r->at;
    struct held_row row = {.id = {{p, r->key_n}, {p + r->key_n, r->exact_key_n}}};
    p += r->key_n + r->exact_key_n;
    row.after = (struct slice){p, r->after_n};
    row.exact = (struct slice){p + r->after_n, r->exact_n};
    return row;
}

// What lies behind the chunk's end stays to be done.
static void keep_rest(struct job *j, struct held *h)
{
    struct chunk *c = h->chunk;
    if (c->end)
        return;
    if (!h->range) {
        j->list_whole = false;
        return;
    }
    struct range *rest = xcalloc(1, sizeof *rest);
    if (c->order.kind == CHUNK_PAGES) {
        rest->place_from = c->place_end;
        rest->place_to = h->range->place_to;
        h->range->place_to = c->place_end;
    } else {
        rest->key_to = h->range->key_to;
        h->range->key_to = (struct buf){0};
        buf_put(&rest->key_from, c->key_end.p, c->key_end.n);
        buf_put(&h->range->key_to, c->key_end.p, c->key_end.n);
    }
    range_push(&j->parts[h->part], rest);
}

static void hold(struct job *j, struct chunk *c, struct held *h)
{
    h->due = lsn_record_end(c->insert_lsn);
    h->overlay = overlay_new(&j->id, c->n);
    for (size_t i = 0; i < c->n; i++) {
        struct held_row row = row_of(c, &c->rows[i]);
        overlay_add(h->overlay, &row);
    }
    h->bytes = chunk_memory(c) + overlay_bytes(h->overlay);
    j->host->held_bytes += h->bytes;
    if (job_misses(j, &h->view, c) ||
        change_log_replay(j->log, &h->view, lay_over, &(struct laying){j, h}) != 0) {
        give_back(j, h);
        job_retry(j, MISSED_US);
        return;
    }
    keep_rest(j, h);
    j->backoff_us = 0;
    j->stuck = false;
    h->next = j->held;
    j->held = h;
}

static void failed(struct job *j, struct held *h)
{
    struct err e = h->chunk->err;
    give_back(j, h);
    job_stuck(j, &e, FAILED_US);
}

void held_arrived(struct job *j, struct chunk *c, struct job_tag *tag)
{
    struct held *h = xcalloc(1, sizeof *h);
    *h = (struct held){.chunk = c, .part = tag->part, .stamp = tag->stamp};
    h->range = tag->range;
    tag->range = NULL;
    h->view = (struct view){c->xmin, c->xmax, c->xip, c->xip_n};
    c->xip = NULL;
    c->xip_n = 0;
    struct view seen;
    view_copy(&seen, &h->view);
    switch (c->status) {
    case CHUNK_OK:
        hold(j, c, h);
        break;
    case CHUNK_FAILED:
        failed(j, h);
        break;
    default: // the plan does not hold
        give_back(j, h);
        job_wait_for_shape(j);
        break;
    }
    if (seen.xmax)
        trim(j, &seen);
    view_fini(&seen);
}

// ---- emission ----

static struct slice present(struct slice s)
{
    static const uint8_t empty;
    return s.p ? s : (struct slice){&empty, 0};
}

static uint64_t emit_rows(struct job *j, const struct held *h)
{
    struct emitter *m = j->host->emitter;
    uint64_t rows = 0;
    emitter_begin(m, j->relation, j->announced != j->relation);
    for (size_t i = 0; i < overlay_count(h->overlay); i++) {
        const struct held_row *row = overlay_row(h->overlay, i);
        if (row->gone)
            continue;
        emitter_row(m, &(struct change){.op = OP_READ,
                                        .relation = j->relation->id,
                                        .key = present(row->id.key),
                                        .exact_key = row->id.exact,
                                        .after = present(row->after),
                                        .exact = row->exact});
        want_remove(j->wants, row->id);
        rows++;
    }
    if (rows)
        j->announced = j->relation;
    return rows;
}

static void emit(struct job *j, struct held *h)
{
    struct job_host *host = j->host;
    uint32_t oid = j->parts[h->part].oid;
    uint64_t origin = j->parts[h->part].origin;
    uint64_t rows = emit_rows(j, h);
    struct position at = emitter_end(host->emitter);
    j->rows += rows;
    j->emitted |= h->range != NULL;
    metric_add(host->metrics.rows, (int64_t)rows);
    metric_add(host->metrics.bytes, (int64_t)h->chunk->data.n);
    progress_add(j->progress, rows,
                 h->range ? (h->range->place_to - h->range->place_from) >> 16 : 0);
    if (!h->range) {
        list_answered(j, h->stamp, h->chunk->end);
    } else if (h->chunk->order.kind == CHUNK_PAGES) {
        state_places(host->state, j->state, oid, origin,
                     (struct state_range){h->range->place_from, h->range->place_to}, rows, at);
    } else {
        state_keys(host->state, j->state, oid, origin, buf_slice(&h->range->key_from),
                   buf_slice(&h->range->key_to), rows, at);
    }
    free_held(j, h);
}

void held_emit(struct job *j, lsn_t passed)
{
    struct held **at = &j->held;
    while (*at) {
        struct held *h = *at;
        if (h->due > passed || !emitter_ready(j->host->emitter)) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        emit(j, h);
    }
}

// ---- the stream ----

// What the consumer has after this change, as far as large values go.
static void follow_wants(struct job *j, const struct identity *id, const struct change *c)
{
    if (!c->key.p)
        return;
    want_remove(j->wants, change_key(c));
    if (c->op != OP_UPDATE)
        return;
    AUTO_BUF struct buf key = {0}, exact = {0};
    if (!change_new_key(id, c, &key, &exact))
        return;
    struct row_key new_key = {buf_slice(&key), buf_slice(&exact)};
    want_remove(j->wants, new_key);
    if (!c->unchanged.n)
        return;
    // Also of a row that is held: if its chunk is not emitted after all (the connection is lost,
    // the process ends), the row may have moved to where everything is read. Emitting it ends the
    // want.
    if (want_add(j->wants, new_key))
        state_want(j->host->state, j->state, new_key);
}

static void truncated(struct job *j)
{
    j->exhausted = true;
    job_take_back(j);
    job_drop_held(j);
    job_drop_todo(j);
    want_clear(j->wants);
}

static void overlay_held(struct job *j, uint32_t xid, const struct change *c)
{
    struct held **at = &j->held;
    while (*at) {
        struct held *h = *at;
        size_t before = overlay_bytes(h->overlay);
        if (!view_sees(&h->view, xid) && overlay_apply(h->overlay, c) != 0) {
            *at = h->next;
            give_back(j, h);
            continue;
        }
        size_t now = overlay_bytes(h->overlay);
        h->bytes += now - before;
        j->host->held_bytes += now - before;
        at = &h->next;
    }
}

bool held_change(struct job *j, uint32_t xid, const struct change *c)
{
    if (j->exhausted || !j->begun)
        return true;
    if (c->op == OP_TRUNCATE) {
        truncated(j);
        return true;
    }
    if (j->relation && c->relation != j->relation->id) {
        change_log_add_lost(j->log, xid);
        j->renew = false;
        if (j->phase == JOB_READING)
            job_again(j, j->rows && j->restarts++ < JOB_RESTARTS_MAX, "its columns changed");
        return true;
    }
    job_log(j, xid, c);
    if (j->relation && j->phase == JOB_READING) {
        overlay_held(j, xid, c);
        follow_wants(j, &j->id, c);
    } else if (c->unchanged.n && c->key.p && j->state) {
        // No plan yet: nothing was read, or what was read counts for rows asked for later.
        struct identity id;
        identity_init(&id, catalog_get(j->host->catalog, c->relation));
        follow_wants(j, &id, c);
    }
    if (want_bytes(j->wants) > WANT_BYTES_MAX)
        job_again(j, true, "more rows lost sight of a large value than can be remembered");
    return true;
}
