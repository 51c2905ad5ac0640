// The shape of a table at one time: a relation version. Immutable once made, known by `id`, which
// counts up from 1 over the life of the stream; the catalog (proto/catalog.h) keeps all of them.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "proto/tuple.h"

// How a column's value stands in the row message. Stored in Column.kind: never renumber.
enum kind {
    KIND_STRING = 0, // PostgreSQL's own text
    KIND_BOOL = 1,
    KIND_INT32 = 2, // int2, int4
    KIND_INT64 = 3,
    KIND_UINT32 = 4, // oid
    KIND_FLOAT = 5,
    KIND_DOUBLE = 6,
    KIND_BYTES = 7,
    KIND_TIMESTAMP = 8, // google.protobuf.Timestamp
    KIND_ARRAY = 16,    // + the element's kind: a BoolArray, Int32Array, ..
};
#define KIND_MAX (KIND_ARRAY + KIND_TIMESTAMP)

// Kinds of one group may follow each other under one field number (the Schema Registry's rule).
enum kind_group { GROUP_INT, GROUP_STRING, GROUP_BYTES, GROUP_FLOAT, GROUP_DOUBLE, GROUP_MESSAGE };
enum kind_group kind_group(enum kind k);
// Same group and, for messages, the same message.
bool kind_compatible(enum kind a, enum kind b);
const char *
kind_proto_type(enum kind k); // "int32", "google.protobuf.Timestamp", "rowcast.v1.Int32Array"

// What the JSON form must know beyond the kind (numeric and int8 as strings is the kind's matter).
enum json_class { JSON_CLASS_TEXT, JSON_CLASS_JSON }; // JSON: json, jsonb and arrays of them

struct column {
    char *name;
    char *type;      // "numeric(10,2)"
    char *base_type; // "numeric"
    uint32_t type_oid;
    int32_t typmod;
    uint32_t number; // of the field
    enum kind kind;
    enum json_class json_class;
    int16_t attnum; // 0: not known
    bool key;       // part of the row's identity, as `Change.key` carries it
    bool masked;    // the value is replaced before anything is stored
};

struct reserved_number {
    uint32_t number;
    enum kind kind;
    char *name;
};

// An excluded or masked column: also when it is renamed it stays one.
struct hidden_column {
    int16_t attnum;   // 0: not known
    const char *name; // when last seen
    const char *as;   // its name when a glob took it
};
#define HIDDEN_MAX (2 * COLUMNS_MAX)

struct relation {
    uint32_t id;
    uint32_t oid;
    char *schema, *name;
    char *table;           // as SQL would quote it: public."Odd.Name"; what filters match
    char replica_identity; // 'd', 'n', 'f', 'i'
    uint16_t column_count; // excluded columns are not among them
    struct column *columns;
    uint16_t reserved_count;
    struct reserved_number *reserved;
    uint16_t hidden_count;
    struct hidden_column *hidden;
    char *root;           // of a partition: the table at the top, as `table`; NULL: none known
    struct slice encoded; // the bytes of a Relation message (no tag), as sent
    struct slice stored;  // the same, with what only the journal keeps behind it; owned
};

#define RESERVED_MAX UINT16_MAX // reserved numbers of one table

// False for what protobuf does not allow or keeps for itself (19000 to 19999).
bool number_usable(uint32_t number);

// A table name as SQL would quote it: each part in quotes only where it needs them.
void table_quote(struct buf *out, const char *schema, const char *name);
// fnmatch; a name matches itself, whatever is in it.
bool glob_match(const char *glob, const char *name);
// glob_match over the quoted name; a glob without a dot matches in schema public too.
bool table_match(const char *glob, const char *table);
bool table_match_any(char *const *globs, size_t n, const char *table); // n == 0: every table

// Copies them over those that it has; to be sealed (again) after it.
void relation_hide(struct relation *r, const struct hidden_column *hidden, size_t n);
// Fills r->table, r->encoded and r->stored from the rest of r.
void relation_seal(struct relation *r);
// From the bytes of a Relation message, sent or stored (outside input: a file, a socket).
int relation_decode(struct slice bytes, struct relation **ret_r, struct err *e) MUST_CHECK;
void relation_free(struct relation *r);
// Same in all but the id: no new version is needed. Both sealed.
bool relation_same(const struct relation *a, const struct relation *b);
const struct column *relation_column(const struct relation *r, uint32_t number); // or NULL
void relation_encode_column(struct buf *out, const struct column *c);            // a Column message
const char *relation_identity_name(const struct relation *r); // "default", "full" ..
// Field numbers of the key's columns, ascending, into ret, which has room for column_count; returns
// how many.
size_t relation_key_numbers(const struct relation *r, uint32_t *ret);
