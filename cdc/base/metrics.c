#include "base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

static const int64_t bounds_us[] = {100,     250,     500,     1000,     2500,    5000,
                                    10000,   25000,   50000,   100000,   250000,  500000,
                                    1000000, 2500000, 5000000, 15000000, 60000000};
#define BUCKETS (ARRAY_LEN(bounds_us) + 1)

struct histogram {
    _Atomic uint64_t count[BUCKETS];
    _Atomic int64_t sum_us;
};

struct series {
    struct series *next; // of the same family
    char *labels;
    struct metric metric;
    struct histogram *histogram; // or NULL
    int64_t scale;
};

struct family {
    struct family *next;
    const char *name, *help, *type;
    struct series *series;
};

#define HOOKS_MAX 16
static struct {
    pthread_mutex_t lock;
    struct family *families;
    struct {
        void (*update)(void *);
        void *arg;
    } hooks[HOOKS_MAX];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct series *series_get(const char *type, const char *name, const char *help,
                                 const char *labels)
{
    struct family **f = &all.families;
    while (*f && strcmp((*f)->name, name) != 0)
        f = &(*f)->next;
    if (!*f) {
        *f = xcalloc(1, sizeof **f);
        **f = (struct family){.name = name, .help = help, .type = type};
    }
    CHECK(strcmp((*f)->type, type) == 0);
    struct series **s = &(*f)->series;
    while (*s && strcmp((*s)->labels, labels) != 0)
        s = &(*s)->next;
    if (!*s) {
        *s = xcalloc(1, sizeof **s);
        (*s)->labels = xstrdup(labels);
        (*s)->scale = 1;
    }
    return *s;
}

struct metric *metric_new(enum metric_type type, const char *name, const char *help,
                          const char *labels, int64_t scale)
{
    CHECK(scale > 0);
    pthread_mutex_lock(&all.lock);
    struct series *s = series_get(type == METRIC_COUNTER ? "counter" : "gauge", name, help, labels);
    s->scale = scale;
    pthread_mutex_unlock(&all.lock);
    return &s->metric;
}

struct histogram *histogram_new(const char *name, const char *help, const char *labels)
{
    pthread_mutex_lock(&all.lock);
    struct series *s = series_get("histogram", name, help, labels);
    if (!s->histogram)
        s->histogram = xcalloc(1, sizeof *s->histogram);
    pthread_mutex_unlock(&all.lock);
    return s->histogram;
}

void histogram_observe(struct histogram *h, int64_t us)
{
    size_t i = 0;
    while (i < ARRAY_LEN(bounds_us) && us > bounds_us[i])
        i++;
    atomic_fetch_add_explicit(&h->count[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

void metrics_on_render(void (*update)(void *arg), void *arg)
{
    pthread_mutex_lock(&all.lock);
    size_t i = 0;
    while (i < HOOKS_MAX && all.hooks[i].update)
        i++;
    CHECK(i < HOOKS_MAX);
    all.hooks[i].update = update;
    all.hooks[i].arg = arg;
    pthread_mutex_unlock(&all.lock);
}

void metrics_off_render(void (*update)(void *arg), void *arg)
{
    pthread_mutex_lock(&all.lock);
    for (size_t i = 0; i < HOOKS_MAX; i++) {
        if (all.hooks[i].update == update && all.hooks[i].arg == arg)
            all.hooks[i].update = NULL;
    }
    pthread_mutex_unlock(&all.lock);
}

void metrics_label(struct buf *out, const char *key, const char *value)
{
    if (out->n)
        buf_putc(out, ',');
    buf_puts(out, key);
    buf_puts(out, "=\"");
    for (const char *s = value; *s; s++) {
        if (*s == '\\' || *s == '"')
            buf_putc(out, '\\');
        if (*s == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, *s);
    }
    buf_putc(out, '"');
}

static void put_scaled(struct buf *out, int64_t value, int64_t scale)
{
    if (scale == 1)
        buf_printf(out, "%" PRId64, value);
    else
        buf_printf(out, "%.6f", (double)value / (double)scale);
}

static void histogram_render(struct buf *out, const char *name, const struct series *s)
{
    const char *comma = s->labels[0] ? "," : "";
    uint64_t total = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        total += s->histogram->count[i];
        buf_printf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        if (i < ARRAY_LEN(bounds_us))
            buf_printf(out, "%g", (double)bounds_us[i] / 1e6);
        else
            buf_puts(out, "+Inf");
        buf_printf(out, "\"} %" PRIu64 "\n", total);
    }
    const char *open = s->labels[0] ? "{" : "", *close = s->labels[0] ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %.6f\n", name, open, s->labels, close,
               (double)s->histogram->sum_us / 1e6);
    buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, s->labels, close, total);
}

void metrics_render(struct buf *out)
{
    pthread_mutex_lock(&all.lock);
    for (size_t i = 0; i < HOOKS_MAX; i++) {
        if (all.hooks[i].update)
            all.hooks[i].update(all.hooks[i].arg); // must not register metrics: the lock is held
    }
    for (const struct family *f = all.families; f; f = f->next) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
        for (const struct series *s = f->series; s; s = s->next) {
            if (s->histogram) {
                histogram_render(out, f->name, s);
                continue;
            }
            buf_puts(out, f->name);
            if (s->labels[0])
                buf_printf(out, "{%s}", s->labels);
            buf_putc(out, ' ');
            put_scaled(out, metric_get(&s->metric), s->scale);
            buf_putc(out, '\n');
        }
    }
    pthread_mutex_unlock(&all.lock);
}
