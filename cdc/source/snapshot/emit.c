#include "source/snapshot/emit.h"

#include "base/clock.h"
#include "source/announce.h"

struct emitter {
    struct journal *journal;
    struct batch_builder *builder;
    const struct relation *announce; // in front of the next row
    bool open;
    struct position shown; // nothing is appended before the journal has come to it
};

struct emitter *emitter_new(struct journal *j, size_t batch_bytes)
{
    struct emitter *m = xcalloc(1, sizeof *m);
    m->journal = j;
    m->builder = batch_builder_new(batch_bytes);
    return m;
}

void emitter_free(struct emitter *m)
{
    if (!m)
        return;
    batch_builder_free(m->builder);
    free(m);
}

void emitter_shown(struct emitter *m, lsn_t lsn)
{
    m->shown = position_before(lsn);
}

static bool behind(const struct emitter *m)
{
    return position_cmp(journal_last(m->journal), m->shown) < 0;
}

bool emitter_ready(const struct emitter *m)
{
    lsn_t cut = journal_pending_cut(m->journal).lsn;
    return journal_has_room(m->journal, NULL) && cut <= journal_last(m->journal).lsn && !behind(m);
}

static struct position append(struct emitter *m)
{
    batch_builder_set_watermark(m->builder, journal_appended(m->journal));
    struct batch *b = batch_builder_take(m->builder, false);
    CHECK(b);
    struct position last = b->last;
    journal_append(m->journal, b);
    return last;
}

void emitter_passed(struct emitter *m, lsn_t passed)
{
    CHECK(!m->open);
    if (likely(!behind(m)) || position_cmp(position_before(passed), m->shown) < 0)
        return;
    batch_add_progress(m->builder, passed);
    append(m);
}

struct position emitter_next(const struct emitter *m)
{
    return position_aside(journal_last(m->journal));
}

struct position emitter_mark(struct emitter *m, enum snapshot_step step, const char *table,
                             uint64_t rows, const char *reason)
{
    CHECK(!m->open);
    batch_add_snapshot_mark(m->builder,
                            &(struct snapshot_mark){.at = emitter_next(m),
                                                    .step = step,
                                                    .table = slice_of(table),
                                                    .reason = slice_of(reason ? reason : ""),
                                                    .rows = rows});
    return append(m);
}

void emitter_begin(struct emitter *m, const struct relation *r, bool announce)
{
    CHECK(!m->open && !m->announce);
    m->announce = announce ? r : NULL;
}

void emitter_row(struct emitter *m, const struct change *c)
{
    CHECK(c->op == OP_READ && c->unchanged.n == 0);
    if (!m->open) {
        struct position at = emitter_next(m);
        batch_add_begin(m->builder, &(struct begin){.lsn = at.lsn,
                                                    .commit_time_us = clock_wall_us(),
                                                    .read = true,
                                                    .ordinal = at.ordinal});
        m->open = true;
    }
    if (m->announce)
        announce(m->journal, m->builder, m->announce);
    m->announce = NULL;
    batch_add_change(m->builder, c);
    if (!batch_builder_full(m->builder))
        return;
    batch_add_end(m->builder, 0);
    m->open = false;
    append(m);
}

struct position emitter_end(struct emitter *m)
{
    m->announce = NULL;
    if (!m->open)
        return journal_last(m->journal);
    batch_add_end(m->builder, 0);
    m->open = false;
    return append(m);
}
