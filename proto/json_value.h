// Values of the JSON form, one at a time: each function appends one. Inside proto/ only; what
// others use stands in proto/json.h.
#pragma once

#include "base/position.h"
#include "proto/json.h"

// How many bytes at p stand in a JSON string as they are: up to a quote, a backslash, a control
// character, or what is not UTF-8.
size_t json_plain(const uint8_t *p, size_t n);

void json_u64(struct buf *out, uint64_t v);
void json_i64(struct buf *out, int64_t v);
// PostgreSQL's own text of a float: the shortest that reads back the same ("1e+20", "Infinity").
void double_text(struct buf *out, double v);
void float_text(struct buf *out, float v);
void json_base64(struct buf *out, struct slice bytes);
void json_lsn(struct buf *out, lsn_t lsn);
void json_time(struct buf *out, int64_t wall_us);
// A Timestamp message; false when it is malformed or outside of years 1 to 9999.
bool timestamp_decode(struct slice message, int64_t *ret_wall_us);

// A scalar as it stands on the wire: v holds a varint or the bits of a float.
struct scalar {
    uint64_t v;
    struct slice bytes;
};
// -1: malformed.
int json_scalar(struct buf *out, enum kind k, enum json_class class,
                const struct scalar *s) MUST_CHECK;
// PostgreSQL's text of it, in UTC. -1: malformed.
int scalar_text(struct buf *out, enum kind k, const struct scalar *s) MUST_CHECK;

// ---- JSON in JSON (json_document.c) ----

#define JSON_DEPTH_MAX 65536 // deeper: not taken for JSON

// Appends a whole JSON text without the white space between its tokens. False, and nothing
// appended, when it is none.
bool json_document(struct buf *out, struct slice text);
// JSON's own null.
bool json_is_null(struct slice text);

// ---- arrays (json_array.c) ----

// An array message as (nested) JSON arrays. *ret_exact: JSON does not say all of it (bounds other
// than 1, JSON's own null among json): array_text has it. -1: malformed.
int json_array(struct buf *out, const struct column *c, struct slice message,
               bool *ret_exact) MUST_CHECK;
// PostgreSQL's text of an array: [0:1]={1,NULL}. -1: malformed.
int array_text(struct buf *out, const struct column *c, struct slice message) MUST_CHECK;
