// All relation versions of a stream, by id; in memory here, kept on disk by the journal. One thread
// adds; any thread looks up, without a lock. A version lives as long as its catalog.
#pragma once

#include "proto/relation.h"

#define CATALOG_RELATIONS_MAX 1000000 // beyond it relation versions are refused: a DDL loop

struct catalog;

struct catalog *catalog_new(void);
void catalog_free(struct catalog *c);
// Takes ownership of a sealed relation; its id must be catalog_next_id().
void catalog_add(struct catalog *c, struct relation *r);
uint32_t catalog_next_id(const struct catalog *c);
// NULL when there is none of this id.
const struct relation *catalog_get(const struct catalog *c, uint32_t id);
// The newest version of a table by its quoted name; NULL when there is none. Adding thread only.
const struct relation *catalog_latest(const struct catalog *c, const char *table);
// How many there are: ids 1..count. Any thread.
uint32_t catalog_count(const struct catalog *c);
