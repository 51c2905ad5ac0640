// Segment files: the format of the journal on disk, and reading it.
//
//   segment:  [header 80 bytes][frame][frame] ..
//   frame:    [header 168 bytes][stored payload][0..7 bytes of padding: frames begin at 8 n]
//   name:     <first position: lsn, 16 hex>-<ordinal, 12 hex>-<first seq, 16 hex>.seg
//
// All numbers are little-endian. A frame holds one batch: the bytes of a rowcast.v1.Batch, as they
// are or as one or more zstd frames behind each other, each of at most FRAME_CHUNK raw bytes.
//
// A frame has two checks, so that frames can be walked by their headers alone. It says what was
// durable when it was written (`durable_seq`): that tells a tail torn by a power cut (nothing
// behind the damage vouches for it) from damage done later to what had been safe.
#pragma once

#include "journal/file_ops.h"
#include "proto/batch.h"

#define SEGMENT_MAGIC   "rowcastj"
#define SEGMENT_VERSION 1
#define FRAME_MAGIC     0x31664352 // "RCf1"
#define FRAME_CHUNK     (UINT32_C(1) << 20)
#define FRAME_RAW_MAX   (UINT32_C(3) << 30) // a row of 1 GiB, its old row, and its key

struct segment_header {
    char magic[8];
    uint32_t version;
    uint32_t check; // low half of XXH3 over what follows
    uint64_t stream_id;
    uint64_t first_seq;
    uint64_t first_lsn, first_ordinal;
    uint64_t floor_lsn, floor_ordinal; // the last position before this segment
    int64_t created_us;
    uint64_t reserved;
};
_Static_assert(sizeof(struct segment_header) == 80, "on disk");

#define FRAME_ZSTD 0x10000 // in frame.flags, beside enum batch_flag

struct frame {
    uint32_t magic;
    uint32_t check;         // low half of XXH3 over the rest of the header
    uint64_t payload_check; // XXH3 over the stored payload
    uint32_t stored, raw;   // bytes
    uint32_t flags;
    uint32_t attempt;
    uint64_t seq; // counts up from 1 over the journal's life, without holes
    uint64_t durable_seq;
    uint64_t first_lsn, first_ordinal;
    uint64_t last_lsn, last_ordinal; // never below those of the frame before
    uint64_t watermark;              // what holds once this frame is durable
    int64_t commit_time_us, sealed_us;
    uint32_t change_count, end_count;
    uint32_t xid_min, xid_max;
    uint64_t txn_lsn, txn_hash, txn_changes; // as in struct batch
    // CONTINUED or PARTIAL: where the transaction's first frame begins, for a cut without a search.
    uint64_t txn_seq, txn_segment, txn_offset;
};
_Static_assert(sizeof(struct frame) == 168, "on disk");

// Where a frame stands: a segment is known by its first seq.
struct place {
    uint64_t segment, offset, seq;
};

static inline struct position frame_first(const struct frame *f)
{
    return (struct position){f->first_lsn, f->first_ordinal};
}
static inline struct position frame_last(const struct frame *f)
{
    return (struct position){f->last_lsn, f->last_ordinal};
}
static inline uint64_t frame_size(const struct frame *f)
{
    return (sizeof *f + (uint64_t)f->stored + 7) & ~UINT64_C(7);
}

#define SEGMENT_NAME_MAX 64
void segment_name(struct position first, uint64_t first_seq, char buf[SEGMENT_NAME_MAX]);
bool segment_name_parse(const char *name, struct position *ret_first, uint64_t *ret_seq);

// Fills magic, version and check.
void segment_header_seal(struct segment_header *h);
// Of an open file; `path` is for messages. A file of another version is refused by name.
int segment_header_read(int fd, const char *path, struct segment_header *ret_h,
                        struct err *e) MUST_CHECK;

// Fills magic and check, when all else is set.
void frame_seal(struct frame *f);
// Everything that the header and its check can tell, for a frame with `room` bytes to the file's
// end.
bool frame_valid(const struct frame *f, uint64_t room);
// What a batch says of itself; seq, durable_seq, watermark, lengths and txn place are the writer's.
struct frame frame_of_batch(const struct batch *b);

// Reads a frame whose header was read (and is valid): checks, decompresses and parses it.
// A damaged frame is ERR_JOURNAL, naming file, offset and position.
int frame_read_payload(int fd, const char *path, uint64_t offset, const struct frame *f,
                       struct batch **ret_b, struct err *e) MUST_CHECK;
// Only the payload's check; reads in small pieces.
bool frame_payload_valid(int fd, uint64_t offset, const struct frame *f);

// Walks the frames of a file by their headers.
struct walk {
    int fd;
    uint64_t at;  // of the next frame
    uint64_t end; // bytes that count
    uint64_t window_at;
    size_t window_n, window_cap;
    uint8_t *window;
};
enum walk_step { WALK_FRAME, WALK_END, WALK_BAD };
void walk_begin(struct walk *w, int fd, uint64_t from, uint64_t end);
void walk_end(struct walk *w); // frees the window; the file stays the caller's
// ret_at: where the frame begins. WALK_BAD: at w->at stands no valid header.
enum walk_step walk_next(struct walk *w, struct frame *ret_f, uint64_t *ret_at);
// Looks behind a bad frame of this seq for a valid one that says the bad one had been durable.
bool walk_vouched(struct walk *w, uint64_t bad_seq);
