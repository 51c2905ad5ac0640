#include "journal/tail.h"

void tail_init(struct tail *t, uint64_t next)
{
    *t = (struct tail){.cap = 64, .low = next, .next = next};
    t->slots = xcalloc(t->cap, sizeof(struct batch *));
}

void tail_free(struct tail *t)
{
    tail_cut(t, t->low);
    free(t->slots);
    t->slots = NULL;
}

static void tail_double(struct tail *t)
{
    size_t cap = t->cap * 2;
    struct batch **slots = xcalloc(cap, sizeof(struct batch *));
    for (uint64_t seq = t->low; seq < t->next; seq++)
        slots[seq & (cap - 1)] = t->slots[seq & (t->cap - 1)];
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
}

void tail_push(struct tail *t, struct batch *b)
{
    CHECK(b->seq == t->next);
    if (t->next - t->low == t->cap)
        tail_double(t);
    t->slots[t->next++ & (t->cap - 1)] = b;
    t->bytes += b->memory;
}

struct batch *tail_get(const struct tail *t, uint64_t seq)
{
    return seq >= t->low && seq < t->next ? t->slots[seq & (t->cap - 1)] : NULL;
}

void tail_trim(struct tail *t, size_t budget, uint64_t upto)
{
    while (t->bytes > budget && t->low < t->next && t->low <= upto) {
        struct batch *b = t->slots[t->low++ & (t->cap - 1)];
        t->bytes -= b->memory;
        batch_unref(b);
    }
}

void tail_cut(struct tail *t, uint64_t from)
{
    while (t->next > from && t->next > t->low) {
        struct batch *b = t->slots[--t->next & (t->cap - 1)];
        t->bytes -= b->memory;
        batch_unref(b);
    }
    if (t->next > from) // all of it was older: the next append is `from`
        t->low = t->next = from;
}

uint64_t tail_find(const struct tail *t, struct position at)
{
    uint64_t low = t->low, high = t->next;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (position_cmp(tail_get(t, mid)->last, at) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
