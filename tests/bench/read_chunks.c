// Reads the existing rows of a publication's tables as chunks, without a slot and without a
// journal: what reading alone costs, and what it gives.
//
//   read_chunks CONNINFO PUBLICATION[,PUBLICATION] [OPTION VALUE ...]
//
// Options: connections N; rate BYTES; mask GLOB; exclude GLOB; kind keys (where a table would be
// read by pages); chunk N (pages, or rows, of a chunk); again yes (reads rows once more, by their
// keys); print yes (a row a line, as JSON, with its table);
// each NAMES (plans each table by itself too, which must come out the same, and these tables, which
// must not be published);
// pause yes (when the plan is made prints "planned", and waits for a line of standard input).
// At the end a line of JSON a table: how it was read, rows, chunks, bytes; and one of the whole.
// A table that cannot be read: its error, or why the plan does not hold for it any more.
#include "base/clock.h"
#include "proto/json.h"
#include "proto/wire.h"
#include "source/relations.h"
#include "source/snapshot/chunk_reader.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

struct progress { // of a part
    const struct chunk_table *table;
    struct chunk_part *part;
    uint64_t next; // page
    uint64_t rows, bytes, chunks, again;
    int open;                 // orders
    enum chunk_status status; // of one that could not be read
    struct err error;
};

static struct {
    struct source_options o;
    int wake;
    _Atomic bool stopped;
    struct waiter waiter;
    struct catalog *catalog;
    struct chunk_reader *reader;
    bool print, by_keys, pause, each;
    char *absent[16];
    size_t absent_n;
    uint64_t chunk;
    bool again;
    struct progress *parts;
    size_t n;
    uint64_t rows, bytes;
    size_t held; // the most that was held
} run;

