#include "proto/relation.h"

#include "proto/tuple.h"
#include "proto/wire.h"

#include <fnmatch.h>
#include <stdlib.h>

#define NUMBER_MAX            ((1u << 29) - 1) // protobuf's own limit
#define NUMBER_PROTOBUF_FIRST 19000u           // protobuf keeps these for itself
#define NUMBER_PROTOBUF_LAST  19999u

// ---- kinds ----

enum kind_group kind_group(enum kind k)
{
    switch (k) {
    case KIND_STRING:
        return GROUP_STRING;
    case KIND_BOOL:
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        return GROUP_INT;
    case KIND_FLOAT:
        return GROUP_FLOAT;
    case KIND_DOUBLE:
        return GROUP_DOUBLE;
    case KIND_BYTES:
        return GROUP_BYTES;
    default:
        return GROUP_MESSAGE;
    }
}

bool kind_compatible(enum kind a, enum kind b)
{
    return kind_group(a) == kind_group(b) && (kind_group(a) != GROUP_MESSAGE || a == b);
}

const char *kind_proto_type(enum kind k)
{
    static const char *const scalars[] = {
        "string", "bool",   "int32",
        "int64",  "uint32", "float",
        "double", "bytes",  "google.protobuf.Timestamp",
    };
    static const char *const arrays[] = {
        "rowcast.v1.StringArray", "rowcast.v1.BoolArray",   "rowcast.v1.Int32Array",
        "rowcast.v1.Int64Array",  "rowcast.v1.UInt32Array", "rowcast.v1.FloatArray",
        "rowcast.v1.DoubleArray", "rowcast.v1.BytesArray",  "rowcast.v1.TimestampArray",
    };
    CHECK(k <= KIND_TIMESTAMP || (k >= KIND_ARRAY && k <= KIND_MAX));
    return k < KIND_ARRAY ? scalars[k] : arrays[k - KIND_ARRAY];
}

// ---- table names ----

// The keywords that PostgreSQL 18's quote_ident puts in quotes, all but the unreserved ones
// (select word from pg_get_keywords() where catcode <> 'U'), each between two spaces.
static const char keywords[] =
    " "
    "all analyse analyze and any array as asc asymmetric authorization between bigint "
    "binary bit boolean both case cast char character check coalesce collate collation "
    "column concurrently constraint create cross current_catalog current_date current_role "
    "current_schema current_time current_timestamp current_user dec decimal default "
    "deferrable desc distinct do else end except exists extract false fetch float for "
    "foreign freeze from full grant greatest group grouping having ilike in initially inner "
    "inout int integer intersect interval into is isnull join json json_array json_arrayagg "
    "json_exists json_object json_objectagg json_query json_scalar json_serialize "
    "json_table json_value lateral leading least left like limit localtime localtimestamp "
    "merge_action national natural nchar none normalize not notnull null nullif numeric "
    "offset on only or order out outer overlaps overlay placing position precision primary "
    "real references returning right row select session_user setof similar smallint some "
    "substring symmetric system_user table tablesample then time timestamp to trailing "
    "treat trim true union unique user using values varchar variadic verbose when where "
    "window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces "
    "xmlparse xmlpi xmlroot xmlserialize xmltable ";

static bool is_keyword(const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = keywords; (at = strstr(at, name)); at++) {
        if (at[-1] == ' ' && at[n] == ' ')
            return true;
    }
    return false;
}

static bool needs_quotes(const char *name)
{
    if (!((name[0] >= 'a' && name[0] <= 'z') || name[0] == '_'))
        return true;
    for (const char *s = name; *s; s++) {
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_'))
            return true;
    }
    return is_keyword(name);
}

static void quote(struct buf *out, const char *name)
{
    if (!needs_quotes(name)) {
        buf_puts(out, name);
        return;
    }
    buf_putc(out, '"');
    for (const char *s = name; *s; s++) {
        if (*s == '"')
            buf_putc(out, '"');
        buf_putc(out, *s);
    }
    buf_putc(out, '"');
}

void table_quote(struct buf *out, const char *schema, const char *name)
{
    quote(out, schema);
    buf_putc(out, '.');
    quote(out, name);
}

bool glob_match(const char *glob, const char *name)
{
    return strcmp(glob, name) == 0 || fnmatch(glob, name, 0) == 0;
}

bool table_match(const char *glob, const char *table)
{
    static const char in_public[] = "public.";
    const size_t n = sizeof in_public - 1;
    if (glob_match(glob, table))
        return true;
    return !strchr(glob, '.') && strncmp(table, in_public, n) == 0 && glob_match(glob, table + n);
}

