// Names of topics: PREFIX.schema.table, made fit for Kafka, and never shared by two tables.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define TOPIC_NAME_MAX 249 // Kafka's own limit

// The topic of a table: PREFIX.schema.name (without a prefix: schema.name). What Kafka does not
// allow in a name (other than a-z A-Z 0-9 . _ -) becomes _. -1: longer than TOPIC_NAME_MAX; cutting
// it would let two tables meet.
int topic_name(struct buf *out, const char *prefix, const char *schema, const char *name,
               struct err *e) MUST_CHECK;
// PREFIX.NAME for what is no table (position, message); the prefix is "rowcast" when there is none.
int topic_own_name(struct buf *out, const char *prefix, const char *name, struct err *e) MUST_CHECK;

// Who uses which topic.
struct topic_names;
struct topic_names *topic_names_new(void);
void topic_names_free(struct topic_names *n);
// `owner`: the table, quoted, or a word for what is none. Claiming again for the same owner is
// fine. -1: another one has that name, or one that Kafka takes for the same (it does not tell . and
// _ apart).
int topic_names_claim(struct topic_names *n, const char *topic, const char *owner,
                      struct err *e) MUST_CHECK;
