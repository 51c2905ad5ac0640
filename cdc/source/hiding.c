#include "source/hiding.h"

static void put_quoted(struct buf *out, const char *column)
{
    AUTO_BUF struct buf b = {0};
    table_quote(&b, "x", column);
    buf_puts(out, buf_cstr(&b) + 2);
}

bool hiding_glob_matches(const char *glob, const char *table, const char *column)
{
    AUTO_BUF struct buf b = {0};
    buf_printf(&b, "%s.", table);
    put_quoted(&b, column);
    const char *name = buf_cstr(&b);
    return glob_match(glob, name) ||
           (strncmp(name, "public.", 7) == 0 && glob_match(glob, name + 7));
}

// Under whatever table: what stands behind any dot of the glob.
static bool last_part_matches(const char *glob, const char *column)
{
    AUTO_BUF struct buf b = {0};
    put_quoted(&b, column);
    for (const char *part = glob; part; part = strchr(part, '.')) {
        part += *part == '.';
        if (glob_match(part, buf_cstr(&b)))
            return true;
    }
    return false;
}

static bool any_matches(const struct hiding *h, char *const *globs, size_t n, const char *column,
                        bool key)
{
    for (size_t i = 0; i < n; i++) {
        if (hiding_glob_matches(globs[i], h->table, column) ||
            (h->root && hiding_glob_matches(globs[i], h->root, column)) ||
            (h->first && hiding_glob_matches(globs[i], h->first, column)) ||
            (h->unknown && !key && last_part_matches(globs[i], column)))
            return true;
    }
    return false;
}

static enum hide by_name(const struct hiding *h, const char *column, bool key)
{
    const struct source_options *o = h->o;
    if (any_matches(h, o->exclude_columns, o->exclude_column_count, column, key))
        return HIDE_EXCLUDE;
    return any_matches(h, o->mask_columns, o->mask_column_count, column, key) ? HIDE_MASK
                                                                              : HIDE_NOT;
}

static bool is_column(const struct hidden_column *v, const struct seen_column *c)
{
    return v->attnum && c->attnum ? v->attnum == c->attnum : strcmp(v->name, c->name) == 0;
}

static bool in_latest(const struct hiding *h, const char *column)
{
    for (size_t i = 0; i < h->latest->column_count; i++) {
        if (strcmp(h->latest->columns[i].name, column) == 0)
            return true;
    }
    return false;
}

struct decision { // about one message
    const struct hiding *h;
    const struct seen_column *columns;
    size_t n;
    enum hide *hide;
    struct hidden_column *hidden;
    size_t count;
    bool attnum_helps;
};

static void remember(struct decision *d, int16_t attnum, const char *name, const char *as)
{
    if (d->count < HIDDEN_MAX)
        d->hidden[d->count++] = (struct hidden_column){attnum, name, as};
}

static bool remembered(const struct decision *d, const char *name)
{
    for (size_t i = 0; i < d->count; i++) {
        if (strcmp(d->hidden[i].name, name) == 0)
            return true;
    }
    return false;
}

// The column that was remembered, under its name of now; false when it is none of these.
static bool follow(struct decision *d, size_t i, const struct hidden_column *v)
{
    const struct seen_column *c = &d->columns[i];
    if (!is_column(v, c))
        return false;
    bool by_now = d->hide[i] != HIDE_NOT;
    if (!by_now)
        d->hide[i] = by_name(d->h, v->as, c->key);
    if (!remembered(d, c->name))
        remember(d, c->attnum ? c->attnum : v->attnum, c->name, by_now ? c->name : v->as);
    return true;
}

// What was remembered is not in the message by what is known of it: a column new to us, whose
// attnum would tell but is not known, may be it.
static void suspect(struct decision *d, const struct hidden_column *v)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct seen_column *c = &d->columns[i];
        enum hide hide = by_name(d->h, v->as, c->key);
        if (d->hide[i] != HIDE_NOT || hide == HIDE_NOT || c->key || (v->attnum && c->attnum) ||
            in_latest(d->h, c->name))
            continue;
        d->hide[i] = hide;
        remember(d, c->attnum, c->name, v->as);
        d->attnum_helps = true;
    }
}

bool hiding_decide(const struct hiding *h, const struct seen_column *columns, size_t n,
                   enum hide *ret_hide, struct hidden_column *ret_hidden, size_t *ret_hidden_count)
{
    struct decision d = {
        .h = h, .columns = columns, .n = n, .hide = ret_hide, .hidden = ret_hidden};
    for (size_t i = 0; i < n; i++)
        d.hide[i] = by_name(h, columns[i].name, columns[i].key);
    size_t old = h->latest ? h->latest->hidden_count : 0;
    bool missing[HIDDEN_MAX];
    for (size_t k = 0; k < old; k++) {
        missing[k] = true;
        for (size_t i = 0; i < n && missing[k]; i++)
            missing[k] = !follow(&d, i, &h->latest->hidden[k]);
    }
    for (size_t k = 0; k < old; k++) {
        if (missing[k])
            suspect(&d, &h->latest->hidden[k]);
    }
    for (size_t i = 0; i < n; i++) {
        if (d.hide[i] != HIDE_NOT && !remembered(&d, columns[i].name))
            remember(&d, columns[i].attnum, columns[i].name, columns[i].name);
    }
    for (size_t i = 0; i < d.count; i++)
        d.attnum_helps |= d.hidden[i].attnum == 0;
    for (size_t k = 0; k < old; k++) { // it may come back, in changes of then
        const struct hidden_column *v = &h->latest->hidden[k];
        if (missing[k])
            remember(&d, v->attnum, v->name, v->as);
    }
    *ret_hidden_count = d.count;
    return d.attnum_helps;
}