bool table_match_any(char *const *globs, size_t n, const char *table)
{
    for (size_t i = 0; i < n; i++) {
        if (table_match(globs[i], table))
            return true;
    }
    return n == 0;
}

// ---- encoding ----

static const struct {
    char letter;
    const char *name;
} identities[] = {{'d', "default"}, {'n', "nothing"}, {'f', "full"}, {'i', "index"}};

const char *relation_identity_name(const struct relation *r)
{
    for (size_t i = 0; i < ARRAY_LEN(identities); i++) {
        if (identities[i].letter == r->replica_identity)
            return identities[i].name;
    }
    return "unknown";
}

void relation_encode_column(struct buf *out, const struct column *c)
{
    wire_string(out, 1, c->name);
    wire_uint(out, 2, c->number);
    wire_uint(out, 3, c->type_oid);
    wire_string(out, 4, c->type);
    wire_string(out, 5, c->base_type);
    if (c->typmod != -1)
        wire_uint(out, 6, zigzag(c->typmod));
    if (c->key)
        wire_uint(out, 7, 1);
    if (c->attnum)
        wire_uint(out, 8, zigzag(c->attnum));
    wire_uint(out, 9, c->kind);
    if (c->masked)
        wire_uint(out, 10, 1);
    if (c->json_class == JSON_CLASS_JSON)
        wire_uint(out, 11, 1);
}

static void encode_reserved(struct buf *out, const struct reserved_number *v)
{
    wire_uint(out, 1, v->number);
    wire_string(out, 2, v->name);
    wire_uint(out, 3, v->kind);
}

static void encode_hidden(struct buf *out, const struct hidden_column *v)
{
    if (v->attnum)
        wire_uint(out, 1, zigzag(v->attnum));
    wire_string(out, 2, v->name);
    wire_string(out, 3, v->as);
}

void relation_seal(struct relation *r)
{
    struct buf table = {0}, all = {0};
    AUTO_BUF struct buf one = {0};
    table_quote(&table, r->schema, r->name);
    free(r->table);
    r->table = buf_cstr(&table);

    wire_uint(&all, 1, r->id);
    wire_uint(&all, 2, r->oid);
    wire_string(&all, 3, r->schema);
    wire_string(&all, 4, r->name);
    wire_string(&all, 5, relation_identity_name(r));
    for (size_t i = 0; i < r->column_count; i++) {
        buf_clear(&one);
        relation_encode_column(&one, &r->columns[i]);
        wire_bytes(&all, 6, one.p, one.n);
    }
    for (size_t i = 0; i < r->reserved_count; i++) {
        buf_clear(&one);
        encode_reserved(&one, &r->reserved[i]);
        wire_bytes(&all, 7, one.p, one.n);
    }
    size_t sent = all.n;
    if (r->root)
        wire_string(&all, 8, r->root);
    for (size_t i = 0; i < r->hidden_count; i++) {
        buf_clear(&one);
        encode_hidden(&one, &r->hidden[i]);
        wire_bytes(&all, 9, one.p, one.n);
    }
    free((void *)r->stored.p);
    r->stored = buf_slice(&all);
    r->encoded = (struct slice){r->stored.p, sent};
}

void relation_hide(struct relation *r, const struct hidden_column *hidden, size_t n)
{
    for (size_t i = 0; i < r->hidden_count; i++) {
        free((char *)r->hidden[i].name);
        free((char *)r->hidden[i].as);
    }
    free(r->hidden);
    r->hidden = n ? xcalloc(n, sizeof *r->hidden) : NULL;
    r->hidden_count = (uint16_t)n;
    for (size_t i = 0; i < n; i++)
        r->hidden[i] = (struct hidden_column){hidden[i].attnum, xstrdup(hidden[i].name),
                                              xstrdup(hidden[i].as)};
}

void relation_free(struct relation *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->column_count; i++) {
        free(r->columns[i].name);
        free(r->columns[i].type);
        free(r->columns[i].base_type);
    }
    for (size_t i = 0; i < r->reserved_count; i++)
        free(r->reserved[i].name);
    free(r->columns);
    free(r->reserved);
    free(r->schema);
    free(r->name);
    free(r->table);
    free(r->root);
    relation_hide(r, NULL, 0);
    free((void *)r->stored.p);
    free(r);
}

// All but the id, which stands first.
static struct slice shape(const struct relation *r)
{
    struct reader in = reader_of(r->stored.p, r->stored.n);
    struct wire_field id;
    bool whole = wire_next(&in, &id);
    CHECK(whole && id.number == 1);
    return (struct slice){in.p, reader_left(&in)};
}

