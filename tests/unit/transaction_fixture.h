// A transaction behind a journal that only takes notes, for unit tests; once in a program.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pgoutput_wire.h"
#include "source/transaction.h"

// ---- a journal that takes notes ----

struct journal {
    struct catalog *catalog;
    struct batch *batches[64];
    size_t count;
    lsn_t appended;
    struct journal_cut pending;
    int cuts, holds, releases, done;
    struct {
        uint32_t id;
        struct position at;
    } told[64];
    size_t told_count;
};

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}
int journal_add_relation(struct journal *j, struct relation *r, struct err *e)
{
    (void)e;
    catalog_add(j->catalog, r);
    return 0;
}
const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table)
{
    (void)table;
    for (size_t i = j->told_count; i > 0; i--) {
        const struct relation *r = catalog_get(j->catalog, j->told[i - 1].id);
        if (r->oid == oid)
            return r;
    }
    return NULL;
}
void journal_tell(struct journal *j, uint32_t id, struct position at)
{
    assert_true(j->told_count < ARRAY_LEN(j->told));
    j->told[j->told_count].id = id;
    j->told[j->told_count++].at = at;
}
void journal_untell(struct journal *j)
{
    struct position last = j->count ? j->batches[j->count - 1]->last : (struct position){0};
    while (j->told_count && position_cmp(j->told[j->told_count - 1].at, last) > 0)
        j->told_count--;
}
void journal_append(struct journal *j, struct batch *b)
{
    assert_true(j->count < ARRAY_LEN(j->batches));
    j->batches[j->count++] = b;
    if (!(b->flags & BATCH_PARTIAL))
        j->appended = u64_max(j->appended, b->watermark);
}
lsn_t journal_watermark(struct journal *j)
{
    return j->appended;
}
lsn_t journal_appended(struct journal *j)
{
    return j->appended;
}
struct journal_cut journal_cut(struct journal *j)
{
    j->cuts++;
    while (j->count && j->batches[j->count - 1]->flags & BATCH_PARTIAL) {
        const struct batch *b = j->batches[j->count - 1];
        if (j->pending.lsn != b->txn_lsn || j->pending.attempt < b->attempt)
            j->pending = (struct journal_cut){b->txn_lsn, b->txn_changes, b->txn_hash, b->attempt};
        batch_unref(j->batches[--j->count]);
    }
    return j->pending;
}
struct journal_cut journal_pending_cut(struct journal *j)
{
    return j->pending;
}
void journal_cut_done(struct journal *j)
{
    j->done++;
    j->pending = (struct journal_cut){0};
}
struct position journal_last(struct journal *j)
{
    (void)j;
    return (struct position){0};
}
struct cursor journal_latest(struct journal *j)
{
    (void)j;
    return (struct cursor){0};
}
bool journal_has_room(struct journal *j, const char **ret_why)
{
    (void)j, (void)ret_why;
    return true;
}
int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e)
{
    (void)j, (void)name, (void)ret, (void)e;
    *ret_found = false;
    return 0;
}
int journal_side_replace(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}
int journal_side_sync(struct journal *j, const char *name, struct err *e)
{
    (void)j, (void)name, (void)e;
    return 0;
}
int journal_side_append(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}
void journal_hold(struct journal *j)
{
    j->holds++;
}
void journal_release(struct journal *j)
{
    j->releases++;
}

// ---- a source ----

struct fixture {
    struct source_options source;
    struct journal journal;
    struct relations *relations;
    struct transaction *t;
    struct ack ack;
    struct buf b;
};

#define RELID 16384
static const struct wire_column COLUMNS[] = {{"id", 23, true}, {"note", 25, false}};

static inline void connected(struct fixture *f)
{
    ack_init(&f->ack, f->journal.appended ? f->journal.appended : 50, 50, 0, 0);
    transaction_start(f->t, &f->ack);
}

static inline int keep(void *arg, struct relation *r, struct err *e)
{
    return journal_add_relation(arg, r, e);
}

static inline struct fixture *setup(size_t batch_bytes, char **tables, size_t table_count)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->source = (struct source_options){.batch_bytes = batch_bytes,
                                        .row_bytes_max = 1000,
                                        .tables = tables,
                                        .table_count = table_count};
    f->journal.catalog = catalog_new();
    f->relations = relations_new(&(struct relations_options){
        .source = &f->source, .catalog = f->journal.catalog, .add = keep, .arg = &f->journal});
    f->t = transaction_new(&(struct transaction_options){
        .source = &f->source, .journal = &f->journal, .relations = f->relations});
    connected(f);
    return f;
}

static inline void teardown(struct fixture *f)
{
    for (size_t i = 0; i < f->journal.count; i++)
        batch_unref(f->journal.batches[i]);
    transaction_free(f->t);
    relations_free(f->relations);
    catalog_free(f->journal.catalog);
    buf_free(&f->b);
    free(f);
}

static inline int send(struct fixture *f)
{
    struct err e;
    int r = transaction_message(f->t, buf_slice(&f->b), 0, NULL, &e);
    buf_clear(&f->b);
    return r;
}

static inline void describe(struct fixture *f)
{
    put_relation(&f->b, RELID, "public", "t", 'd', 2, COLUMNS);
    assert_int_equal(send(f), 0);
}

static inline void begin(struct fixture *f, lsn_t lsn)
{
    put_begin(&f->b, lsn, 700);
    assert_int_equal(send(f), 0);
}

static inline int insert(struct fixture *f, const char *id, const char *note)
{
    put_insert(&f->b, RELID, 2, (const char *const[]){id, note});
    return send(f);
}

static inline int commit(struct fixture *f, lsn_t lsn)
{
    put_commit(&f->b, lsn, lsn + 10);
    return send(f);
}

static inline const struct batch *last_batch(const struct fixture *f)
{
    assert_true(f->journal.count > 0);
    return f->journal.batches[f->journal.count - 1];
}
