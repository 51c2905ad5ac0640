// Records: what a change becomes in Kafka. Pure: bytes in, bytes out.
//
//   insert, read         key, value
//   update               key, value; if it changed the key: delete(old), tombstone(old),
//   insert(new) delete               key, value; then a tombstone (same key, null value), if wanted
//   truncate             an empty key row, value; to every partition, since it ends the life of
//   keys
//                        in all of them
//   logical message      its prefix as key, value
//
// What is no change (a schema change, a snapshot's mark, a gap) is one record in the topic of
// events, with its table as key. A gap is of no table: an empty key, to every partition.
//
// A table without any row identity has null keys and no tombstones.
//
// Headers, few because each costs as much as a fifth of the record (librdkafka allocates each):
//   op        insert, update, ..; a tombstone has its delete's. An event has `type` instead
//   cursor    stream id, timeline, commit LSN and ordinal, in hex; a repeat has the same
//   xid       of the transaction; not with a message outside of any
//   origin    where there is one
//   part      of a change with several records: 1 the tombstone, 2 the insert of a key change. What
//             has cursor and part of a record before it in the partition, or less, is a repeat
//   new_key, old_key    of a key change's delete (and tombstone) and insert: the other one's key
#pragma once

#include "proto/json.h"

struct header {
    const char *name; // a literal
    struct slice value;
};
#define HEADERS_MAX 8

struct record {
    struct slice key, value; // p NULL: null
    bool borrowed;           // the value stands in the batch; else in scratch memory
    struct header headers[HEADERS_MAX];
    size_t header_count;
};
#define RECORDS_MAX 3 // of one change

// The columns that identify a row of one relation version.
struct key_columns {
    size_t n;
    uint32_t *numbers; // ascending
};
void key_columns_init(struct key_columns *k, const struct relation *r);
void key_columns_free(struct key_columns *k);
// The key that `row` has (part `exact_field` of c, as in change_exact): its key fields as they
// stand, a large value that did not change from c->key. Values that their type cannot hold go to
// exact, as whole fields of Change.exact_key. -1: the row is malformed.
int key_of_row(struct buf *out, struct buf *exact, const struct key_columns *k, struct slice row,
               const struct change *c, uint32_t exact_field) MUST_CHECK;

// How keys and values stand in records; exactly one of each format exists.
struct format {
    const char *name;
    // Key of a row; `exact`: what the key row cannot hold, as in Change.exact_key. key.p NULL: of
    // no row (a truncate's).
    int (*key)(struct buf *out, const struct relation *r, struct slice key, struct slice exact,
               struct err *e);
    // Key of a logical message.
    int (*message_key)(struct buf *out, struct slice prefix, struct err *e);
    // Key of an event, by the table that it is about; p NULL: of none.
    void (*event_key)(struct buf *out, struct slice table);
    // Value of a change as it stands in the batch. *ret_borrowed: it is the batch's own bytes.
    int (*value)(struct buf *out, const struct json_context *x, const struct batch *b,
                 const struct entry *entry, bool *ret_borrowed, struct err *e);
    int (*event)(struct buf *out, const struct json_context *x, const struct batch *b,
                 const struct entry *entry, struct err *e);
};
extern const struct format format_protobuf, format_json;

struct encoder {
    const struct format *format;
    bool tombstones;
    struct json_context context; // set by encoder_identify and encoder_begin
    // headers that are the same in a whole transaction
    struct buf cursor, xid; // the cursor without its ordinal
    // scratch of the last change's records
    struct buf keys[2], values[2], row_key, exact, cursor_value;
};

void encoder_init(struct encoder *x, const struct format *format, bool tombstones,
                  const struct catalog *catalog);
void encoder_free(struct encoder *x);
// Whose history the entries that follow are of.
void encoder_identify(struct encoder *x, uint64_t stream_id, uint32_t timeline);
// Takes a Begin entry.
void encoder_begin(struct encoder *x, const struct batch *b, const struct entry *entry);
// The records of a change, valid until the next call and, if `borrowed`, as long as the batch.
// `r` and `k`: NULL for a logical message. Returns how many, or -1.
int encoder_change(struct encoder *x, const struct batch *b, const struct entry *entry,
                   const struct relation *r, const struct key_columns *k,
                   struct record records[RECORDS_MAX], struct err *e) MUST_CHECK;
// The one record of what is no change: a schema change, a snapshot's mark, a gap.
int encoder_event(struct encoder *x, const struct batch *b, const struct entry *entry,
                  struct record *rec, struct err *e) MUST_CHECK;
