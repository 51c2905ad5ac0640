// The decoder: each kind of message, its borders, and that nothing malformed passes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pgoutput_wire.h"
#include "source/pgoutput.h"

static struct pgoutput decoder;

// Decodes b and empties it; every shorter and one longer version of it must be refused.
static struct pgoutput_message decoded(struct buf *b)
{
    static struct buf kept;
    struct pgoutput_message m;
    struct err e;
    bool segment = decoder.in_segment;
    for (size_t n = 0; n < b->n; n++) {
        // In memory of exactly this size, so that reading on is noticed.
        AUTO_FREE uint8_t *cut = xmalloc(n ? n : 1);
        memcpy(cut, b->p, n);
        decoder.in_segment = segment;
        // The one message that may end early: a Stream Abort without `parallel`.
        if (!(b->p[0] == 'A' && n == 9))
            assert_int_equal(pgoutput_decode(&decoder, (struct slice){cut, n}, &m, &e), -1);
    }
    buf_clear(&kept);
    buf_put(&kept, b->p, b->n);
    buf_putc(&kept, 0);
    decoder.in_segment = segment;
    assert_int_equal(pgoutput_decode(&decoder, buf_slice(&kept), &m, &e), -1);
    decoder.in_segment = segment;
    kept.n--;
    assert_int_equal(pgoutput_decode(&decoder, buf_slice(&kept), &m, &e), 0);
    buf_clear(b);
    return m;
}

static void refused(struct buf *b)
{
    struct pgoutput_message m;
    struct err e;
    assert_int_equal(pgoutput_decode(&decoder, buf_slice(b), &m, &e), -1);
    assert_int_equal(e.class, ERR_DATA);
    buf_clear(b);
}

static void assert_text(const struct value *v, const char *text)
{
    assert_int_equal(v->state, VALUE_TEXT);
    assert_int_equal(v->n, strlen(text));
    assert_memory_equal(v->text, text, v->n);
}

static void begin_and_commit(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    // As seen from PostgreSQL 18.4.
    buf_put(&b,
            "\x42\x00\x00\x00\x00\x01\x7a\xae\x38\x00\x03\x03\xe9\x82\x0b\x62\x4e\x00\x00\x03\x01",
            21);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.kind, PGOUTPUT_BEGIN);
    assert_int_equal(m.txn.lsn, 0x17aae38);
    assert_int_equal(m.txn.xid, 0x301);
    buf_put(&b,
            "\x43\x00\x00\x00\x00\x00\x01\x7a\xae\x38\x00\x00\x00\x00\x01\x7a\xae\x68\x00\x03\x03"
            "\xe9\x82\x0b\x62\x4e",
            26);
    m = decoded(&b);
    assert_int_equal(m.kind, PGOUTPUT_COMMIT);
    assert_int_equal(m.txn.lsn, 0x17aae38);
    assert_int_equal(m.txn.end_lsn, 0x17aae68);
    put_begin(&b, 0, 7); // no commit begins at 0
    refused(&b);
    put_commit(&b, 10, 9); // ends before it begins
    refused(&b);
}

static void origin_and_type(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    buf_putc(&b, 'O');
    put_be(&b, 99, 8);
    put_cstr(&b, "elsewhere");
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.origin.lsn, 99);
    assert_string_equal(m.origin.name, "elsewhere");
    buf_putc(&b, 'Y');
    put_be(&b, 16400, 4);
    put_cstr(&b, "");
    put_cstr(&b, "mood");
    m = decoded(&b);
    assert_int_equal(m.type.oid, 16400);
    assert_string_equal(m.type.schema, "pg_catalog");
    assert_string_equal(m.type.name, "mood");
}

