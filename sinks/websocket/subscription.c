#include "sinks/websocket/subscription.h"

// What one call may look at without finding anything for its client: others wait meanwhile.
#define EXAMINE_BYTES_MAX (512 << 10)

lsn_t subscription_passed(struct position at)
{
    return at.ordinal >= ORDINAL_END ? at.lsn + 1 : at.lsn;
}

struct subscription *subscription_new(struct selection *sel, struct journal_reader *reader)
{
    struct subscription *s = xcalloc(1, sizeof *s);
    s->sel = sel;
    s->reader = reader;
    struct cursor start = journal_reader_start(reader);
    s->stream_id = start.stream_id;
    s->at = start.at;
    s->passed = s->told = subscription_passed(s->at);
    // A cursor inside a transaction: its holder has a part of it, and needs the end.
    s->open = s->got = s->at.ordinal < ORDINAL_END;
    s->open_lsn = s->open ? s->at.lsn : 0;
    return s;
}

static void queue_drop(struct subscription *s, uint32_t count)
{
    struct queue *q = s->queue;
    CHECK(q && count <= q->n);
    for (uint32_t i = 0; i < count; i++)
        batch_unref(q->batch[i]);
    q->n -= count;
    memmove(q->batch, q->batch + count, q->n * sizeof(struct batch *));
    memmove(q->skip, q->skip + count, q->n * sizeof *q->skip);
    if (q->n == 0) {
        free(q);
        s->queue = NULL;
    }
}

// The reader's next batch; NULL when something else came (it stands in s->ended).
static struct batch *pull(struct subscription *s)
{
    struct batch *b;
    struct err e;
    if (s->ended != READ_BATCH)
        return NULL;
    s->ended = journal_reader_next(s->reader, &b, &e);
    if (s->ended == READ_ERROR) {
        s->failure = xmalloc(sizeof e);
        *s->failure = e;
    }
    if (s->ended != READ_BATCH)
        return NULL;
    s->slow = b->sealed_us == 0;
    s->live = s->live && !s->slow;
    return b;
}

static void queue_put(struct subscription *s, struct batch *b)
{
    if (!s->queue) {
        s->queue = xmalloc(sizeof *s->queue);
        s->queue->n = 0;
    }
    struct queue *q = s->queue;
    q->batch[q->n] = b;
    q->skip[q->n++] = journal_reader_skip(s->reader);
}

// Whether something of the queue's batch i was had before: then its frame is this client's alone.
static bool queue_skips(const struct queue *q, uint32_t i)
{
    return position_cmp(q->batch[i]->first, q->skip[i]) <= 0;
}

// As many batches as make a frame of a good size, if they are there already. Returns how many.
static uint32_t queue_fill(struct subscription *s)
{
    struct queue *q = s->queue;
    struct batch *b;
    size_t n = 0;
    for (uint32_t i = 0; i < q->n; i++)
        n += q->batch[i]->n;
    while (n < FRAME_SMALL_BYTES && q->n < FRAME_BATCHES_MAX && (b = pull(s))) {
        n += b->n;
        queue_put(s, b);
    }
    if (s->ended == READ_TAIL) // asked again before it is believed: a wake may have come since
        s->ended = READ_BATCH;
    uint32_t count = 1;
    while (count < q->n && !queue_skips(q, count))
        count++;
    return count;
}

static void passed(struct subscription *s, lsn_t lsn, lsn_t told, const struct batch *last)
{
    s->passed = u64_max(s->passed, lsn);
    s->told = u64_max(s->told, told);
    if (last->commit_time_us)
        s->had_us = last->commit_time_us;
}

// Whether the reader's next batch has nothing for this client but the passage of positions.
static bool passes_over(struct subscription *s, struct frame_maker *fm, struct batch *b)
{
    lsn_t lsn = 0;
    if (s->got || !frame_nothing(fm, s->sel, b, &lsn))
        return false;
    passed(s, lsn, 0, b);
    s->at = b->last;
    s->open = b->flags & BATCH_PARTIAL;
    return true;
}

