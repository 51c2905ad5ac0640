#include "proto/catalog.h"

#include <stdatomic.h>
#include <uthash.h>

// Relations lie in chunks that never move, and are there before `count` says so: a look-up needs no
// lock.
#define CHUNK 1024

struct latest {
    const struct relation *relation; // its `table` is the key
    UT_hash_handle hh;
};

struct catalog {
    _Atomic uint32_t count;
    struct relation **chunks[(CATALOG_RELATIONS_MAX + CHUNK - 1) / CHUNK];
    struct latest *latest; // the adding thread's
};

struct catalog *catalog_new(void)
{
    return xcalloc(1, sizeof(struct catalog));
}

void catalog_free(struct catalog *c)
{
    if (!c)
        return;
    struct latest *l = c->latest;
    HASH_CLEAR(hh, c->latest); // the items stay, linked
    while (l) {
        struct latest *next = l->hh.next;
        free(l);
        l = next;
    }
    uint32_t count = catalog_count(c);
    for (uint32_t i = 0; i < count; i++)
        relation_free(c->chunks[i / CHUNK][i % CHUNK]);
    for (size_t i = 0; i < ARRAY_LEN(c->chunks); i++)
        free(c->chunks[i]);
    free(c);
}

void catalog_add(struct catalog *c, struct relation *r)
{
    uint32_t i = catalog_count(c);
    CHECK(i < CATALOG_RELATIONS_MAX && r->id == i + 1 && r->table);
    if (!c->chunks[i / CHUNK])
        c->chunks[i / CHUNK] = xcalloc(CHUNK, sizeof(struct relation *));
    c->chunks[i / CHUNK][i % CHUNK] = r;
    atomic_store_explicit(&c->count, i + 1, memory_order_release);

    struct latest *l;
    HASH_FIND_STR(c->latest, r->table, l);
    if (l) // the key moves to the newer relation: both live as long as the catalog
        HASH_DEL(c->latest, l);
    else
        l = xcalloc(1, sizeof *l);
    l->relation = r;
    HASH_ADD_KEYPTR(hh, c->latest, r->table, strlen(r->table), l);
}

uint32_t catalog_count(const struct catalog *c)
{
    return atomic_load_explicit(&c->count, memory_order_acquire);
}

uint32_t catalog_next_id(const struct catalog *c)
{
    return catalog_count(c) + 1;
}

const struct relation *catalog_get(const struct catalog *c, uint32_t id)
{
    if (id == 0 || id > catalog_count(c))
        return NULL;
    return c->chunks[(id - 1) / CHUNK][(id - 1) % CHUNK];
}

const struct relation *catalog_latest(const struct catalog *c, const char *table)
{
    struct latest *l;
    HASH_FIND_STR(c->latest, table, l);
    return l ? l->relation : NULL;
}
