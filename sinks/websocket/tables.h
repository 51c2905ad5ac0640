// The tables of the stream: the newest version of each, by name.
#pragma once

#include "proto/catalog.h"

// Versions of tables that match the globs, sorted by name; the caller frees the array. Any thread.
const struct relation **tables_newest(const struct catalog *c, char *const *globs,
                                      size_t glob_count, size_t *ret_n);
