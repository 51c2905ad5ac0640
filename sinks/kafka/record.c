#include "sinks/kafka/record.h"

#include "proto/schema_change.h"
#include "proto/wire.h"

// Field numbers of Change.
enum {
    CHANGE_OP = 1,
    CHANGE_RELATION = 2,
    CHANGE_ORDINAL = 3,
    CHANGE_KEY = 4,
    CHANGE_BEFORE = 5,
    CHANGE_AFTER = 6,
    CHANGE_UNCHANGED = 7,
    CHANGE_EXACT = 8,
    CHANGE_EXACT_BEFORE = 9,
    CHANGE_EXACT_KEY = 10,
    CHANGE_LAST = 15,
};

// ---- keys ----

void key_columns_init(struct key_columns *k, const struct relation *r)
{
    *k = (struct key_columns){.numbers = xcalloc(r->column_count + 1u, sizeof *k->numbers)};
    k->n = relation_key_numbers(r, k->numbers);
}

void key_columns_free(struct key_columns *k)
{
    free(k->numbers);
    *k = (struct key_columns){0};
}

// The whole field `number` of a row, tag included; p NULL when it has none.
static struct slice find_field(struct slice row, uint32_t number)
{
    struct reader r = reader_of(row.p, row.n);
    struct wire_field f;
    for (const uint8_t *at = r.p; wire_next(&r, &f); at = r.p) {
        if (f.number == number)
            return (struct slice){at, (size_t)(r.p - at)};
    }
    return (struct slice){NULL, 0};
}

static void put_exact(struct buf *out, uint32_t number, struct slice text)
{
    AUTO_BUF struct buf m = {0};
    wire_uint(&m, 1, number);
    wire_bytes(&m, 2, text.p, text.n);
    wire_bytes(out, CHANGE_EXACT_KEY, m.p, m.n);
}

// A key column that the row does not show.
static void put_absent(struct buf *out, struct buf *exact, uint32_t number, const struct change *c,
                       uint32_t exact_field)
{
    struct slice text, field = {NULL, 0};
    bool unchanged = exact_field == CHANGE_EXACT && change_unchanged(c, number);
    if (unchanged)
        field = find_field(c->key, number);
    if (field.p)
        buf_put(out, field.p, field.n);
    else if (change_exact(c, unchanged ? CHANGE_EXACT_KEY : exact_field, number, &text))
        put_exact(exact, number, text);
}

int key_of_row(struct buf *out, struct buf *exact, const struct key_columns *k, struct slice row,
               const struct change *c, uint32_t exact_field)
{
    struct reader r = reader_of(row.p, row.n);
    struct wire_field f;
    size_t i = 0;
    for (const uint8_t *at = r.p; i < k->n && wire_next(&r, &f); at = r.p) {
        while (i < k->n && k->numbers[i] < f.number)
            put_absent(out, exact, k->numbers[i++], c, exact_field);
        if (i < k->n && k->numbers[i] == f.number) {
            buf_put(out, at, (size_t)(r.p - at));
            i++;
        }
    }
    while (i < k->n)
        put_absent(out, exact, k->numbers[i++], c, exact_field);
    return r.failed ? -1 : 0;
}

// ---- the encoder ----

void encoder_init(struct encoder *x, const struct format *format, bool tombstones,
                  const struct catalog *catalog)
{
    *x = (struct encoder){.format = format, .tombstones = tombstones, .context.catalog = catalog};
}

void encoder_free(struct encoder *x)
{
    struct buf *bufs[] = {&x->cursor,    &x->xid,     &x->keys[0], &x->keys[1],     &x->values[0],
                          &x->values[1], &x->row_key, &x->exact,   &x->cursor_value};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_free(bufs[i]);
}

void encoder_identify(struct encoder *x, uint64_t stream_id, uint32_t timeline)
{
    x->context.stream_id = stream_id;
    x->context.timeline = timeline;
}

void encoder_begin(struct encoder *x, const struct batch *b, const struct entry *entry)
{
    json_context_begin(&x->context, b, entry);
    struct cursor c = {.stream_id = x->context.stream_id,
                       .timeline = x->context.timeline,
                       .at.lsn = x->context.begin.lsn};
    char text[CURSOR_TEXT_MAX];
    size_t n = cursor_text(&c, text);
    buf_clear(&x->cursor);
    buf_put(&x->cursor, text, n - 1); // without the ordinal, which is 0 here
    buf_clear(&x->xid);
    buf_put_u64(&x->xid, x->context.begin.xid);
}

// Not null, also when it is empty.
static struct slice key_slice(const struct buf *b)
{
    return (struct slice){b->p ? b->p : (const uint8_t *)"", b->n};
}

