// Retention: whole segments, oldest first, by age and size; never past what a gating reader has
// acknowledged, never the newest, never before something was appended in this process (the gating
// readers are open by then).
#include "journal/inside.h"

#include "base/clock.h"
#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

int floor_load(struct journal *j, size_t i, struct err *e)
{
    struct segment seg;
    struct segment_header h;
    char path[SEGMENT_PATH_MAX];
    int fd;
    if (!segments_get(&j->segments, i, &seg)) {
        j->floor = j->last; // nothing is kept
        return 0;
    }
    segments_path(&j->segments, &seg, path);
    if (segments_open(&j->segments, &seg, O_RDONLY, &fd, e) != 0)
        return -1;
    int r = segment_header_read(fd, path, &h, e);
    close(fd);
    if (r != 0)
        return -1;
    pthread_mutex_lock(&j->lock);
    j->floor = (struct position){h.floor_lsn, h.floor_ordinal};
    pthread_mutex_unlock(&j->lock);
    return 0;
}

// What every gating reader has; locked by the caller.
static struct position held_at(const struct journal *j)
{
    struct position least = {UINT64_MAX, UINT64_MAX};
    for (const struct journal_reader *r = j->readers; r; r = r->next) {
        if (r->gating && position_cmp(r->acknowledged, least) < 0)
            least = r->acknowledged;
    }
    return least;
}

static bool too_large(const struct journal *j, uint64_t bytes)
{
    return j->o.retain_bytes && bytes > j->o.retain_bytes;
}

static bool too_old(const struct journal *j, const struct segment *seg)
{
    return j->o.retain_us && clock_steady_us() - seg->modified_us > j->o.retain_us;
}

static void drop_oldest(struct journal *j, const struct segment *seg)
{
    struct err e;
    // The floor first: a reader that finds the file gone must find itself below the floor.
    if (floor_load(j, 1, &e) != 0 || segments_drop(&j->segments, seg->id, &e) != 0) {
        journal_fail(j, &e);
        return;
    }
    log_debug("removed an old segment", "dir=%s first=" LSN_FMT " bytes=%" PRIu64, j->dir,
              LSN_ARG(seg->first.lsn), seg->bytes);
}

void retention_run(struct journal *j)
{
    struct segment oldest, second;
    pthread_mutex_lock(&j->lock);
    bool fresh = j->appended_count == 0;
    struct position held = held_at(j);
    pthread_mutex_unlock(&j->lock);
    bool blocked = false;
    while (!fresh && !blocked && segments_get(&j->segments, 0, &oldest) &&
           segments_get(&j->segments, 1, &second)) {
        bool large = too_large(j, segments_bytes(&j->segments));
        if (!large && !too_old(j, &oldest))
            break;
        // All of the oldest lies at or below the second's first position.
        blocked = position_cmp(held, second.first) < 0;
        if (!blocked)
            drop_oldest(j, &oldest);
    }
    pthread_mutex_lock(&j->lock);
    bool full = blocked && too_large(j, segments_bytes(&j->segments));
    bool told = j->size_full != full;
    j->size_full = full;
    pthread_mutex_unlock(&j->lock);
    if (told && full)
        log_warn("the journal is at its size limit and a sink is behind: reading stops until it "
                 "has caught up",
                 "dir=%s bytes=%" PRIu64 " limit=%" PRIu64, j->dir, segments_bytes(&j->segments),
                 j->o.retain_bytes);
    else if (told)
        log_info("the journal is below its size limit again: reading goes on", "dir=%s", j->dir);
}
