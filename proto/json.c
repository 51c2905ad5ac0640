#include "proto/json.h"

#include "proto/json_value.h"
#include "proto/scalar.h"

// Field numbers of Change: the exact values of its parts.
enum { EXACT_AFTER = 8, EXACT_BEFORE = 9, EXACT_KEY = 10 };

static void put_field(struct buf *out, const char *name)
{
    buf_putc(out, ',');
    json_string(out, name, strlen(name));
    buf_putc(out, ':');
}

static void put_slice(struct buf *out, struct slice text)
{
    json_string(out, (const char *)text.p, text.n);
}

static void put_text(struct buf *out, const char *text)
{
    json_string(out, text, strlen(text));
}

// ---- rows ----

// A row's fields by number. They stand in ascending order, as the columns mostly do: looking for
// one goes on from where the last one was.
struct row {
    struct slice bytes;
    struct reader in;
    struct wire_field field;
    bool have; // `field` is one
    uint32_t last;
};

static void row_next(struct row *row)
{
    row->have = wire_next(&row->in, &row->field);
}

static struct row row_of(struct slice bytes)
{
    struct row row = {.bytes = bytes, .in = reader_of(bytes.p, bytes.n)};
    row_next(&row);
    return row;
}

static const struct wire_field *row_field(struct row *row, uint32_t number)
{
    if (number < row->last && !row->in.failed)
        *row = row_of(row->bytes);
    row->last = number;
    while (row->have && row->field.number < number)
        row_next(row);
    return row->have && row->field.number == number ? &row->field : NULL;
}

static bool list_has(struct slice varints, uint32_t number)
{
    struct reader in = reader_of(varints.p, varints.n);
    while (!in.failed && reader_left(&in) > 0) {
        if (reader_varint(&in) == number && !in.failed)
            return true;
    }
    return false;
}

// Absent, but not because it is NULL.
static bool is_left_out(const struct change *c, uint32_t number, uint32_t exact_field)
{
    return (exact_field == EXACT_AFTER && c->unchanged.n && list_has(c->unchanged, number)) ||
           (exact_field != EXACT_KEY && c->omitted.n && list_has(c->omitted, number));
}

static bool find_exact(const struct change *c, uint32_t exact_field, uint32_t number,
                       struct slice *ret_text)
{
    const struct slice *run = exact_field == EXACT_AFTER    ? &c->exact
                              : exact_field == EXACT_BEFORE ? &c->exact_before
                                                            : &c->exact_key;
    return run->n && change_exact(c, exact_field, number, ret_text);
}

// *ret_exact is set when JSON does not say all of the value.
static int put_value(struct buf *out, const struct column *column, const struct wire_field *f,
                     bool *ret_exact)
{
    bool exact = false;
    if (f->type != kind_wire_type(column->kind))
        return -1;
    if (column->kind >= KIND_ARRAY) {
        if (json_array(out, column, f->bytes, &exact) != 0)
            return -1;
    } else {
        struct scalar s = {f->v, f->bytes};
        if (json_scalar(out, column->kind, column->json_class, &s) != 0)
            return -1;
        exact = column->json_class == JSON_CLASS_JSON && json_is_null(f->bytes);
    }
    *ret_exact |= exact;
    return 0;
}

static int malformed(struct err *err, const struct relation *r, const char *column)
{
    return err_set(err, ERR_DATA, "table %s, relation version %u: the row is malformed at %s",
                   r->table, r->id, column);
}

static int put_row(struct buf *out, const struct relation *r, struct slice bytes,
                   const struct change *c, uint32_t exact_field, bool key_only, bool *ret_exact,
                   struct err *err)
{
    struct row row = row_of(bytes);
    size_t start = out->n;
    for (size_t i = 0; i < r->column_count; i++) {
        const struct column *column = &r->columns[i];
        struct slice text;
        if (key_only && !column->key)
            continue;
        const struct wire_field *f = row_field(&row, column->number);
        bool exact = !f && find_exact(c, exact_field, column->number, &text);
        if (!f && !exact && is_left_out(c, column->number, exact_field))
            continue;
        put_field(out, column->name);
        if (exact)
            put_slice(out, text);
        else if (!f)
            buf_put(out, "null", 4);
        else if (put_value(out, column, f, ret_exact) != 0)
            return malformed(err, r, column->name);
    }
    while (row.have)
        row_next(&row);
    if (row.in.failed)
        return malformed(err, r, "its end");
    if (out->n == start)
        buf_putc(out, '{');
    else
        out->p[start] = '{'; // where the first comma was
    buf_putc(out, '}');
    return 0;
}

