// What is laid over held rows, by which transactions, and what is remembered of them: the pure
// parts of snapshots.
#include "snapshot_rows.h"

#include "source/snapshot/bag.h"
#include "source/snapshot/change_log.h"
#include "source/snapshot/overlay.h"
#include "source/snapshot/state_line.h"
#include "source/snapshot/want.h"

// ---- visibility ----

static void a_view_sees_what_was_over(void **state)
{
    (void)state;
    uint64_t running[] = {105, 107};
    struct view v = {.xmin = 105, .xmax = 110, .xip = running, .xip_n = 2};
    const struct {
        uint32_t xid;
        bool seen;
    } cases[] = {{3, true},    {104, true}, {105, false}, {106, true},
                 {107, false}, {109, true}, {110, false}, {4000, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(view_sees(&v, cases[i].xid), cases[i].seen);
}

// The counter has come round: 2^32 + 2 is later than 2^32 - 3, though the stream says 2.
static void xids_wrap_around(void **state)
{
    (void)state;
    uint64_t epoch = UINT64_C(1) << 32, running[] = {epoch - 3, epoch + 1};
    struct view v = {.xmin = epoch - 3, .xmax = epoch + 4, .xip = running, .xip_n = 2};
    assert_int_equal(view_widen(&v, 2), epoch + 2);
    assert_int_equal(view_widen(&v, UINT32_MAX - 1), epoch - 2);
    assert_true(view_sees(&v, UINT32_MAX - 9));  // before
    assert_false(view_sees(&v, UINT32_MAX - 2)); // epoch - 3 runs
    assert_true(view_sees(&v, UINT32_MAX - 1));
    assert_true(view_sees(&v, 0));
    assert_false(view_sees(&v, 1));
    assert_true(view_sees(&v, 3));
    assert_false(view_sees(&v, 4)); // not begun
    assert_false(view_sees(&v, 1000));
    // The first epoch has nothing before it.
    struct view first = {.xmin = 700, .xmax = 700};
    assert_true(view_sees(&first, 699));
    assert_false(view_sees(&first, 700));
}

// ---- held rows ----

struct held_rows {
    struct relation *relation;
    struct identity id;
    struct overlay *o;
    struct row_bytes rows[8];
    size_t n;
};

static struct held_rows *hold(void)
{
    struct held_rows *h = xcalloc(1, sizeof *h);
    h->relation = make_relation(1, false, false);
    identity_init(&h->id, h->relation);
    h->o = overlay_new(&h->id, 1);
    return h;
}

static void add(struct held_rows *h, uint32_t id, const char *note)
{
    struct row_bytes *r = &h->rows[h->n++];
    *r = row_bytes(id, note);
    overlay_add(h->o,
                &(struct held_row){.id = {buf_slice(&r->key), {0}}, .after = buf_slice(&r->after)});
}

static void release(struct held_rows *h)
{
    overlay_free(h->o);
    for (size_t i = 0; i < h->n; i++)
        row_bytes_fini(&h->rows[i]);
    relation_free(h->relation);
    free(h);
}

// old: the key before, 0: the same. unchanged: the note is not told.
static void apply(struct held_rows *h, enum op op, uint32_t old, uint32_t id, const char *note,
                  bool unchanged)
{
    static const uint8_t note_number = 2;
    struct row_bytes now = row_bytes(id, note), was = row_bytes(old ? old : id, NULL);
    struct change c = {.op = op, .relation = 1, .key = buf_slice(&was.key)};
    if (op != OP_DELETE)
        c.after = buf_slice(&now.after);
    if (unchanged)
        c.unchanged = (struct slice){&note_number, 1};
    assert_int_equal(overlay_apply(h->o, &c), 0);
    row_bytes_fini(&now);
    row_bytes_fini(&was);
}

// "1=a 2=b" of what is left, in the order of the rows.
static void expect(struct held_rows *h, const char *text)
{
    AUTO_BUF struct buf found = {0};
    for (size_t i = 0; i < overlay_count(h->o); i++) {
        const struct held_row *row = overlay_row(h->o, i);
        if (row->gone)
            continue;
        struct reader r = reader_of(row->after.p, row->after.n),
                      k = reader_of(row->id.key.p, row->id.key.n);
        struct wire_field f = {0};
        unsigned id = 0, key = 0;
        AUTO_BUF struct buf note = {0};
        while (wire_next(&r, &f)) {
            if (f.number == 1)
                id = (unsigned)f.v;
            else
                buf_put(&note, f.bytes.p, f.bytes.n);
        }
        assert_true(wire_next(&k, &f));
        key = (unsigned)f.v;
        assert_int_equal(key, id);
        buf_printf(&found, "%s%u=%s", found.n ? " " : "", id, buf_cstr(&note));
    }
    assert_string_equal(buf_cstr(&found), text);
}

static void changes_are_laid_over(void **state)
{
    (void)state;
    struct held_rows *h = hold();
    for (uint32_t i = 1; i <= 5; i++)
        add(h, i, "old");
    apply(h, OP_UPDATE, 0, 1, "new", false);
    apply(h, OP_UPDATE, 0, 2, NULL, true); // the held value stays
    apply(h, OP_DELETE, 0, 3, NULL, false);
    apply(h, OP_INSERT, 0, 3, "again", false); // whole in the stream: not held any more
    apply(h, OP_UPDATE, 4, 14, NULL, true);    // moves, with its value
    apply(h, OP_UPDATE, 0, 99, NULL, true);    // not held: nothing to lay over
    expect(h, "1=new 2=old 5=old 14=old");
    apply(h, OP_UPDATE, 0, 14, "moved", false);
    apply(h, OP_UPDATE, 14, 1, NULL, true); // onto the key of another one, which it replaces
    expect(h, "2=old 5=old 1=moved");
    struct row_bytes five = row_bytes(5, NULL), three = row_bytes(3, NULL);
    assert_true(overlay_has(h->o, (struct row_key){buf_slice(&five.key), {0}}));
    assert_false(overlay_has(h->o, (struct row_key){buf_slice(&three.key), {0}}));
    row_bytes_fini(&five);
    row_bytes_fini(&three);
    overlay_clear(h->o);
    expect(h, "");
    release(h);
}

// Rows are found again after the table of keys has grown.
// A server may be built with more columns an index than 32, or lie.
static void a_key_of_many_columns(void **state)
{
    (void)state;
    struct column columns[COLUMNS_MAX];
    struct relation r = {.column_count = COLUMNS_MAX, .columns = columns};
    for (uint32_t i = 0; i < COLUMNS_MAX; i++)
        columns[i] = (struct column){.number = COLUMNS_MAX - i, .key = true};
    struct identity id;
    identity_init(&id, &r);
    assert_int_equal(id.n, COLUMNS_MAX);
    for (uint32_t i = 0; i < id.n; i++)
        assert_int_equal(id.numbers[i], i + 1);
}

static void many_rows_move(void **state)
{
    (void)state;
    struct held_rows *h = hold();
    add(h, 1, "x");
    for (uint32_t i = 1; i < 500; i++)
        apply(h, OP_UPDATE, i, i + 1, NULL, true);
    expect(h, "500=x");
    release(h);
}

// A key that its type cannot hold stands in the exact fields, which make up the identity too.
static void exact_values_are_part_of_the_key(void **state)
{
    (void)state;
    struct held_rows *h = hold();
    AUTO_BUF struct buf body = {0}, exact = {0}, exact_key = {0}, key = {0}, key_exact = {0};
    wire_uint(&body, 1, 1);
    wire_string(&body, 2, "infinity");
    wire_bytes(&exact, 8, body.p, body.n);
    wire_bytes(&exact_key, 10, body.p, body.n);
    struct change c = {.op = OP_UPDATE, .exact = buf_slice(&exact)};
    assert_true(change_new_key(&h->id, &c, &key, &key_exact));
    assert_int_equal(key.n, 0);
    assert_true(row_key_same((struct row_key){buf_slice(&key), buf_slice(&key_exact)},
                             (struct row_key){{0}, buf_slice(&exact_key)}));
    release(h);
}

// ---- the log ----

static int count_changes(void *arg, const struct change *c)
{
    AUTO_BUF struct buf text = {0};
    buf_put(&text, c->after.p, c->after.n);
    buf_printf(arg, "%s ", buf_cstr(&text));
    return 0;
}

static void log_one(struct change_log *l, uint32_t xid, const char *after)
{
    change_log_add(
        l, xid,
        &(struct change){
            .op = OP_INSERT, .relation = 1, .key = slice_of("k"), .after = slice_of(after)});
}

static void the_log_gives_what_a_view_misses(void **state)
{
    (void)state;
    struct change_log *l = change_log_new();
    uint64_t running[] = {11};
    struct view v = {.xmin = 11, .xmax = 13, .xip = running, .xip_n = 1};
    struct view later = {.xmin = 13, .xmax = 20};
    log_one(l, 10, "seen");
    log_one(l, 11, "runs");
    log_one(l, 12, "seen");
    log_one(l, 11, "still");
    log_one(l, 13, "later");
    AUTO_BUF struct buf text = {0};
    assert_int_equal(change_log_replay(l, &v, count_changes, &text), 0);
    assert_string_equal(buf_cstr(&text), "runs still later ");
    change_log_trim(l, &v); // what it sees, later ones see too
    buf_clear(&text);
    assert_int_equal(
        change_log_replay(l, &(struct view){.xmin = 5, .xmax = 5}, count_changes, &text), 0);
    assert_string_equal(buf_cstr(&text), "runs still later ");
    assert_false(change_log_misses(l, &v));
    change_log_lose(l);
    assert_true(change_log_misses(l, &v));
    log_one(l, 13, "the rest of a lost one is lost too");
    buf_clear(&text);
    assert_int_equal(change_log_replay(l, &v, count_changes, &text), 0);
    assert_string_equal(buf_cstr(&text), "");
    change_log_trim(l, &(struct view){.xmin = 20, .xmax = 20});
    assert_false(change_log_misses(l, &later));
    change_log_free(l);
}

static void a_full_log_keeps_the_xids(void **state)
{
    (void)state;
    struct change_log *l = change_log_new();
    char *big = xcalloc(1, 1 << 20);
    memset(big, 'x', (1 << 20) - 1);
    for (uint32_t i = 0; i < 20; i++)
        log_one(l, 100 + i, big);
    assert_true(change_log_bytes(l) <= CHANGE_LOG_BYTES_MAX + (2 << 20));
    assert_true(change_log_misses(l, &(struct view){.xmin = 101, .xmax = 101}));
    assert_false(change_log_misses(l, &(struct view){.xmin = 200, .xmax = 200}));
    for (uint32_t i = 0; i < CHANGE_LOG_LOST_MAX + 10; i++)
        change_log_add_lost(l, 1000 + i);
    assert_true(change_log_misses(l, &(struct view){.xmin = 1000, .xmax = 1000}));
    change_log_trim(l, &(struct view){.xmin = 10000000, .xmax = 10000000});
    assert_false(change_log_misses(l, &(struct view){.xmin = 10000000, .xmax = 10000000}));
    free(big);
    change_log_free(l);
}

// ---- keys to be asked for ----

static bool take_two(void *arg, struct row_key key)
{
    struct buf *text = arg;
    if (text->n >= 2)
        return false;
    buf_put(text, key.key.p, key.key.n);
    return true;
}

static void wanted_keys_are_asked_for_until_answered(void **state)
{
    (void)state;
    struct want_set *w = want_new();
    struct row_key a = {slice_of("a"), {0}}, b = {slice_of("b"), {0}}, c = {slice_of("c"), {0}};
    assert_true(want_add(w, a));
    assert_false(want_add(w, a));
    assert_true(want_add(w, b) && want_add(w, c));
    AUTO_BUF struct buf text = {0};
    uint64_t stamp = want_ask(w, take_two, &text);
    assert_string_equal(buf_cstr(&text), "ab");
    want_add(w, b);    // changed again while it is read
    want_remove(w, c); // whole by now
    want_answered(w, stamp, true);
    assert_int_equal(want_count(w), 1);
    buf_clear(&text);
    stamp = want_ask(w, take_two, &text);
    assert_string_equal(buf_cstr(&text), "b");
    want_answered(w, stamp, false); // not answered to its end
    buf_clear(&text);
    want_ask(w, take_two, &text);
    assert_string_equal(buf_cstr(&text), "b");
    want_free(w);
}

// ---- rows without a key ----

static void count_added(void *arg, struct slice row, struct slice exact)
{
    (void)exact;
    buf_put(arg, row.p, row.n);
}

static void a_bag_counts(void **state)
{
    (void)state;
    struct bag *b = bag_new();
    struct slice none = {0};
    bag_count(b, slice_of("x"), none, -1);
    bag_count(b, slice_of("x"), none, -1);
    bag_count(b, slice_of("y"), none, 1);
    bag_count(b, slice_of("z"), none, 1);
    bag_count(b, slice_of("z"), none, -1);
    AUTO_BUF struct buf text = {0};
    bag_added(b, count_added, &text);
    assert_string_equal(buf_cstr(&text), "y");
    assert_false(bag_take(b, slice_of("x"), none));
    assert_true(bag_take(b, slice_of("y"), none));
    assert_false(bag_empty(b));
    assert_false(bag_take(b, slice_of("x"), none));
    assert_true(bag_take(b, slice_of("x"), none));
    assert_true(bag_empty(b));
    bag_free(b);
}

// ---- lines of the state ----

static void a_line_says_what_was_put(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = {0}, scratch = {0};
    state_line_put(&text, &(struct state_line){.kind = 'Q',
                                               .at = {0x1234, 5},
                                               .round = 2,
                                               .part = 16384,
                                               .origin = 7,
                                               .from = slice_of("a \n"),
                                               .rows = 9,
                                               .table = slice_of("public.\"Odd Name\"")});
    struct state_line l;
    struct slice rest = buf_slice(&text);
    assert_true(state_line_next(&rest, &scratch, &l));
    assert_int_equal(l.kind, 'Q');
    assert_int_equal(l.at.lsn, 0x1234);
    assert_int_equal(l.round, 2);
    assert_int_equal(l.rows, 9);
    assert_memory_equal(l.from.p, "a \n", 3);
    assert_int_equal(l.to.n, 0);
    assert_memory_equal(l.table.p, "public.\"Odd Name\"", 17);
    assert_false(state_line_next(&rest, &scratch, &l));
    // Any damage is seen, and a line that was not finished is none.
    for (size_t i = 0; i + 1 < text.n; i++) {
        text.p[i] ^= 1;
        rest = buf_slice(&text);
        assert_true(!state_line_next(&rest, &scratch, &l) || l.kind == 0);
        text.p[i] ^= 1;
    }
    rest = (struct slice){text.p, text.n - 1};
    assert_false(state_line_next(&rest, &scratch, &l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_sees_what_was_over),
        cmocka_unit_test(xids_wrap_around),
        cmocka_unit_test(changes_are_laid_over),
        cmocka_unit_test(a_key_of_many_columns),
        cmocka_unit_test(many_rows_move),
        cmocka_unit_test(exact_values_are_part_of_the_key),
        cmocka_unit_test(the_log_gives_what_a_view_misses),
        cmocka_unit_test(a_full_log_keeps_the_xids),
        cmocka_unit_test(wanted_keys_are_asked_for_until_answered),
        cmocka_unit_test(a_bag_counts),
        cmocka_unit_test(a_line_says_what_was_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
