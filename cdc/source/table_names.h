// The names by which a table is wanted, by its OID, from all relation versions of the stream: its
// name of now, the one that it had when it was first seen, and that of the table at the top, where
// it is a partition. The catalog of now does not decide about WAL of then: a table that was wanted
// stays so when it is renamed, detached or dropped.
#pragma once

#include "proto/catalog.h"
#include "source/source.h"

struct table_names;

// From a catalog, which may be NULL. Both are borrowed.
struct table_names *table_names_new(const struct source_options *o, const struct catalog *catalog);
void table_names_free(struct table_names *t);
// A version that was added to the catalog.
void table_names_take(struct table_names *t, const struct relation *r);
// What a look-up says of it: the table at the top, or NULL.
void table_names_take_root(struct table_names *t, uint32_t oid, const char *root);

// Quoted, or NULL: none is known. The first name also where it is that of now.
const char *table_names_root(const struct table_names *t, uint32_t oid);
const char *table_names_first(const struct table_names *t, uint32_t oid);
const struct relation *table_names_latest(const struct table_names *t, uint32_t oid);
// Whether the table globs want it.
bool table_names_want(const struct table_names *t, uint32_t oid, const char *table);
