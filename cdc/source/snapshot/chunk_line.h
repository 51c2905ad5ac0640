// A row of COPY TO STDOUT in text format: columns with tabs between them, \N for NULL, backslashes
// before what would be taken for one of these. Pure.
// https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
#pragma once

#include "proto/tuple.h"

// Takes a line apart, in place; the values are borrowed from it. False: it has another number of
// columns, or an escape that PostgreSQL does not write.
bool chunk_line_split(char *line, size_t n, struct value *values, size_t count) MUST_CHECK;
// The place of a row from the text of its ctid, "(0,1)"; 0: it is none.
uint64_t chunk_line_place(const struct value *v);
