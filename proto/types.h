// PostgreSQL's types: what kind each becomes, what SQL calls it.
#pragma once

#include "proto/relation.h"

// Schema and name, each of 63 bytes and twice as long in quotes, the dot, "[]" and the NUL.
#define TYPE_NAME_MAX 264

// How the binary form of a type is read (proto/binary.h).
enum form {
    FORM_NONE, // not by us, or its text says what its binary form does not: the names of reg* types
    FORM_TEXT, // text as it is; enums too
    FORM_VERSIONED, // a version byte, 1, then text: jsonb
    FORM_CHAR,      // one byte
    FORM_BOOL,
    FORM_INT, // of 2, 4 or 8 bytes
    FORM_UINT,
    FORM_FLOAT, // of 4 or 8 bytes
    FORM_NUMERIC,
    FORM_BYTEA,
    FORM_UUID,
    FORM_TID,
    FORM_LSN,
    FORM_SNAPSHOT,
    FORM_INET,
    FORM_MACADDR,
    FORM_BIT,
    FORM_DATE,
    FORM_TIME,
    FORM_TIMETZ,
    FORM_TIMESTAMP,
    FORM_TIMESTAMPTZ,
    FORM_INTERVAL,
    FORM_POINT,
    FORM_LSEG,
    FORM_PATH,
    FORM_BOX,
    FORM_POLYGON,
    FORM_LINE,
    FORM_CIRCLE,
    FORM_TSVECTOR,
    FORM_TSQUERY,
    FORM_HSTORE,
    FORM_VECTOR, // int2vector, oidvector
    FORM_ARRAY,
    FORM_RANGE,
    FORM_MULTIRANGE,
    FORM_COMPOSITE, // the value says its fields' types
    FORM_COUNT,
};

struct type {
    uint32_t oid;
    char name[TYPE_NAME_MAX];      // as SQL names it: integer, integer[], shop.mood
    char base_name[TYPE_NAME_MAX]; // of a domain: its base type's; else the same
    enum kind kind;
    enum json_class json_class;
    char delimiter; // between the elements of its arrays: pg_type.typdelim
    enum form form;
    uint32_t inner; // type of an array's elements, a range's bounds, a multirange's ranges; or 0
};

// A built-in type by OID, NULL when it is none of them.
const struct type *type_builtin(uint32_t oid);
// What a type looked up in pg_type becomes. typtype as there ('b','c','d','e','r','m');
// `element` for true arrays (typcategory 'A') and `base` for domains are the resolved types, or
// NULL. The delimiter is the base's, ':' for PostGIS's types and ',' for others: a caller who has
// read typdelim sets it before he resolves the array, for arrays with any delimiter but ',' and
// box's ';' stay text. So does he, with `form` and `inner`, for base types and ranges.
struct type type_resolve(uint32_t oid, const char *schema, const char *name, char typtype,
                         const struct type *element, const struct type *base);
// How a base type that is not built in is read, from the names of the functions that make its text
// and its binary form (pg_proc.prosrc): citext is text, ltree and hstore have forms of their own.
enum form type_form(const char *output, const char *send);
// "numeric(10,2)" from a name and a typmod (-1: none), as format_type would. `base_oid`: the
// built-in type (or array of it) that `name` stands for; with any other OID it is the name alone.
void type_format(struct buf *out, const char *name, uint32_t base_oid, int32_t typmod);
// What separates the elements in an array's text, from the base_type of its column.
char type_array_delimiter(const char *base_name);
