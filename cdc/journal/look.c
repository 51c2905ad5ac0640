// Looking into a journal, running or not: rowcast journal list | verify. Reads files only, takes no
// lock, and lets the newest segment's tail be unfinished.
#include "journal/inside.h"

#include "base/clock.h"
#include "journal/identity.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct totals {
    uint64_t frames, changes, transactions, bytes, raw, stored;
    int64_t first_time, last_time; // commit times; 0: none
    uint64_t damaged;
};

struct look {
    struct journal *j; // only what reading needs is set up
    bool deep;         // read every frame, not only its header
    uint64_t next_seq; // 0: the first segment says
    struct position before;
    struct totals all;
    struct err first; // the first damage
};

static void add_frame(struct totals *t, const struct frame *f)
{
    t->frames++;
    t->changes += f->change_count;
    t->transactions += f->end_count;
    t->raw += f->raw;
    t->stored += f->stored;
    if (f->commit_time_us) {
        if (!t->first_time)
            t->first_time = f->commit_time_us;
        t->last_time = f->commit_time_us;
    }
}

static void add_totals(struct totals *t, const struct totals *more)
{
    t->frames += more->frames;
    t->changes += more->changes;
    t->transactions += more->transactions;
    t->bytes += more->bytes;
    t->raw += more->raw;
    t->stored += more->stored;
    t->damaged += more->damaged;
    if (!t->first_time)
        t->first_time = more->first_time;
    if (more->last_time)
        t->last_time = more->last_time;
}

static const char *time_or_dash(int64_t us, char buf[CLOCK_TEXT_MAX])
{
    if (us)
        clock_text(us, buf);
    return us ? buf : "-";
}

static double ratio(const struct totals *t)
{
    return t->stored ? (double)t->raw / (double)t->stored : 1;
}

static void print_totals(const struct totals *t)
{
    char from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];
    printf("  time %s .. %s\n", time_or_dash(t->first_time, from), time_or_dash(t->last_time, to));
    printf("  frames %" PRIu64 ", transactions %" PRIu64 ", changes %" PRIu64 ", bytes %" PRIu64
           ", compression %.2f\n",
           t->frames, t->transactions, t->changes, t->bytes, ratio(t));
}

// Says it, and keeps the first for the result.
static void report(struct look *l, struct totals *t, const struct err *e)
{
    printf("  DAMAGED: %s\n", e->text);
    if (t->damaged++ == 0 && l->all.damaged == 0)
        l->first = *e;
}

static void check_frame(struct look *l, struct totals *t, int fd, const char *path, uint64_t at,
                        const struct frame *f)
{
    struct batch *b;
    struct err e;
    if (position_cmp(frame_last(f), l->before) < 0) {
        err_set(&e, ERR_JOURNAL, "%s: the frame at offset %" PRIu64 " goes back in the order", path,
                at);
        report(l, t, &e);
    }
    if (!l->deep)
        return;
    if (frame_read_payload(fd, path, at, f, &b, &e) != 0)
        report(l, t, &e);
    else
        batch_unref(b);
}

static void look_frames(struct look *l, struct totals *t, int fd, const char *path,
                        const struct segment *seg, bool newest)
{
    struct walk w;
    struct frame f;
    struct err e;
    uint64_t at;
    enum walk_step step;
    walk_begin(&w, fd, sizeof(struct segment_header), seg->bytes);
    uint64_t good = w.at;
    while ((step = walk_next(&w, &f, &at)) == WALK_FRAME && f.seq == l->next_seq) {
        check_frame(l, t, fd, path, at, &f);
        add_frame(t, &f);
        l->before = frame_last(&f);
        l->next_seq++;
        good = w.at;
    }
    w.at = good;
    if (step != WALK_END && newest && !walk_vouched(&w, l->next_seq)) {
        printf("  unfinished tail of %" PRIu64 " bytes (being written, or torn)\n",
               seg->bytes - good);
    } else if (step != WALK_END) {
        err_set(&e, ERR_JOURNAL,
                "%s: damaged frame at offset %" PRIu64 ", behind position " LSN_FMT "/%" PRIu64,
                path, good, LSN_ARG(l->before.lsn), l->before.ordinal);
        report(l, t, &e);
    }
    walk_end(&w);
    t->bytes = seg->bytes;
}

static int look_segment(struct look *l, const struct segment *seg, bool newest, struct err *e)
{
    struct totals t = {0};
    struct segment_header h;
    struct err bad;
    char path[SEGMENT_PATH_MAX];
    AUTO_CLOSE int fd = -1;
    segments_path(&l->j->segments, seg, path);
    if (segments_open(&l->j->segments, seg, O_RDONLY, &fd, e) != 0)
        return segments_gone(&l->j->segments, seg) ? 0 : -1;
    printf("%s\n", path);
    if (l->next_seq && l->next_seq != seg->id) {
        err_set(&bad, ERR_JOURNAL, "%s begins with seq %" PRIu64 " where %" PRIu64 " belongs", path,
                seg->id, l->next_seq);
        report(l, &t, &bad);
    }
    l->next_seq = seg->id;
    if (seg->bytes < sizeof h && newest)
        printf("  no header yet\n");
    else if (segment_header_read(fd, path, &h, &bad) != 0)
        report(l, &t, &bad);
    else
        look_frames(l, &t, fd, path, seg, newest);
    printf("  positions " LSN_FMT "/%" PRIu64 " .. " LSN_FMT "/%" PRIu64 "\n",
           LSN_ARG(seg->first.lsn), seg->first.ordinal, LSN_ARG(l->before.lsn), l->before.ordinal);
    print_totals(&t);
    add_totals(&l->all, &t);
    return 0;
}

static void print_identity(const struct journal *j)
{
    if (!j->has_id) {
        printf("identity: none yet\n");
        return;
    }
    printf("identity: stream \"%s\", system %" PRIu64
           ", database %u, generation %u, timeline %u, stream id %016" PRIx64 "\n",
           j->id.name, j->id.system_id, j->id.database_oid, j->id.generation, j->id.timeline,
           j->id.stream_id);
}

static int look_all(struct look *l, struct err *e)
{
    struct journal *j = l->j;
    struct segment seg;
    size_t n = segments_count(&j->segments);
    print_identity(j);
    printf("relation versions: %u\n", catalog_count(j->catalog));
    for (size_t i = 0; i < n; i++) {
        CHECK(segments_get(&j->segments, i, &seg));
        if (look_segment(l, &seg, i + 1 == n, e) != 0)
            return -1;
    }
    printf("total: %zu segments\n", n);
    print_totals(&l->all);
    if (j->pending.lsn)
        printf("pending cut: transaction " LSN_FMT ", %" PRIu64 " changes, attempt %u\n",
               LSN_ARG(j->pending.lsn), j->pending.changes, j->pending.attempt);
    if (l->all.damaged) {
        *e = l->first;
        return -1;
    }
    if (l->deep)
        printf("verified: every frame is whole\n");
    return 0;
}

static int look(const char *dir, bool deep, struct err *e)
{
    struct journal *j;
    const struct journal_options o = {.dir = dir, .read_only = true};
    if (journal_open_files(&o, &j, e) != 0)
        return -1;
    struct look l = {.j = j, .deep = deep};
    int r = look_all(&l, e);
    journal_close(j);
    return r;
}

int journal_list(const char *dir, struct err *e)
{
    return look(dir, false, e);
}

int journal_verify(const char *dir, struct err *e)
{
    return look(dir, true, e);
}
