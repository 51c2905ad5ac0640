// A journal in memory for tests of sinks: batches in a list, readers by index. It stands in for
// cdc/journal: a test that includes it defines the functions that the sink calls.
#pragma once

#include "base/base.h"
#include "journal/journal.h"

#include <pthread.h>

struct journal_reader {
    struct journal *j;
    size_t next; // batch
    struct position start;
    bool gating;
    struct position acknowledged;
    void (*wake)(void *arg);
    void *arg;
    struct journal_reader *link;
};

struct journal {
    pthread_mutex_t lock;
    struct catalog *catalog;
    struct journal_identity id;
    bool claimed;
    struct batch **batches;
    size_t count, cap;
    struct journal_reader *readers;
    struct position earliest;
    struct position acknowledged; // by the last gating reader
};

static inline struct journal *memory_journal_new(uint64_t system_id)
{
    struct journal *j = xcalloc(1, sizeof *j);
    pthread_mutex_init(&j->lock, NULL);
    j->catalog = catalog_new();
    j->claimed = true;
    j->id = (struct journal_identity){.system_id = system_id,
                                      .database_oid = 5,
                                      .name = "slot",
                                      .timeline = 1,
                                      .stream_id = 0xabc};
    return j;
}

static inline void memory_journal_free(struct journal *j)
{
    CHECK(!j->readers);
    for (size_t i = 0; i < j->count; i++)
        batch_unref(j->batches[i]);
    free(j->batches);
    catalog_free(j->catalog);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

void journal_append(struct journal *j, struct batch *b)
{
    pthread_mutex_lock(&j->lock);
    if (j->count == j->cap) {
        j->cap = j->cap ? j->cap * 2 : 64;
        j->batches = xrealloc(j->batches, j->cap * sizeof(void *));
    }
    j->batches[j->count++] = b;
    for (struct journal_reader *r = j->readers; r; r = r->link)
        r->wake(r->arg);
    pthread_mutex_unlock(&j->lock);
}

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}

uint32_t journal_era(const struct journal *j)
{
    (void)j;
    return 0;
}

bool journal_identity(const struct journal *j, struct journal_identity *ret_id)
{
    *ret_id = j->id;
    return j->claimed;
}

int journal_reader_open(struct journal *j, const char *name, enum journal_from from,
                        const struct cursor *c, bool gating, void (*wake)(void *arg), void *arg,
                        struct journal_reader **ret_r, struct err *e)
{
    (void)name;
    (void)e;
    struct journal_reader *r = xcalloc(1, sizeof *r);
    *r = (struct journal_reader){.j = j, .gating = gating, .wake = wake, .arg = arg};
    pthread_mutex_lock(&j->lock);
    if (from == FROM_POSITION) {
        r->start = c->at;
        while (r->next < j->count && position_cmp(j->batches[r->next]->last, c->at) <= 0)
            r->next++;
    }
    r->link = j->readers;
    j->readers = r;
    pthread_mutex_unlock(&j->lock);
    *ret_r = r;
    return 0;
}

void journal_reader_close(struct journal_reader *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->j->lock);
    struct journal_reader **at = &r->j->readers;
    while (*at != r)
        at = &(*at)->link;
    *at = r->link;
    pthread_mutex_unlock(&r->j->lock);
    free(r);
}

enum read_result journal_reader_next(struct journal_reader *r, struct batch **ret_b, struct err *e)
{
    (void)e;
    pthread_mutex_lock(&r->j->lock);
    bool more = r->next < r->j->count;
    if (more)
        *ret_b = batch_ref(r->j->batches[r->next++]);
    pthread_mutex_unlock(&r->j->lock);
    return more ? READ_BATCH : READ_TAIL;
}

struct position journal_reader_skip(const struct journal_reader *r)
{
    return r->start;
}

void journal_reader_acknowledge(struct journal_reader *r, struct position upto)
{
    pthread_mutex_lock(&r->j->lock);
    r->acknowledged = r->j->acknowledged = upto;
    pthread_mutex_unlock(&r->j->lock);
}

bool journal_reader_at_tail(const struct journal_reader *r)
{
    pthread_mutex_lock(&r->j->lock);
    bool at = r->next == r->j->count;
    pthread_mutex_unlock(&r->j->lock);
    return at;
}

struct cursor journal_latest(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct cursor c = {.stream_id = j->id.stream_id, .timeline = j->id.timeline};
    if (j->count)
        c.at = j->batches[j->count - 1]->last;
    pthread_mutex_unlock(&j->lock);
    return c;
}

struct cursor journal_earliest(struct journal *j)
{
    return (struct cursor){
        .stream_id = j->id.stream_id, .timeline = j->id.timeline, .at = j->earliest};
}

lsn_t journal_appended(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    lsn_t lsn = j->count ? j->batches[j->count - 1]->watermark : 0;
    pthread_mutex_unlock(&j->lock);
    return lsn;
}

enum cursor_check journal_check_cursor(struct journal *j, const struct cursor *c)
{
    return c->stream_id != j->id.stream_id        ? CURSOR_OTHER_STREAM
           : position_cmp(c->at, j->earliest) < 0 ? CURSOR_EXPIRED
                                                  : CURSOR_OK;
}
