// What is to be read of a table, and the orders for it.
#include "source/snapshot/job.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/snapshot/progress.h"

#include <stdio.h>
#include <xxhash.h>

#define REFUSED_US INT64_C(60000000) // until a table that cannot be read is tried again
#define VISIBLE_US INT64_C(50000)    // in which what is in WAL becomes visible, as a rule

// ---- ranges ----

void range_free(struct range *r)
{
    if (!r)
        return;
    buf_free(&r->key_from);
    buf_free(&r->key_to);
    free(r);
}

void range_push(struct job_part *p, struct range *r)
{
    r->next = p->todo;
    p->todo = r;
}

static struct range *place_range(uint64_t from, uint64_t to)
{
    struct range *r = xcalloc(1, sizeof *r);
    r->place_from = from;
    r->place_to = to;
    return r;
}

static void drop_ranges(struct job_part *p)
{
    while (p->todo) {
        struct range *next = p->todo->next;
        range_free(p->todo);
        p->todo = next;
    }
}

void job_drop_todo(struct job *j)
{
    for (size_t i = 0; i < j->part_count; i++)
        drop_ranges(&j->parts[i]);
}

void job_take_back(struct job *j)
{
    for (struct job_tag *t = j->tags; t; t = t->next) {
        t->stale = true;
        if (t->range && t->part < j->part_count)
            range_push(&j->parts[t->part], t->range);
        else
            range_free(t->range);
        t->range = NULL;
    }
    want_ask_again(j->wants);
    j->list_left = 0;
}

// ---- orders ----

void job_give(struct job *j, struct chunk_order *o, size_t part, struct range *range,
              uint64_t stamp)
{
    struct job_tag *t = xcalloc(1, sizeof *t);
    *t = (struct job_tag){
        .job = j, .part = part, .range = range, .stamp = stamp, .era = j->era, .next = j->tags};
    t->link = &j->tags;
    if (t->next)
        t->next->link = &t->next;
    j->tags = t;
    j->outstanding++;
    o->tag = t;
    j->host->o.chunks.order(j->host->o.chunks.arg, o);
}

void job_ask_plan(struct job *j)
{
    j->phase = JOB_PLANNING;
    struct chunk_order o = {.kind = CHUNK_PLAN, .wanted = j->table};
    job_give(j, &o, 0, NULL, 0);
}

static struct chunk_order order_of(struct job *j, size_t part)
{
    return (struct chunk_order){.kind = j->plan->tables[0].parts[part].kind,
                                .table = &j->plan->tables[0],
                                .part = &j->plan->tables[0].parts[part],
                                .relation = j->relation};
}

// The first chunk of the range; what lies behind it stays to be done.
static struct range *cut_range(struct job *j, size_t part)
{
    const struct chunk_part *cp = &j->plan->tables[0].parts[part];
    struct job_part *p = &j->parts[part];
    struct range *r = p->todo;
    p->todo = r->next;
    r->next = NULL;
    uint64_t step = cp->step ? cp->step : 1;
    uint64_t to = CHUNK_PLACE((r->place_from >> 16) + step, 0);
    if (cp->kind == CHUNK_PAGES && r->place_to > to) {
        range_push(p, place_range(to, r->place_to));
        r->place_to = to;
    }
    return r;
}

static void order_part(struct job *j, size_t part)
{
    struct range *r = cut_range(j, part);
    struct chunk_order o = order_of(j, part);
    o.place_from = r->place_from;
    o.place_to = r->place_to;
    buf_put(&o.key_from, r->key_from.p, r->key_from.n);
    buf_put(&o.key_to, r->key_to.p, r->key_to.n);
    job_give(j, &o, part, r, 0);
}

struct list_asking {
    struct job *j;
    struct chunk_order *orders;
};

static bool ask_key(void *arg, struct row_key key)
{
    const struct list_asking *a = arg;
    if (a->orders[0].key_n >= CHUNK_LIST_MAX)
        return false;
    for (size_t i = 0; i < a->j->part_count; i++) {
        if (!chunk_list_add(&a->orders[i], a->j->relation, key.key, key.exact)) {
            log_warn("a large value that did not change may be missing: the row's key cannot be "
                     "asked for by value",
                     "table=%s", log_quote(a->j->table));
            break;
        }
    }
    return true;
}