static void put_hex(struct buf *out, uint64_t v)
{
    uint8_t text[16], *at = text + sizeof text;
    do {
        *--at = (uint8_t) "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v);
    buf_put(out, at, (size_t)(text + sizeof text - at));
}

static void add_header(struct record *r, const char *name, struct slice value)
{
    CHECK(r->header_count < HEADERS_MAX);
    r->headers[r->header_count++] = (struct header){name, value};
}

static void put_headers(struct encoder *x, struct record *rec, const struct change *c, enum op op)
{
    buf_clear(&x->cursor_value);
    buf_put(&x->cursor_value, x->cursor.p, x->cursor.n);
    put_hex(&x->cursor_value, c->ordinal);
    if (x->context.begin.attempt) {
        buf_putc(&x->cursor_value, '.');
        put_hex(&x->cursor_value, x->context.begin.attempt);
    }
    add_header(rec, "op", slice_of(op_name(op)));
    add_header(rec, "cursor", buf_slice(&x->cursor_value));
    if (x->context.begin.xid)
        add_header(rec, "xid", buf_slice(&x->xid));
    if (x->context.begin.origin.n)
        add_header(rec, "origin", x->context.begin.origin);
}

// ---- an update that changes the key ----

static void encode_change(struct buf *out, const struct change *c)
{
    wire_uint(out, CHANGE_OP, c->op);
    wire_uint(out, CHANGE_RELATION, c->relation);
    wire_uint(out, CHANGE_ORDINAL, c->ordinal);
    if (c->key.p)
        wire_bytes(out, CHANGE_KEY, c->key.p, c->key.n);
    if (c->before.p)
        wire_bytes(out, CHANGE_BEFORE, c->before.p, c->before.n);
    if (c->after.p)
        wire_bytes(out, CHANGE_AFTER, c->after.p, c->after.n);
    if (c->unchanged.n)
        wire_bytes(out, CHANGE_UNCHANGED, c->unchanged.p, c->unchanged.n);
    buf_put(out, c->exact.p, c->exact.n);
    buf_put(out, c->exact_before.p, c->exact_before.n);
    buf_put(out, c->exact_key.p, c->exact_key.n);
    if (c->last)
        wire_uint(out, CHANGE_LAST, 1);
}

// The value of a change that stands in no batch: through a batch made for it, when the format wants
// more than the Change itself.
static int made_value(struct encoder *x, const struct change *c, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf change = {0}, begin = {0}, entries = {0}, data = {0};
    encode_change(&change, c);
    if (x->format == &format_protobuf) {
        buf_put(out, change.p, change.n);
        return 0;
    }
    wire_fixed64(&begin, 1, x->context.begin.lsn);
    wire_bytes(&entries, ENTRY_BEGIN, begin.p, begin.n);
    wire_bytes(&data, 1, entries.p, entries.n);
    buf_clear(&entries);
    wire_bytes(&entries, ENTRY_CHANGE, change.p, change.n);
    wire_bytes(&data, 1, entries.p, entries.n);
    uint8_t *bytes = xmalloc(BATCH_HEADROOM + data.n);
    memcpy(bytes + BATCH_HEADROOM, data.p, data.n);
    struct batch *b;
    if (batch_parse(bytes, data.n, &b, e) != 0)
        return -1;
    bool borrowed;
    int r = x->format->value(out, &x->context, b, &b->entries[1], &borrowed, e);
    batch_unref(b);
    return r;
}

static int split_update(struct encoder *x, const struct change *c,
                        struct record records[RECORDS_MAX], struct err *e)
{
    struct change gone = {.op = OP_DELETE,
                          .relation = c->relation,
                          .ordinal = c->ordinal,
                          .key = c->key,
                          .before = c->before,
                          .exact_before = c->exact_before,
                          .exact_key = c->exact_key};
    struct change come = *c;
    come.op = OP_INSERT;
    come.key = buf_slice(&x->row_key);
    come.exact_key = buf_slice(&x->exact);
    come.before = come.exact_before = (struct slice){NULL, 0};
    if (made_value(x, &gone, &x->values[0], e) != 0 || made_value(x, &come, &x->values[1], e) != 0)
        return -1;
    struct slice old_key = key_slice(&x->keys[0]), new_key = key_slice(&x->keys[1]);
    int n = 0;
    struct record *rec = &records[n++];
    *rec = (struct record){.key = old_key, .value = buf_slice(&x->values[0])};
    put_headers(x, rec, c, OP_DELETE);
    add_header(rec, "new_key", new_key);
    if (x->tombstones) {
        records[n] = *rec;
        records[n].value = (struct slice){NULL, 0};
        add_header(&records[n++], "part", slice_of("1"));
    }
    rec = &records[n++];
    *rec = (struct record){.key = new_key, .value = buf_slice(&x->values[1])};
    put_headers(x, rec, c, OP_INSERT);
    add_header(rec, "old_key", old_key);
    add_header(rec, "part", slice_of("2"));
    return n;
}

// ---- a change ----

// The key of a change into keys[0]; false: it has none. For an update also that of the new row,
// into keys[1] if it differs.
static int put_keys(struct encoder *x, const struct relation *r, const struct key_columns *k,
                    const struct change *c, bool *ret_has, bool *ret_changed, struct err *e)
{
    struct slice row = c->op == OP_DELETE ? c->before : c->after;
    uint32_t exact_field = c->op == OP_DELETE ? CHANGE_EXACT_BEFORE : CHANGE_EXACT;
    bool derive = row.p && (!c->key.p || c->op == OP_UPDATE);
    *ret_has = k->n > 0 && (c->key.p || row.p);
    *ret_changed = false;
    if (!*ret_has)
        return 0;
    if (derive && key_of_row(&x->row_key, &x->exact, k, row, c, exact_field) != 0)
        return err_set(e, ERR_DATA, "table %s, relation version %u: a row is malformed", r->table,
                       r->id);
    struct slice derived = key_slice(&x->row_key), exact = buf_slice(&x->exact);
    if (!c->key.p)
        return x->format->key(&x->keys[0], r, derived, exact, e);
    if (x->format->key(&x->keys[0], r, c->key, c->exact_key, e) != 0)
        return -1;
    if (!derive || (derived.n == c->key.n && exact.n == c->exact_key.n &&
                    memcmp(derived.p, c->key.p, derived.n) == 0 &&
                    (exact.n == 0 || memcmp(exact.p, c->exact_key.p, exact.n) == 0)))
        return 0;
    *ret_changed = true;
    return x->format->key(&x->keys[1], r, derived, exact, e);
}

static struct slice message_prefix(struct slice message)
{
    struct reader r = reader_of(message.p, message.n);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number == 1 && f.type == WIRE_LEN)
            return f.bytes;
    }
    return (struct slice){NULL, 0};
}