static void relation(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    const struct wire_column columns[] = {{"id", 20, true}, {"Odd \"name", 25, false}};
    put_relation(&b, 16384, "public", "t", 'd', 2, columns);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.relation.relid, 16384);
    assert_string_equal(m.relation.schema, "public");
    assert_int_equal(m.relation.replica_identity, 'd');
    assert_int_equal(m.relation.n, 2);
    assert_true(m.relation.columns[0].identity && !m.relation.columns[1].identity);
    assert_string_equal(m.relation.columns[1].name, "Odd \"name");
    assert_int_equal(m.relation.columns[1].type_oid, 25);
    assert_int_equal(m.relation.columns[1].typmod, -1);
    put_relation(&b, 16384, "public", "t", 'x', 0, NULL); // no such identity
    refused(&b);
    put_relation(&b, 16384, "public", "", 'd', 0, NULL); // no name
    refused(&b);
    buf_putc(&b, 'R');
    put_be(&b, 1, 4);
    put_cstr(&b, "s");
    put_cstr(&b, "t");
    buf_putc(&b, 'd');
    put_be(&b, COLUMNS_MAX + 1, 2);
    for (int i = 0; i <= COLUMNS_MAX; i++)
        buf_put(&b, "\0c\0\0\0\0\x17\xff\xff\xff\xff", 11);
    refused(&b);
}

static void rows(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    const char *const values[] = {"7", NULL, "\x01", ""};
    put_insert(&b, 5, 4, values);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.row.relid, 5);
    assert_int_equal(m.row.old_kind, PGOUTPUT_OLD_NONE);
    assert_int_equal(m.row.new.n, 4);
    assert_text(&m.row.new.values[0], "7");
    assert_int_equal(m.row.new.values[1].state, VALUE_NULL);
    assert_int_equal(m.row.new.values[2].state, VALUE_UNCHANGED);
    assert_text(&m.row.new.values[3], "");
    for (const char *old = "KO"; *old; old++) {
        buf_putc(&b, 'U');
        put_be(&b, 5, 4);
        buf_putc(&b, *old);
        put_tuple(&b, 1, (const char *const[]){"old"});
        buf_putc(&b, 'N');
        put_tuple(&b, 1, (const char *const[]){"new"});
        m = decoded(&b);
        assert_int_equal(m.row.old_kind, *old);
        assert_text(&m.row.old.values[0], "old");
        assert_text(&m.row.new.values[0], "new");
        buf_putc(&b, 'D');
        put_be(&b, 5, 4);
        buf_putc(&b, *old);
        put_tuple(&b, 1, (const char *const[]){"gone"});
        m = decoded(&b);
        assert_int_equal(m.kind, PGOUTPUT_DELETE);
        assert_int_equal(m.row.old_kind, *old);
        assert_text(&m.row.old.values[0], "gone");
        assert_int_equal(m.row.new.n, 0);
    }
    buf_putc(&b, 'U'); // without an old row
    put_be(&b, 5, 4);
    buf_putc(&b, 'N');
    put_tuple(&b, 0, NULL);
    m = decoded(&b);
    assert_int_equal(m.row.old_kind, PGOUTPUT_OLD_NONE);
}

static void bad_rows(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    buf_putc(&b, 'D'); // a delete has no new row
    put_be(&b, 5, 4);
    buf_putc(&b, 'N');
    put_tuple(&b, 0, NULL);
    refused(&b);
    buf_putc(&b, 'I'); // an insert has no old one
    put_be(&b, 5, 4);
    buf_putc(&b, 'K');
    put_tuple(&b, 0, NULL);
    refused(&b);
    buf_puts(&b, "I");
    put_be(&b, 5, 4);
    buf_putc(&b, 'N');
    put_be(&b, 1, 2);
    buf_putc(&b, 't');
    put_be(&b, UINT32_MAX, 4); // a length beyond everything
    refused(&b);
    buf_puts(&b, "I");
    put_be(&b, 5, 4);
    buf_putc(&b, 'N');
    put_be(&b, 1, 2);
    buf_putc(&b, 'x'); // no kind of value
    put_be(&b, 0, 4);
    refused(&b);
    buf_putc(&b, '?');
    refused(&b);
    refused(&b);              // nothing at all
    put_commit(&b, 300, 300); // would stand below its own acknowledgement, and come again
    refused(&b);
}

