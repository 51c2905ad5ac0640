// What chunks of existing rows take from outside. The first byte chooses: a line of COPY, whose
// values, escaped again, must be the line; a snapshot, whose parts must be its text; a bound out of
// a file, which may end a statement's literal only where it ends; a key of a change.
#include "source/snapshot/chunk_key.h"
#include "source/snapshot/chunk_line.h"
#include "source/snapshot/chunk_sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_escaped(struct buf *out, const struct value *v)
{
    static const char plain[] = "\\\n\t\r\b\f\v", letters[] = "\\ntrbfv";
    if (v->state == VALUE_NULL) {
        buf_puts(out, "\\N");
        return;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const char *at = v->text[i] ? strchr(plain, v->text[i]) : NULL;
        if (at)
            buf_putc(out, '\\');
        buf_putc(out, at ? letters[at - plain] : v->text[i]);
    }
}

// What PostgreSQL writes escapes these, so a line in which they stand bare is not written again.
static bool has_bare(const uint8_t *line, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (line[i] && strchr("\n\r\b\f\v", line[i]))
            return true;
    }
    return false;
}

static void line(const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    size_t columns = *data % 8;
    struct value v[8];
    AUTO_FREE char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    if (!chunk_line_split(text, size - 1, v, columns) || has_bare(data + 1, size - 1))
        return;
    AUTO_BUF struct buf again = {0};
    for (size_t i = 0; i < columns; i++) {
        if (i)
            buf_putc(&again, '\t');
        put_escaped(&again, &v[i]);
        (void)chunk_line_place(&v[i]);
    }
    buf_putc(&again, '\n');
    CHECK(again.n == size - 1 && memcmp(again.p, data + 1, again.n) == 0);
}

static void snapshot(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct chunk c = {0};
    if (chunk_set_snapshot(&c, text) == 0) {
        CHECK(c.xmin <= c.xmax);
        for (size_t i = 1; i < c.xip_n; i++)
            CHECK(c.xip[i - 1] < c.xip[i]);
        (void)chunk_sees(&c, 3);
    }
    free(c.xip);
}

static struct column columns[] = {
    {.name = (char *)"id",
     .base_type = (char *)"bigint",
     .number = 1,
     .kind = KIND_INT64,
     .key = true},
    {.name = (char *)"at",
     .base_type = (char *)"timestamptz",
     .number = 2,
     .kind = KIND_TIMESTAMP,
     .key = true},
    {.name = (char *)"tags",
     .base_type = (char *)"integer[]",
     .number = 3,
     .kind = KIND_ARRAY + KIND_INT32,
     .key = true},
};
static const struct relation RELATION = {.id = 1, .column_count = 3, .columns = columns};
#define OPERATORS                                                                                  \
    {                                                                                              \
        (char *)"pg_catalog.<", (char *)"pg_catalog.<=", (char *)"pg_catalog.=",                   \
            (char *)"pg_catalog.>=", (char *)"pg_catalog.>"                                        \
    }
static struct chunk_key keys[] = {{(char *)"id", NULL, OPERATORS},
                                  {(char *)"at", NULL, OPERATORS},
                                  {(char *)"tags", NULL, OPERATORS}};

// No text may leave its literal: outside of them there is not one quote.
static void check_sql(const struct chunk_order *o)
{
    static char name[] = "p";
    static char *names[] = {name};
    static const struct source_options options = {.publications = names, .publication_count = 1};
    AUTO_BUF struct buf sql = {0};
    chunk_sql_read(&sql, &options, 180000, o, false);
    size_t quotes = 0;
    for (size_t i = 0; i < sql.n; i++) {
        CHECK(sql.p[i]); // PQsendQuery would end there
        quotes += sql.p[i] == '\'';
    }
    CHECK(quotes % 2 == 0);
}

static struct chunk_order order_of(enum chunk_kind kind)
{
    static const struct chunk_table table = {.terms = (char *)""};
    static const struct chunk_part part = {
        .table = (char *)"public.t", .keys = keys, .key_count = 3, .limit = 10};
    return (struct chunk_order){
        .kind = kind, .table = &table, .part = &part, .relation = &RELATION};
}

static void bound(const uint8_t *data, size_t size)
{
    struct chunk_order o = order_of(CHUNK_KEYS);
    buf_put(&o.key_from, data, size);
    if (size && chunk_key_valid(buf_slice(&o.key_from), 3))
        check_sql(&o);
    chunk_order_fini(&o);
}

static void list(const uint8_t *data, size_t size)
{
    struct chunk_order o = order_of(CHUNK_LIST);
    size_t n = size ? *data % (size + 1) : 0;
    struct slice key = {data, n}, exact = {data + n, size - n};
    if (chunk_list_add(&o, &RELATION, key, exact))
        check_sql(&o);
    chunk_order_fini(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const all[])(const uint8_t *, size_t) = {line, snapshot, bound, list};
    if (size)
        all[*data % ARRAY_LEN(all)](data + 1, size - 1);
    return 0;
}
