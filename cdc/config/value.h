// Texts to values: sizes, durations, switches, lists.
#pragma once

#include "base/buf.h"
#include "config/option.h"

// "64MiB", "10GB", "4096". False unless the whole text is one; at most INT64_MAX.
bool bytes_parse(const char *text, int64_t *ret_bytes);
// "250ms", "20s", "5min", "24h", "7d".
bool duration_parse(const char *text, int64_t *ret_us);
bool option_integer_parse(const char *text, int64_t *ret_v);
// on, off, yes, no, true, false.
bool boolean_parse(const char *text, bool *ret_v);

// Sets o's field to text (a list: appends it as one item). `where` begins the error:
// "--slot", "ROWCAST_SLOT", "rowcast.conf:7: slot".
int value_set(struct settings *s, const struct option_info *o, const char *text, const char *where,
              struct err *e) MUST_CHECK;
// A list written in one text, split at o->separator outside of double quotes.
int value_set_list(struct settings *s, const struct option_info *o, const char *text,
                   const char *where, struct err *e) MUST_CHECK;
// What a value of o may be, in words: "a size such as 64MiB, from 1MiB to 1TiB".
void value_accepts(struct buf *out, const struct option_info *o);

void strings_add(struct strings *list, const char *text, size_t n);
void strings_free(struct strings *list);