static void truncate_and_message(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    // As seen: truncate of two tables, CASCADE and RESTART IDENTITY.
    buf_put(&b, "\x54\x00\x00\x00\x02\x03\x00\x00\x40\x14\x00\x00\x40\x3a", 14);
    struct pgoutput_message m = decoded(&b);
    assert_int_equal(m.truncate.n, 2);
    assert_true(m.truncate.cascade && m.truncate.restart_identity);
    assert_int_equal(pgoutput_truncate_relid(&m.truncate, 0), 0x4014);
    assert_int_equal(pgoutput_truncate_relid(&m.truncate, 1), 0x403a);
    buf_putc(&b, 'T');
    put_be(&b, UINT32_MAX, 4);
    buf_putc(&b, 0);
    refused(&b);
    buf_put(&b, "\x4d\x01\x00\x00\x00\x00\x01\x7b\x5e\x60pfx\0\x00\x00\x00\x05hello", 23);
    m = decoded(&b);
    assert_true(m.message.transactional);
    assert_int_equal(m.message.lsn, 0x17b5e60);
    assert_string_equal(m.message.prefix, "pfx");
    assert_int_equal(m.message.content.n, 5);
}

// Between Stream Start and Stop, and only there, R Y I U D T M carry the subtransaction's xid.
static void streamed(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    buf_putc(&b, 'S');
    put_be(&b, 374, 4);
    buf_putc(&b, 1);
    struct pgoutput_message m = decoded(&b);
    assert_true(m.txn.first_segment && decoder.in_segment);
    assert_int_equal(m.txn.xid, 374);
    buf_putc(&b, 'I');
    put_be(&b, 375, 4);
    put_be(&b, 5, 4);
    buf_putc(&b, 'N');
    put_tuple(&b, 0, NULL);
    m = decoded(&b);
    assert_int_equal(m.subxid, 375);
    assert_int_equal(m.row.relid, 5);
    buf_putc(&b, 'E');
    decoded(&b);
    assert_false(decoder.in_segment);
    put_insert(&b, 5, 0, NULL);
    m = decoded(&b);
    assert_int_equal(m.subxid, 0);
    buf_putc(&b, 'c');
    put_be(&b, 374, 4);
    buf_putc(&b, 0);
    put_be(&b, 10, 8);
    put_be(&b, 20, 8);
    put_be(&b, 0, 8);
    m = decoded(&b);
    assert_int_equal(m.txn.end_lsn, 20);
    buf_putc(&b, 'A');
    put_be(&b, 374, 4);
    put_be(&b, 375, 4);
    m = decoded(&b);
    assert_int_equal(m.txn.abort_xid, 375);
    buf_putc(&b, 'A'); // with streaming 'parallel'
    put_be(&b, 374, 4);
    put_be(&b, 375, 4);
    put_be(&b, 30, 8);
    put_be(&b, 0, 8);
    m = decoded(&b);
    assert_int_equal(m.txn.lsn, 30);
}

static void two_phase(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    for (const char *kind = "bPKp"; *kind; kind++) {
        buf_putc(&b, *kind);
        if (*kind != 'b')
            buf_putc(&b, 0);
        put_be(&b, 10, 8);
        put_be(&b, 20, 8);
        put_be(&b, 0, 8);
        put_be(&b, 9, 4);
        put_cstr(&b, "gid");
        struct pgoutput_message m = decoded(&b);
        assert_int_equal(m.txn.xid, 9);
        assert_string_equal(m.txn.gid, "gid");
    }
    buf_puts(&b, "r");
    buf_putc(&b, 0);
    put_be(&b, 10, 8);
    put_be(&b, 20, 8);
    put_be(&b, 0, 8);
    put_be(&b, 0, 8);
    put_be(&b, 9, 4);
    put_cstr(&b, "gid");
    assert_string_equal(decoded(&b).txn.gid, "gid");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin_and_commit), cmocka_unit_test(origin_and_type),
        cmocka_unit_test(relation),         cmocka_unit_test(rows),
        cmocka_unit_test(bad_rows),         cmocka_unit_test(truncate_and_message),
        cmocka_unit_test(streamed),         cmocka_unit_test(two_phase),
    };
    return cmocka_run_group_tests_name("pgoutput", tests, NULL, NULL);
}
