// Spools against a model (an array of messages with the subtransactions that were open): what is
// read back is what was not aborted, in memory, in files and across both; the budget holds; a full
// disk is an error that leaves the rest as it was.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "source/spool.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP 1000

struct fixture {
    char base[64], dir[80];
    struct spools *ss;
    struct err e;
};

static void setup(struct fixture *f, size_t memory, uint64_t disk)
{
    snprintf(f->base, sizeof f->base, "/tmp/rowcast-spool-XXXXXX");
    assert_non_null(mkdtemp(f->base));
    snprintf(f->dir, sizeof f->dir, "%s/spool", f->base);
    f->ss = spools_new(&(struct spools_options){f->dir, memory, disk});
}

static int64_t bytes_at(const char *place)
{
    AUTO_FREE char *label = xasprintf("place=\"%s\"", place);
    return metric_get(metric_new(METRIC_GAUGE, "rowcast_spool_bytes", "", label, 1));
}

static void teardown(struct fixture *f)
{
    spools_free(f->ss);
    assert_int_equal(bytes_at("memory"), 0);
    assert_int_equal(bytes_at("disk"), 0);
    assert_int_equal(metric_get(metric_new(METRIC_GAUGE, "rowcast_spools", "", "", 1)), 0);
    (void)rmdir(f->dir);
    assert_int_equal(rmdir(f->base), 0); // nothing was left in it
}

static int append(struct fixture *f, struct spool *s, uint32_t subxid, uint32_t n, size_t size)
{
    AUTO_BUF struct buf b = {0};
    buf_printf(&b, "%u ", n);
    while (b.n < size)
        buf_putc(&b, (char)(n + b.n));
    return spool_append(s, subxid, n, 'I', buf_slice(&b), &f->e);
}

static void add(struct fixture *f, struct spool *s, uint32_t subxid, uint32_t n, size_t size)
{
    assert_int_equal(append(f, s, subxid, n, size), 0);
}

// The messages are those numbered so, whole and in this order.
static void check_numbers(struct fixture *f, struct spool *s, const uint32_t *numbers, size_t count)
{
    struct spooled m;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(spool_next(s, &m, &f->e), 1);
        assert_int_equal(m.arrival, numbers[i]);
        assert_int_equal(m.message.p[0], 'I');
        assert_int_equal(strtoul((const char *)m.message.p + 1, NULL, 10), numbers[i]);
        for (size_t at = 12; at < m.message.n; at++)
            assert_int_equal(m.message.p[at], (uint8_t)(numbers[i] + at - 1));
    }
    assert_int_equal(spool_next(s, &m, &f->e), 0);
    assert_int_equal(spool_next(s, &m, &f->e), 0);
}

static void test_order(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0, 0);
    struct spool *s = spools_open(f.ss, TOP);
    assert_ptr_equal(spools_open(f.ss, TOP), s);
    assert_ptr_equal(spools_find(f.ss, TOP), s);
    assert_null(spools_find(f.ss, TOP + 1));
    assert_int_equal(spool_append(s, 0, 1, 'I', slice_of("1 "), &f.e), 0);
    assert_int_equal(spool_append(s, TOP, 2, 'I', slice_of("2 "), &f.e), 0);
    check_numbers(&f, s, (uint32_t[]){1, 2}, 2);
    assert_int_not_equal(access(f.dir, F_OK), 0); // small ones need no disk
    spools_close(f.ss, s);
    assert_null(spools_find(f.ss, TOP));
    teardown(&f);
}

// As reference: savepoint a; savepoint b; b writes; release b; a writes; rollback to a: the server
// tells of b, then of a.
static void nested(size_t memory, size_t size)
{
    struct fixture f;
    setup(&f, memory, 0);
    struct spool *s = spools_open(f.ss, TOP);
    add(&f, s, TOP, 1, size);
    add(&f, s, TOP + 2, 2, size);
    add(&f, s, TOP + 1, 3, size);
    assert_int_equal(spool_abort(s, TOP + 2, &f.e), 0); // inside of TOP + 1 by now
    assert_int_equal(spool_abort(s, TOP + 1, &f.e), 0);
    assert_int_equal(spool_abort(s, TOP + 1, &f.e), 0); // again: nothing
    assert_int_equal(spool_abort(s, TOP + 9, &f.e), 0); // never heard of
    add(&f, s, TOP + 3, 4, size);
    add(&f, s, TOP + 4, 5, size);
    assert_int_equal(spool_abort(s, TOP + 4, &f.e), 0); // a sibling, or a child
    add(&f, s, TOP + 3, 6, size);
    add(&f, s, TOP, 7, size); // 3 has ended: it is part of it
    assert_int_equal(spool_abort(s, TOP + 3, &f.e), 0);
    check_numbers(&f, s, (uint32_t[]){1, 4, 6, 7}, 4);
    teardown(&f);
}

