#include "sinks/websocket/tail_line.h"

#define VALUE_BYTES_MAX 200 // a longer one is cut

struct line {
    struct buf *out;
    bool colours;
};

static void colour(const struct line *l, const char *code)
{
    if (l->colours)
        buf_printf(l->out, "\033[%sm", code);
}

static void put_value(struct buf *out, struct slice value)
{
    size_t n = value.n;
    if (n > VALUE_BYTES_MAX) {
        n = VALUE_BYTES_MAX;
        while (n > 0 && (value.p[n] & 0xc0) == 0x80) // not inside a character
            n--;
    }
    scan_safe(out, (struct slice){value.p, n});
    if (n < value.n)
        buf_printf(out, "...(%zu bytes)", value.n);
}

static void put_member(const struct line *l, struct slice name, struct slice value)
{
    buf_putc(l->out, ' ');
    scan_safe(l->out, name);
    buf_putc(l->out, '=');
    put_value(l->out, value);
}

static bool same(struct slice a, struct slice b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

// `object`'s member of this name, which is JSON's text of it.
static bool member(struct slice object, struct slice name, struct slice *ret_value)
{
    struct scan s = object.p ? scan_open(object) : (struct scan){.failed = true};
    struct slice key;
    while (scan_member(&s, &key, ret_value)) {
        if (same(key, name))
            return true;
    }
    return false;
}

static void put_members(const struct line *l, struct slice object)
{
    struct scan s = scan_open(object);
    struct slice name, value;
    while (scan_member(&s, &name, &value))
        put_member(l, name, value);
}

// The new row: what is no key, and where the old row is known only what differs.
static void put_changed(const struct line *l, struct slice key, struct slice old, struct slice row)
{
    struct scan s = scan_open(row);
    struct slice name, value, before;
    while (scan_member(&s, &name, &value)) {
        bool known = member(old, name, &before) || member(key, name, &before);
        if (known && same(before, value))
            continue;
        if (known) {
            buf_putc(l->out, ' ');
            scan_safe(l->out, name);
            buf_puts(l->out, ": ");
            put_value(l->out, before);
            buf_puts(l->out, " -> ");
            put_value(l->out, value);
        } else {
            put_member(l, name, value);
        }
    }
}

static const struct {
    const char *name;
    const char *colour;
} ops[] = {
    {"insert", "32"}, {"update", "33"},   {"delete", "31"},
    {"read", "36"},   {"truncate", "35"}, {"message", "34"},
};

static void put_change(const struct line *l, struct slice entry, struct slice op)
{
    struct slice time = {0}, table = {0}, key = {0}, old = {0}, row = {0}, rest;
    AUTO_BUF struct buf text = {0};
    if (scan_get(entry, "time", &time) && time.n > 24) {
        scan_safe(l->out, (struct slice){time.p + 12, 12}); // 15:44:00.123
        buf_putc(l->out, ' ');
    }
    scan_text(&text, op);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (strcmp(ops[i].name, buf_cstr(&text)) == 0)
            colour(l, ops[i].colour);
    }
    scan_safe(l->out, (struct slice){text.p, size_min(text.n, 20)});
    buf_printf(l->out, "%*s", text.n < 8 ? (int)(8 - text.n) : 0, "");
    colour(l, "0");
    if (scan_get(entry, "table", &table)) {
        buf_clear(&text);
        scan_text(&text, table);
        buf_putc(l->out, ' ');
        colour(l, "1");
        scan_safe(l->out, buf_slice(&text));
        colour(l, "0");
    }
    scan_get(entry, "key", &key);
    scan_get(entry, "old", &old);
    scan_get(entry, "row", &row);
    if (key.p)
        put_members(l, key);
    else if (old.p && !row.p)
        put_members(l, old);
    if (row.p)
        put_changed(l, key, old, row);
    static const char *const others[] = {"prefix", "content", "tables", "cascade",
                                         "restart_identity"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (scan_get(entry, others[i], &rest))
            put_member(l, slice_of(others[i]), rest);
    }
    buf_putc(l->out, '\n');
}

// "-- snapshot of public.t: end, 12 rows"
static void put_mark(struct buf *out, struct slice entry)
{
    struct slice value;
    AUTO_BUF struct buf text = {0};
    buf_puts(out, "-- snapshot of ");
    if (scan_get(entry, "table", &value))
        scan_text(out, value);
    buf_puts(out, ": ");
    if (scan_get(entry, "step", &value))
        scan_text(out, value);
    if (scan_get(entry, "rows", &value)) {
        buf_puts(out, ", ");
        put_value(out, value);
        buf_puts(out, " rows");
    }
    if (scan_get(entry, "reason", &value)) {
        scan_text(&text, value);
        buf_puts(out, ", ");
        put_value(out, buf_slice(&text));
    }
    buf_putc(out, '\n');
}

static void put_text(struct buf *out, struct slice object, const char *before, const char *name)
{
    struct slice value;
    AUTO_BUF struct buf text = {0};
    if (!scan_get(object, name, &value))
        return;
    scan_text(&text, value);
    buf_puts(out, before);
    put_value(out, buf_slice(&text));
}

// ", +note text" for each column of a list; `sides`: it has how each was and is.
static void put_columns(struct buf *out, struct slice entry, const char *list, const char *sign,
                        bool sides)
{
    struct slice columns, column, side;
    if (!scan_get(entry, list, &columns))
        return;
    struct scan s = scan_open(columns);
    while (scan_element(&s, &column)) {
        if (sides && scan_get(column, "before", &side)) {
            put_text(out, side, ", ", "name");
            put_text(out, side, " ", "type");
        }
        if (sides && !scan_get(column, "after", &column))
            continue;
        put_text(out, column, sign, "name");
        put_text(out, column, " ", "type");
    }
}

// "-- public.t altered: +note text, body text -> body jsonb"
static void put_schema_change(struct buf *out, struct slice entry)
{
    AUTO_BUF struct buf what = {0};
    put_text(&what, entry, ", its name was ", "table_before");
    struct slice change = {0};
    if (scan_get(entry, "change", &change) && !slice_is(change, "\"created\"")) // all are new
        put_columns(&what, entry, "added", ", +", false);
    put_columns(&what, entry, "dropped", ", -", false);
    put_columns(&what, entry, "changed", " -> ", true);
    put_text(&what, entry, ", replica identity was ", "replica_identity_before");
    put_text(out, entry, "-- ", "table");
    put_text(out, entry, " ", "change");
    if (what.n)
        buf_printf(out, ": %s", buf_cstr(&what) + 2);
    buf_putc(out, '\n');
}

void tail_line(struct buf *out, struct slice entry, bool colours)
{
    struct line l = {out, colours};
    struct slice op, type = {0}, reason = {0};
    if (scan_get(entry, "op", &op)) {
        put_change(&l, entry, op);
    } else if (scan_get(entry, "type", &type) && slice_is(type, "\"restart\"")) {
        buf_puts(out, "-- restart: forget the transaction above, here it is again\n");
    } else if (type.p && slice_is(type, "\"snapshot\"")) {
        put_mark(out, entry);
    } else if (type.p && slice_is(type, "\"schema_change\"")) {
        put_schema_change(out, entry);
    } else if (type.p && slice_is(type, "\"gap\"")) {
        scan_get(entry, "reason", &reason);
        buf_puts(out, "-- gap: changes are missing here: ");
        put_value(out, reason);
        buf_putc(out, '\n');
    }
}
