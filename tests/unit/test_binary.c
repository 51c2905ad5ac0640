// Binary values: what a real server says of many values of each type, text and binary form
// (binary_values.txt), must come to the same text and to the same row; and what is broken is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/row.h"

#include <stdio.h>

struct known { // types with OIDs of their own
    struct type types[32];
    size_t n;
};

static const struct type *find(void *arg, uint32_t oid)
{
    struct known *k = arg;
    for (size_t i = 0; i < k->n; i++)
        if (k->types[i].oid == oid)
            return &k->types[i];
    return type_builtin(oid);
}

static struct type *add(struct known *k, uint32_t oid, const char *name, char typtype,
                        const struct type *element)
{
    CHECK(k->n < ARRAY_LEN(k->types));
    struct type *t = &k->types[k->n++];
    *t = type_resolve(oid, "public", name, typtype, element, NULL);
    return t;
}

// As the look-up would make it known.
static void make_known(struct known *k, uint32_t oid, const char *name)
{
    static const struct {
        const char *name, *output, *send;
        uint32_t inner;
        char typtype;
    } own[] = {
        {"couple", "", "", 0, 'c'},
        {"deep", "", "", 0, 'c'},
        {"textrange", "", "", 25, 'r'},
        {"doublerange", "", "", 701, 'r'},
        {"hstore", "hstore_out", "hstore_send", 0, 'b'},
        {"citext", "textout", "textsend", 0, 'b'},
        {"ltree", "ltree_out", "ltree_send", 0, 'b'},
    };
    if (find(k, oid))
        return;
    if (strcmp(name, "couple[]") == 0) {
        add(k, oid, name, 'b', &k->types[0]);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcmp(name, own[i].name) != 0)
            continue;
        struct type *t = add(k, oid, name, own[i].typtype, NULL);
        if (own[i].typtype == 'b')
            t->form = type_form(own[i].output, own[i].send);
        if (own[i].typtype == 'r')
            t->form = FORM_RANGE;
        t->inner = own[i].inner;
        return;
    }
    fail_msg("type %s is not known to the test", name);
}

