// `rowcast check` and `rowcast schema --source`: the questions without the stream.
#include "base/log.h"
#include "proto/schema.h"
#include "source/figures.h"
#include "source/offline/offline.h"
#include "source/offline/safety.h"
#include "source/offline/versions.h"
#include "source/preflight.h"
#include "source/relations.h"

struct checking {
    struct buf *out;
    int bad;
};

static void print_finding(void *arg, enum finding level, enum err_class class, const char *object,
                          const char *cause, const char *remedy)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    struct checking *c = arg;
    (void)class;
    buf_printf(c->out, "%s: %s: %s%s%s\n", names[level], object, cause, *remedy ? "; remedy: " : "",
               remedy);
    c->bad += level == FINDING_FAIL;
}

// The same that `run` watches; said here of this moment.
static int check_figures(const struct source_options *o, struct connection *sql, struct checking *c,
                         struct err *e)
{
    struct watch w = {.limits = {o->warn_retained_bytes, o->warn_safe_bytes, o->warn_xmin_age}};
    struct slot_figures f;
    bool found = false;
    if (figures_once(sql, o->slot, &f, &found, e) != 0)
        return -1;
    if (!found)
        return 0;
    watch_look(&w, &f);
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++) {
        if (!w.passed[kind])
            continue;
        AUTO_BUF struct buf cause = {0};
        watch_describe(kind, &f, f.active_pid ? NULL : "nobody reads it", &cause);
        print_finding(c, FINDING_WARN, ERR_NONE, watch_name(kind), buf_cstr(&cause), "");
    }
    return 0;
}

// Only a connection as the stream's shows that the role may replicate.
static int check_stream(const struct source_options *o, struct waiter *w, struct checking *c)
{
    struct conninfo ci;
    struct connection *stream = NULL;
    struct err e;
    if (conninfo_make(o, CONNINFO_STREAM, &ci, &e) != 0)
        return -1;
    int r = connection_open(&ci, w, &stream, &e);
    conninfo_fini(&ci);
    connection_close(stream);
    if (r == 0)
        print_finding(c, FINDING_OK, ERR_NONE, "replication", "the role may replicate", "");
    else
        print_finding(c, FINDING_FAIL, e.class, "replication", e.text, "");
    return r;
}

int source_check(const struct source_options *o, struct buf *out, int *ret_bad, struct err *e)
{
    struct checking c = {.out = out};
    struct offline offline;
    offline_init(&offline);
    struct lookup *l = lookup_new(o, &offline.waiter);
    int r = lookup_connect(l, e);
    if (r == 0) {
        print_finding(&c, FINDING_OK, ERR_NONE, "connection", "established", "");
        struct preflight p = {
            .o = o, .sql = lookup_connection(l), .report = print_finding, .arg = &c};
        r = preflight_run(&p, e);
        versions_report(&p);
        if (r == 0)
            r = safety_check(&p, e);
        if (r == 0)
            r = check_figures(o, lookup_connection(l), &c, e);
        if (r == 0)
            (void)check_stream(o, &offline.waiter, &c); // printed and counted
    }
    if (r != 0 && c.bad == 0)
        print_finding(&c, FINDING_FAIL, e->class, "connection", e->text, "");
    lookup_free(l);
    offline_fini(&offline);
    *ret_bad = c.bad;
    return r;
}

static int keep(void *arg, struct relation *r, struct err *e)
{
    (void)e;
    catalog_add(arg, r);
    return 0;
}

static int by_table(const void *a, const void *b)
{
    const struct relation *const *x = a, *const *y = b;
    return strcmp((*x)->table, (*y)->table);
}

static void render(struct catalog *catalog, struct buf *out)
{
    uint32_t n = catalog_count(catalog);
    const struct relation **all = xcalloc(n + 1, sizeof(const struct relation *));
    for (uint32_t i = 0; i < n; i++)
        all[i] = catalog_get(catalog, i + 1);
    qsort(all, n, sizeof(const struct relation *), by_table);
    schema_render(out, all, n, true);
    free(all);
}

int source_schema(const struct source_options *o, struct buf *out, struct err *e)
{
    struct offline offline;
    offline_init(&offline);
    struct source_options all = *o;
    struct lookup *l = lookup_new(&all, &offline.waiter);
    struct catalog *catalog = catalog_new();
    struct relations *rs = relations_new(&(struct relations_options){
        .source = o, .lookup = l, .catalog = catalog, .add = keep, .arg = catalog});
    AUTO_BUF struct buf missing = {0};
    int r = lookup_connect(l, e);
    if (r == 0)
        r = publication_missing(lookup_connection(l), o, &missing, e);
    if (missing.n) // what a publication made now would have
        all.publication_count = 0;
    if (r == 0)
        r = relations_seed(rs, e);
    if (r == 0)
        render(catalog, out);
    relations_free(rs);
    catalog_free(catalog);
    lookup_free(l);
    offline_fini(&offline);
    return r;
}
