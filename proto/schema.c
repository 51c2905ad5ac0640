// Names in the file follow from a table's name alone, so that a new table never renames another's
// message:
//   public.order_items  -> PublicOrderItems, PublicOrderItemsChange
//   my_shop.items       -> MyShop_Items (the bar keeps my.shop_items apart)
//   public."Odd.Name"   -> PublicOddName_1a2b3c4d (a hash: what was left out of the name)
#include "proto/schema.h"

#include <stdio.h>
#include <xxhash.h>

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// ---- messages ----

// Words of small letters and digits, each from a letter, with one bar between: CamelCase loses
// nothing of it.
static bool is_plain(const char *name)
{
    char last = '_';
    for (const char *s = name; *s; last = *s++) {
        if (last == '_' ? !is_lower(*s) : !(is_lower(*s) || is_digit(*s) || *s == '_'))
            return false;
    }
    return last != '_';
}

static void put_camel(struct buf *out, const char *name)
{
    bool start = true;
    for (const char *s = name; *s; s++) {
        if (!is_lower(*s) && !is_upper(*s) && !is_digit(*s)) {
            start = true;
            continue;
        }
        buf_putc(out, start && is_lower(*s) ? (char)(*s - 'a' + 'A') : *s);
        start = false;
    }
}

// The table's message. One that ends like another table's Change is told apart by its hash too.
static void put_message_name(struct buf *out, const struct relation *r)
{
    static const char change[] = "change";
    size_t n = strlen(r->name), tail = sizeof change - 1;
    bool like_change = n >= tail && strcmp(r->name + n - tail, change) == 0;
    bool first_is_letter = is_lower(r->schema[0]) || is_upper(r->schema[0]);
    if (!first_is_letter)
        buf_putc(out, 'T');
    put_camel(out, r->schema);
    if (strchr(r->schema, '_'))
        buf_putc(out, '_');
    put_camel(out, r->name);
    if (!is_plain(r->schema) || !is_plain(r->name) || like_change)
        buf_printf(out, "_%08x", (uint32_t)XXH3_64bits(r->table, strlen(r->table)));
}

// ---- fields ----

struct field {
    const struct column *column;
    char *name;   // in the message
    char *folded; // as protoc compares proto3's JSON names: no bars, no case
};

static char *fold(const char *name)
{
    char *folded = xstrdup(name), *at = folded;
    for (const char *s = name; *s; s++) {
        if (*s != '_')
            *at++ = is_upper(*s) ? (char)(*s - 'A' + 'a') : *s;
    }
    *at = 0;
    return folded;
}

static char *identifier(const char *name)
{
    char *id = xasprintf("%s%s", is_digit(name[0]) || !name[0] ? "_" : "", name);
    for (char *s = id; *s; s++) {
        if (!is_lower(*s) && !is_upper(*s) && !is_digit(*s))
            *s = '_';
    }
    return id;
}

static bool is_free(const struct field *fields, size_t n, const char *folded)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(fields[i].folded, folded) == 0)
            return false;
    }
    return folded[0] != 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = ((const struct field *)a)->column->number;
    uint32_t y = ((const struct field *)b)->column->number;
    return (x > y) - (x < y);
}

// The columns by number, with names for protobuf. Of two whose names fall together the lower number
// keeps the name, the other gets its number behind it.
static struct field *fields_of(const struct relation *r)
{
    struct field *fields = xcalloc(r->column_count + 1u, sizeof *fields);
    for (size_t i = 0; i < r->column_count; i++)
        fields[i].column = &r->columns[i];
    qsort(fields, r->column_count, sizeof *fields, by_number);
    for (size_t i = 0; i < r->column_count; i++) {
        struct field *f = &fields[i];
        f->name = identifier(f->column->name);
        f->folded = fold(f->name);
        while (!is_free(fields, i, f->folded)) {
            char *longer = xasprintf("%s_%u", f->name, f->column->number);
            free(f->name);
            free(f->folded);
            f->name = longer;
            f->folded = fold(longer);
        }
    }
    return fields;
}

static void fields_free(struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(fields[i].name);
        free(fields[i].folded);
    }
    free(fields);
}

// Text in a comment: of one line.
static void put_comment(struct buf *out, const char *text)
{
    for (const char *s = text; *s; s++)
        buf_putc(out, (uint8_t)*s < 0x20 ? ' ' : *s);
}

static void put_field(struct buf *out, const struct field *f, const char *indent)
{
    const struct column *c = f->column;
    bool scalar = kind_group(c->kind) != GROUP_MESSAGE;
    buf_printf(out, "%soptional %s%s %s = %u;  // ", indent, scalar ? "" : ".",
               kind_proto_type(c->kind), f->name, c->number);
    if (strcmp(f->name, c->name) != 0) {
        buf_putc(out, '"');
        put_comment(out, c->name);
        buf_puts(out, "\" ");
    }
    put_comment(out, c->type);
    if (c->key)
        buf_puts(out, ", key");
    if (c->masked)
        buf_puts(out, ", masked");
    buf_putc(out, '\n');
}