static void from_hex(const char *hex, struct buf *out)
{
    buf_clear(out);
    buf_room(out, 1);
    for (unsigned byte; hex[0] != '-' && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        buf_putc(out, (char)byte);
}

struct sample {
    const struct type *type;
    char name[64];
    struct buf binary, text;
};

// Calls each with every line of the file.
static void for_each(struct known *k, int (*each)(struct known *k, struct sample *s))
{
    char path[512];
    static char line[1 << 16], binary[1 << 15], text[1 << 15];
    snprintf(path, sizeof path, "%s/tests/unit/binary_values.txt", getenv("SOURCE_ROOT"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    struct sample s = {0};
    int lines = 0, wrong = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned oid;
        assert_int_equal(sscanf(line, "%u %63s %32767s %32767s", &oid, s.name, binary, text), 4);
        make_known(k, oid, s.name);
        s.type = find(k, oid);
        from_hex(binary, &s.binary);
        from_hex(text, &s.text);
        wrong += each(k, &s);
        lines++;
    }
    fclose(f);
    buf_free(&s.binary);
    buf_free(&s.text);
    assert_true(lines > 500);
    assert_int_equal(wrong, 0);
}

static int check_text(struct known *k, struct sample *s)
{
    struct binary b = {.find = find, .arg = k, .version = 180000};
    AUTO_BUF struct buf got = {0};
    buf_puts(&got, "+");
    bool ok = binary_text(&b, s->type, buf_slice(&s->binary), &got);
    if (ok && got.n - 1 == s->text.n && memcmp(got.p + 1, s->text.p, s->text.n) == 0)
        return 0;
    print_error("%s: %s, want %s\n", s->name, ok ? buf_cstr(&got) + 1 : "not read",
                buf_cstr(&s->text));
    return 1;
}

static void text_is_the_servers(void **state)
{
    (void)state;
    struct known k = {.n = 0};
    for_each(&k, check_text);
}

// One row of one column, encoded from a value.
static void encode(struct known *k, const struct type *t, struct value v, struct row_out *out)
{
    struct binary b = {.find = find, .arg = k, .version = 180000};
    struct column c = {.number = 3,
                       .type_oid = t->oid,
                       .kind = t->kind,
                       .name = (char *)"c",
                       .type = (char *)t->name,
                       .base_type = (char *)t->base_name};
    struct row_map map = {.n = 1, .binary = &b, .columns = {&c}};
    struct err e;
    row_map_init(&map);
    assert_int_equal(row_encode(out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    row_map_fini(&map);
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

static int check_row(struct known *k, struct sample *s)
{
    struct row_out text = {0}, binary = {0};
    encode(k, s->type, (struct value){(char *)s->text.p, (uint32_t)s->text.n, VALUE_TEXT}, &text);
    encode(k, s->type, (struct value){(char *)s->binary.p, (uint32_t)s->binary.n, VALUE_BINARY},
           &binary);
    bool ok = same(&text.row, &binary.row) && same(&text.exact, &binary.exact);
    if (!ok)
        print_error("%s: %s is another row when it comes binary\n", s->name, buf_cstr(&s->text));
    row_out_fini(&text);
    row_out_fini(&binary);
    return !ok;
}

static void rows_are_the_same(void **state)
{
    (void)state;
    struct known k = {.n = 0};
    for_each(&k, check_row);
}

// A form that is cut short, or has a byte more, is broken or another value of the type: never read
// past its end (ASan sees that), never taken with a rest.
static int check_cut(struct known *k, struct sample *s)
{
    struct binary b = {.find = find, .arg = k, .version = 180000};
    AUTO_BUF struct buf got = {0};
    for (size_t n = 0; n < s->binary.n; n++) {
        uint8_t *copy = xmalloc(n + 1); // of this size, so that a byte more would be seen
        memcpy(copy, s->binary.p, n);
        size_t before = got.n;
        if (!binary_text(&b, s->type, (struct slice){copy, n}, &got))
            assert_int_equal(got.n, before);
        free(copy);
    }
    return 0;
}

static void cut_values_are_harmless(void **state)
{
    (void)state;
    struct known k = {.n = 0};
    for_each(&k, check_cut);
}

static void check_refused(const struct type *t, const char *bytes, size_t n, int version)
{
    struct known k = {.n = 0};
    struct binary b = {.find = find, .arg = &k, .version = version};
    AUTO_BUF struct buf got = {0};
    assert_false(binary_text(&b, t, (struct slice){(const uint8_t *)bytes, n}, &got));
    assert_int_equal(got.n, 0);
}

static void what_cannot_be_read_is_refused(void **state)
{
    (void)state;
    check_refused(NULL, "x", 1, 180000);
    check_refused(type_builtin(2205), "\0\0\4\353", 4, 180000); // regclass: the name is not there
    check_refused(type_builtin(790), "\0\0\0\0\0\0\0\1", 8, 180000);
    check_refused(type_builtin(16), "\2", 1, 180000);
    check_refused(type_builtin(23), "\0\0\0", 3, 180000);
    check_refused(type_builtin(3802), "\2{}", 3, 180000); // jsonb of a version to come
    check_refused(type_builtin(1083), "\0\0\0\x7f\0\0\0\0", 8, 180000);
    check_refused(type_builtin(869), "\2\41\0\4\1\2\3\4", 8, 180000); // /33
    // an array that would have 2^32 elements, and one of a type that nobody knows
    check_refused(type_builtin(1007), "\0\0\0\1\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\1", 20,
                  180000);
    check_refused(type_builtin(1007), "\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\1\0\0\0\0", 24,
                  180000);
}

static void check_version(uint32_t oid, const char *bytes, size_t n, int version, const char *want)
{
    struct known k = {.n = 0};
    struct binary b = {.find = find, .arg = &k, .version = version};
    AUTO_BUF struct buf got = {0};
    assert_true(
        binary_text(&b, type_builtin(oid), (struct slice){(const uint8_t *)bytes, n}, &got));
    assert_string_equal(buf_cstr(&got), want);
}

static void what_depends_on_the_version(void **state)
{
    (void)state;
    static const char most[] = "\x7f\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff";
    check_version(1186, most, 16, 170000, "infinity");
    check_version(1186, most, 16, 160000,
                  "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807");
    check_version(18, "\xfe", 1, 160000, "\\376");
    check_refused(type_builtin(18), "\xfe", 1, 150000); // went through a conversion
}

// What a row cannot be made of names the column and may be asked for again; a masked column's value
// is not looked at.
static void a_column_without_a_decoder(void **state)
{
    (void)state;
    struct known k = {.n = 0};
    struct binary b = {.find = find, .arg = &k, .version = 180000};
    const struct type *t = type_builtin(2205);
    struct column c = {.number = 1,
                       .type_oid = t->oid,
                       .name = (char *)"what",
                       .type = (char *)t->name,
                       .base_type = (char *)t->base_name};
    struct row_map map = {.n = 1, .binary = &b, .columns = {&c}};
    struct value v = {"\0\0\4\353", 4, VALUE_BINARY};
    struct row_out out = {0};
    struct err e;
    row_map_init(&map);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), -1);
    assert_int_equal(e.class, ERR_RETRY);
    assert_non_null(strstr(e.text, "column what of type regclass"));
    row_map_fini(&map);
    c.masked = true;
    row_map_init(&map);
    row_out_clear(&out);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), 0);
    assert_memory_equal(out.row.p, "\12\4****", 6);
    row_map_fini(&map);
    row_out_fini(&out);
}

static void put_be32(struct buf *b, uint32_t v)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_putc(b, (char)(v >> shift));
}