int json_row(struct buf *out, const struct relation *r, struct slice row, const struct change *c,
             uint32_t exact_field, bool key_only, struct err *err)
{
    size_t start = out->n;
    bool exact = false;
    if (put_row(out, r, row, c, exact_field, key_only, &exact, err) != 0) {
        out->n = start;
        return -1;
    }
    return 0;
}

// {"doc":"null"}: PostgreSQL's text of the values that JSON does not say all of. The row was put
// before: it is well formed.
static void put_exact(struct buf *out, const struct relation *r, struct slice bytes)
{
    AUTO_BUF struct buf discard = {0}, text = {0};
    struct row row = row_of(bytes);
    size_t start = out->n;
    for (size_t i = 0; i < r->column_count; i++) {
        const struct column *column = &r->columns[i];
        const struct wire_field *f = row_field(&row, column->number);
        bool exact = false;
        buf_clear(&discard);
        if (!f || put_value(&discard, column, f, &exact) != 0 || !exact)
            continue;
        buf_clear(&text);
        put_field(out, column->name);
        if (column->kind < KIND_ARRAY)
            put_slice(out, f->bytes);
        else if (array_text(&text, column, f->bytes) == 0)
            put_slice(out, buf_slice(&text));
        else
            buf_puts(out, "null");
    }
    out->p[start] = '{';
    buf_putc(out, '}');
}

// ---- changes ----

static void put_names(struct buf *out, const char *field, const struct relation *r,
                      struct slice numbers)
{
    struct reader in = reader_of(numbers.p, numbers.n);
    char separator = '[';
    put_field(out, field);
    while (!in.failed && reader_left(&in) > 0) {
        const struct column *column = relation_column(r, (uint32_t)reader_varint(&in));
        if (!column || in.failed)
            continue;
        buf_putc(out, separator);
        put_text(out, column->name);
        separator = ',';
    }
    if (separator == '[')
        buf_putc(out, separator);
    buf_putc(out, ']');
}

static int put_rows(struct buf *out, const struct relation *r, const struct change *c,
                    struct err *err)
{
    const struct {
        const char *name, *exact_name;
        struct slice row;
        uint32_t exact_field;
    } parts[] = {
        {"key", "exact_key", c->key, EXACT_KEY},
        {"row", "exact", c->after, EXACT_AFTER},
        {"old", "exact_old", c->before, EXACT_BEFORE},
    };
    bool exact[ARRAY_LEN(parts)] = {0};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint32_t field = parts[i].exact_field;
        if (!parts[i].row.p)
            continue;
        put_field(out, parts[i].name);
        if (put_row(out, r, parts[i].row, c, field, field == EXACT_KEY, &exact[i], err) != 0)
            return -1;
    }
    if (c->unchanged.n)
        put_names(out, "unchanged", r, c->unchanged);
    if (c->omitted.n)
        put_names(out, "omitted", r, c->omitted);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!exact[i])
            continue;
        put_field(out, parts[i].exact_name);
        put_exact(out, r, parts[i].row);
    }
    return 0;
}

static void put_bool(struct buf *out, bool v)
{
    buf_puts(out, v ? "true" : "false");
}

static int put_truncate(struct buf *out, struct slice message)
{
    struct reader in = reader_of(message.p, message.n);
    struct wire_field f;
    bool cascade = false, restart = false;
    char separator = '[';
    buf_puts(out, ",\"tables\":");
    while (wire_next(&in, &f)) {
        if (f.number == 1) {
            cascade = f.v != 0;
        } else if (f.number == 2) {
            restart = f.v != 0;
        } else if (f.number == 3) {
            buf_putc(out, separator);
            put_slice(out, f.bytes);
            separator = ',';
        }
    }
    if (separator == '[')
        buf_putc(out, separator);
    buf_puts(out, "],\"cascade\":");
    put_bool(out, cascade);
    buf_puts(out, ",\"restart_identity\":");
    put_bool(out, restart);
    return reader_done(&in) ? 0 : -1;
}

