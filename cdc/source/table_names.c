#include "source/table_names.h"

#include "source/publication.h"

#include <uthash.h>

struct known {
    uint32_t oid;
    char *root;                            // or NULL
    const struct relation *first, *latest; // or NULL: no version yet
    UT_hash_handle hh;
};

struct table_names {
    const struct source_options *o;
    struct known *tables;
};

static struct known *find(const struct table_names *t, uint32_t oid)
{
    struct known *k;
    HASH_FIND(hh, t->tables, &oid, sizeof oid, k);
    return k;
}

static struct known *find_or_make(struct table_names *t, uint32_t oid)
{
    struct known *k = find(t, oid);
    if (k)
        return k;
    k = xcalloc(1, sizeof *k);
    k->oid = oid;
    HASH_ADD(hh, t->tables, oid, sizeof k->oid, k);
    return k;
}

struct table_names *table_names_new(const struct source_options *o, const struct catalog *catalog)
{
    struct table_names *t = xcalloc(1, sizeof *t);
    t->o = o;
    for (uint32_t id = 1; catalog && id <= catalog_count(catalog); id++)
        table_names_take(t, catalog_get(catalog, id));
    return t;
}

void table_names_free(struct table_names *t)
{
    if (!t)
        return;
    struct known *k, *next;
    HASH_ITER (hh, t->tables, k, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        HASH_DEL(t->tables, k);
        free(k->root);
        free(k);
    }
    free(t);
}

void table_names_take(struct table_names *t, const struct relation *r)
{
    struct known *k = find_or_make(t, r->oid);
    table_names_take_root(t, r->oid, r->root);
    k->latest = r;
    if (!k->first)
        k->first = r;
}

void table_names_take_root(struct table_names *t, uint32_t oid, const char *root)
{
    if (!root)
        return;
    struct known *k = find_or_make(t, oid);
    if (k->root && t->o->table_count && source_wants(t->o, k->root, NULL))
        return; // the one that made it wanted stays
    char *copy = xstrdup(root);
    free(k->root);
    k->root = copy;
}

const char *table_names_root(const struct table_names *t, uint32_t oid)
{
    const struct known *k = find(t, oid);
    return k ? k->root : NULL;
}

const char *table_names_first(const struct table_names *t, uint32_t oid)
{
    const struct known *k = find(t, oid);
    return k && k->first ? k->first->table : NULL;
}

const struct relation *table_names_latest(const struct table_names *t, uint32_t oid)
{
    const struct known *k = find(t, oid);
    return k ? k->latest : NULL;
}

bool table_names_want(const struct table_names *t, uint32_t oid, const char *table)
{
    const char *first = table_names_first(t, oid);
    return source_wants(t->o, table, table_names_root(t, oid)) ||
           (first && source_wants(t->o, first, NULL));
}
