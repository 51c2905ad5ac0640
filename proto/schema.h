// The .proto that rowcast generates for tables: typed messages for the rows that Change carries as
// bytes, with the same field numbers.
#pragma once

#include "proto/catalog.h"

// The whole file: `relations` (newest version of each table) sorted by the caller. `preview`: the
// numbers are not final, and the file says so.
void schema_render(struct buf *out, const struct relation *const *relations, size_t n,
                   bool preview);
