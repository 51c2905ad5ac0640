#include "source/relation_map.h"

struct named *named_find(struct named *map, uint32_t oid)
{
    struct named *n;
    HASH_FIND(hh, map, &oid, sizeof oid, n);
    return n;
}

void named_set(struct named **map, uint32_t oid, const char *text, uint32_t arrival)
{
    struct named *n = named_find(*map, oid);
    if (!n) {
        n = xcalloc(1, sizeof *n);
        n->oid = oid;
        HASH_ADD(hh, *map, oid, sizeof n->oid, n);
    }
    free(n->text);
    n->text = text ? xstrdup(text) : NULL;
    n->arrival = arrival;
}

void named_clear(struct named **map)
{
    struct named *n, *next;
    HASH_ITER (hh, *map, n, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        HASH_DEL(*map, n);
        free(n->text);
        free(n);
    }
}

static struct described *find_in(struct described *tables, uint32_t relid)
{
    struct described *t;
    HASH_FIND(hh, tables, &relid, sizeof relid, t);
    return t;
}

struct described *relation_map_find(struct relation_map *m, uint32_t relid)
{
    struct described *t = unlikely(m->overlay) ? find_in(m->overlay, relid) : NULL;
    return t ? t : find_in(m->tables, relid);
}

void described_free_map(struct table *t)
{
    if (t->map)
        row_map_fini(t->map);
    free(t->map);
    t->map = NULL;
}

static void discard(struct described **tables, struct described *t)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
    HASH_DEL(*tables, t);
    buf_free(&t->wire);
    free(t->name);
    described_free_map(&t->table);
    free(t);
}

static void clear(struct described **tables)
{
    struct described *t, *next;
    HASH_ITER (hh, *tables, t, next)
        discard(tables, t);
}

void relation_map_clear(struct relation_map *m)
{
    clear(&m->tables);
    clear(&m->overlay);
    named_clear(&m->types);
    named_clear(&m->overlay_types);
    m->streamed = false;
}

// Said again: normal. (Under FULL the primary key may be another one; and the table may have become
// a partition of one that a glob names.)
static bool says_nothing_new(const struct described *t, const struct pgoutput_relation *r,
                             struct slice bytes)
{
    return t->resolved && t->settled && r->replica_identity != 'f' && t->wire.n == bytes.n &&
           memcmp(t->wire.p, bytes.p, bytes.n) == 0;
}

void relation_map_see(struct relation_map *m, const struct pgoutput_relation *r, struct slice bytes,
                      uint32_t arrival)
{
    struct described **tables = m->streamed ? &m->overlay : &m->tables;
    struct described *t = relation_map_find(m, r->relid);
    if (t && says_nothing_new(t, r, bytes)) {
        if (arrival > t->arrival)
            t->arrival = arrival;
        return;
    }
    t = find_in(*tables, r->relid);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        t->table.relid = r->relid;
        HASH_ADD(hh, *tables, table.relid, sizeof t->table.relid, t);
    }
    buf_clear(&t->wire);
    buf_put(&t->wire, bytes.p, bytes.n);
    AUTO_BUF struct buf name = {0};
    table_quote(&name, r->schema, r->name);
    free(t->name);
    t->name = xstrdup(buf_cstr(&name));
    t->arrival = arrival;
    t->resolved = false;
}

void relation_map_see_type(struct relation_map *m, uint32_t oid, const char *schema,
                           const char *name, uint32_t arrival)
{
    AUTO_BUF struct buf b = {0};
    table_quote(&b, schema, name);
    named_set(m->streamed ? &m->overlay_types : &m->types, oid, buf_cstr(&b), arrival);
}

const char *relation_map_type(struct relation_map *m, uint32_t oid)
{
    const struct named *n = named_find(m->overlay_types, oid);
    if (!n)
        n = named_find(m->types, oid);
    return n ? n->text : NULL;
}

void relation_map_merge(struct relation_map *m)
{
    struct described *t, *next;
    HASH_ITER (hh, m->overlay, t, next) {
        struct described *known = find_in(m->tables, t->table.relid);
        if (known && known->arrival > t->arrival) {
            known->table.announced = false; // another version stands in the stream since
            discard(&m->overlay, t);
            continue;
        }
        if (known)
            discard(&m->tables, known);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): `known` was freed, which is another one
        HASH_DEL(m->overlay, t);
        HASH_ADD(hh, m->tables, table.relid, sizeof t->table.relid, t);
    }
    struct named *n, *after;
    HASH_ITER (hh, m->overlay_types, n, after) {
        const struct named *known = named_find(m->types, n->oid);
        if (!known || known->arrival < n->arrival)
            named_set(&m->types, n->oid, n->text, n->arrival);
    }
    named_clear(&m->overlay_types);
    m->streamed = false;
}

void table_find_metrics(struct table *t)
{
    for (enum op op = OP_INSERT; op < OP_COUNT; op++) {
        if (op == OP_READ)
            continue;
        AUTO_BUF struct buf labels = {0};
        metrics_label(&labels, "table", t->relation->table);
        metrics_label(&labels, "op", op_name(op));
        t->changes[op] =
            metric_new(METRIC_COUNTER, "rowcast_changes_total",
                       "Changes read from the slot, by table and operation.", buf_cstr(&labels), 1);
        t->bytes[op] = metric_new(METRIC_COUNTER, "rowcast_change_bytes_total",
                                  "Bytes of changes as PostgreSQL sent them, by table and "
                                  "operation.",
                                  buf_cstr(&labels), 1);
    }
}