bool relation_same(const struct relation *a, const struct relation *b)
{
    struct slice x = shape(a), y = shape(b);
    return x.n == y.n && memcmp(x.p, y.p, x.n) == 0;
}

size_t relation_key_numbers(const struct relation *r, uint32_t *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].key)
            ret[n++] = r->columns[i].number;
    }
    qsort(ret, n, sizeof *ret, u32_cmp);
    return n;
}

const struct column *relation_column(const struct relation *r, uint32_t number)
{
    for (size_t i = 0; i < r->column_count; i++) {
        if (r->columns[i].number == number)
            return &r->columns[i];
    }
    return NULL;
}

bool number_usable(uint32_t number)
{
    return number >= 1 && number <= NUMBER_MAX &&
           (number < NUMBER_PROTOBUF_FIRST || number > NUMBER_PROTOBUF_LAST);
}

// ---- decoding: outside bytes ----

// Copies a string field over *at; false when it is no string that we could hold.
static bool take_string(const struct wire_field *f, char **at)
{
    if (f->type != WIRE_LEN || (f->bytes.n && memchr(f->bytes.p, 0, f->bytes.n)))
        return false;
    free(*at);
    *at = xstrndup((const char *)f->bytes.p, f->bytes.n);
    return true;
}

static bool take_kind(const struct wire_field *f, enum kind *ret_k)
{
    if (f->type != WIRE_VARINT || f->v > KIND_MAX || (f->v > KIND_TIMESTAMP && f->v < KIND_ARRAY))
        return false;
    *ret_k = (enum kind)f->v;
    return true;
}

static bool take_u32(const struct wire_field *f, uint32_t *ret_v)
{
    if (f->type != WIRE_VARINT || f->v > UINT32_MAX)
        return false;
    *ret_v = (uint32_t)f->v;
    return true;
}

static bool take_i32(const struct wire_field *f, int32_t min, int32_t max, int32_t *ret_v)
{
    int64_t v = unzigzag(f->v);
    if (f->type != WIRE_VARINT || v < min || v > max)
        return false;
    *ret_v = (int32_t)v;
    return true;
}

static bool take_bool(const struct wire_field *f, bool *ret_v)
{
    *ret_v = f->v != 0;
    return f->type == WIRE_VARINT;
}

static bool column_field(const struct wire_field *f, struct column *c)
{
    int32_t attnum;
    bool json;
    switch (f->number) {
    case 1:
        return take_string(f, &c->name);
    case 2:
        return take_u32(f, &c->number);
    case 3:
        return take_u32(f, &c->type_oid);
    case 4:
        return take_string(f, &c->type);
    case 5:
        return take_string(f, &c->base_type);
    case 6:
        return take_i32(f, INT32_MIN, INT32_MAX, &c->typmod);
    case 7:
        return take_bool(f, &c->key);
    case 8:
        if (!take_i32(f, INT16_MIN, INT16_MAX, &attnum))
            return false;
        c->attnum = (int16_t)attnum;
        return true;
    case 9:
        return take_kind(f, &c->kind);
    case 10:
        return take_bool(f, &c->masked);
    case 11:
        if (!take_bool(f, &json))
            return false;
        c->json_class = json ? JSON_CLASS_JSON : JSON_CLASS_TEXT;
        return true;
    default: // of a later version
        return true;
    }
}

static bool decode_column(struct slice bytes, struct column *c)
{
    struct reader in = reader_of(bytes.p, bytes.n);
    struct wire_field f;
    while (wire_next(&in, &f)) {
        if (!column_field(&f, c))
            return false;
    }
    // JSON values are text, or arrays of it.
    bool text = c->kind == KIND_STRING || c->kind == KIND_ARRAY + KIND_STRING;
    return reader_done(&in) && c->name && c->type && c->base_type && number_usable(c->number) &&
           (text || c->json_class == JSON_CLASS_TEXT);
}

static bool decode_reserved(struct slice bytes, struct reserved_number *v)
{
    struct reader in = reader_of(bytes.p, bytes.n);
    struct wire_field f;
    while (wire_next(&in, &f)) {
        bool ok = f.number == 1   ? take_u32(&f, &v->number)
                  : f.number == 2 ? take_string(&f, &v->name)
                  : f.number == 3 ? take_kind(&f, &v->kind)
                                  : true;
        if (!ok)
            return false;
    }
    return reader_done(&in) && v->name && number_usable(v->number);
}

