// JSON inside JSON: checked against the grammar and copied without white space, in one pass that
// neither recurses nor allocates.
#include "proto/json_value.h"

struct document {
    const uint8_t *p, *end;
    uint8_t *at;                    // where the next byte goes: never behind what was read
    size_t depth;                   // open objects and arrays
    bool in_object[JSON_DEPTH_MAX]; // which of them each is
};

enum expect { EXPECT_VALUE, EXPECT_VALUE_OR_END, EXPECT_KEY, EXPECT_KEY_OR_END, EXPECT_NEXT };

static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

static bool take(struct document *d, uint8_t c)
{
    if (d->p == d->end || *d->p != c)
        return false;
    *d->at++ = *d->p++;
    return true;
}

static bool take_word(struct document *d, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(d->end - d->p) < n || memcmp(d->p, word, n) != 0)
        return false;
    memcpy(d->at, d->p, n);
    d->at += n;
    d->p += n;
    return true;
}

// One or more digits.
static bool take_digits(struct document *d)
{
    const uint8_t *from = d->p;
    while (d->p < d->end && *d->p >= '0' && *d->p <= '9')
        *d->at++ = *d->p++;
    return d->p > from;
}

static bool take_number(struct document *d)
{
    take(d, '-');
    if (!take(d, '0') && !take_digits(d))
        return false;
    if (take(d, '.') && !take_digits(d))
        return false;
    if (take(d, 'e') || take(d, 'E')) {
        if (!take(d, '+'))
            take(d, '-');
        return take_digits(d);
    }
    return true;
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// What follows a backslash.
static bool take_escape(struct document *d)
{
    if (d->p == d->end || *d->p == 0 || !strchr("\"\\/bfnrtu", *d->p))
        return false;
    bool code = *d->p == 'u';
    *d->at++ = *d->p++;
    for (int i = 0; code && i < 4; i++) {
        if (d->p == d->end || !is_hex(*d->p))
            return false;
        *d->at++ = *d->p++;
    }
    return true;
}

static bool take_string(struct document *d)
{
    if (!take(d, '"'))
        return false;
    for (;;) {
        size_t run = json_plain(d->p, (size_t)(d->end - d->p));
        memcpy(d->at, d->p, run);
        d->at += run;
        d->p += run;
        if (take(d, '"'))
            return true;
        if (!take(d, '\\') || !take_escape(d))
            return false;
    }
}

static bool open_nested(struct document *d, bool object)
{
    if (d->depth == JSON_DEPTH_MAX)
        return false;
    d->in_object[d->depth++] = object;
    return true;
}

static bool innermost_is_object(const struct document *d)
{
    return d->in_object[d->depth - 1];
}

// The start of a value; *expect becomes what follows.
static bool step_value(struct document *d, enum expect *expect)
{
    if (*expect == EXPECT_VALUE_OR_END && take(d, ']')) {
        d->depth--;
        *expect = EXPECT_NEXT;
        return true;
    }
    *expect = EXPECT_NEXT;
    if (d->p == d->end)
        return false;
    switch (*d->p) {
    case '{':
        *expect = EXPECT_KEY_OR_END;
        return take(d, '{') && open_nested(d, true);
    case '[':
        *expect = EXPECT_VALUE_OR_END;
        return take(d, '[') && open_nested(d, false);
    case '"':
        return take_string(d);
    case 't':
        return take_word(d, "true");
    case 'f':
        return take_word(d, "false");
    case 'n':
        return take_word(d, "null");
    default:
        return take_number(d);
    }
}

static bool step_key(struct document *d, enum expect *expect)
{
    if (*expect == EXPECT_KEY_OR_END && take(d, '}')) {
        d->depth--;
        *expect = EXPECT_NEXT;
        return true;
    }
    *expect = EXPECT_VALUE;
    if (!take_string(d))
        return false;
    d->p = skip_space(d->p, d->end);
    return take(d, ':');
}

// Behind a value inside an object or an array.
static bool step_next(struct document *d, enum expect *expect)
{
    bool object = innermost_is_object(d);
    if (take(d, ',')) {
        *expect = object ? EXPECT_KEY : EXPECT_VALUE;
        return true;
    }
    d->depth--;
    return take(d, object ? '}' : ']');
}

bool json_document(struct buf *out, struct slice text)
{
    struct document d; // in_object is written before it is read
    d.p = text.p;
    d.end = text.p + text.n;
    d.at = buf_room(out, text.n);
    d.depth = 0;
    enum expect expect = EXPECT_VALUE;
    bool ok = true;
    do {
        d.p = skip_space(d.p, d.end);
        ok = expect == EXPECT_NEXT                                     ? step_next(&d, &expect)
             : expect == EXPECT_VALUE || expect == EXPECT_VALUE_OR_END ? step_value(&d, &expect)
                                                                       : step_key(&d, &expect);
    } while (ok && (d.depth > 0 || expect != EXPECT_NEXT));
    d.p = skip_space(d.p, d.end);
    if (!ok || d.p != d.end)
        return false;
    out->n = (size_t)(d.at - out->p);
    return true;
}

bool json_is_null(struct slice text)
{
    const uint8_t *end = text.p + text.n, *p = skip_space(text.p, end);
    return end - p >= 4 && memcmp(p, "null", 4) == 0 && skip_space(p + 4, end) == end;
}
