#include "source/snapshot/want.h"

#include <uthash.h>

struct want {
    UT_hash_handle hh;
    uint64_t asked; // stamp of the order that asks for it; 0: none
    uint32_t key_n, exact_n, n;
    uint8_t bytes[]; // length of the key (4 bytes), key, exact
};

struct want_set {
    struct want *all; // in the order of their adding
    size_t bytes;
    uint64_t stamp;
    struct buf scratch;
};

struct want_set *want_new(void)
{
    return xcalloc(1, sizeof(struct want_set));
}

void want_free(struct want_set *w)
{
    if (!w)
        return;
    want_clear(w);
    buf_free(&w->scratch);
    free(w);
}

static struct slice joined(struct want_set *w, struct row_key key)
{
    uint32_t n = (uint32_t)key.key.n;
    buf_clear(&w->scratch);
    buf_put(&w->scratch, &n, sizeof n);
    buf_put(&w->scratch, key.key.p, key.key.n);
    buf_put(&w->scratch, key.exact.p, key.exact.n);
    return buf_slice(&w->scratch);
}

static struct row_key key_of(const struct want *e)
{
    const uint8_t *p = e->bytes + sizeof(uint32_t);
    return (struct row_key){{p, e->key_n}, {p + e->key_n, e->exact_n}};
}

static size_t size_of(const struct want *e)
{
    return sizeof *e + e->n;
}

static void drop(struct want_set *w, struct want *e)
{
    w->bytes -= size_of(e);
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference,clang-analyzer-unix.Malloc): uthash's own
    HASH_DEL(w->all, e);
    free(e);
}

bool want_add(struct want_set *w, struct row_key key)
{
    struct slice s = joined(w, key);
    struct want *e;
    HASH_FIND(hh, w->all, s.p, s.n, e);
    if (e) {
        e->asked = 0;
        return false;
    }
    e = xcalloc(1, sizeof *e + s.n);
    memcpy(e->bytes, s.p, s.n);
    e->n = (uint32_t)s.n;
    e->key_n = (uint32_t)key.key.n;
    e->exact_n = (uint32_t)key.exact.n;
    HASH_ADD_KEYPTR(hh, w->all, e->bytes, e->n, e);
    w->bytes += size_of(e);
    return true;
}

void want_remove(struct want_set *w, struct row_key key)
{
    if (!w->all)
        return;
    struct slice s = joined(w, key);
    struct want *e;
    HASH_FIND(hh, w->all, s.p, s.n, e);
    if (e)
        drop(w, e);
}

void want_clear(struct want_set *w)
{
    struct want *e, *next;
    HASH_ITER (hh, w->all, e, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        drop(w, e);
    }
}

size_t want_count(const struct want_set *w)
{
    return HASH_COUNT(w->all);
}

size_t want_bytes(const struct want_set *w)
{
    return w->bytes;
}

uint64_t want_ask(struct want_set *w, bool (*each)(void *arg, struct row_key key), void *arg)
{
    struct want *e, *next;
    w->stamp++;
    HASH_ITER (hh, w->all, e, next) {
        if (e->asked)
            continue;
        if (!each(arg, key_of(e)))
            break;
        e->asked = w->stamp;
    }
    return w->stamp;
}

void want_answered(struct want_set *w, uint64_t stamp, bool all)
{
    struct want *e, *next;
    HASH_ITER (hh, w->all, e, next) {
        if (e->asked != stamp)
            continue;
        if (all)
            drop(w, e);
        else
            e->asked = 0;
    }
}

void want_ask_again(struct want_set *w)
{
    for (struct want *e = w->all; e; e = e->hh.next)
        e->asked = 0;
}

void want_each(const struct want_set *w, void (*each)(void *arg, struct row_key key), void *arg)
{
    struct want *e, *next;
    HASH_ITER (hh, w->all, e, next)
        each(arg, key_of(e));
}