static int put_message(struct buf *out, struct slice message)
{
    struct reader in = reader_of(message.p, message.n);
    struct wire_field f;
    struct slice prefix = {0}, content = {0};
    bool transactional = false;
    while (wire_next(&in, &f)) {
        if (f.number == 1)
            prefix = f.bytes;
        else if (f.number == 2)
            content = f.bytes;
        else if (f.number == 3)
            transactional = f.v != 0;
    }
    buf_puts(out, ",\"prefix\":");
    put_slice(out, prefix);
    buf_puts(out, ",\"content\":");
    json_base64(out, content);
    buf_puts(out, ",\"transactional\":");
    put_bool(out, transactional);
    return reader_done(&in) ? 0 : -1;
}

static void put_cursor(struct buf *out, const struct json_context *x, struct position at,
                       uint32_t attempt)
{
    struct cursor cursor = {x->stream_id, x->timeline, at, attempt};
    buf_puts(out, ",\"cursor\":\"");
    out->n += cursor_text(&cursor, (char *)buf_room(out, CURSOR_TEXT_MAX));
    buf_putc(out, '"');
}

// What every change says of its place and its transaction.
static void put_place(struct buf *out, const struct json_context *x, const struct change *c)
{
    const struct begin *begin = &x->begin;
    put_cursor(out, x, (struct position){begin->lsn, c->ordinal}, begin->attempt);
    buf_puts(out, ",\"lsn\":");
    json_lsn(out, begin->lsn);
    buf_puts(out, ",\"seq\":");
    json_u64(out, c->ordinal);
    if (c->last)
        buf_puts(out, ",\"last\":true");
    if (begin->xid) {
        buf_puts(out, ",\"xid\":");
        json_u64(out, begin->xid);
    }
    if (begin->commit_time_us) {
        buf_puts(out, ",\"time\":");
        json_time(out, begin->commit_time_us);
    }
    if (begin->origin.n) {
        buf_puts(out, ",\"origin\":");
        put_slice(out, begin->origin);
    }
}

static int put_change(struct buf *out, const struct json_context *x, const struct change *c,
                      struct err *err)
{
    buf_puts(out, "{\"op\":\"");
    buf_puts(out, op_name(c->op));
    buf_putc(out, '"');
    if (c->op == OP_MESSAGE) {
        if (put_message(out, c->message) != 0)
            return err_set(err, ERR_DATA, "a logical message is malformed");
    } else {
        const struct relation *r = catalog_get(x->catalog, c->relation);
        if (!r)
            return err_set(err, ERR_DATA, "a change names relation version %u, which is not known",
                           c->relation);
        buf_puts(out, ",\"table\":");
        put_text(out, r->table);
        if (put_rows(out, r, c, err) != 0)
            return -1;
        if (c->op == OP_TRUNCATE && put_truncate(out, c->truncate) != 0)
            return err_set(err, ERR_DATA, "a truncate of %s is malformed", r->table);
    }
    put_place(out, x, c);
    buf_putc(out, '}');
    return 0;
}

void json_context_begin(struct json_context *x, const struct batch *b, const struct entry *e)
{
    x->begin = batch_begin(b, e);
}

int json_change(struct buf *out, const struct json_context *x, const struct batch *b,
                const struct entry *e, struct err *err)
{
    struct change c = batch_change(b, e);
    size_t start = out->n;
    if (put_change(out, x, &c, err) != 0) {
        out->n = start;
        return -1;
    }
    return 0;
}

// ---- other entries ----

void json_column(struct buf *out, const struct column *c)
{
    buf_puts(out, "{\"name\":");
    put_text(out, c->name);
    buf_puts(out, ",\"number\":");
    json_u64(out, c->number);
    buf_puts(out, ",\"type\":");
    put_text(out, c->type);
    buf_puts(out, ",\"base_type\":");
    put_text(out, c->base_type);
    if (c->key)
        buf_puts(out, ",\"key\":true");
    if (c->masked)
        buf_puts(out, ",\"masked\":true");
    buf_putc(out, '}');
}

