// Thresholds: said once at passing and once when it is over, with what holds it back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "source/watch.h"

#define MIB    (INT64_C(1) << 20)
#define BIT(k) (1u << (k))

static struct watch watch_all(void)
{
    return (struct watch){.limits = {100 * MIB, 10 * MIB, 1000}};
}

static struct slot_figures calm(void)
{
    return (struct slot_figures){.wal_lsn = 1000 * MIB,
                                 .restart = 990 * MIB,
                                 .confirmed = 1000 * MIB,
                                 .safe_wal_size = -1,
                                 .xmin_age = 10};
}

static void each_is_said_once(void **state)
{
    (void)state;
    struct watch w = watch_all();
    struct slot_figures f = calm();
    assert_int_equal(watch_look(&w, &f), 0);
    f.restart = 900 * MIB;
    f.safe_wal_size = 10 * MIB - 1;
    f.xmin_age = 1000;
    f.synchronous = true;
    f.other.bytes = 200 * MIB;
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_KINDS) - 1);
    assert_int_equal(watch_look(&w, &f), 0);
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++)
        assert_true(w.passed[kind]);
    f = calm();
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_KINDS) - 1);
    assert_int_equal(watch_look(&w, &f), 0);
}

static void no_flutter_at_the_limit(void **state)
{
    (void)state;
    struct watch w = watch_all();
    struct slot_figures f = calm();
    f.restart = 900 * MIB;
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_RETAINED));
    f.restart = 905 * MIB;
    assert_int_equal(watch_look(&w, &f), 0);
    f.restart = 911 * MIB;
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_RETAINED));
    f.restart = 905 * MIB;
    assert_int_equal(watch_look(&w, &f), 0);
    f.safe_wal_size = 9 * MIB;
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_SAFE));
    f.safe_wal_size = 10 * MIB;
    assert_int_equal(watch_look(&w, &f), 0);
    f.safe_wal_size = 11 * MIB;
    assert_int_equal(watch_look(&w, &f), BIT(WATCH_SAFE));
}

static void what_is_not_known_or_not_wanted_is_not_said(void **state)
{
    (void)state;
    struct watch w = watch_all(), none = {0};
    struct slot_figures f = calm();
    f.restart = 0; // no WAL is kept
    f.safe_wal_size = f.xmin_age = -1;
    assert_int_equal(watch_look(&w, &f), 0);
    f = calm();
    f.restart = 1;
    f.safe_wal_size = 0;
    f.xmin_age = INT32_MAX;
    f.other.bytes = INT64_MAX;
    assert_int_equal(watch_look(&none, &f), 0);
    f.safe_wal_size = -5 * MIB; // the server counts down below nothing
    assert_int_equal(watch_look(&w, &f) & BIT(WATCH_SAFE), BIT(WATCH_SAFE));
}

static void says(const struct slot_figures *f, const char *behind, const char *expected)
{
    AUTO_BUF struct buf out = {0};
    watch_describe(WATCH_RETAINED, f, behind, &out);
    if (!strstr(buf_cstr(&out), expected))
        fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&out), expected);
}

static void what_holds_it_back_is_named(void **state)
{
    (void)state;
    struct slot_figures f = calm();
    f.restart = 800 * MIB;
    f.confirmed = 801 * MIB;
    says(&f, "kafka", "keeps 200 MiB of WAL");
    says(&f, "kafka", "rowcast, which has not acknowledged the last 199 MiB: kafka");
    says(&f, NULL, "it is still reading them");
    f.confirmed = f.wal_lsn;
    says(&f, NULL, "; nothing holds it back now: ");
    f.transaction.age = 77;
    f.transaction.seconds = 3600;
    f.transaction.pid = 4711;
    snprintf(f.transaction.name, sizeof f.transaction.name, "shop");
    snprintf(f.transaction.user, sizeof f.transaction.user, "ann");
    snprintf(f.transaction.application, sizeof f.transaction.application, "nightly");
    says(&f, NULL,
         "pid 4711, user ann, application \"nightly\", database shop (open for 3600 s, 77 "
         "transactions old)");
    says(&f, NULL, "pg_terminate_backend(4711)");
    f.transaction.pid = 0;
    f.transaction.seconds = -1;
    says(&f, NULL, "prepared transaction 'shop' of user ann (77 transactions old)");
}

static void who_is_a_synchronous_standby(void **state)
{
    (void)state;
    assert_false(watch_listed("", "rowcast_a"));
    assert_true(watch_listed("*", "rowcast_a"));
    assert_true(watch_listed("FIRST 1 (one, ROWCAST_A)", "rowcast_a"));
    assert_true(watch_listed("ANY 2 (one,\"rowcast_a\")", "rowcast_a"));
    assert_true(watch_listed("\"with \"\"quotes\"\" in\"", "with \"quotes\" in"));
    assert_false(watch_listed("rowcast_ab, arowcast_a, \"rowcast_a", "rowcast"));
    assert_false(watch_listed("\"rowcast a\", \"rowcast\"\"a\"", "rowcast"));
    assert_false(watch_listed("((,\"", "rowcast_a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_said_once),
        cmocka_unit_test(no_flutter_at_the_limit),
        cmocka_unit_test(what_is_not_known_or_not_wanted_is_not_said),
        cmocka_unit_test(what_holds_it_back_is_named),
        cmocka_unit_test(who_is_a_synchronous_standby),
    };
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
