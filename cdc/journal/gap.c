// Breaks of continuity: what is written of them, and in which order, so that a crash between any
// two steps leaves nothing silent.
//
// A new generation is written into the identity first, then the gap is appended. A gap whose end is
// above all that was appended is therefore one that is missing yet (journal_gap_missing). Contents
// are removed between two writes of the identity: while it says `dropping`, whatever is found goes.
#include "journal/inside.h"

#include "base/log.h"
#include "journal/identity.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FIRST_BATCH_BYTES 1024

// On one line, cut where it is too long.
static void reason_copy(char to[GAP_REASON_MAX], const char *reason)
{
    snprintf(to, GAP_REASON_MAX, "%s", reason);
    for (char *at = to; *at; at++) {
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    }
}

static void append_gap(struct journal *j, lsn_t from, lsn_t to, const char *reason)
{
    struct batch_builder *bb = batch_builder_new(FIRST_BATCH_BYTES);
    batch_add_gap(bb, from, to, reason);
    batch_builder_set_watermark(bb, to);
    log_warn("gap: what lies between cannot be had; it stands in the stream",
             "dir=%s from=" LSN_FMT " to=" LSN_FMT " reason=%s", j->dir, LSN_ARG(from), LSN_ARG(to),
             log_quote(reason));
    journal_append(j, batch_builder_take(bb, false));
    batch_builder_free(bb);
}

// A transaction that was cut and lies below the gap does not come again.
static void pass_cut(struct journal *j, lsn_t to)
{
    struct journal_cut cut = journal_pending_cut(j);
    if (cut.lsn && cut.lsn < to)
        journal_cut_done(j);
}

// Where it ends is the server's word, or the operator's.
static int gap_possible(struct journal *j, lsn_t to, struct err *e)
{
    lsn_t from = journal_appended(j);
    if (to > from)
        return 0;
    return err_set(e, ERR_USAGE,
                   "journal %s: a gap up to " LSN_FMT " would end before what it has: " LSN_FMT,
                   j->dir, LSN_ARG(to), LSN_ARG(from));
}

int journal_gap(struct journal *j, lsn_t to, const char *reason, struct err *e)
{
    char text[GAP_REASON_MAX];
    lsn_t from = journal_appended(j);
    struct lineage *l = &j->lineage;
    reason_copy(text, reason);
    if (gap_possible(j, to, e) != 0)
        return -1;
    // Of the old contents nothing was left to measure by.
    bool over = l->n > 0 && l->past[l->n - 1].over && from == 0;
    pass_cut(j, to);
    append_gap(j, over ? l->past[l->n - 1].from : from, to, text);
    return 0;
}

bool journal_gap_missing(struct journal *j, char ret_reason[GAP_REASON_MAX])
{
    const struct lineage *l = &j->lineage;
    if (l->n == 0 || l->past[l->n - 1].to <= journal_appended(j))
        return false;
    memcpy(ret_reason, l->reason, GAP_REASON_MAX);
    return true;
}

// What `id` says, as the next generation, behind a gap.
static void next_generation(const struct journal *j, const struct journal_identity *id, lsn_t to,
                            const char *reason, bool over, struct journal_identity *ret_id,
                            struct lineage *ret_l)
{
    struct lineage l = j->lineage;
    *ret_id = *id;
    if (strpbrk(ret_id->database, "\r\n"))
        ret_id->database[0] = 0;
    if (l.n == GENERATIONS_MAX)
        memmove(l.past, l.past + 1, --l.n * sizeof l.past[0]);
    l.past[l.n++] = (struct generation){j->id.stream_id, j->appended, to, over};
    reason_copy(l.reason, reason);
    l.dropping = over;
    if (!over) {
        struct timelines before = j->id.before;
        timelines_merge(&before, &id->before);
        ret_id->before = before;
    }
    ret_id->generation = j->id.generation + 1;
    ret_id->stream_id = identity_stream_id(&l, ret_id->name, ret_id->generation);
    *ret_l = l;
}

static void say_next(const struct journal *j)
{
    log_warn("a new generation of the stream begins", "dir=%s generation=%u", j->dir,
             j->id.generation);
}

int journal_break(struct journal *j, const struct journal_identity *id, lsn_t to,
                  const char *reason, struct err *e)
{
    struct journal_identity next;
    struct lineage l;
    if (gap_possible(j, to, e) != 0)
        return -1;
    next_generation(j, id, to, reason, false, &next, &l);
    if (identity_set(j, &next, &l, e) != 0)
        return -1;
    say_next(j);
    return journal_gap(j, to, reason, e);
}

// ---- removing the contents ----