// A round by key, of every part: a row is in one of them.
static void order_list(struct job *j)
{
    AUTO_FREE struct chunk_order *orders = xcalloc(j->part_count, sizeof *orders);
    for (size_t i = 0; i < j->part_count; i++) {
        orders[i] = order_of(j, i);
        orders[i].kind = CHUNK_LIST;
    }
    uint64_t stamp = want_ask(j->wants, ask_key, &(struct list_asking){j, orders});
    j->list_whole = true;
    j->list_left = orders[0].key_n ? j->part_count : 0;
    for (size_t i = 0; i < j->part_count; i++) {
        if (j->list_left)
            job_give(j, &orders[i], i, NULL, stamp);
        else
            chunk_order_fini(&orders[i]);
    }
    if (!j->list_left)
        want_answered(j->wants, stamp, true);
}

bool job_order(struct job *j)
{
    if (j->phase != JOB_READING || j->exhausted || clock_mono_us() < j->retry_at ||
        (j->stuck && j->outstanding))
        return false;
    bool main_done = true;
    if (!j->list_left && want_count(j->wants) >= WANT_OFTEN) {
        order_list(j);
        return true;
    }
    for (size_t i = 0; i < j->part_count; i++) {
        if (j->parts[i].todo) {
            order_part(j, i);
            return true;
        }
    }
    main_done = !j->outstanding && !j->held;
    if (!main_done || j->list_left || !want_count(j->wants))
        return false;
    order_list(j);
    return true;
}

// ---- plans ----

static uint64_t part_origin(const struct chunk_table *t, const struct chunk_part *p)
{
    uint64_t seed = p->filenode << 1 | (p->kind == CHUNK_PAGES);
    return XXH3_64bits_withSeed(t->terms, strlen(t->terms), seed);
}

// All of a part but what is known to be emitted.
static void fill_todo(const struct job *j, const struct chunk_part *cp, struct job_part *p)
{
    const struct state_part *done =
        j->state && j->begun && !j->keyless ? state_part_of(j->state, p->oid, p->origin) : NULL;
    if (cp->kind != CHUNK_PAGES) {
        if (done && done->whole)
            return;
        struct range *r = place_range(0, 0);
        if (done)
            buf_put(&r->key_from, done->key_end.p, done->key_end.n);
        range_push(p, r);
        return;
    }
    uint64_t end = CHUNK_PLACE(cp->pages ? cp->pages : 1, 0), to = end;
    for (size_t i = done ? done->n : 0; i > 0; i--) { // from the back: pushed to the front
        if (done->ranges[i - 1].to < to)
            range_push(p, place_range(done->ranges[i - 1].to, to));
        to = done->ranges[i - 1].from < to ? done->ranges[i - 1].from : to;
    }
    if (to > 0)
        range_push(p, place_range(0, to));
}

// What is left of a part that an earlier plan had too.
static bool keep_todo(struct job_part *old, size_t n, struct job_part *p)
{
    for (size_t i = 0; i < n; i++) {
        if (old[i].oid != p->oid || old[i].origin != p->origin)
            continue;
        p->todo = old[i].todo;
        old[i].todo = NULL;
        return true;
    }
    return false;
}

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void use_plan(struct job *j, const struct chunk_table *t)
{
    struct job_part *old = j->parts;
    size_t old_n = j->part_count;
    double rows = 0;
    uint64_t pages = 0;
    j->part_count = t->part_count;
    j->parts = xcalloc(t->part_count + 1, sizeof *j->parts);
    for (size_t i = 0; i < t->part_count; i++) {
        const struct chunk_part *cp = &t->parts[i];
        struct job_part *p = &j->parts[i];
        p->oid = cp->oid;
        p->origin = part_origin(t, cp);
        rows += cp->rows > 0 ? cp->rows : 0;
        if (!keep_todo(old, old_n, p))
            fill_todo(j, cp, p);
        for (const struct range *r = cp->kind == CHUNK_PAGES ? p->todo : NULL; r; r = r->next)
            pages += (r->place_to - r->place_from) >> 16;
    }
    for (size_t i = 0; i < old_n; i++)
        drop_ranges(&old[i]);
    free(old);
    progress_plan(j->progress, rows, pages);
    j->phase = JOB_READING;
    if (j->keyless) // so that it need not be given up for what was about to become visible
        j->retry_at = latest(j->host->settle_until, clock_mono_us() + VISIBLE_US);
}

enum found {
    FOUND,
    FOUND_OTHER, // another shape than the rows before
    FOUND_KEY,   // one with a key, where there was none: the mark comes before the plan then
    FOUND_NONE,
    FOUND_ERROR,
};