static int take_frame(struct subscription *s, struct frame_maker *fm, struct err *e)
{
    uint32_t count = queue_fill(s);
    bool skips = queue_skips(s->queue, 0);
    struct frame_key key = {s->sel, s->entry, s->got || (s->sel->everything && !skips)};
    struct frame *f = skips ? NULL : frame_find(fm, &key, s->queue->batch, count);
    if (!f && frame_make(fm, &key, s->queue->batch, count, s->queue->skip[0], &f, e) != 0)
        return -1;
    passed(s, f->passed, f->told, s->queue->batch[f->more_count]);
    if (f->last.lsn)
        s->at = f->last;
    s->got = f->got;
    s->open = f->open;
    s->open_lsn = s->at.lsn;
    s->entry = f->next_entry;
    queue_drop(s, f->next_entry ? f->more_count : f->more_count + 1);
    if (f->data)
        s->frame = f;
    else
        frame_unref(f);
    return 0;
}

static enum subscription_state behind_queue(struct subscription *s, struct frame_maker *fm,
                                            struct err *e)
{
    switch (s->ended) {
    case READ_RESTART:
        s->ended = READ_BATCH;
        // Its client must forget what it has; one that has nothing of it need not know.
        if (s->got && s->open)
            s->frame = frame_restart(s->sel, s->open_lsn);
        s->got = s->open = false;
        s->entry = 0;
        return s->frame ? SUBSCRIPTION_FRAME : SUBSCRIPTION_MORE;
    case READ_EXPIRED:
    case READ_OTHER_STREAM:
        return SUBSCRIPTION_RESET;
    case READ_ERROR:
        *e = *s->failure;
        return SUBSCRIPTION_ERROR;
    default:
        s->ended = READ_BATCH;
        s->slow = false;
        s->live = true;
        if (!s->ask || (s->open && s->got))
            return SUBSCRIPTION_TAIL;
        s->ask = false;
        s->frame = frame_progress(fm, s->sel, s->passed, s->at);
        s->told = s->passed;
        return SUBSCRIPTION_FRAME;
    }
}

enum subscription_state subscription_next(struct subscription *s, struct frame_maker *fm,
                                          struct err *e)
{
    size_t examined = 0;
    if (s->frame)
        return SUBSCRIPTION_FRAME;
    // Inside a transaction a progress would send the client's cursor back to before it.
    if (s->ask && !(s->open && s->got) && s->entry == 0) {
        s->ask = false;
        s->frame = frame_progress(fm, s->sel, s->passed, s->at);
        s->told = s->passed;
        return SUBSCRIPTION_FRAME;
    }
    while (examined < EXAMINE_BYTES_MAX) {
        if (!s->queue) {
            struct batch *b = pull(s);
            if (!b)
                return behind_queue(s, fm, e);
            examined += b->n;
            if (passes_over(s, fm, b)) {
                batch_unref(b);
                continue;
            }
            queue_put(s, b);
        }
        if (take_frame(s, fm, e) != 0)
            return SUBSCRIPTION_ERROR;
        if (s->frame)
            return SUBSCRIPTION_FRAME;
    }
    return SUBSCRIPTION_MORE;
}

void subscription_tick(struct subscription *s)
{
    if (s->passed > s->told && !(s->open && s->got))
        s->ask = true;
}

void subscription_free(struct subscription *s, struct selection **selections,
                       struct frame_maker *fm)
{
    if (!s)
        return;
    journal_reader_close(s->reader);
    frame_unref(s->frame);
    if (s->queue)
        queue_drop(s, s->queue->n);
    if (s->sel->refs == 1)
        frame_maker_forget(fm, s->sel);
    selection_put(selections, s->sel);
    free(s->failure);
    free(s);
}
