// Walks over JSON text without building anything, so that what was received can be passed on as it
// is: each value is a slice of the text. It finds where values end; it does not validate them.
#pragma once

#include "base/buf.h"

struct scan {
    const uint8_t *p, *end;
    uint8_t closing; // } or ]
    bool first;      // nothing was taken yet
    bool failed;     // the text is no such object or array
};

// The members of an object, or the elements of an array, that `value` is.
struct scan scan_open(struct slice value);
// The next one; false at the end or on failure. `ret_key` is the text between the quotes.
bool scan_member(struct scan *s, struct slice *ret_key, struct slice *ret_value);
bool scan_element(struct scan *s, struct slice *ret_value);
// A member of an object by its name; false when there is none.
bool scan_get(struct slice object, const char *key, struct slice *ret_value);

bool slice_is(struct slice s, const char *text);
// Appends text for a terminal: what it would obey (control characters, also C1) becomes ?.
void scan_safe(struct buf *out, struct slice text);
// Appends the text of a JSON string for a terminal, its escapes resolved (\uXXXX: as it stands).
void scan_text(struct buf *out, struct slice value);
