// The file of what consumers were told: kept over restarts, taken back where the journal lost it,
// thrown away when it is damaged.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "journal/told.h"
#include "proto/registry.h"

struct fixture {
    char dir[32];
    int dirfd;
    struct catalog *catalog;
    struct told told;
};

static void add_version(struct fixture *x, uint32_t oid, const char *name)
{
    struct seen_column id = {.name = "id", .type = "integer", .base_type = "integer", .attnum = 1};
    struct seen_relation seen = {oid, "public", name, 'd', 1, &id};
    catalog_add(x->catalog, registry_number(NULL, &seen, catalog_next_id(x->catalog)));
}

static void open_told(struct fixture *x)
{
    struct err e;
    if (told_open(&x->told, x->dirfd, x->dir, false, x->catalog, &e) != 0)
        fail_msg("%s", e.text);
}

static void open_again(struct fixture *x)
{
    told_close(&x->told);
    open_told(x);
}

static int setup(void **state)
{
    struct fixture *x = xcalloc(1, sizeof *x);
    memcpy(x->dir, "/tmp/rowcast-told-XXXXXX", 25);
    assert_non_null(mkdtemp(x->dir));
    x->dirfd = open(x->dir, O_RDONLY | O_DIRECTORY);
    x->catalog = catalog_new();
    add_version(x, 10, "a"); // 1
    add_version(x, 10, "a"); // 2: altered
    add_version(x, 10, "b"); // 3: renamed
    add_version(x, 20, "a"); // 4: another one
    open_told(x);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    told_close(&x->told);
    assert_int_equal(unlinkat(x->dirfd, "told", 0), 0);
    close(x->dirfd);
    rmdir(x->dir);
    catalog_free(x->catalog);
    free(x);
    return 0;
}

static void tell(struct fixture *x, uint32_t id, lsn_t lsn)
{
    struct err e;
    assert_int_equal(told_add(&x->told, id, (struct position){lsn, 0}, &e), 0);
}

static void untell(struct fixture *x, lsn_t last)
{
    struct err e;
    assert_int_equal(told_void(&x->told, (struct position){last, ORDINAL_END}, &e), 0);
}

static uint32_t id_of(const struct relation *r)
{
    return r ? r->id : 0;
}

// What was told of OIDs 10 and 20, and of names a and b.
static void told_is(struct fixture *x, uint32_t ten, uint32_t twenty, uint32_t a, uint32_t b)
{
    for (int again = 0; again < 2; again++) {
        assert_int_equal(id_of(told_by_oid(&x->told, 10)), ten);
        assert_int_equal(id_of(told_by_oid(&x->told, 20)), twenty);
        assert_int_equal(id_of(told_by_name(&x->told, "public.a")), a);
        assert_int_equal(id_of(told_by_name(&x->told, "public.b")), b);
        open_again(x);
    }
}

static void the_last_word_counts(void **state)
{
    struct fixture *x = *state;
    told_is(x, 0, 0, 0, 0);
    tell(x, 1, 100);
    tell(x, 2, 200);
    told_is(x, 2, 0, 2, 0);
    tell(x, 3, 300);
    told_is(x, 3, 0, 0, 3);
    tell(x, 4, 400);
    told_is(x, 3, 4, 4, 3);
    tell(x, 2, 500); // renamed back, while 20 was called so last
    told_is(x, 2, 4, 2, 0);
}

static void what_was_lost_is_void_for_ever(void **state)
{
    struct fixture *x = *state;
    tell(x, 1, 100);
    tell(x, 2, 200);
    tell(x, 3, 300);
    untell(x, 250);
    told_is(x, 2, 0, 2, 0);
    tell(x, 4, 400); // the stream went on past it
    told_is(x, 2, 4, 4, 0);
    untell(x, 50);
    told_is(x, 0, 0, 0, 0);
}

static size_t file_size(struct fixture *x)
{
    int fd = openat(x->dirfd, "told", O_RDONLY);
    off_t n = lseek(fd, 0, SEEK_END);
    close(fd);
    return (size_t)n;
}

static void overwrite(struct fixture *x, off_t at)
{
    int fd = openat(x->dirfd, "told", O_WRONLY);
    assert_int_equal(pwrite(fd, "xxxxxxxx", 8, at), 8);
    close(fd);
}

static void a_torn_tail_is_written_over(void **state)
{
    struct fixture *x = *state;
    tell(x, 1, 100);
    tell(x, 2, 200);
    overwrite(x, (off_t)file_size(x) - 8);
    open_again(x);
    told_is(x, 1, 0, 1, 0);
    tell(x, 3, 300);
    told_is(x, 3, 0, 0, 3);
}

static void a_damaged_file_is_thrown_away(void **state)
{
    struct fixture *x = *state;
    tell(x, 1, 100);
    tell(x, 2, 200);
    overwrite(x, 8);
    open_again(x);
    told_is(x, 0, 0, 0, 0);
    tell(x, 2, 300);
    told_is(x, 2, 0, 2, 0);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_word_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_lost_is_void_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_tail_is_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_thrown_away, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
