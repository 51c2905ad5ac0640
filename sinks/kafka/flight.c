#include "sinks/kafka/flight.h"

struct flight *flights_open(struct flights *f, struct batch *b)
{
    CHECK(!f->open);
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        struct flight **ring = xcalloc(cap, sizeof(void *));
        for (size_t i = 0; i < f->count; i++)
            ring[i] = f->ring[(f->head + i) % f->cap];
        free(f->ring);
        f->ring = ring;
        f->cap = cap;
        f->head = 0;
    }
    struct flight *x = xcalloc(1, sizeof *x);
    x->batch = b;
    f->ring[(f->head + f->count++) % f->cap] = x;
    f->memory += b->memory;
    f->open = true;
    return x;
}

void flights_close(struct flights *f)
{
    CHECK(f->open);
    f->open = false;
}

void flight_report(struct flights *f, struct flight *x, bool delivered)
{
    CHECK(x->out > 0 && f->out > 0);
    x->out--;
    f->out--;
    if (!delivered)
        x->failed = true;
}

static void drop_head(struct flights *f)
{
    struct flight *x = f->ring[f->head];
    CHECK(x->out == 0);
    f->memory -= x->batch->memory;
    batch_unref(x->batch);
    free(x);
    f->head = (f->head + 1) % f->cap;
    f->count--;
}

bool flights_advance(struct flights *f, flight_done *done, void *arg)
{
    bool moved = false;
    while (f->count > (f->open ? 1 : 0)) {
        const struct flight *x = f->ring[f->head];
        if (x->out > 0 || x->failed)
            break;
        const struct batch *b = x->batch;
        f->done.at = b->last;
        f->done.attempt = b->flags & BATCH_PARTIAL ? b->attempt : 0;
        f->done.watermark = u64_max(f->done.watermark, b->watermark);
        if (b->commit_time_us)
            f->done.commit_time_us = b->commit_time_us;
        f->done.bytes += b->n;
        done(arg, b);
        drop_head(f);
        moved = true;
    }
    return moved;
}

void flights_abandon(struct flights *f)
{
    f->open = false;
    while (f->count > 0)
        drop_head(f);
    CHECK(f->memory == 0 && f->out == 0);
}

void flights_free(struct flights *f)
{
    flights_abandon(f);
    free(f->ring);
    f->ring = NULL;
    f->cap = f->head = 0;
}
