#include "journal/frame_cache.h"

void frame_cache_init(struct frame_cache *c)
{
    *c = (struct frame_cache){0};
    pthread_mutex_init(&c->lock, NULL);
}

static void drop(struct frame_cache *c, size_t i)
{
    if (!c->slots[i].batch)
        return;
    c->bytes -= c->slots[i].batch->memory;
    c->slots[i].batch = batch_unref(c->slots[i].batch);
}

void frame_cache_free(struct frame_cache *c)
{
    for (size_t i = 0; i < FRAME_CACHE_SLOTS; i++)
        drop(c, i);
    pthread_mutex_destroy(&c->lock);
}

struct batch *frame_cache_get(struct frame_cache *c, uint64_t seq, struct place *ret_next)
{
    struct batch *b = NULL;
    size_t i = seq % FRAME_CACHE_SLOTS;
    pthread_mutex_lock(&c->lock);
    if (c->slots[i].batch && c->slots[i].batch->seq == seq) {
        b = batch_ref(c->slots[i].batch);
        *ret_next = c->slots[i].next;
    }
    pthread_mutex_unlock(&c->lock);
    return b;
}

void frame_cache_put(struct frame_cache *c, struct batch *b, const struct place *next,
                     uint64_t epoch)
{
    size_t i = b->seq % FRAME_CACHE_SLOTS;
    pthread_mutex_lock(&c->lock);
    if (epoch == c->epoch) {
        drop(c, i);
        while (c->bytes > 0 && c->bytes + b->memory > FRAME_CACHE_BYTES)
            drop(c, c->hand++ % FRAME_CACHE_SLOTS);
        c->slots[i].batch = batch_ref(b);
        c->slots[i].next = *next;
        c->bytes += b->memory;
    }
    pthread_mutex_unlock(&c->lock);
}

void frame_cache_cut(struct frame_cache *c, uint64_t epoch)
{
    pthread_mutex_lock(&c->lock);
    c->epoch = epoch;
    for (size_t i = 0; i < FRAME_CACHE_SLOTS; i++)
        drop(c, i);
    pthread_mutex_unlock(&c->lock);
}