static bool has_key(const struct relation *r)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key)
            return true;
    }
    return false;
}

// The newest relation version, if it is of this table; else one as the table is now.
static enum found find_relation(struct job *j, const struct chunk_table *t, struct err *e)
{
    struct job_host *h = j->host;
    const struct relation *r = catalog_latest(h->catalog, j->table);
    if ((j->renew || !r || r->oid != t->info.oid) && h->o.renew(h->o.arg, &t->info, &r, e) != 0)
        return FOUND_ERROR;
    bool keyless = t->part_count ? t->parts[0].kind == CHUNK_WHOLE : !has_key(r);
    if (!keyless && !has_key(r))
        return FOUND_NONE;
    j->renew = false;
    j->relation = r;
    bool other = j->shape && j->shape != r->id, gained = j->keyless && !keyless;
    if (keyless && !j->keyless && j->begun) {
        j->restart = true;
        snprintf(j->reason, sizeof j->reason, "it has no key any more");
    }
    j->keyless = keyless;
    j->shape = r->id;
    if (!keyless)
        identity_init(&j->id, r);
    if (gained)
        return FOUND_KEY;
    return other && !keyless && j->rows && j->restarts++ < JOB_RESTARTS_MAX ? FOUND_OTHER : FOUND;
}

static bool has_part(const struct chunk_table *t, uint32_t oid, uint64_t origin)
{
    for (size_t i = 0; i < t->part_count; i++) {
        if (t->parts[i].oid == oid && part_origin(t, &t->parts[i]) == origin)
            return true;
    }
    return false;
}

// Rows of another file, or chosen otherwise, than those that were emitted.
static bool other_rows(const struct job *j, const struct chunk_table *t)
{
    bool other = false;
    for (size_t i = 0; i < j->part_count; i++)
        other |= !has_part(t, j->parts[i].oid, j->parts[i].origin);
    const struct state_table *s = j->state; // of a process before
    for (size_t i = 0; s && s->round == s->kept_round && i < s->part_count; i++)
        other |= !has_part(t, s->parts[i].oid, s->parts[i].origin);
    return other && j->emitted;
}

static void plan_refused(struct job *j, const struct err *e)
{
    job_stuck(j, e, REFUSED_US);
    j->phase = JOB_DRAINING;
}

static void take_table(struct job *j, const struct chunk_table *t)
{
    struct err e;
    if (!j->keyless && other_rows(j, t)) {
        job_again(j, true, "it was rewritten, or is published in another way");
        return;
    }
    switch (find_relation(j, t, &e)) {
    case FOUND:
        use_plan(j, t);
        break;
    case FOUND_OTHER:
        job_again(j, true, "its columns are others");
        break;
    case FOUND_KEY:
        job_again(j, j->begun, "it has a key now");
        break;
    case FOUND_NONE:
        job_wait_for_shape(j);
        job_retry(j, 0);
        break;
    case FOUND_ERROR:
        plan_refused(j, &e);
        break;
    }
}

void job_take_plan(struct job *j, struct chunk *c)
{
    struct err e = c->err;
    if (j->phase != JOB_PLANNING) {
        chunk_free(c);
        return;
    }
    if (c->status == CHUNK_GONE) {
        job_end(j, "the table is gone: dropped or renamed, or no longer published");
    } else if (c->status != CHUNK_OK || c->plan->n != 1) {
        plan_refused(j, &e);
    } else if (c->plan->tables[0].refused.class != ERR_NONE) {
        plan_refused(j, &c->plan->tables[0].refused);
    } else {
        j->plan = c->plan;
        c->plan = NULL;
        take_table(j, &j->plan->tables[0]);
    }
    chunk_free(c);
}

// The table is not as the newest relation version says. The stream may still come to the change of
// it; if it has nothing to say of it, the version is made from the catalog.
void job_wait_for_shape(struct job *j)
{
    struct err e;
    struct job_host *h = j->host;
    job_take_back(j);
    job_drop_held(j);
    bag_reset(j);
    if (h->o.wal_lsn(h->o.arg, &j->wait_lsn, &e) != 0) {
        j->phase = JOB_DRAINING;
        job_say(j, &e);
        job_retry(j, 0);
        return;
    }
    j->renew = true;
    j->phase = JOB_WAITING;
    h->cancel |= j->keyless && j->outstanding;
}