// A composite of one field that is the value at hand, of type oid.
static void wrap(struct buf *value, uint32_t oid)
{
    struct buf b = {0};
    put_be32(&b, 1);
    put_be32(&b, oid);
    put_be32(&b, (uint32_t)value->n);
    buf_put(&b, value->p, value->n);
    buf_free(value);
    *value = b;
}

// A few bytes can stand for very much text: it is refused before it is made.
static void what_would_be_too_long_is_refused(void **state)
{
    (void)state;
    struct known k = {.n = 0};
    struct binary b = {.find = find, .arg = &k, .version = 180000, .text_max = 1 << 16};
    make_known(&k, 20000, "couple");
    AUTO_BUF struct buf value = {0}, got = {0};
    buf_puts(&value, "\"");
    for (int depth = 0; depth < 60; depth++) {
        wrap(&value, depth ? 20000 : 25);
        bool read = binary_text(&b, &k.types[0], buf_slice(&value), &got);
        assert_true(depth < 10 ? read : depth < 20 || !read);
        assert_true(got.n < 1 << 17);
        buf_clear(&got);
    }
    // an array of numerics, each of 131,072 zeros
    buf_clear(&value);
    const uint32_t head[] = {1, 0, 1700, 1000, 1};
    for (size_t i = 0; i < ARRAY_LEN(head); i++)
        put_be32(&value, head[i]);
    for (size_t i = 0; i < 1000; i++)
        buf_put(&value, "\0\0\0\10\0\0\x7f\xff\0\0\0\0", 12);
    assert_false(binary_text(&b, type_builtin(1231), buf_slice(&value), &got));
    assert_int_equal(got.n, 0);
    assert_true(got.cap < 1 << 20);
    struct column c = {.number = 1,
                       .type_oid = 1231,
                       .kind = type_builtin(1231)->kind,
                       .name = (char *)"c",
                       .type = (char *)"numeric[]",
                       .base_type = (char *)"numeric[]"};
    struct row_map map = {.n = 1, .binary = &b, .columns = {&c}};
    struct value v = {(const char *)value.p, (uint32_t)value.n, VALUE_BINARY};
    struct row_out out = {0};
    struct err e;
    row_map_init(&map);
    assert_int_equal(row_encode(&out, &map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e), -1);
    assert_int_equal(e.class, ERR_RETRY); // as text it is what the server lets it be
    assert_true(out.scratch.values.cap < 1 << 20);
    row_map_fini(&map);
    row_out_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_servers),
        cmocka_unit_test(rows_are_the_same),
        cmocka_unit_test(cut_values_are_harmless),
        cmocka_unit_test(what_cannot_be_read_is_refused),
        cmocka_unit_test(what_depends_on_the_version),
        cmocka_unit_test(a_column_without_a_decoder),
        cmocka_unit_test(what_would_be_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