static void die(const struct err *e)
{
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static void wake(void *arg)
{
    (void)arg;
    uint64_t one = 1;
    if (write(run.wake, &one, sizeof one) < 0)
        abort();
}

static struct chunk *take(void)
{
    struct chunk *c;
    while (!(c = chunk_reader_take(run.reader))) {
        struct pollfd p = {.fd = run.wake, .events = POLLIN};
        uint64_t n;
        if (poll(&p, 1, 60000) <= 0 || read(run.wake, &n, sizeof n) < 0) {
            fprintf(stderr, "no chunk in a minute\n");
            exit(1);
        }
    }
    return c;
}

static int add(void *arg, struct relation *r, struct err *e)
{
    (void)arg;
    (void)e;
    catalog_add(run.catalog, r);
    return 0;
}

static void seed(void)
{
    struct err e = {0};
    run.catalog = catalog_new();
    struct relations_options o = {.source = &run.o,
                                  .lookup = lookup_new(&run.o, &run.waiter),
                                  .catalog = run.catalog,
                                  .add = add};
    struct relations *rs = relations_new(&o);
    if (relations_seed(rs, &e) != 0)
        die(&e);
    relations_free(rs);
    lookup_free(o.lookup);
}

static void order(struct progress *p, struct chunk_order *o)
{
    o->table = p->table;
    o->part = p->part;
    o->relation = catalog_latest(run.catalog, p->table->table);
    CHECK(o->relation);
    o->tag = p;
    p->open++;
    chunk_reader_order(run.reader, o);
}

// The next orders of a part, as many as there may be.
static void go_on(struct progress *p, const struct chunk *c)
{
    struct chunk_order o = {.kind = run.by_keys && p->part->kind == CHUNK_PAGES ? CHUNK_KEYS
                                                                                : p->part->kind};
    if (c && !c->end && c->order.kind != CHUNK_WHOLE) {
        struct chunk_order rest = {
            .kind = c->order.kind, .place_from = c->place_end, .place_to = c->order.place_to};
        buf_put(&rest.key_from, c->key_end.p, c->key_end.n);
        order(p, &rest);
        return;
    }
    if (o.kind == CHUNK_PAGES && p->next < p->part->pages) {
        o.place_from = CHUNK_PLACE(p->next, 0);
        p->next += run.chunk ? run.chunk : p->part->step;
        if (p->next > p->part->pages)
            p->next = p->part->pages;
        o.place_to = CHUNK_PLACE(p->next, 0);
        order(p, &o);
    } else if (!c && o.kind != CHUNK_PAGES) {
        if (o.kind == CHUNK_KEYS && run.chunk)
            p->part->limit = run.chunk;
        order(p, &o);
    }
}

static void print_rows(const struct chunk *c)
{
    for (size_t i = 0; run.print && i < c->n; i++) {
        struct err e = {0};
        AUTO_BUF struct buf out = {0};
        struct change change = chunk_row_change(c, &c->rows[i]);
        const struct relation *r = c->order.relation;
        buf_puts(&out, "{\"table\":");
        json_string(&out, r->table, strlen(r->table));
        buf_puts(&out, ",\"key\":");
        if (!change.key.p)
            buf_puts(&out, "null");
        else if (json_row(&out, r, change.key, &change, 10, true, &e) != 0)
            die(&e);
        buf_puts(&out, ",\"row\":");
        if (json_row(&out, r, change.after, &change, 8, false, &e) != 0)
            die(&e);
        buf_putc(&out, '}');
        puts(buf_cstr(&out));
    }
}

// Rows by their key, once more.
static void read_again(struct progress *p, const struct chunk *c)
{
    struct chunk_order o = {.kind = CHUNK_LIST};
    for (size_t i = 0; i < c->n && o.key_n < CHUNK_LIST_MAX; i++) {
        struct change change = chunk_row_change(c, &c->rows[i]);
        if (!chunk_list_add(&o, c->order.relation, change.key, change.exact_key))
            fprintf(stderr, "a key that cannot be asked for\n");
    }
    order(p, &o);
}

static void took(struct chunk *c)
{
    struct progress *p = c->order.tag;
    if (c->status != CHUNK_OK && c->status != CHUNK_MORE) {
        p->status = c->status;
        p->error = c->err;
        p->open--;
        chunk_free(c);
        return;
    }
    print_rows(c);
    if (c->order.kind == CHUNK_LIST)
        p->again += c->n;
    else
        p->rows += c->n;
    p->bytes += c->data.n;
    p->chunks++;
    run.rows += c->n;
    run.bytes += c->data.n;
    if (chunk_memory(c) > run.held)
        run.held = chunk_memory(c);
    if (c->status == CHUNK_OK)
        p->open--;
    if (run.again && c->order.kind != CHUNK_LIST && c->n && c->order.part->key_count)
        read_again(p, c);
    if (c->status == CHUNK_OK && (c->order.kind != CHUNK_LIST || !c->end))
        go_on(p, c);
    chunk_free(c);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

// A table planned by its name, and as one of all.
static bool same_plan(const struct chunk_table *a, const struct chunk_table *b)
{
    bool same = same_text(a->table, b->table) && a->updates == b->updates &&
                same_text(a->filter, b->filter) && same_text(a->terms, b->terms) &&
                a->info.n == b->info.n && a->part_count == b->part_count;
    for (size_t i = 0; same && i < a->info.n; i++)
        same = same_text(a->info.columns[i].name, b->info.columns[i].name);
    for (size_t i = 0; same && i < a->part_count; i++)
        same = a->parts[i].oid == b->parts[i].oid && a->parts[i].kind == b->parts[i].kind &&
               a->parts[i].key_count == b->parts[i].key_count;
    return same;
}

// Each table alone; and none that is not among them, whether it is one of these names or not.
static void plan_each(const struct chunk_plan *all)
{
    for (size_t i = 0; i < all->n + run.absent_n; i++) {
        const struct chunk_table *t = i < all->n ? &all->tables[i] : NULL;
        struct chunk_order o = {.kind = CHUNK_PLAN,
                                .wanted = t ? t->table : run.absent[i - all->n]};
        chunk_reader_order(run.reader, &o);
        struct chunk *c = take();
        if (t ? c->status != CHUNK_OK || !same_plan(t, &c->plan->tables[0])
              : c->status != CHUNK_GONE) {
            fprintf(stderr, "%s: planned by itself it is another: %d %s\n", o.wanted, c->status,
                    c->err.text);
            exit(1);
        }
        chunk_free(c);
    }
}

static struct chunk *plan(void)
{
    struct chunk_order o = {.kind = CHUNK_PLAN};
    chunk_reader_order(run.reader, &o);
    struct chunk *c = take();
    if (c->status != CHUNK_OK)
        die(&c->err);
    if (run.each)
        plan_each(c->plan);
    for (size_t i = 0; i < c->plan->n; i++) {
        struct chunk_table *t = &c->plan->tables[i];
        if (t->refused.class) {
            printf("{\"table\":");
            AUTO_BUF struct buf b = {0};
            json_string(&b, t->table, strlen(t->table));
            buf_puts(&b, ",\"refused\":");
            json_string(&b, t->refused.text, strlen(t->refused.text));
            printf("%s}\n", buf_cstr(&b));
            continue;
        }
        for (size_t k = 0; k < t->part_count; k++) {
            run.parts = xrealloc(run.parts, (run.n + 1) * sizeof run.parts[0]);
            run.parts[run.n++] = (struct progress){.table = t, .part = &t->parts[k]};
        }
    }
    return c;
}

static void read_all(void)
{
    size_t most = chunk_reader_threads(run.reader) + 1;
    for (size_t i = 0; i < run.n; i++) {
        struct progress *p = &run.parts[i];
        bool pages = p->part->kind == CHUNK_PAGES && !run.by_keys;
        for (size_t k = 0; k < (pages ? most : 1); k++)
            go_on(p, NULL);
        while (p->open)
            took(take());
    }
}

static void report(int64_t us)
{
    static const char *const kinds[] = {"plan", "pages", "keys", "whole", "list"};
    static const char *const statuses[] = {"ok", "more", "shape", "stale", "gone", "failed"};
    for (size_t i = 0; i < run.n; i++) {
        struct progress *p = &run.parts[i];
        AUTO_BUF struct buf b = {0};
        json_string(&b, p->part->table, strlen(p->part->table));
        buf_puts(&b, ",\"as\":");
        json_string(&b, p->table->table, strlen(p->table->table));
        buf_puts(&b, ",\"filter\":");
        if (p->table->filter)
            json_string(&b, p->table->filter, strlen(p->table->filter));
        else
            buf_puts(&b, "null");
        buf_puts(&b, ",\"error\":");
        json_string(&b, p->error.text, strlen(p->error.text));
        printf("{\"part\":%s,\"status\":\"%s\",\"class\":%d,\"kind\":\"%s\",\"rows\":%llu,"
               "\"chunks\":%llu,\"bytes\":%llu,"
               "\"again\":%llu,\"estimate\":%.0f,\"step\":%llu,\"limit\":%llu}\n",
               buf_cstr(&b), statuses[p->status], p->error.class, kinds[p->part->kind],
               (unsigned long long)p->rows, (unsigned long long)p->chunks,
               (unsigned long long)p->bytes, (unsigned long long)p->again, p->part->rows,
               (unsigned long long)p->part->step, (unsigned long long)p->part->limit);
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    long peak_kb = 0; // ru_maxrss would be that of whoever started us, if it was larger
    char line[128];
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak_kb = strtol(line + 6, NULL, 10);
    }
    if (status)
        fclose(status);
    printf("{\"rows\":%llu,\"bytes\":%llu,\"seconds\":%.3f,\"cpu\":%.3f,\"peak_kb\":%ld,"
           "\"chunk_bytes\":%zu}\n",
           (unsigned long long)run.rows, (unsigned long long)run.bytes, (double)us / 1e6,
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
           peak_kb, run.held);
}

static void set_option(const char *name, char **value)
{
    if (strcmp(name, "connections") == 0)
        run.o.snapshot_connections = strtoll(*value, NULL, 10);
    else if (strcmp(name, "rate") == 0)
        run.o.snapshot_rate = strtoll(*value, NULL, 10);
    else if (strcmp(name, "chunk") == 0)
        run.chunk = strtoull(*value, NULL, 10);
    else if (strcmp(name, "kind") == 0)
        run.by_keys = strcmp(*value, "keys") == 0;
    else if (strcmp(name, "each") == 0) {
        char *rest = *value;
        run.each = true;
        while (run.absent_n < ARRAY_LEN(run.absent) && rest)
            run.absent[run.absent_n++] = strsep(&rest, ",");
    } else if (strcmp(name, "pause") == 0)
        run.pause = true;
    else if (strcmp(name, "print") == 0)
        run.print = true;
    else if (strcmp(name, "again") == 0)
        run.again = true;
    else if (strcmp(name, "mask") == 0) {
        run.o.mask_columns = value;
        run.o.mask_column_count = 1;
    } else if (strcmp(name, "exclude") == 0) {
        run.o.exclude_columns = value;
        run.o.exclude_column_count = 1;
    } else {
        fprintf(stderr, "no option %s\n", name);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "read_chunks CONNINFO PUBLICATION [OPTION VALUE ...]\n");
        return 2;
    }
    char *names[8] = {argv[2]};
    run.o = (struct source_options){.conninfo = argv[1],
                                    .slot = "chunks",
                                    .publications = names,
                                    .snapshot_connections = 4,
                                    .row_bytes_max = 1 << 30};
    char *rest = argv[2];
    while (run.o.publication_count < ARRAY_LEN(names) && rest)
        names[run.o.publication_count++] = strsep(&rest, ",");
    for (int i = 3; i + 1 < argc; i += 2)
        set_option(argv[i], &argv[i + 1]);
    run.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    run.waiter =
        (struct waiter){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .stopped = &run.stopped};
    seed();
    struct chunk_reader_options o = {.source = &run.o, .wake = wake};
    run.reader = chunk_reader_new(&o);
    struct chunk *p = plan();
    if (run.pause) {
        puts("planned");
        fflush(stdout);
        (void)getchar();
    }
    int64_t begun = clock_mono_us();
    read_all();
    report(clock_mono_us() - begun);
    chunk_reader_free(run.reader);
    chunk_free(p);
    free(run.parts);
    catalog_free(run.catalog);
    return 0;
}
