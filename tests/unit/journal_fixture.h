// What the journal's tests share: a directory of their own, batches made by the real builder, and
// readers that take everything.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "journal/inside.h"

#define DEADLINE_US INT64_C(20000000)

struct fixture {
    char dir[128];
    struct journal *j;
    struct batch_builder *bb;
    lsn_t lsn; // of the next transaction
    uint64_t random;
};

static inline uint64_t random_next(uint64_t *state) // xorshift64*
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline const struct journal_options *small_options(const struct fixture *f)
{
    static struct journal_options o;
    o = (struct journal_options){
        .dir = f->dir, .segment_bytes = 16384, .memory_bytes = 8192, .sync = true};
    return &o;
}

static inline void fixture_open(struct fixture *f, const struct journal_options *o)
{
    struct err e = {0};
    if (journal_open(o, &f->j, &e) != 0)
        fail_msg("%s", e.text);
}

static inline void fixture_close(struct fixture *f)
{
    journal_close(f->j);
    f->j = NULL;
}

static inline void fixture_claim(struct fixture *f)
{
    struct err e = {0};
    const struct journal_identity id = {
        .system_id = 7, .database_oid = 5, .name = "test", .timeline = 1};
    if (journal_claim(f->j, &id, &e) != 0)
        fail_msg("%s", e.text);
}

static inline void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    while (d && (entry = readdir(d)))
        unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

static int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/rowcast-journal-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    f->bb = batch_builder_new(65536);
    f->lsn = 0x1000;
    f->random = 0x9e3779b97f4a7c15;
    fixture_open(f, small_options(f));
    fixture_claim(f);
    *state = f;
    return 0;
}

static int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    journal_close(f->j);
    batch_builder_free(f->bb);
    remove_dir(f->dir);
    free(f);
    return 0;
}

// Versions are numbered from 1 up.
static inline void add_relation(struct fixture *f, uint32_t id)
{
    struct err e = {0};
    struct relation *r = xcalloc(1, sizeof *r);
    r->id = id;
    r->oid = 1000 + id;
    r->schema = xstrdup("public");
    r->name = xasprintf("t%u", id);
    r->replica_identity = 'd';
    relation_seal(r);
    if (journal_add_relation(f->j, r, &e) != 0)
        fail_msg("%s", e.text);
}

// ---- batches ----

static inline void begin_txn(struct fixture *f, lsn_t lsn, uint32_t attempt)
{
    const struct begin begin = {
        .lsn = lsn, .commit_time_us = (int64_t)lsn, .xid = (uint32_t)lsn, .attempt = attempt};
    batch_add_begin(f->bb, &begin);
}

// A row of n bytes that do not compress too well and depend on the seed.
static inline void add_row(struct fixture *f, size_t n, uint64_t seed)
{
    uint8_t *row = xmalloc(n);
    uint64_t s = seed * 2 + 1;
    for (size_t i = 0; i < n; i++)
        row[i] = (uint8_t)(random_next(&s) >> 60);
    const struct change c = {.op = OP_INSERT, .relation = 0, .after = {row, n}};
    batch_add_change(f->bb, &c);
    free(row);
}

static inline struct batch *take(struct fixture *f, bool partial)
{
    struct batch *b = batch_builder_take(f->bb, partial);
    assert_non_null(b);
    return b;
}

// One transaction of `rows` rows of n bytes each, in one batch; LSNs go up by 0x100.
static inline struct batch *txn_batch(struct fixture *f, size_t rows, size_t n)
{
    begin_txn(f, f->lsn, 0);
    for (size_t i = 0; i < rows; i++)
        add_row(f, n, f->lsn + i);
    batch_add_end(f->bb, f->lsn + 0x10);
    f->lsn += 0x100;
    return take(f, false);
}

// `rows` rows more of the open transaction, as one partial batch.
static inline struct batch *partial_batch(struct fixture *f, size_t rows, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < rows; i++)
        add_row(f, n, seed + i);
    return take(f, true);
}

static inline bool wait_until(bool (*is)(struct fixture *f, uint64_t arg), struct fixture *f,
                              uint64_t arg)
{
    int64_t until = clock_mono_us() + DEADLINE_US;
    while (!is(f, arg)) {
        if (clock_mono_us() > until)
            return false;
        poll(NULL, 0, 1);
    }
    return true;
}

static inline bool watermark_is(struct fixture *f, uint64_t lsn)
{
    return journal_watermark(f->j) >= lsn;
}

static inline bool written_is(struct fixture *f, uint64_t seq)
{
    pthread_mutex_lock(&f->j->lock);
    bool done = f->j->written_seq >= seq;
    pthread_mutex_unlock(&f->j->lock);
    return done;
}

static inline void wait_written(struct fixture *f)
{
    assert_true(wait_until(written_is, f, f->j->tail.next - 1));
}

