#include "sinks/websocket/frame_view.h"

#define VIEW_MEMORY_MAX (1 << 20) // a larger batch is not kept: it would not fit the budget

// ---- frames ----

struct frame *frame_ref(struct frame *f)
{
    f->refs++;
    return f;
}

struct frame *frame_unref(struct frame *f)
{
    if (!f || --f->refs > 0)
        return NULL;
    batch_unref(f->borrowed);
    for (uint32_t i = 0; i < f->more_count; i++)
        batch_unref(f->more[i]);
    free(f->more);
    buf_free(&f->own);
    free(f->uses);
    free(f);
    return NULL;
}

struct frame *frame_new(const struct frame_key *key)
{
    struct frame *f = xcalloc(1, sizeof *f);
    f->refs = 1;
    f->key = *key;
    f->got = key->got;
    return f;
}

bool ids_have(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

void ids_add(uint32_t **ids, uint32_t *n, uint32_t id)
{
    if (id == 0 || ids_have(*ids, *n, id))
        return;
    if (*n % 8 == 0)
        *ids = xrealloc(*ids, (*n + 8) * sizeof **ids);
    (*ids)[(*n)++] = id;
}

lsn_t entry_passed(const struct batch *b, const struct entry *e)
{
    switch (e->kind) {
    case ENTRY_END:
        return batch_end_lsn(b, e);
    case ENTRY_PROGRESS:
        return batch_progress_lsn(b, e);
    case ENTRY_GAP:
        return batch_entry_position(b, e, NULL).lsn + 1;
    default:
        return 0;
    }
}

// ---- views ----

static void view_fill(struct frame_view *v)
{
    BATCH_FOREACH (v->b, e) {
        switch (e->kind) {
        case ENTRY_CHANGE:
            v->ops |= 1U << e->op;
            ids_add(&v->relations, &v->relation_count, e->relation);
            break;
        case ENTRY_BEGIN:
        case ENTRY_RELATION:
            break;
        case ENTRY_END:
        case ENTRY_PROGRESS:
            v->passed = u64_max(v->passed, entry_passed(v->b, e));
            break;
        default:
            v->passed = u64_max(v->passed, entry_passed(v->b, e));
            v->marks = true;
        }
    }
}

void view_free(struct frame_view *v)
{
    while (v->frames) {
        struct frame *f = v->frames;
        v->frames = f->next;
        frame_unref(f);
    }
    batch_unref(v->b);
    free(v->relations);
    free(v);
}

static struct frame_view **view_slot(struct frame_maker *fm, const struct batch *b)
{
    return &fm->views[b->seq % FRAME_VIEWS_MAX];
}

// Takes a view out of those kept.
static void view_drop(struct frame_maker *fm, struct frame_view *v)
{
    *(v == fm->oldest ? &fm->oldest : &v->older->newer) = v->newer;
    *(v == fm->newest ? &fm->newest : &v->newer->older) = v->older;
    *view_slot(fm, v->b) = NULL;
    fm->kept_bytes -= v->b->memory;
    for (const struct frame *f = v->frames; f; f = f->next)
        fm->kept_bytes -= f->own.cap;
    view_free(v);
}

// Makes room at the cost of the oldest; the newest stays.
static void views_limit(struct frame_maker *fm)
{
    while (fm->kept_bytes > FRAME_KEPT_BYTES && fm->oldest != fm->newest)
        view_drop(fm, fm->oldest);
}

static bool keeps(const struct batch *b)
{
    return b->sealed_us != 0 && b->memory <= VIEW_MEMORY_MAX;
}

static struct frame_view *view_find(struct frame_maker *fm, const struct batch *b)
{
    struct frame_view *v = *view_slot(fm, b);
    return v && v->b == b ? v : NULL;
}

struct frame_view *view_get(struct frame_maker *fm, struct batch *b, bool *ret_mine)
{
    struct frame_view *v = view_find(fm, b);
    *ret_mine = !keeps(b);
    if (v)
        return v;
    v = xcalloc(1, sizeof *v);
    v->b = batch_ref(b);
    view_fill(v);
    if (*ret_mine)
        return v;
    if (*view_slot(fm, b))
        view_drop(fm, *view_slot(fm, b));
    *view_slot(fm, b) = v;
    v->older = fm->newest;
    *(fm->newest ? &fm->newest->newer : &fm->oldest) = v;
    fm->newest = v;
    fm->kept_bytes += b->memory;
    views_limit(fm);
    return v;
}

void view_keep(struct frame_maker *fm, struct frame_view *v, struct frame *f)
{
    f->next = v->frames;
    v->frames = frame_ref(f);
    fm->kept_bytes += f->own.cap;
    views_limit(fm);
}

void frame_maker_init(struct frame_maker *fm, const struct catalog *c, size_t frame_bytes_max)
{
    *fm = (struct frame_maker){.catalog = c, .frame_bytes_max = frame_bytes_max};
    fm->json.catalog = c;
    fm->omitted = metric_new(METRIC_COUNTER, "rowcast_websocket_changes_omitted_total",
                             "Changes sent without their large columns, being too large for a "
                             "frame.",
                             "", 1);
}

void frame_maker_fini(struct frame_maker *fm)
{
    while (fm->oldest)
        view_drop(fm, fm->oldest);
}

void frame_maker_forget(struct frame_maker *fm, const struct selection *sel)
{
    for (struct frame_view *v = fm->oldest; v; v = v->newer) {
        for (struct frame **at = &v->frames; *at;) {
            struct frame *f = *at;
            if (f->key.sel != sel) {
                at = &f->next;
                continue;
            }
            *at = f->next;
            fm->kept_bytes -= f->own.cap;
            frame_unref(f);
        }
    }
}

bool frame_nothing(struct frame_maker *fm, struct selection *sel, struct batch *b,
                   lsn_t *ret_passed)
{
    bool mine, nothing = false;
    if (sel->everything)
        return false;
    struct frame_view *v = view_get(fm, b, &mine);
    if (!v->marks) {
        nothing = (v->ops & sel->ops) == 0;
        for (uint32_t i = 0; i < v->relation_count && !nothing; i++) {
            if (selection_wants_relation(sel, fm->catalog, v->relations[i]))
                break;
            nothing = i + 1 == v->relation_count && !(v->ops >> OP_MESSAGE & 1);
        }
    }
    *ret_passed = v->passed;
    if (mine)
        view_free(v);
    return nothing;
}

struct frame *frame_find(struct frame_maker *fm, const struct frame_key *key,
                         struct batch *const *batches, size_t count)
{
    struct frame_view *v = keeps(batches[0]) ? view_find(fm, batches[0]) : NULL;
    for (struct frame *f = v ? v->frames : NULL; f; f = f->next) {
        if (f->key.sel != key->sel || f->key.entry != key->entry || f->key.got != key->got ||
            f->more_count >= count)
            continue;
        if (f->more_count == 0 ||
            memcmp(f->more, batches + 1, f->more_count * sizeof(struct batch *)) == 0)
            return frame_ref(f);
    }
    return NULL;
}