static void test_nested(void **state)
{
    (void)state;
    nested(0, 0);         // memory
    nested(300, 400);     // every message in the file
    nested(4096, 1500);   // across both
    nested(4096, 400000); // larger than any buffer
}

static void test_xids_go_round(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0, 0);
    struct spool *s = spools_open(f.ss, UINT32_MAX - 1);
    add(&f, s, UINT32_MAX - 1, 1, 0);
    add(&f, s, UINT32_MAX, 2, 0);
    add(&f, s, 3, 3, 0); // inside of the one before
    add(&f, s, UINT32_MAX, 4, 0);
    add(&f, s, 5, 5, 0);
    assert_int_equal(spool_abort(s, 5, &f.e), 0);
    check_numbers(&f, s, (uint32_t[]){1, 2, 3, 4}, 4);
    teardown(&f);
}

// A message of which it is not known whose it is goes with what was cut before it; where that
// cannot be told there is an error, not a guess.
static void test_unknown(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0, 0);
    struct spool *s = spools_open(f.ss, TOP);
    add(&f, s, TOP, 1, 0);
    add(&f, s, TOP + 1, 2, 0);
    add(&f, s, 0, 3, 0);       // of 1 or of one inside of it
    add(&f, s, TOP + 1, 4, 0); // it goes on: the message did not end it
    assert_int_equal(spool_abort(s, TOP + 1, &f.e), 0);
    assert_int_equal(spool_abort(s, TOP + 2, &f.e), 0); // said nothing, and no message is left
    add(&f, s, TOP + 3, 5, 0);
    add(&f, s, 0, 6, 0);
    add(&f, s, TOP + 4, 7, 0); // began before the message?
    assert_int_equal(spool_abort(s, TOP + 4, &f.e), -1);
    assert_int_equal(f.e.class, ERR_RETRY);
    assert_non_null(strstr(f.e.text, "logical messages"));
    assert_int_equal(spool_abort(s, TOP + 9, &f.e), -1); // emitted nothing but that message?
    assert_int_equal(spool_abort(s, TOP + 3, &f.e), 0);
    assert_int_equal(spool_abort(s, TOP + 9, &f.e), 0);
    check_numbers(&f, s, (uint32_t[]){1}, 1);
    teardown(&f);
}

// ---- a model ----

struct model {
    uint32_t numbers[4000], subxids[4000];
    size_t n;
    uint32_t open[16]; // the subtransactions that are open, innermost last
    size_t depth;
    uint32_t parent[20000]; // by xid - TOP
    uint32_t next_xid, next_number;
};

static bool is_below(const struct model *m, uint32_t xid, uint32_t top)
{
    while (xid != top && xid != TOP)
        xid = m->parent[xid - TOP];
    return xid == top;
}

// As the server: one abort for each of the subtree that said something, children first.
static void model_abort(struct fixture *f, struct spool *s, struct model *m, uint32_t sub)
{
    for (uint32_t xid = m->next_xid - 1; xid >= sub; xid--) {
        bool spoke = false;
        for (size_t i = 0; i < m->n; i++)
            spoke |= m->subxids[i] == xid;
        if (spoke && is_below(m, xid, sub))
            assert_int_equal(spool_abort(s, xid, &f->e), 0);
    }
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (is_below(m, m->subxids[i], sub))
            continue;
        m->numbers[kept] = m->numbers[i];
        m->subxids[kept++] = m->subxids[i];
    }
    m->n = kept;
}

static void model_step(struct fixture *f, struct spool *s, struct model *m)
{
    int what = rand() % 20;
    if (what < 2 && m->depth < ARRAY_LEN(m->open)) {
        uint32_t xid = m->next_xid++;
        m->parent[xid - TOP] = m->depth ? m->open[m->depth - 1] : TOP;
        m->open[m->depth++] = xid;
    } else if (what == 2 && m->depth) {
        m->depth--; // released
    } else if (what == 3 && m->depth) {
        m->depth = (size_t)rand() % m->depth;
        model_abort(f, s, m, m->open[m->depth]);
    } else {
        uint32_t xid = m->depth ? m->open[m->depth - 1] : TOP, n = m->next_number++;
        add(f, s, xid, n, rand() % 50 ? (size_t)rand() % 200 : (size_t)rand() % 300000);
        m->numbers[m->n] = n;
        m->subxids[m->n++] = xid;
    }
}

