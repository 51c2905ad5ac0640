// Binary values: any bytes as a value of any type, of ours or made up. They are refused, or the row
// that they become is the one that their text becomes.
#include "proto/row.h"

#define TEXT_MAX (1u << 18) // little wire may make much text

static struct type own[] = {
    {.oid = 20001, .form = FORM_COMPOSITE, .delimiter = ','},
    {.oid = 20002, .form = FORM_ARRAY, .kind = KIND_ARRAY + KIND_STRING, .inner = 20001},
    {.oid = 20003, .form = FORM_RANGE, .inner = 25, .delimiter = ','},
    {.oid = 20004, .form = FORM_RANGE, .inner = 20001, .delimiter = ':'},
    {.oid = 20005, .form = FORM_MULTIRANGE, .inner = 20003, .delimiter = ','},
    {.oid = 20006, .form = FORM_HSTORE, .delimiter = ','},
    {.oid = 20007, .form = FORM_RANGE, .inner = 701, .delimiter = ','},
    {.oid = 20008, .form = FORM_TEXT, .delimiter = ';'},
    {.oid = 20009, .form = FORM_VERSIONED, .delimiter = ','},
    {.oid = 20010, .form = FORM_RANGE, .inner = 4711, .delimiter = ','}, // unknown
};

static const struct type *find(void *arg, uint32_t oid)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (own[i].oid == oid)
            return &own[i];
    return type_builtin(oid);
}

static int encode(const struct binary *b, const struct type *t, enum value_state state,
                  struct slice v, struct row_out *out)
{
    static char name[] = "c";
    const char *array = t->delimiter == ';' ? "box[]" : "";
    struct column c = {.number = 1,
                       .type_oid = t->oid,
                       .kind = t->kind,
                       .name = name,
                       .type = name,
                       .base_type = *t->base_name ? (char *)t->base_name : (char *)array};
    struct row_map map = {.n = 1, .binary = b, .columns = {&c}};
    struct value value = {v.n ? (const char *)v.p : "", (uint32_t)v.n, (uint8_t)state};
    struct err e;
    row_map_init(&map);
    int r = row_encode(out, &map, &(struct tuple){1, &value}, NULL, ROW_AFTER, &e);
    row_map_fini(&map);
    return r;
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 5 || n > 4096) // version, OID, the value
        return 0;
    struct reader r = reader_of(data, n);
    struct binary b = {
        .find = find, .version = reader_u8(&r) & 1 ? 180000 : 140000, .text_max = TEXT_MAX};
    const struct type *t = find(NULL, reader_be32(&r));
    if (!t)
        return 0;
    struct slice bytes = {r.p, reader_left(&r)};
    struct row_out binary = {0}, text = {0};
    AUTO_BUF struct buf as_text = {0};
    bool read = binary_text(&b, t, bytes, &as_text);
    CHECK(read || as_text.n == 0);
    int encoded = encode(&b, t, VALUE_BINARY, bytes, &binary);
    CHECK(encoded == 0 || !read);
    if (encoded == 0 && !read) // an array whose text alone is too long
        CHECK(t->kind >= KIND_ARRAY && binary.row.n > TEXT_MAX / 8);
    if (read) {
        CHECK(encode(&b, t, VALUE_TEXT, buf_slice(&as_text), &text) == 0);
        CHECK(same(&binary.row, &text.row) && same(&binary.exact, &text.exact));
    }
    row_out_fini(&binary);
    row_out_fini(&text);
    return 0;
}
