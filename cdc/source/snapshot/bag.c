#include "source/snapshot/bag.h"

#include "proto/wire.h"

#include <uthash.h>

#define TAG_EXACT 0x42 // Change.exact

struct counted {
    UT_hash_handle hh;
    int64_t count;
    uint32_t row_n, n;
    uint8_t bytes[]; // length of the row (4 bytes), row, exact fields
};

struct bag {
    struct counted *all;
    size_t bytes;
    struct buf scratch;
};

struct bag *bag_new(void)
{
    return xcalloc(1, sizeof(struct bag));
}

static void drop(struct bag *b, struct counted *c)
{
    b->bytes -= sizeof *c + c->n;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference,clang-analyzer-unix.Malloc): uthash's own
    HASH_DEL(b->all, c);
    free(c);
}

void bag_free(struct bag *b)
{
    if (!b)
        return;
    struct counted *c, *next;
    HASH_ITER (hh, b->all, c, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        drop(b, c);
    }
    buf_free(&b->scratch);
    free(b);
}

// Exact fields differ by the part of the change that they belong to, in their tags only.
static void put_exact(struct buf *out, struct slice exact)
{
    struct reader r = reader_of(exact.p, exact.n);
    while (!r.failed && reader_left(&r)) {
        (void)reader_u8(&r);
        struct slice body = reader_bytes(&r);
        uint8_t head[11] = {TAG_EXACT};
        buf_put(out, head, (size_t)(varint_write(head + 1, body.n) - head));
        buf_put(out, body.p, body.n);
    }
}

static struct counted *find(struct bag *b, struct slice row, struct slice exact)
{
    uint32_t n = (uint32_t)row.n;
    buf_clear(&b->scratch);
    buf_put(&b->scratch, &n, sizeof n);
    buf_put(&b->scratch, row.p, row.n);
    put_exact(&b->scratch, exact);
    struct counted *c;
    HASH_FIND(hh, b->all, b->scratch.p, b->scratch.n, c);
    return c;
}

void bag_count(struct bag *b, struct slice row, struct slice exact, int by)
{
    struct counted *c = find(b, row, exact);
    if (!c) {
        c = xcalloc(1, sizeof *c + b->scratch.n);
        memcpy(c->bytes, b->scratch.p, b->scratch.n);
        c->n = (uint32_t)b->scratch.n;
        c->row_n = (uint32_t)row.n;
        HASH_ADD_KEYPTR(hh, b->all, c->bytes, c->n, c);
        b->bytes += sizeof *c + c->n;
    }
    c->count += by;
    if (c->count == 0)
        drop(b, c);
}

bool bag_take(struct bag *b, struct slice row, struct slice exact)
{
    if (!b->all)
        return true;
    const struct counted *c = find(b, row, exact);
    if (!c || c->count > 0)
        return true;
    bag_count(b, row, exact, 1);
    return false;
}

void bag_added(struct bag *b, void (*each)(void *arg, struct slice row, struct slice exact),
               void *arg)
{
    struct counted *c, *next;
    HASH_ITER (hh, b->all, c, next) {
        if (c->count < 0)
            continue;
        const uint8_t *p = c->bytes + sizeof(uint32_t);
        struct slice row = {p, c->row_n};
        struct slice exact = {p + c->row_n, c->n - sizeof(uint32_t) - c->row_n};
        for (; c->count > 0; c->count--)
            each(arg, row, exact);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        drop(b, c);
    }
}

size_t bag_bytes(const struct bag *b)
{
    return b->bytes;
}

bool bag_empty(const struct bag *b)
{
    return b->all == NULL;
}
