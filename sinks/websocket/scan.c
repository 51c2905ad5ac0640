#include "sinks/websocket/scan.h"

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && is_space(*s->p))
        s->p++;
}

// One character, with the space before it.
static bool take(struct scan *s, uint8_t c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

// From an opening quote to behind the closing one.
static void skip_string(struct scan *s)
{
    for (s->p++; s->p < s->end; s->p++) {
        if (*s->p == '\\') {
            if (++s->p == s->end)
                break;
        } else if (*s->p == '"') {
            s->p++;
            return;
        }
    }
    s->failed = true;
}

static bool skip_value(struct scan *s, struct slice *ret_value)
{
    skip_space(s);
    const uint8_t *from = s->p;
    size_t depth = 0;
    while (s->p < s->end && !s->failed) {
        uint8_t c = *s->p;
        if (depth == 0 && s->p > from && (c == ',' || c == '}' || c == ']' || is_space(c)))
            break;
        if (c == '"') {
            skip_string(s);
        } else {
            depth += c == '{' || c == '[';
            if (c == '}' || c == ']') {
                if (depth == 0)
                    break;
                depth--;
            }
            s->p++;
        }
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            break;
    }
    if (depth > 0 || s->p == from)
        s->failed = true;
    *ret_value = (struct slice){from, (size_t)(s->p - from)};
    return !s->failed;
}

struct scan scan_open(struct slice value)
{
    struct scan s = {.p = value.p, .end = value.p + value.n, .first = true};
    if (take(&s, '{'))
        s.closing = '}';
    else if (take(&s, '['))
        s.closing = ']';
    else
        s.failed = true;
    return s;
}

// Over the comma to the next value; false at the end.
static bool another(struct scan *s, uint8_t closing)
{
    if (s->failed || s->closing != closing || take(s, closing))
        return false;
    s->failed = !s->first && !take(s, ',');
    s->first = false;
    return !s->failed;
}

bool scan_member(struct scan *s, struct slice *ret_key, struct slice *ret_value)
{
    if (!another(s, '}'))
        return false;
    skip_space(s);
    const uint8_t *from = s->p;
    s->failed = s->p == s->end || *s->p != '"';
    if (s->failed)
        return false;
    skip_string(s);
    if (s->failed)
        return false;
    *ret_key = (struct slice){from + 1, (size_t)(s->p - from) - 2};
    s->failed = !take(s, ':');
    return !s->failed && skip_value(s, ret_value);
}

bool scan_element(struct scan *s, struct slice *ret_value)
{
    return another(s, ']') && skip_value(s, ret_value);
}

bool scan_get(struct slice object, const char *key, struct slice *ret_value)
{
    struct scan s = scan_open(object);
    struct slice name, value;
    while (scan_member(&s, &name, &value)) {
        if (slice_is(name, key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool slice_is(struct slice s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

void scan_safe(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        bool c1 = c == 0xc2 && i + 1 < text.n && text.p[i + 1] < 0xa0;
        buf_putc(out, c < ' ' || c == 0x7f || c1 ? '?' : (char)c);
        i += c1;
    }
}

void scan_text(struct buf *out, struct slice value)
{
    if (value.n < 2 || value.p[0] != '"')
        return;
    AUTO_BUF struct buf text = {0};
    for (const uint8_t *at = value.p + 1, *end = value.p + value.n - 1; at < end; at++) {
        bool escape = *at == '\\' && at + 1 < end && at[1] != 'u';
        at += escape;
        buf_putc(&text, escape && strchr("ntrbf", *at) ? ' ' : (char)*at);
    }
    scan_safe(out, buf_slice(&text));
}
