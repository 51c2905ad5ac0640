#include "proto/row.h"

#include "proto/scalar.h"
#include "proto/types.h"
#include "proto/utf8.h"

#define MASK "****" // a masked column's value, unless it is NULL

struct row_field {
    uint32_t number;
    uint16_t index; // in the tuple
    uint8_t kind;   // enum kind
    bool key;
    bool masked;
    char delimiter;          // an array's
    bool direct;             // the kind is its type's own: binary values need not become text first
    const struct type *type; // NULL: binary values cannot be read
    uint8_t tag_n;
    uint8_t tag[5];
};

// ---- the map ----

static int by_number(const void *a, const void *b)
{
    const struct row_field *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

void row_map_init(struct row_map *map)
{
    map->field_count = 0;
    map->fields = xcalloc(map->n ? map->n : 1, sizeof map->fields[0]);
    for (uint16_t i = 0; i < map->n; i++) {
        const struct column *c = map->columns[i];
        if (!c)
            continue;
        struct row_field *f = &map->fields[map->field_count++];
        enum kind kind = c->masked ? KIND_STRING : c->kind;
        *f = (struct row_field){.number = c->number, .index = i, .kind = (uint8_t)kind};
        f->key = c->key;
        f->masked = c->masked;
        f->delimiter = type_array_delimiter(c->base_type);
        if (map->binary)
            f->type = map->binary->find(map->binary->arg, c->type_oid);
        f->direct = f->type && f->type->kind == kind && kind != KIND_STRING;
        uint64_t tag = (uint64_t)c->number << 3 | kind_wire_type(kind);
        f->tag_n = (uint8_t)(varint_write(f->tag, tag) - f->tag);
    }
    qsort(map->fields, map->field_count, sizeof map->fields[0], by_number);
}

void row_map_fini(struct row_map *map)
{
    free(map->fields);
    map->fields = NULL;
    map->field_count = 0;
}

void row_out_clear(struct row_out *out)
{
    buf_clear(&out->row);
    buf_clear(&out->exact);
    buf_clear(&out->unchanged);
}

void row_out_fini(struct row_out *out)
{
    buf_free(&out->row);
    buf_free(&out->exact);
    buf_free(&out->unchanged);
    buf_free(&out->text);
    array_scratch_fini(&out->scratch);
}

// ---- values ----

// An Exact field. Text that is not UTF-8 stands there twice: mended to read, and as it is.
static void put_exact(struct buf *out, enum row_part part, uint32_t number, const char *text,
                      size_t n)
{
    static const uint8_t change_field[] = {[ROW_KEY] = 10, [ROW_BEFORE] = 9, [ROW_AFTER] = 8};
    enum { EXACT_NUMBER = 1, EXACT_TEXT = 2, EXACT_RAW = 3 };
    AUTO_BUF struct buf body = {0};
    wire_uint(&body, EXACT_NUMBER, number);
    if (utf8_valid(text, n)) {
        wire_bytes(&body, EXACT_TEXT, text, n);
    } else {
        AUTO_BUF struct buf mended = {0};
        utf8_put_mended(&mended, text, n);
        wire_bytes(&body, EXACT_TEXT, mended.p, mended.n);
        wire_bytes(&body, EXACT_RAW, text, n);
    }
    wire_bytes(out, change_field[part], body.p, body.n);
}

static void put_value(struct row_out *out, const struct row_field *f, const char *text, size_t n,
                      enum row_part part)
{
    struct buf *row = &out->row;
    size_t before = row->n;
    memcpy(buf_room(row, sizeof f->tag), f->tag, sizeof f->tag);
    row->n += f->tag_n;
    if (f->masked) {
        text = MASK;
        n = sizeof MASK - 1;
    }
    bool held = f->kind < KIND_ARRAY
                    ? scalar_encode(row, f->kind, text, n)
                    : array_encode(row, &out->scratch, f->kind - KIND_ARRAY, f->delimiter, text, n);
    if (unlikely(!held)) {
        row->n = before;
        put_exact(&out->exact, part, f->number, text, n);
    }
}

static bool encode_direct(struct row_out *out, const struct row_map *map, const struct row_field *f,
                          struct slice bytes)
{
    if (f->kind < KIND_ARRAY)
        return scalar_encode_binary(&out->row, f->kind, bytes);
    bool broken; // then so is its text
    return array_encode_binary(&out->row, &out->scratch, f->kind - KIND_ARRAY, map->binary, f->type,
                               bytes, &broken);
}

static bool put_binary(struct row_out *out, const struct row_map *map, const struct row_field *f,
                       struct slice bytes, enum row_part part)
{
    struct slice text = bytes;
    if (f->direct) {
        struct buf *row = &out->row;
        size_t before = row->n;
        buf_put(row, f->tag, f->tag_n);
        if (likely(encode_direct(out, map, f, bytes)))
            return true;
        row->n = before;
    }
    if (!f->type)
        return false;
    if (!binary_plain(f->type, bytes, &text)) {
        buf_clear(&out->text);
        if (!binary_text(map->binary, f->type, bytes, &out->text))
            return false;
        text = buf_slice(&out->text);
    }
    put_value(out, f, text.n ? (const char *)text.p : "", text.n, part);
    return true;
}

static bool has_value(const struct value *v)
{
    return v->state == VALUE_TEXT || v->state == VALUE_BINARY;
}

static int unreadable(const struct column *c, struct err *e)
{
    return err_set(e, ERR_RETRY, "column %s of type %s: its binary form is none that is known here",
                   c->name, c->type);
}

static int too_large(const struct column *c, size_t max, struct err *e)
{
    return err_set(e, ERR_DATA,
                   "a row of more than %zu bytes, as events have them, at column %s; remedy: "
                   "exclude it, or another large column",
                   max, c->name);
}

int row_encode(struct row_out *out, const struct row_map *map, const struct tuple *t,
               const struct tuple *old, enum row_part part, struct err *e)
{
    if (t->n != map->n || (old && old->n != map->n))
        return err_set(e, ERR_DATA, "a row of %u columns where its relation has %u",
                       t->n != map->n ? t->n : old->n, map->n);
    const size_t before = out->row.n + out->exact.n, max = out->max ? out->max : ROW_PART_MAX;
    for (uint16_t i = 0; i < map->field_count; i++) {
        const struct row_field *f = &map->fields[i];
        if (part == ROW_KEY && !f->key)
            continue;
        const struct value *v = &t->values[f->index];
        if (unlikely(v->state == VALUE_UNCHANGED)) {
            if (part != ROW_AFTER)
                return err_set(e, ERR_DATA,
                               "the server left out the value of column %s in a key or an old row; "
                               "remedy: update PostgreSQL to its newest minor release",
                               map->columns[f->index]->name);
            if (old && has_value(&old->values[f->index]))
                v = &old->values[f->index];
            else
                wire_varint(&out->unchanged, f->number);
        }
        if (v->state == VALUE_TEXT || (unlikely(f->masked) && v->state == VALUE_BINARY))
            put_value(out, f, v->text, v->n, part);
        else if (v->state == VALUE_BINARY &&
                 !put_binary(out, map, f, (struct slice){(const uint8_t *)v->text, v->n}, part))
            return unreadable(map->columns[f->index], e);
        if (unlikely(out->row.n + out->exact.n - before > max))
            return too_large(map->columns[f->index], max, e);
    }
    return 0;
}
