// What is merged into the user's connection string, and that its secrets stay in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/connect/conninfo.h"

#include <stdio.h>
#include <unistd.h>

static struct conninfo made(const char *text, enum conninfo_use use)
{
    struct source_options o = {.conninfo = text, .slot = "shop"};
    struct conninfo ci;
    struct err e;
    assert_int_equal(conninfo_make(&o, use, &ci, &e), 0);
    return ci;
}

static void merged(void **state)
{
    (void)state;
    struct conninfo ci =
        made("postgresql://u@h/d?options=-c%20work_mem%3D1MB&application_name=mine&"
             "client_encoding=LATIN1",
             CONNINFO_STREAM);
    const char *options = conninfo_get(&ci, "options");
    assert_ptr_equal(strstr(options, "-c work_mem=1MB "), options); // the user's, then ours
    assert_non_null(strstr(options, "-c datestyle=ISO"));
    assert_string_equal(conninfo_get(&ci, "application_name"), "mine");
    assert_string_equal(conninfo_get(&ci, "client_encoding"), "UTF8");
    assert_string_equal(conninfo_get(&ci, "replication"), "database");
    assert_null(conninfo_get(&ci, "target_session_attrs"));
    conninfo_fini(&ci);
    ci = made("host=a,b dbname=d", CONNINFO_SQL);
    assert_null(conninfo_get(&ci, "replication"));
    assert_string_equal(conninfo_get(&ci, "fallback_application_name"), "rowcast_shop");
    assert_non_null(conninfo_get(&ci, "target_session_attrs"));
    conninfo_fini(&ci);
}

static void secrets_stay_in(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "host=h password=hunter2 trailing-hunter2",
        "password='hunter2",
        "postgresql://u:x@h/d?hunter2=1",
        "postgresql://u:hunter2%zz@h/d",
        "postgresql://u:q\"hunter2@[h/d",
        // What would show as the host, the port or the database:
        "postgresql://u:se@hunter2@h/d",
        "postgresql://u:hunter2/x@h/d",
        "postgres://u:1/hunter2@h/d",
        "postgresql://u:hunter2/d",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct source_options o = {.conninfo = bad[i], .slot = "s"};
        struct conninfo ci;
        struct err e;
        assert_int_equal(conninfo_make(&o, CONNINFO_SQL, &ci, &e), -1);
        assert_int_equal(e.class, ERR_USAGE);
        assert_null(strstr(e.text, "unter2"));
    }
}

static void at_signs_that_are_no_password(void **state)
{
    (void)state;
    struct conninfo ci =
        made("postgresql://me%40corp:s%40%2F@h:5432,i:5433/d%40x?user=a@b", CONNINFO_SQL);
    assert_string_equal(conninfo_get(&ci, "password"), "s@/");
    assert_string_equal(conninfo_get(&ci, "dbname"), "d@x");
    assert_string_equal(conninfo_get(&ci, "user"), "a@b");
    conninfo_fini(&ci);
    ci = made("host=@abstract dbname='a@b'", CONNINFO_SQL);
    assert_string_equal(conninfo_get(&ci, "host"), "@abstract");
    conninfo_fini(&ci);
    ci = made("postgresql:///d", CONNINFO_SQL);
    assert_null(conninfo_get(&ci, "host"));
    conninfo_fini(&ci);
}

static void password_from_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/rowcast-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "first\n", 6), 6);
    struct source_options o = {.conninfo = "host=h password=other", .password_file = path};
    struct conninfo ci;
    struct err e;
    assert_int_equal(conninfo_make(&o, CONNINFO_SQL, &ci, &e), 0);
    assert_string_equal(conninfo_get(&ci, "password"), "first");
    conninfo_fini(&ci);
    assert_int_equal(pwrite(fd, "second", 6, 0), 6); // rotated: read again each time
    assert_int_equal(conninfo_make(&o, CONNINFO_SQL, &ci, &e), 0);
    assert_string_equal(conninfo_get(&ci, "password"), "second");
    conninfo_fini(&ci);
    close(fd);
    unlink(path);
    assert_int_equal(conninfo_make(&o, CONNINFO_SQL, &ci, &e), -1);
    assert_int_equal(e.class, ERR_USAGE);
    assert_non_null(strstr(e.text, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged),
        cmocka_unit_test(secrets_stay_in),
        cmocka_unit_test(at_signs_that_are_no_password),
        cmocka_unit_test(password_from_a_file),
    };
    return cmocka_run_group_tests_name("source_conninfo", tests, NULL, NULL);
}