// A name that is still used, or stands among the reserved ones already, may not be reserved.
static bool may_reserve(const struct relation *r, size_t i, const struct field *fields)
{
    const char *name = r->reserved[i].name;
    if (!is_plain(name))
        return false;
    for (size_t k = 0; k < r->column_count; k++) {
        if (strcmp(fields[k].name, name) == 0)
            return false;
    }
    for (size_t k = 0; k < i; k++) {
        if (strcmp(r->reserved[k].name, name) == 0)
            return false;
    }
    return true;
}

static void put_reserved(struct buf *out, const struct relation *r, const struct field *fields)
{
    const char *before = "  reserved ";
    for (size_t i = 0; i < r->reserved_count; i++, before = ", ")
        buf_printf(out, "%s%u", before, r->reserved[i].number);
    if (r->reserved_count)
        buf_puts(out, ";\n");
    before = "  reserved ";
    for (size_t i = 0; i < r->reserved_count; i++) {
        if (!may_reserve(r, i, fields))
            continue;
        buf_printf(out, "%s\"%s\"", before, r->reserved[i].name);
        before = ", ";
    }
    if (strcmp(before, ", ") == 0)
        buf_puts(out, ";\n");
}

// ---- the file ----

static void put_row(struct buf *out, const struct relation *r, const char *name,
                    const struct field *fields)
{
    buf_puts(out, "\n// A row of ");
    put_comment(out, r->table);
    buf_printf(out, " (replica identity %s).\nmessage %s {\n", relation_identity_name(r), name);
    for (size_t i = 0; i < r->column_count; i++)
        put_field(out, &fields[i], "  ");
    put_reserved(out, r, fields);
    buf_puts(out, "}\n");
}

// The same field numbers as rowcast.v1.Change.
static void put_change(struct buf *out, const struct relation *r, const char *name,
                       const struct field *fields)
{
    bool key = false;
    for (size_t i = 0; i < r->column_count; i++)
        key |= fields[i].column->key;
    buf_puts(out, "\n// A change of ");
    put_comment(out, r->table);
    buf_printf(out, ": rowcast.v1.Change with its rows.\nmessage %sChange {\n", name);
    if (key) {
        buf_puts(out, "  message Key {\n");
        for (size_t i = 0; i < r->column_count; i++) {
            if (fields[i].column->key)
                put_field(out, &fields[i], "    ");
        }
        buf_puts(out, "  }\n");
    }
    buf_puts(out, "  optional Op op = 1;\n"
                  "  optional uint32 relation = 2;\n"
                  "  optional uint64 ordinal = 3;\n");
    buf_puts(out, key ? "  optional Key key = 4;\n" : "  reserved 4;  // key: it has none\n");
    buf_printf(out, "  optional .rowcast.tables.%s before = 5;\n", name);
    buf_printf(out, "  optional .rowcast.tables.%s after = 6;\n", name);
    buf_puts(out, "  repeated uint32 unchanged = 7;\n"
                  "  repeated .rowcast.v1.Exact exact = 8;\n"
                  "  repeated .rowcast.v1.Exact exact_before = 9;\n"
                  "  repeated .rowcast.v1.Exact exact_key = 10;\n"
                  "  optional .rowcast.v1.Truncate truncate = 11;\n"
                  "  repeated uint32 omitted = 13;\n"
                  "  optional bool last = 15;\n"
                  "}\n");
}

static bool has_timestamp(const struct relation *const *relations, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < relations[i]->column_count; k++) {
            if (relations[i]->columns[k].kind == KIND_TIMESTAMP)
                return true;
        }
    }
    return false;
}

static void put_head(struct buf *out, bool timestamp, bool preview)
{
    buf_puts(out, "// Made by rowcast " ROWCAST_VERSION " from the tables it follows.\n");
    if (preview)
        buf_puts(out,
                 "//\n"
                 "// A PREVIEW, made from the source's catalog alone. The field numbers are\n"
                 "// final only when rowcast has seen the tables in its stream: ask a running\n"
                 "// rowcast, or a journal, for the schema to compile programs with.\n");
    buf_puts(out, "syntax = \"proto3\";\n\npackage rowcast.tables;\n\n");
    if (timestamp)
        buf_puts(out, "import \"google/protobuf/timestamp.proto\";\n");
    // An enum of its own: proto3 does not take proto2's.
    buf_puts(out, "import \"rowcast.proto\";\n\n"
                  "// As rowcast.v1.Op.\n"
                  "enum Op {\n"
                  "  OP_NONE = 0;\n"
                  "  OP_INSERT = 1;\n"
                  "  OP_UPDATE = 2;\n"
                  "  OP_DELETE = 3;\n"
                  "  OP_TRUNCATE = 4;\n"
                  "  OP_READ = 5;\n"
                  "  OP_MESSAGE = 6;\n"
                  "}\n");
}

void schema_render(struct buf *out, const struct relation *const *relations, size_t n, bool preview)
{
    put_head(out, has_timestamp(relations, n), preview);
    for (size_t i = 0; i < n; i++) {
        const struct relation *r = relations[i];
        AUTO_BUF struct buf name = {0};
        put_message_name(&name, r);
        struct field *fields = fields_of(r);
        put_row(out, r, buf_cstr(&name), fields);
        put_change(out, r, buf_cstr(&name), fields);
        fields_free(fields, r->column_count);
    }
}
