#include "proto/schema_change.h"

#include "proto/json_value.h"
#include "proto/wire.h"

const char *schema_step_name(enum schema_step step)
{
    static const char *const names[] = {"none", "created", "recreated", "altered"};
    return (size_t)step < ARRAY_LEN(names) ? names[step] : "unknown";
}

// ---- what differs ----

// The column of r that `c`, one of `of`, is; NULL when there is none.
static const struct column *counterpart(const struct relation *r, const struct relation *of,
                                        const struct column *c)
{
    const struct column *named = NULL;
    bool same_table = r->oid == of->oid;
    for (size_t i = 0; i < r->column_count; i++) {
        const struct column *x = &r->columns[i];
        bool known = same_table && x->attnum && c->attnum;
        if (known && x->attnum == c->attnum)
            return x;
        if (!known && strcmp(x->name, c->name) == 0)
            named = x;
    }
    return named;
}

static bool column_differs(const struct column *a, const struct column *b)
{
    return strcmp(a->name, b->name) != 0 || strcmp(a->type, b->type) != 0 ||
           strcmp(a->base_type, b->base_type) != 0 || a->number != b->number || a->key != b->key ||
           a->masked != b->masked;
}

// Calls `each` for every column that was added, dropped (after: NULL) or changed.
static size_t columns_differ(const struct relation *before, const struct relation *after,
                             void (*each)(void *arg, const struct column *before,
                                          const struct column *after),
                             void *arg)
{
    size_t n = 0;
    for (size_t i = 0; i < after->column_count; i++) {
        const struct column *c = &after->columns[i];
        const struct column *old = before ? counterpart(before, after, c) : NULL;
        if (old && !column_differs(old, c))
            continue;
        n++;
        if (each)
            each(arg, old, c);
    }
    for (size_t i = 0; before && i < before->column_count; i++) {
        const struct column *old = &before->columns[i];
        if (counterpart(after, before, old))
            continue;
        n++;
        if (each)
            each(arg, old, NULL);
    }
    return n;
}

// The names of the key's columns, as they stand.
static bool keys_differ(const struct relation *a, const struct relation *b)
{
    size_t i = 0, k = 0;
    for (;;) {
        while (i < a->column_count && !a->columns[i].key)
            i++;
        while (k < b->column_count && !b->columns[k].key)
            k++;
        if (i == a->column_count || k == b->column_count)
            return i != a->column_count || k != b->column_count;
        if (strcmp(a->columns[i++].name, b->columns[k++].name) != 0)
            return true;
    }
}

enum schema_step schema_change_step(const struct relation *before, const struct relation *after)
{
    if (!before)
        return SCHEMA_CREATED;
    if (before->oid != after->oid)
        return SCHEMA_RECREATED;
    bool differs = strcmp(before->table, after->table) != 0 ||
                   before->replica_identity != after->replica_identity ||
                   columns_differ(before, after, NULL, NULL) > 0;
    return differs ? SCHEMA_ALTERED : SCHEMA_NONE;
}

// ---- the entry ----

static void encode_column(void *arg, const struct column *before, const struct column *after)
{
    AUTO_BUF struct buf change = {0}, one = {0};
    if (before) {
        relation_encode_column(&one, before);
        wire_bytes(&change, 1, one.p, one.n);
    }
    if (after) {
        buf_clear(&one);
        relation_encode_column(&one, after);
        wire_bytes(&change, 2, one.p, one.n);
    }
    wire_bytes(arg, 9, change.p, change.n);
}

void schema_change_encode(struct buf *out, const struct relation *before,
                          const struct relation *after)
{
    enum schema_step step = schema_change_step(before, after);
    CHECK(step != SCHEMA_NONE);
    wire_uint(out, 1, after->id);
    if (before)
        wire_uint(out, 2, before->id);
    wire_uint(out, 3, step);
    wire_string(out, 4, after->table);
    if (before && strcmp(before->table, after->table) != 0)
        wire_string(out, 5, before->table);
    if (before && before->replica_identity != after->replica_identity)
        wire_string(out, 6, relation_identity_name(before));
    if (before && keys_differ(before, after)) {
        for (size_t i = 0; i < before->column_count; i++) {
            if (before->columns[i].key)
                wire_string(out, 7, before->columns[i].name);
        }
        wire_uint(out, 8, 1);
    }
    columns_differ(before, after, encode_column, out);
    wire_bytes(out, 10, after->encoded.p, after->encoded.n);
}

