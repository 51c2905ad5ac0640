// PostgreSQL's text of one value, to protobuf's wire form of its kind.
#pragma once

#include "proto/relation.h"
#include "proto/wire.h"

// How a value of this kind (an array: its message) stands on the wire.
enum wire_type kind_wire_type(enum kind k);

// Appends the value without its tag: a varint, a fixed value, or bytes with their length in front.
// False, and nothing appended: the text is not exactly a value that the kind can hold. `k` is not
// an array's; `text` need not be NUL-terminated.
bool scalar_encode(struct buf *out, enum kind k, const char *text, size_t n) MUST_CHECK;
// The same from PostgreSQL's binary form of a type that has this kind, which is not KIND_STRING.
// False: no such form, or an instant that a Timestamp cannot hold.
bool scalar_encode_binary(struct buf *out, enum kind k, struct slice bytes) MUST_CHECK;
// Appends the value that stands for NULL among an array's values.
void scalar_encode_zero(struct buf *out, enum kind k);

// The parsers, each strict: all of the text, or false.
bool integer_parse(const char *text, size_t n, int64_t *ret_v) MUST_CHECK;
bool double_parse(const char *text, size_t n, double *ret_v) MUST_CHECK;
bool float_parse(const char *text, size_t n, float *ret_v) MUST_CHECK;
// Appends what a bytea's text stands for, in either form of bytea_output.
bool bytea_parse(struct buf *out, const char *text, size_t n) MUST_CHECK;
