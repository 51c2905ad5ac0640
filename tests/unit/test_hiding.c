// Excluded and masked columns: what a glob takes, and that it does not get lost by a rename.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/hiding.h"

static char secret[] = "public.t.secret", card[] = "public.top.card";
static char *exclude[] = {secret};
static char *mask[] = {card};
static const struct source_options OPTIONS = {.exclude_columns = exclude,
                                              .exclude_column_count = 1,
                                              .mask_columns = mask,
                                              .mask_column_count = 1};
static const struct source_options NONE;

static struct seen_column col(const char *name, int16_t attnum)
{
    return (struct seen_column){
        .name = name, .type = "text", .base_type = "text", .attnum = attnum};
}

// What becomes of a table's columns after `latest`, which is freed: a letter each in *ret_letters
// (n, m, x; a capital tail "?": an attnum would help). Returns the version that follows.
static struct relation *next_of(struct relation *latest, const struct source_options *o,
                                const char *root, bool unknown, struct seen_column *columns,
                                size_t n, char ret_letters[16])
{
    static const char letters[] = "nmx";
    enum hide hide[8];
    struct hidden_column hidden[HIDDEN_MAX];
    struct hiding h = {
        .o = o, .table = "public.t", .root = root, .unknown = unknown, .latest = latest};
    struct seen_relation seen = {.oid = 1,
                                 .schema = "public",
                                 .name = "t",
                                 .replica_identity = 'd',
                                 .columns = columns,
                                 .root = root,
                                 .hidden = hidden};
    bool ask = hiding_decide(&h, columns, n, hide, hidden, &seen.hidden_count);
    for (size_t i = 0; i < n; i++) {
        ret_letters[i] = letters[hide[i]];
        columns[i].masked = hide[i] == HIDE_MASK;
        if (hide[i] != HIDE_EXCLUDE)
            columns[seen.n++] = columns[i];
    }
    ret_letters[n] = ask ? '?' : 0;
    ret_letters[n + ask] = 0;
    struct relation *made = registry_number(latest, &seen, 1), *r;
    struct err e;
    assert_int_equal(relation_decode(made->stored, &r, &e), 0); // as after a restart
    assert_true(relation_same(made, r));
    relation_free(made);
    relation_free(latest);
    return r;
}

#define NEXT(expected, latest, o, root, unknown, ...)                                              \
    ({                                                                                             \
        char got_[16];                                                                             \
        struct seen_column c_[] = {__VA_ARGS__};                                                   \
        struct relation *r_ = next_of(latest, o, root, unknown, c_, ARRAY_LEN(c_), got_);          \
        assert_string_equal(got_, expected);                                                       \
        r_;                                                                                        \
    })

static void globs_hold_under_both_names(void **state)
{
    (void)state;
    relation_free(
        NEXT("nxn", NULL, &OPTIONS, NULL, false, col("id", 1), col("secret", 2), col("card", 3)));
    relation_free(NEXT("nxm", NULL, &OPTIONS, "public.top", false, col("id", 1), col("secret", 2),
                       col("card", 3)));
    assert_true(hiding_glob_matches("t.a", "public.t", "a"));
    assert_true(hiding_glob_matches("shop.*.\"A b\"", "shop.t", "A b"));
    assert_false(hiding_glob_matches("t.a", "shop.t", "a"));
}

static void a_renamed_column_stays_hidden(void **state)
{
    (void)state;
    const char *root = "public.top";
    struct relation *r =
        NEXT("nxm", NULL, &OPTIONS, root, false, col("id", 1), col("secret", 2), col("card", 3));
    uint32_t number = r->columns[1].number;
    r = NEXT("nxmn", r, &OPTIONS, root, false, col("id", 1), col("s2", 2), col("c2", 3),
             col("new", 4));
    assert_int_equal(r->columns[1].number, number);
    r = NEXT("nxmn", r, &OPTIONS, root, false, col("id", 1), col("s3", 2), col("c3", 3),
             col("new", 4));
    // Known by name too, when nobody says the attnum.
    r = NEXT("nxmn", r, &OPTIONS, root, false, col("id", 0), col("s3", 0), col("c3", 0),
             col("new", 0));
    // Without the globs nothing is hidden; with them again it is, for nothing was forgotten.
    r = NEXT("nnnn", r, &NONE, root, false, col("id", 1), col("s3", 2), col("c3", 3),
             col("new", 4));
    r = NEXT("nxmn", r, &OPTIONS, root, false, col("id", 1), col("s3", 2), col("c3", 3),
             col("new", 4));
    // The name alone is not the column: it was dropped, and another one got its name.
    relation_free(NEXT("nnm", r, &OPTIONS, root, false, col("id", 1), col("s3", 5), col("c3", 3)));
}

static void in_doubt_a_column_is_hidden(void **state)
{
    (void)state;
    struct relation *r =
        NEXT("nxn", NULL, &OPTIONS, NULL, false, col("id", 1), col("secret", 2), col("note", 3));
    // It may be the one that was renamed; those that were known are others.
    r = NEXT("nnx?", r, &OPTIONS, NULL, false, col("id", 0), col("note", 0), col("s2", 0));
    r = NEXT("nnx?", r, &OPTIONS, NULL, false, col("id", 0), col("note", 0), col("s2", 0));
    relation_free(r);
    // An attnum says that it is not.
    r = NEXT("nxn", NULL, &OPTIONS, NULL, false, col("id", 1), col("secret", 2), col("note", 3));
    relation_free(
        NEXT("nnn", r, &OPTIONS, NULL, false, col("id", 1), col("note", 3), col("s2", 4)));
    // Nor can the root be told any more: whatever the table. A key cannot be hidden.
    struct seen_column key = col("card", 1);
    key.key = true;
    relation_free(
        NEXT("nmx", NULL, &OPTIONS, NULL, true, col("id", 2), col("card", 3), col("secret", 4)));
    relation_free(NEXT("nn", NULL, &OPTIONS, NULL, true, key, col("id", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_hold_under_both_names),
        cmocka_unit_test(a_renamed_column_stays_hidden),
        cmocka_unit_test(in_doubt_a_column_is_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