static int remove_files(struct journal *j, struct err *e)
{
    static const struct place all = {0};
    if (hint_remove(j, e) != 0 || segments_cut(&j->segments, &all, e) != 0)
        return -1;
    j->pending = (struct journal_cut){0};
    return pending_save(j, e);
}

// Memory and files are as a new journal's, but for the seqs, which go on. Locked, the writer idle.
static int empty(struct journal *j, enum read_result how, struct err *e)
{
    struct writer *w = &j->w;
    uint64_t next = j->tail.next;
    frame_cache_cut(&j->cache, ++j->epoch);
    readers_end(j, how);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
    buf_clear(&w->stage);
    w->good = w->at = w->hinted = 0;
    w->context = (struct frame_context){0};
    tail_free(&j->tail);
    tail_init(&j->tail, next);
    w->good_seq = w->durable_seq = j->written_seq = j->visible_seq = next - 1;
    j->unwritten = 0;
    j->aside_seq = 0;
    j->held = false;
    j->last = j->visible_last = j->written_last = j->floor = (struct position){0, 0};
    j->last_attempt = j->visible_attempt = j->written_attempt = 0;
    j->appended = j->watermark = 0;
    j->open = (struct open_txn){0};
    j->waiting = false;
    // No table was told of in what comes now.
    return told_void(&j->told, j->last, e) != 0 ? -1 : remove_files(j, e);
}

static int drop_contents(struct journal *j, enum read_result how, struct err *e)
{
    struct err failed;
    pthread_mutex_lock(&j->lock);
    j->era++; // also in journal_start_over, before the identity: more often does no harm
    while (j->writer_busy)
        pthread_cond_wait(&j->idle, &j->lock);
    int r = empty(j, how, &failed);
    pthread_mutex_unlock(&j->lock);
    readers_wake(j);
    if (r == 0)
        return 0;
    journal_fail(j, &failed); // half of it is gone: only opening mends that
    *e = failed;
    e->class = ERR_JOURNAL;
    return -1;
}

int journal_start_over(struct journal *j, const struct journal_identity *id, lsn_t to,
                       const char *reason, struct err *e)
{
    struct journal_identity next;
    struct lineage l;
    next_generation(j, id, to, reason, true, &next, &l);
    j->era++;
    if (identity_set(j, &next, &l, e) != 0 || drop_contents(j, READ_OTHER_STREAM, e) != 0)
        return -1;
    l.dropping = false;
    if (identity_set(j, &next, &l, e) != 0)
        return -1;
    say_next(j);
    return journal_gap(j, to, reason, e);
}

int gap_finish(struct journal *j, struct err *e)
{
    if (!j->lineage.dropping)
        return 0;
    struct lineage l = j->lineage;
    if (remove_files(j, e) != 0)
        return -1;
    j->appended = j->watermark = 0; // the cut's
    l.dropping = false;
    return identity_set(j, &j->id, &l, e);
}

int journal_blank(struct journal *j, bool *ret_blank, struct err *e)
{
    struct journal_reader *r;
    struct batch *b = NULL;
    if (journal_reader_open(j, "blank", FROM_EARLIEST, NULL, false, NULL, NULL, &r, e) != 0)
        return -1;
    enum read_result result;
    bool blank = true;
    while (blank && (result = journal_reader_next(r, &b, e)) == READ_BATCH) {
        blank = b->flags & BATCH_PROGRESS;
        b = batch_unref(b);
    }
    journal_reader_close(r);
    if (blank && result != READ_TAIL)
        return result == READ_ERROR ? -1 : err_set(e, ERR_RETRY, "the journal is being trimmed");
    *ret_blank = blank;
    return 0;
}

int journal_forget(struct journal *j, struct err *e)
{
    return drop_contents(j, READ_EXPIRED, e);
}

uint32_t journal_era(const struct journal *j)
{
    return j->era;
}

// ---- the operator's word ----

int journal_adopt(struct journal *j, const struct journal_identity *id, lsn_t to, struct err *e)
{
    struct journal_identity next = *id;
    lsn_t had = journal_appended(j);
    next.generation = j->id.generation;
    next.stream_id = j->id.stream_id;
    next.before = j->id.before;
    // An upgraded server counts timelines anew.
    if (next.timeline != j->id.timeline)
        timelines_add(&next.before, j->id.timeline, u64_max(to, had));
    timelines_merge(&next.before, &id->before);
    if (strpbrk(next.database, "\r\n"))
        next.database[0] = 0;
    if (identity_set(j, &next, &j->lineage, e) != 0)
        return -1;
    if (to <= had)
        return 0;
    struct batch_builder *bb = batch_builder_new(FIRST_BATCH_BYTES);
    pass_cut(j, to);
    batch_add_progress(bb, to);
    journal_append(j, batch_builder_take(bb, false));
    batch_builder_free(bb);
    return 0;
}