static void test_model(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        srand(seed);
        struct fixture f;
        setup(&f, seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1000 : 100000, 0);
        struct spool *s = spools_open(f.ss, TOP);
        struct model *m = xcalloc(1, sizeof *m);
        m->next_xid = TOP + 1;
        while (m->next_number < 1000)
            model_step(&f, s, m);
        check_numbers(&f, s, m->numbers, m->n);
        free(m);
        teardown(&f);
    }
}

// ---- limits ----

static void test_budget(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1 << 20, 0);
    struct spool *s[10];
    uint32_t numbers[2000];
    for (uint32_t n = 0; n < 2000; n++) {
        numbers[n] = n;
        for (uint32_t i = 0; i < ARRAY_LEN(s); i++) {
            s[i] = spools_open(f.ss, TOP + i);
            add(&f, s[i], TOP + i, n, 500);
            assert_true(bytes_at("memory") <= 1 << 20);
        }
    }
    assert_true(bytes_at("disk") > 9 << 20);
    struct stat st;
    assert_int_equal(stat(f.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    DIR *d = opendir(f.dir); // the files have no names any more
    for (struct dirent *entry; (entry = readdir(d));)
        assert_int_equal(entry->d_name[0], '.');
    closedir(d);
    for (uint32_t i = 0; i < ARRAY_LEN(s); i++) {
        check_numbers(&f, s[i], numbers, 2000);
        spools_close(f.ss, s[i]);
    }
    teardown(&f);
}

static void test_many_subtransactions(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1 << 20, 0);
    struct spool *s = spools_open(f.ss, TOP);
    uint32_t xid = TOP;
    while (append(&f, s, ++xid, 1, 10) == 0)
        assert_true(xid < TOP + 100000);
    assert_true(xid > TOP + 30000);
    assert_non_null(strstr(f.e.text, "too many subtransactions"));
    assert_int_equal(f.e.class, ERR_RETRY);
    spools_close(f.ss, s);
    // A message of the transaction itself ends all that went before: these need no memory.
    struct spool *other = spools_open(f.ss, 1);
    for (xid = 2; xid < 200000; xid += 2) {
        add(&f, other, xid, 1, 10);
        add(&f, other, 1, 1, 10);
    }
    teardown(&f);
}

static void test_disk_limit(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1000, 10000);
    struct spool *s = spools_open(f.ss, TOP);
    uint32_t n = 0;
    while (append(&f, s, TOP, n, 100) == 0)
        n++;
    assert_int_equal(f.e.class, ERR_RETRY);
    assert_non_null(strstr(f.e.text, "10000"));
    assert_in_range(bytes_at("disk"), 5000, 10000);
    spools_clear(f.ss);
    assert_int_equal(bytes_at("disk"), 0);
    s = spools_open(f.ss, TOP); // there is room again
    add(&f, s, TOP, 1, 9000);
    check_numbers(&f, s, (uint32_t[]){1}, 1);
    teardown(&f);
}

// The kernel writes a part and then refuses: as a full disk does.
static void test_short_write(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 100, 0);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){5000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    struct spool *s = spools_open(f.ss, TOP);
    for (uint32_t n = 0; n < 10; n++)
        add(&f, s, TOP, n, 100);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r = append(&f, s, TOP, 10, 300000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r, -1);
    assert_int_equal(f.e.class, ERR_RETRY);
    assert_non_null(strstr(f.e.text, f.dir));
    teardown(&f);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 100, 0);
    FILE *in_the_way = fopen(f.dir, "w");
    fclose(in_the_way);
    struct spool *s = spools_open(f.ss, TOP);
    assert_int_equal(append(&f, s, TOP, 1, 300000), -1);
    assert_int_equal(f.e.class, ERR_RETRY);
    assert_non_null(strstr(f.e.text, f.dir));
    assert_int_equal(unlink(f.dir), 0);
    add(&f, s, TOP, 1, 300000);
    teardown(&f);
}

// A process that was killed between opening and unlinking left one.
static void test_left_file(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 100, 0);
    assert_int_equal(mkdir(f.dir, 0700), 0);
    AUTO_FREE char *path = xasprintf("%s/%u.spool", f.dir, TOP);
    FILE *left = fopen(path, "w");
    fclose(left);
    struct spool *s = spools_open(f.ss, TOP);
    add(&f, s, TOP, 1, 300000);
    check_numbers(&f, s, (uint32_t[]){1}, 1);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_xids_go_round),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_many_subtransactions),
        cmocka_unit_test(test_disk_limit),
        cmocka_unit_test(test_short_write),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_left_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
