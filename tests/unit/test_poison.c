// Poison: the same error at the same place, three times; and what is said about it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/poison.h"

#define APPENDED 0x1000

static struct session_end ended(const char *sqlstate, lsn_t txn, lsn_t error)
{
    struct session_end end = {.streamed_at = 1, .txn_lsn = txn, .error_lsn = error};
    memcpy(end.sqlstate, sqlstate, strlen(sqlstate) + 1);
    return end;
}

static void three_times_at_one_place(void **state)
{
    (void)state;
    struct poison p = {0};
    struct session_end end = ended("22012", 0x2000, 0x1800);
    assert_false(poison_met(&p, &end, ERR_SOURCE, APPENDED));
    assert_false(poison_met(&p, &end, ERR_SOURCE, APPENDED));
    assert_true(poison_met(&p, &end, ERR_SOURCE, APPENDED + 8)); // progress is no other place
}

static void another_place_or_error_begins_anew(void **state)
{
    (void)state;
    struct poison p = {0};
    struct session_end one = ended("22012", 0x2000, 0), two = ended("22012", 0x3000, 0);
    struct session_end other = ended("XX000", 0x3000, 0), none = ended("XX000", 0, 0);
    for (int i = 0; i < 2 * POISON_TIMES; i++)
        assert_false(poison_met(&p, i % 2 ? &one : &two, ERR_SOURCE, APPENDED));
    assert_false(poison_met(&p, &other, ERR_RETRY, APPENDED));
    assert_false(poison_met(&p, &none, ERR_RETRY, APPENDED));
    assert_false(poison_met(&p, &none, ERR_RETRY, APPENDED));
    assert_true(poison_met(&p, &none, ERR_RETRY, APPENDED));
}

static void what_passes_is_never_poison(void **state)
{
    (void)state;
    static const char *const passing[] = {"", "08006", "53300", "57P01", "58030", "55006"};
    for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
        struct poison p = {0};
        struct session_end end = ended(passing[i], 0x2000, 0);
        for (int n = 0; n < 2 * POISON_TIMES; n++)
            assert_false(poison_met(&p, &end, ERR_RETRY, APPENDED));
    }
    struct poison p = {0};
    struct session_end never = {.sqlstate = "22012"}; // it did not stream
    for (int n = 0; n < 2 * POISON_TIMES; n++)
        assert_false(poison_met(&p, &never, ERR_SOURCE, APPENDED));
}

static void explained(const char *sqlstate, lsn_t txn, lsn_t error, const char *table,
                      const char *text, const char *const words[])
{
    struct poison p = {0};
    struct session_end end = ended(sqlstate, txn, error);
    memcpy(end.table, table, strlen(table) + 1);
    for (int n = 0; n < POISON_TIMES; n++)
        (void)poison_met(&p, &end, ERR_DATA, APPENDED);
    struct err e;
    err_set(&e, ERR_SOURCE, "%s", text);
    poison_explain(&p, &end, "s", &e);
    assert_int_equal(e.class, ERR_DATA);
    for (; *words; words++) {
        if (!strstr(e.text, *words))
            fail_msg("\"%s\" is missing: %s", *words, e.text);
    }
}

static void place_table_and_remedies_are_named(void **state)
{
    (void)state;
    explained("XX000", 0x2000, 0x1800, "public.t", "invalid memory alloc request size 1153433603",
              (const char *const[]){"transaction 0/2000,", "table public.t", "--binary on",
                                    "column list", "--skip-to 0/2001 ", NULL});
    explained("22012", 0, 0x1800, "", "division by zero",
              (const char *const[]){"at 0/1800:", "row filter", "pg_current_wal_lsn", NULL});
    explained("", 0, 0, "", "malformed pgoutput message",
              (const char *const[]){"behind 0/1000:", "pg_current_wal_lsn", NULL});
    explained("", 0x2000, 0, "public.t", "a row of 2 bytes is larger than row-max (1)",
              (const char *const[]){"raise row-max", "--skip-to 0/2001", NULL});
}

static void the_remedy_survives_long_names(void **state)
{
    (void)state;
    char table[260], text[1000];
    memset(table, 't', sizeof table);
    memset(text, 'x', sizeof text);
    table[sizeof table - 1] = text[sizeof text - 1] = 0;
    explained(
        "54000", UINT64_MAX - 1, 0, table, text,
        (const char *const[]){"--skip-to FFFFFFFF/FFFFFFFF (consumers get a gap marker)", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_times_at_one_place),
        cmocka_unit_test(another_place_or_error_begins_anew),
        cmocka_unit_test(what_passes_is_never_poison),
        cmocka_unit_test(place_table_and_remedies_are_named),
        cmocka_unit_test(the_remedy_survives_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