void json_relation(struct buf *out, const struct relation *r)
{
    buf_puts(out, "{\"type\":\"relation\"");
    buf_puts(out, ",\"table\":");
    put_text(out, r->table);
    buf_puts(out, ",\"schema\":");
    put_text(out, r->schema);
    buf_puts(out, ",\"name\":");
    put_text(out, r->name);
    buf_puts(out, ",\"replica_identity\":");
    put_text(out, relation_identity_name(r));
    buf_puts(out, ",\"columns\":");
    buf_putc(out, '[');
    for (size_t i = 0; i < r->column_count; i++) {
        if (i)
            buf_putc(out, ',');
        json_column(out, &r->columns[i]);
    }
    buf_puts(out, "]}");
}

void json_end(struct buf *out, const struct json_context *x, const struct batch *b,
              const struct entry *e)
{
    struct slice body = entry_body(b, e);
    struct reader in = reader_of(body.p, body.n);
    struct wire_field f;
    uint64_t changes = 0;
    while (wire_next(&in, &f)) {
        if (f.number == 3)
            changes = f.v;
    }
    struct position at = batch_entry_position(b, e, &x->begin);
    buf_puts(out, "{\"type\":\"end\"");
    buf_puts(out, ",\"lsn\":");
    json_lsn(out, x->begin.lsn);
    if (x->begin.read) { // of existing rows, which no commit record ends
        buf_puts(out, ",\"seq\":");
        json_u64(out, at.ordinal);
    } else {
        buf_puts(out, ",\"end_lsn\":");
        json_lsn(out, batch_end_lsn(b, e));
    }
    if (x->begin.xid) {
        buf_puts(out, ",\"xid\":");
        json_u64(out, x->begin.xid);
    }
    buf_puts(out, ",\"changes\":");
    json_u64(out, changes);
    put_cursor(out, x, at, x->begin.attempt);
    buf_putc(out, '}');
}

void json_progress(struct buf *out, const struct json_context *x, lsn_t lsn, struct position at)
{
    buf_puts(out, "{\"type\":\"progress\"");
    buf_puts(out, ",\"lsn\":");
    json_lsn(out, lsn);
    put_cursor(out, x, at, 0);
    buf_putc(out, '}');
}

void json_snapshot_mark(struct buf *out, const struct json_context *x, const struct batch *b,
                        const struct entry *e)
{
    struct snapshot_mark m = batch_snapshot_mark(b, e);
    buf_puts(out, "{\"type\":\"snapshot\",\"step\":");
    put_text(out, snapshot_step_name(m.step));
    buf_puts(out, ",\"table\":");
    put_slice(out, m.table);
    if (m.rows || m.step == SNAPSHOT_END) {
        buf_puts(out, ",\"rows\":");
        json_u64(out, m.rows);
    }
    if (m.reason.n) {
        buf_puts(out, ",\"reason\":");
        put_slice(out, m.reason);
    }
    buf_puts(out, ",\"lsn\":");
    json_lsn(out, m.at.lsn);
    buf_puts(out, ",\"seq\":");
    json_u64(out, m.at.ordinal);
    put_cursor(out, x, m.at, 0);
    buf_putc(out, '}');
}

void json_gap(struct buf *out, const struct json_context *x, const struct batch *b,
              const struct entry *e)
{
    struct slice body = entry_body(b, e), reason = {0};
    struct reader in = reader_of(body.p, body.n);
    struct wire_field f;
    lsn_t from = 0, to = 0;
    while (wire_next(&in, &f)) {
        if (f.number == 1)
            from = f.v;
        else if (f.number == 2)
            to = f.v;
        else if (f.number == 3)
            reason = f.bytes;
    }
    buf_puts(out, "{\"type\":\"gap\"");
    buf_puts(out, ",\"from_lsn\":");
    json_lsn(out, from);
    buf_puts(out, ",\"to_lsn\":");
    json_lsn(out, to);
    buf_puts(out, ",\"reason\":");
    put_slice(out, reason);
    put_cursor(out, x, position_before(to), 0);
    buf_putc(out, '}');
}
