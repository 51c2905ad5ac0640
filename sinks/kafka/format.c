// Formats of keys and values.
#include "proto/schema_change.h"
#include "proto/wire.h"
#include "sinks/kafka/record.h"

// ---- protobuf: the key is the key row, the value the Change, both as they stand in the batch ----

// A key value that its type cannot hold (a timestamp of infinity) is not in the key row. Two such
// keys must differ all the same: their Exact messages follow in a field that no column ever has.
#define KEY_EXACT_FIELD ((UINT32_C(1) << 29) - 1)

static int protobuf_key(struct buf *out, const struct relation *r, struct slice key,
                        struct slice exact, struct err *e)
{
    (void)r;
    (void)e;
    buf_put(out, key.p, key.n);
    struct reader in = reader_of(exact.p, exact.n);
    struct wire_field f;
    while (wire_next(&in, &f))
        wire_bytes(out, KEY_EXACT_FIELD, f.bytes.p, f.bytes.n);
    return 0;
}

static int protobuf_message_key(struct buf *out, struct slice prefix, struct err *e)
{
    (void)e;
    wire_bytes(out, 1, prefix.p, prefix.n); // LogicalMessage.prefix
    return 0;
}

static int protobuf_value(struct buf *out, const struct json_context *x, const struct batch *b,
                          const struct entry *entry, bool *ret_borrowed, struct err *e)
{
    (void)out;
    (void)x;
    (void)b;
    (void)entry;
    (void)e;
    *ret_borrowed = true;
    return 0;
}

static void protobuf_event_key(struct buf *out, struct slice table)
{
    if (table.p)
        wire_bytes(out, 1, table.p, table.n); // EventKey.table
}

// The Entry as it stands in the batch.
static int protobuf_event(struct buf *out, const struct json_context *x, const struct batch *b,
                          const struct entry *entry, struct err *e)
{
    (void)x;
    (void)e;
    struct slice body = entry_body(b, entry);
    wire_bytes(out, entry->kind, body.p, body.n);
    return 0;
}

const struct format format_protobuf = {
    .name = "protobuf",
    .key = protobuf_key,
    .message_key = protobuf_message_key,
    .event_key = protobuf_event_key,
    .value = protobuf_value,
    .event = protobuf_event,
};

// ---- JSON ----

static int json_key(struct buf *out, const struct relation *r, struct slice key, struct slice exact,
                    struct err *e)
{
    if (!key.p) {
        buf_puts(out, "{}");
        return 0;
    }
    struct change c = {.exact_key = exact};
    return json_row(out, r, key, &c, 10, true, e);
}

static int json_message_key(struct buf *out, struct slice prefix, struct err *e)
{
    (void)e;
    buf_puts(out, "{\"prefix\":");
    json_string(out, (const char *)prefix.p, prefix.n);
    buf_putc(out, '}');
    return 0;
}

static int json_value(struct buf *out, const struct json_context *x, const struct batch *b,
                      const struct entry *entry, bool *ret_borrowed, struct err *e)
{
    *ret_borrowed = false;
    return json_change(out, x, b, entry, e);
}

static void json_event_key(struct buf *out, struct slice table)
{
    buf_puts(out, table.p ? "{\"table\":" : "{");
    if (table.p)
        json_string(out, (const char *)table.p, table.n);
    buf_putc(out, '}');
}

static int json_event(struct buf *out, const struct json_context *x, const struct batch *b,
                      const struct entry *entry, struct err *e)
{
    if (entry->kind == ENTRY_SCHEMA)
        return json_schema_change(out, x, b, entry, e);
    if (entry->kind == ENTRY_SNAPSHOT)
        json_snapshot_mark(out, x, b, entry);
    else
        json_gap(out, x, b, entry);
    return 0;
}

const struct format format_json = {
    .name = "json",
    .key = json_key,
    .message_key = json_message_key,
    .event_key = json_event_key,
    .value = json_value,
    .event = json_event,
};