static inline bool bytes_at_most(struct fixture *f, uint64_t n)
{
    return segments_bytes(&f->j->segments) <= n;
}

// journal_list and journal_verify without what they print, which is not for the tests' output.
static inline int quietly(int (*look)(const char *dir, struct err *e), const char *dir,
                          struct err *e)
{
    fflush(stdout);
    int out = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
    assert_true(out >= 0 && null >= 0 && dup2(null, STDOUT_FILENO) >= 0);
    int r = look(dir, e);
    fflush(stdout);
    assert_true(dup2(out, STDOUT_FILENO) >= 0);
    close(out);
    close(null);
    return r;
}

// ---- readers ----

static inline struct journal_reader *reader_from(struct fixture *f, enum journal_from from,
                                                 const struct cursor *c)
{
    struct err e = {0};
    struct journal_reader *r;
    if (journal_reader_open(f->j, "test", from, c, false, NULL, NULL, &r, &e) != 0)
        fail_msg("%s", e.text);
    return r;
}

static inline struct batch *next_batch(struct journal_reader *r)
{
    struct err e = {0};
    struct batch *b = NULL;
    enum read_result result = journal_reader_next(r, &b, &e);
    if (result == READ_ERROR)
        fail_msg("%s", e.text);
    assert_int_equal(result, READ_BATCH);
    return b;
}

static inline void expect_tail(struct journal_reader *r)
{
    struct err e = {0};
    struct batch *b = NULL;
    enum read_result result = journal_reader_next(r, &b, &e);
    if (result == READ_ERROR)
        fail_msg("%s", e.text);
    assert_int_equal(result, READ_TAIL);
}

// The changes that a consumer has: their positions and bytes, in order.
struct seen {
    struct position *at;
    uint64_t *hash;
    size_t n, cap;
    size_t ends;
};

static inline void seen_add(struct seen *s, struct position at, uint64_t hash)
{
    if (s->n == s->cap || !s->at || !s->hash) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->at = xrealloc(s->at, s->cap * sizeof *s->at);
        s->hash = xrealloc(s->hash, s->cap * sizeof *s->hash);
    }
    s->at[s->n] = at;
    s->hash[s->n++] = hash;
}

static inline void seen_free(struct seen *s)
{
    free(s->at);
    free(s->hash);
    *s = (struct seen){0};
}

// Takes what stands in b above `skip`.
static inline void seen_batch(struct seen *s, const struct batch *b, struct position skip)
{
    lsn_t lsn = 0;
    BATCH_FOREACH (b, e) {
        if (e->kind == ENTRY_BEGIN)
            lsn = batch_begin(b, e).lsn;
        struct position at = {lsn, e->kind == ENTRY_END ? ORDINAL_END : e->ordinal};
        if (position_cmp(at, skip) <= 0)
            continue;
        if (e->kind == ENTRY_END)
            s->ends++;
        if (e->kind != ENTRY_CHANGE)
            continue;
        struct change c = batch_change(b, e);
        uint64_t hash = c.op;
        for (size_t i = 0; i < c.after.n; i++)
            hash = hash * 31 + c.after.p[i];
        seen_add(s, at, hash);
    }
}

// Forgets the transaction that it stands in, as READ_RESTART wants.
static inline void seen_restart(struct seen *s)
{
    CHECK(s->n > 0 && s->at);
    lsn_t lsn = s->at[s->n - 1].lsn;
    while (s->n > 0 && s->at[s->n - 1].lsn == lsn)
        s->n--;
}

// Reads to the tail; returns how many restarts there were.
static inline size_t seen_read(struct seen *s, struct journal_reader *r)
{
    struct err e = {0};
    struct batch *b = NULL;
    size_t restarts = 0;
    for (;;) {
        switch (journal_reader_next(r, &b, &e)) {
        case READ_BATCH:
            seen_batch(s, b, journal_reader_skip(r));
            b = batch_unref(b);
            break;
        case READ_RESTART:
            seen_restart(s);
            restarts++;
            break;
        case READ_TAIL:
            return restarts;
        case READ_EXPIRED:
        case READ_OTHER_STREAM:
            fail_msg("expired");
            return 0;
        case READ_ERROR:
            fail_msg("%s", e.text);
            return 0;
        }
    }
}

static inline void seen_equal(const struct seen *a, const struct seen *b)
{
    assert_int_equal(a->n, b->n);
    CHECK(a->n == 0 || (a->at && a->hash && b->at && b->hash));
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(position_cmp(a->at[i], b->at[i]), 0);
        assert_true(a->hash[i] == b->hash[i]);
    }
}

// Everything in the journal from its beginning.
static inline void seen_all(struct seen *s, struct fixture *f)
{
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    assert_int_equal(seen_read(s, r), 0);
    journal_reader_close(r);
}
