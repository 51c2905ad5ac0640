// Entries as lines of JSON, for stdout and `rowcast journal dump`: changes, ends of transactions
// that had any, schema changes, progress, marks of snapshots, gaps; and each table's relation
// before its first change.
#pragma once

#include "journal/journal.h"

struct lines;

// tables: globs, none for all; a logical message belongs to no table and passes only without any.
// Both are borrowed.
struct lines *lines_new(const struct catalog *catalog, char *const *tables, size_t table_count);
void lines_free(struct lines *l);
// Appends what b holds above `skip`. `stream`: any cursor of the journal, for its identity.
int lines_batch(struct lines *l, struct cursor stream, const struct batch *b, struct position skip,
                struct buf *out, struct err *e) MUST_CHECK;
// {"type":"restart"}: the transaction that the last batch ended in comes again from its first
// change.
void lines_restart(struct lines *l, struct buf *out);