static bool decode_hidden(struct slice bytes, struct hidden_column *v)
{
    struct reader in = reader_of(bytes.p, bytes.n);
    struct wire_field f;
    int32_t attnum = 0;
    while (wire_next(&in, &f)) {
        bool ok = f.number == 1   ? take_i32(&f, INT16_MIN, INT16_MAX, &attnum)
                  : f.number == 2 ? take_string(&f, (char **)&v->name)
                  : f.number == 3 ? take_string(&f, (char **)&v->as)
                                  : true;
        if (!ok)
            return false;
    }
    v->attnum = (int16_t)attnum;
    return reader_done(&in) && v->name && v->as;
}

static bool take_identity(const struct wire_field *f, char *ret_letter)
{
    for (size_t i = 0; f->type == WIRE_LEN && i < ARRAY_LEN(identities); i++) {
        const char *name = identities[i].name;
        if (f->bytes.n == strlen(name) && memcmp(f->bytes.p, name, f->bytes.n) == 0) {
            *ret_letter = identities[i].letter;
            return true;
        }
    }
    return false;
}

// Returns NULL, or what is wrong with the field.
static const char *relation_field(const struct wire_field *f, struct relation *r)
{
    switch (f->number) {
    case 1:
        return take_u32(f, &r->id) ? NULL : "its id";
    case 2:
        return take_u32(f, &r->oid) ? NULL : "its oid";
    case 3:
        return take_string(f, &r->schema) ? NULL : "its schema";
    case 4:
        return take_string(f, &r->name) ? NULL : "its name";
    case 5:
        return take_identity(f, &r->replica_identity) ? NULL : "its replica identity";
    case 6:
        if (f->type != WIRE_LEN || r->column_count == COLUMNS_MAX)
            return "more columns than PostgreSQL allows";
        r->columns[r->column_count].typmod = -1;
        return decode_column(f->bytes, &r->columns[r->column_count++]) ? NULL : "a column";
    case 7:
        if (f->type != WIRE_LEN || r->reserved_count == RESERVED_MAX)
            return "more reserved numbers than a table can have";
        return decode_reserved(f->bytes, &r->reserved[r->reserved_count++]) ? NULL
                                                                            : "a reserved number";
    case 8:
        return take_string(f, &r->root) ? NULL : "its root";
    case 9:
        if (f->type != WIRE_LEN || r->hidden_count == HIDDEN_MAX)
            return "more hidden columns than a table can have";
        return decode_hidden(f->bytes, &r->hidden[r->hidden_count++]) ? NULL : "a hidden column";
    default: // of a later version
        return NULL;
    }
}

// One number, one column: of those in use and those reserved, none stands twice.
static bool numbers_distinct(const struct relation *r)
{
    size_t n = 0;
    AUTO_FREE uint32_t *all = xcalloc((size_t)r->column_count + r->reserved_count + 1, sizeof *all);
    for (size_t i = 0; i < r->column_count; i++)
        all[n++] = r->columns[i].number;
    for (size_t i = 0; i < r->reserved_count; i++)
        all[n++] = r->reserved[i].number;
    qsort(all, n, sizeof *all, u32_cmp);
    for (size_t i = 1; i < n; i++) {
        if (all[i] == all[i - 1])
            return false;
    }
    return true;
}

// How many fields of a number there are, so that each array is allocated once.
static size_t count_fields(struct slice bytes, uint32_t number, size_t max)
{
    struct reader in = reader_of(bytes.p, bytes.n);
    struct wire_field f;
    size_t n = 0;
    while (wire_next(&in, &f))
        n += f.number == number;
    return size_min(n, max);
}

int relation_decode(struct slice bytes, struct relation **ret_r, struct err *e)
{
    struct relation *r = xcalloc(1, sizeof *r);
    r->columns = xcalloc(count_fields(bytes, 6, COLUMNS_MAX) + 1, sizeof *r->columns);
    r->reserved = xcalloc(count_fields(bytes, 7, RESERVED_MAX) + 1, sizeof *r->reserved);
    r->hidden = xcalloc(count_fields(bytes, 9, HIDDEN_MAX) + 1, sizeof *r->hidden);
    struct reader in = reader_of(bytes.p, bytes.n);
    struct wire_field f;
    const char *wrong = NULL;
    while (!wrong && wire_next(&in, &f))
        wrong = relation_field(&f, r);
    if (!wrong && !reader_done(&in))
        wrong = "its bytes end early";
    if (!wrong && (r->id == 0 || !r->schema || !r->name || !r->replica_identity))
        wrong = "id, schema, name or replica identity is missing";
    if (!wrong && !numbers_distinct(r))
        wrong = "a field number stands twice";
    if (wrong) {
        err_set(e, ERR_DATA, "relation version %u of %zu bytes is malformed: %s", r->id, bytes.n,
                wrong);
        relation_free(r);
        return -1;
    }
    relation_seal(r);
    *ret_r = r;
    return 0;
}