struct schema_change batch_schema_change(const struct batch *b, const struct entry *e)
{
    CHECK(e->kind == ENTRY_SCHEMA);
    struct schema_change s = {0};
    struct slice body = entry_body(b, e);
    struct reader r = reader_of(body.p, body.n);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            s.after = (uint32_t)f.v;
        else if (f.number == 2)
            s.before = (uint32_t)f.v;
        else if (f.number == 4)
            s.table = f.bytes;
        else if (f.number == 5)
            s.table_before = f.bytes;
    }
    return s;
}

// ---- JSON ----

static void put_name(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    json_string(out, text, strlen(text));
}

static void put_key(struct buf *out, const char *name, const struct relation *r)
{
    char separator = '[';
    buf_printf(out, ",\"%s\":", name);
    for (size_t i = 0; i < r->column_count; i++) {
        if (!r->columns[i].key)
            continue;
        buf_putc(out, separator);
        json_string(out, r->columns[i].name, strlen(r->columns[i].name));
        separator = ',';
    }
    buf_puts(out, separator == '[' ? "[]" : "]");
}

struct parts { // of the JSON form: each an open list
    struct buf added, dropped, changed;
};

static void put_column(void *arg, const struct column *before, const struct column *after)
{
    struct parts *p = arg;
    struct buf *to = !before ? &p->added : !after ? &p->dropped : &p->changed;
    buf_putc(to, to->n ? ',' : '[');
    if (before && after)
        buf_puts(to, "{\"before\":");
    if (before)
        json_column(to, before);
    if (before && after)
        buf_puts(to, ",\"after\":");
    if (after)
        json_column(to, after);
    if (before && after)
        buf_putc(to, '}');
}

static void put_list(struct buf *out, const char *name, struct buf *list)
{
    if (list->n) {
        buf_printf(out, ",\"%s\":", name);
        buf_put(out, list->p, list->n);
        buf_putc(out, ']');
    }
    buf_free(list);
}

static void put_differences(struct buf *out, const struct relation *before,
                            const struct relation *after)
{
    struct parts parts = {0};
    if (before && strcmp(before->table, after->table) != 0)
        put_name(out, "table_before", before->table);
    put_name(out, "replica_identity", relation_identity_name(after));
    if (before && before->replica_identity != after->replica_identity)
        put_name(out, "replica_identity_before", relation_identity_name(before));
    put_key(out, "key", after);
    if (before && keys_differ(before, after))
        put_key(out, "key_before", before);
    columns_differ(before, after, put_column, &parts);
    put_list(out, "added", &parts.added);
    put_list(out, "dropped", &parts.dropped);
    put_list(out, "changed", &parts.changed);
}

int json_schema_change(struct buf *out, const struct json_context *x, const struct batch *b,
                       const struct entry *e, struct err *err)
{
    struct schema_change s = batch_schema_change(b, e);
    const struct relation *after = catalog_get(x->catalog, s.after);
    const struct relation *before = s.before ? catalog_get(x->catalog, s.before) : NULL;
    if (!after || (s.before && !before))
        return err_set(err, ERR_DATA,
                       "a schema change names relation versions %u and %u, of which one is not "
                       "known",
                       s.before, s.after);
    buf_puts(out, "{\"type\":\"schema_change\"");
    put_name(out, "change", schema_step_name(schema_change_step(before, after)));
    put_name(out, "table", after->table);
    put_differences(out, before, after);
    buf_puts(out, ",\"columns\":[");
    for (size_t i = 0; i < after->column_count; i++) {
        if (i)
            buf_putc(out, ',');
        json_column(out, &after->columns[i]);
    }
    buf_puts(out, "],\"lsn\":");
    json_lsn(out, x->begin.lsn);
    if (x->begin.xid) {
        buf_puts(out, ",\"xid\":");
        json_u64(out, x->begin.xid);
    }
    if (x->begin.commit_time_us) {
        buf_puts(out, ",\"time\":");
        json_time(out, x->begin.commit_time_us);
    }
    buf_putc(out, '}');
    return 0;
}
