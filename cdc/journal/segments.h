// The segments of one journal directory, oldest first: what they are called, how far they count,
// and where in them a frame stands. Any thread; one lock inside, held over header walks of at most
// one segment.
#pragma once

#include "journal/segment.h"

#include <pthread.h>
#include <stdatomic.h>

struct waypoint { // a frame that a walk may begin at
    uint64_t seq, offset;
    struct position before; // the last position before it
};

struct segment {
    uint64_t id; // its first seq
    struct position first;
    uint64_t bytes;      // that count; the file may be longer while it is written to
    int64_t modified_us; // by clock_steady_us; of an earlier process: by the file
    // Every WAYPOINT_BYTES one, up to offset `known`; built by the first walk.
    struct waypoint *ways;
    size_t way_count, way_cap;
};

struct segments {
    const char *dir; // for messages
    int dirfd;
    pthread_mutex_t lock;
    struct segment *items;
    size_t n, cap;
    size_t indexed; // segments with waypoints
    uint64_t bytes; // of all
};

#define SEGMENT_PATH_MAX 512

void segments_init(struct segments *s);
// Lists the directory; reads no file. dir and dirfd are borrowed.
int segments_load(struct segments *s, int dirfd, const char *dir, struct err *e) MUST_CHECK;
void segments_free(struct segments *s);

// ---- changing: the writer, and whoever has stopped it ----

// Makes the newest segment's file and header; ret_fd is open for reading and writing. ERR_RETRY:
// the disk is full.
int segments_create(struct segments *s, uint64_t stream_id, uint64_t seq, struct position first,
                    struct position floor, int *ret_fd, struct err *e) MUST_CHECK;
// The newest segment counts up to here.
void segments_grow(struct segments *s, uint64_t bytes);
// The newest segment counts only up to here, for this process; 0: not at all. Touches no file.
void segments_shrink(struct segments *s, uint64_t bytes);
// Cuts everything from this frame on, durably: whole files from the newest back, then the rest.
int segments_cut(struct segments *s, const struct place *from, struct err *e) MUST_CHECK;
// Removes the oldest segment if it still is `id`.
int segments_drop(struct segments *s, uint64_t id, struct err *e) MUST_CHECK;
// ---- looking ----

size_t segments_count(struct segments *s);
uint64_t segments_bytes(struct segments *s);
// A copy of the i-th (without its waypoints); false when there are fewer.
bool segments_get(struct segments *s, size_t i, struct segment *ret_seg);
bool segments_newest(struct segments *s, struct segment *ret_seg);
// "dir/name" of a segment.
void segments_path(const struct segments *s, const struct segment *seg, char buf[SEGMENT_PATH_MAX]);
int segments_open(struct segments *s, const struct segment *seg, int flags, int *ret_fd,
                  struct err *e) MUST_CHECK;

// True when retention has taken its file.
bool segments_gone(struct segments *s, const struct segment *seg);

enum find { FIND_OK, FIND_EXPIRED, FIND_ERROR };
// The frame of this seq, or the end of the newest segment when it would be the next there.
// FIND_EXPIRED: it was kept once. ret_seg: the segment it stands in.
enum find segments_find_seq(struct segments *s, uint64_t seq, struct place *ret_at,
                            struct segment *ret_seg, struct err *e);
// The first frame whose last position is above `at`; else the end of the newest segment.
enum find segments_find_position(struct segments *s, struct position at, struct place *ret_at,
                                 struct err *e);