static void clear_scratch(struct encoder *x)
{
    buf_clear(&x->keys[0]);
    buf_clear(&x->keys[1]);
    buf_clear(&x->values[0]);
    buf_clear(&x->values[1]);
    buf_clear(&x->row_key);
    buf_clear(&x->exact);
}

int encoder_change(struct encoder *x, const struct batch *b, const struct entry *entry,
                   const struct relation *r, const struct key_columns *k,
                   struct record records[RECORDS_MAX], struct err *e)
{
    struct change c = batch_change(b, entry);
    bool has_key = true, key_changed = false;
    clear_scratch(x);
    if (c.op == OP_MESSAGE) {
        if (x->format->message_key(&x->keys[0], message_prefix(c.message), e) != 0)
            return -1;
    } else if (c.op == OP_TRUNCATE) {
        struct slice none = {NULL, 0};
        if (k->n > 0 && x->format->key(&x->keys[0], r, none, none, e) != 0)
            return -1;
        has_key = k->n > 0;
    } else if (put_keys(x, r, k, &c, &has_key, &key_changed, e) != 0) {
        return -1;
    }
    if (key_changed)
        return split_update(x, &c, records, e);

    struct record *rec = &records[0];
    *rec = (struct record){0};
    if (x->format->value(&x->values[0], &x->context, b, entry, &rec->borrowed, e) != 0)
        return -1;
    rec->value = rec->borrowed ? c.body : buf_slice(&x->values[0]);
    if (has_key)
        rec->key = key_slice(&x->keys[0]);
    put_headers(x, rec, &c, c.op);
    if (c.op != OP_DELETE || !has_key || !x->tombstones)
        return 1;
    records[1] = *rec;
    records[1].value = (struct slice){NULL, 0};
    add_header(&records[1], "part", slice_of("1"));
    return 2;
}

// ---- what is no change ----

int encoder_event(struct encoder *x, const struct batch *b, const struct entry *entry,
                  struct record *rec, struct err *e)
{
    static const char *const types[] = {
        [ENTRY_SNAPSHOT] = "snapshot", [ENTRY_SCHEMA] = "schema_change", [ENTRY_GAP] = "gap"};
    struct slice table = {NULL, 0};
    struct cursor at = {.stream_id = x->context.stream_id,
                        .timeline = x->context.timeline,
                        .at = batch_entry_position(b, entry, &x->context.begin)};
    if (entry->kind == ENTRY_SCHEMA)
        at.attempt = x->context.begin.attempt;
    char cursor[CURSOR_TEXT_MAX];
    clear_scratch(x);
    if (entry->kind == ENTRY_SNAPSHOT)
        table = batch_snapshot_mark(b, entry).table;
    else if (entry->kind == ENTRY_SCHEMA)
        table = batch_schema_change(b, entry).table;
    x->format->event_key(&x->keys[0], table);
    if (x->format->event(&x->values[0], &x->context, b, entry, e) != 0)
        return -1;
    buf_clear(&x->cursor_value);
    buf_put(&x->cursor_value, cursor, cursor_text(&at, cursor));
    *rec = (struct record){.key = key_slice(&x->keys[0]), .value = buf_slice(&x->values[0])};
    add_header(rec, "type", slice_of(types[entry->kind]));
    add_header(rec, "cursor", buf_slice(&x->cursor_value));
    if (entry->kind == ENTRY_SCHEMA)
        add_header(rec, "xid", buf_slice(&x->xid));
    return 1;
}
