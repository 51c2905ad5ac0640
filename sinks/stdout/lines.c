#include "sinks/stdout/lines.h"

#include "proto/schema_change.h"

enum seen { SEEN_NOT, SEEN_UNWANTED, SEEN_WANTED, SEEN_PRINTED };

struct lines {
    struct json_context json;
    char *const *tables;
    size_t table_count;
    uint8_t *seen; // enum seen, by relation version
    uint32_t seen_count;
    bool any; // something of this transaction was printed
};

struct lines *lines_new(const struct catalog *catalog, char *const *tables, size_t table_count)
{
    struct lines *l = xcalloc(1, sizeof *l);
    l->json.catalog = catalog;
    l->tables = tables;
    l->table_count = table_count;
    return l;
}

void lines_free(struct lines *l)
{
    if (!l)
        return;
    free(l->seen);
    free(l);
}

// Whether changes of this version are wanted.
static bool relation_wanted(struct lines *l, uint32_t id)
{
    if (id == 0)
        return l->table_count == 0;
    if (id >= l->seen_count) {
        uint32_t n = id + 64;
        l->seen = xrealloc(l->seen, n);
        memset(l->seen + l->seen_count, SEEN_NOT, n - l->seen_count);
        l->seen_count = n;
    }
    const struct relation *r = catalog_get(l->json.catalog, id);
    if (!r)
        return true; // json_change says what is wrong
    if (l->seen[id] == SEEN_NOT)
        l->seen[id] =
            table_match_any(l->tables, l->table_count, r->table) ? SEEN_WANTED : SEEN_UNWANTED;
    return l->seen[id] != SEEN_UNWANTED;
}

// Before a change of a version that is wanted.
static void put_relation(struct lines *l, uint32_t id, struct buf *out)
{
    if (id >= l->seen_count || l->seen[id] != SEEN_WANTED)
        return;
    json_relation(out, catalog_get(l->json.catalog, id));
    buf_putc(out, '\n');
    l->seen[id] = SEEN_PRINTED;
}

static bool had(struct position at, struct position skip)
{
    return position_cmp(at, skip) <= 0;
}

static void put_restart(struct buf *out, lsn_t lsn)
{
    buf_printf(out, "{\"type\":\"restart\",\"lsn\":\"" LSN_FMT "\"}\n", LSN_ARG(lsn));
}

// A relation is printed before its first change.
static bool has_position(const struct entry *e)
{
    return e->kind == ENTRY_CHANGE || e->kind == ENTRY_END || e->kind == ENTRY_PROGRESS ||
           e->kind == ENTRY_SNAPSHOT || e->kind == ENTRY_GAP || e->kind == ENTRY_SCHEMA;
}

static bool table_wanted(const struct lines *l, struct slice table)
{
    AUTO_FREE char *name = xstrndup((const char *)table.p, table.n);
    return table_match_any(l->tables, l->table_count, name);
}

// A schema change, of a table that is wanted by its name or the one before.
static bool schema_change_wanted(const struct lines *l, const struct batch *b,
                                 const struct entry *e)
{
    struct schema_change s = batch_schema_change(b, e);
    return table_wanted(l, s.table) || (s.table_before.n && table_wanted(l, s.table_before));
}

// Above `skip`, and of a table that is wanted.
static bool entry_due(struct lines *l, const struct batch *b, const struct entry *e,
                      struct position skip)
{
    bool above = !had(batch_entry_position(b, e, &l->json.begin), skip);
    if (e->kind == ENTRY_SNAPSHOT)
        return above && table_wanted(l, batch_snapshot_mark(b, e).table);
    if (e->kind == ENTRY_SCHEMA)
        return above && schema_change_wanted(l, b, e);
    if (e->kind != ENTRY_CHANGE)
        return above;
    bool wanted = relation_wanted(l, e->relation);
    l->any |= wanted; // whoever goes on inside has had something of it
    return above && wanted;
}

static int put_entry(struct lines *l, const struct batch *b, const struct entry *e,
                     struct position skip, struct buf *out, struct err *err)
{
    if (e->kind == ENTRY_BEGIN) {
        json_context_begin(&l->json, b, e);
        if (!l->json.begin.continued)
            l->any = false;
        // Whoever goes on inside a transaction has had something of it.
        l->any |= !l->json.begin.read && skip.lsn == l->json.begin.lsn;
    }
    if (!has_position(e) || !entry_due(l, b, e, skip))
        return 0;
    switch (e->kind) {
    case ENTRY_CHANGE:
        put_relation(l, e->relation, out);
        if (json_change(out, &l->json, b, e, err) != 0)
            return -1;
        break;
    case ENTRY_END:
        if (!l->any)
            return 0;
        json_end(out, &l->json, b, e);
        l->any = false;
        break;
    case ENTRY_SCHEMA:
        if (json_schema_change(out, &l->json, b, e, err) != 0)
            return -1;
        l->any = true;
        break;
    case ENTRY_PROGRESS:
        json_progress(out, &l->json, batch_progress_lsn(b, e),
                      batch_entry_position(b, e, &l->json.begin));
        break;
    case ENTRY_SNAPSHOT:
        json_snapshot_mark(out, &l->json, b, e);
        break;
    default:
        json_gap(out, &l->json, b, e);
    }
    buf_putc(out, '\n');
    return 0;
}

int lines_batch(struct lines *l, struct cursor stream, const struct batch *b, struct position skip,
                struct buf *out, struct err *err)
{
    l->json.stream_id = stream.stream_id;
    l->json.timeline = stream.timeline;
    BATCH_FOREACH (b, e) {
        if (put_entry(l, b, e, skip, out, err) != 0)
            return -1;
    }
    return 0;
}

void lines_restart(struct lines *l, struct buf *out)
{
    if (l->any)
        put_restart(out, l->json.begin.lsn);
    l->any = false;
    // The shape of a table may differ this time.
    for (uint32_t id = 0; id < l->seen_count; id++) {
        if (l->seen[id] == SEEN_PRINTED)
            l->seen[id] = SEEN_WANTED;
    }
}
