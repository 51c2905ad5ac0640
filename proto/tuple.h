// A row as pgoutput sends it: a tagged value a column, in the order of the Relation message.
#pragma once

#include "base/base.h"

enum value_state { VALUE_NULL = 'n', VALUE_UNCHANGED = 'u', VALUE_TEXT = 't', VALUE_BINARY = 'b' };

struct value {
    // VALUE_TEXT, VALUE_BINARY: n bytes, never NULL nor NUL-terminated, of the message.
    const char *text;
    uint32_t n;
    uint8_t state; // enum value_state
};

#define COLUMNS_MAX 1600 // PostgreSQL's own limit (MaxHeapAttributeNumber)

struct tuple {
    uint16_t n;
    struct value *values;
};
