#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", INT64_C(1000000000000)},
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
    {"TiB", INT64_C(1) << 40},
};

static const struct unit duration_units[] = {
    {"us", 1},
    {"ms", 1000},
    {"s", 1000000},
    {"min", 60 * INT64_C(1000000)},
    {"h", 3600 * INT64_C(1000000)},
    {"d", 86400 * INT64_C(1000000)},
};

// Digits of a number that is not negative; *rest is what follows.
static bool digits_parse(const char *text, int64_t *ret_v, const char **ret_rest)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    int64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *text - '0', &v))
            return false;
    }
    *ret_v = v;
    *ret_rest = text;
    return true;
}

static bool unit_parse(const char *text, const struct unit *units, size_t n, int64_t *ret_v)
{
    int64_t v;
    const char *rest;
    if (!digits_parse(text, &v, &rest))
        return false;
    if (*rest == ' ')
        rest++;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rest, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(v, units[i].factor, &v))
            return false;
        *ret_v = v;
        return true;
    }
    return false;
}

bool bytes_parse(const char *text, int64_t *ret_bytes)
{
    return unit_parse(text, byte_units, ARRAY_LEN(byte_units), ret_bytes);
}

bool duration_parse(const char *text, int64_t *ret_us)
{
    return unit_parse(text, duration_units, ARRAY_LEN(duration_units), ret_us);
}

bool option_integer_parse(const char *text, int64_t *ret_v)
{
    int64_t v;
    const char *rest;
    bool negative = text[0] == '-';
    if (!digits_parse(text + negative, &v, &rest) || *rest)
        return false;
    *ret_v = negative ? -v : v;
    return true;
}

bool boolean_parse(const char *text, bool *ret_v)
{
    static const char *const words[] = {"off", "on", "no", "yes", "false", "true"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_v = i % 2;
            return true;
        }
    }
    return false;
}

void strings_add(struct strings *list, const char *text, size_t n)
{
    list->items = xrealloc(list->items, (list->n + 1) * sizeof *list->items);
    list->items[list->n++] = xstrndup(text, n);
}

void strings_free(struct strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct strings){0};
}

// The largest unit that divides v.
static void put_with_unit(struct buf *out, int64_t v, const struct unit *units, size_t n)
{
    const struct unit *best = &units[0];
    for (size_t i = 0; i < n; i++) {
        if (v % units[i].factor == 0 && v >= units[i].factor && units[i].factor >= best->factor)
            best = &units[i];
    }
    buf_printf(out, "%" PRId64 "%s", v / best->factor, best->name);
}

static void put_range(struct buf *out, const struct option_info *o)
{
    const struct unit *units = o->type == OPTION_BYTES ? byte_units : duration_units;
    size_t n = o->type == OPTION_BYTES ? ARRAY_LEN(byte_units) : ARRAY_LEN(duration_units);
    buf_puts(out, " from ");
    if (o->type == OPTION_INTEGER) {
        buf_printf(out, "%" PRId64 " to %" PRId64, o->min, o->max);
    } else {
        put_with_unit(out, o->min, units, n);
        buf_puts(out, " to ");
        put_with_unit(out, o->max, units, n);
    }
}

void value_accepts(struct buf *out, const struct option_info *o)
{
    switch (o->type) {
    case OPTION_SWITCH:
    case OPTION_BOOLEAN:
        buf_puts(out, "on or off");
        break;
    case OPTION_INTEGER:
        buf_puts(out, "a whole number");
        put_range(out, o);
        break;
    case OPTION_BYTES:
        buf_puts(out, "a size such as 64MiB or 10GB,");
        put_range(out, o);
        break;
    case OPTION_DURATION:
        buf_puts(out, "a duration such as 500ms, 30s, 5min, 24h or 7d,");
        put_range(out, o);
        break;
    case OPTION_ENUM:
        for (size_t i = 0; o->choices[i]; i++)
            buf_printf(out, "%s%s", i == 0 ? "" : o->choices[i + 1] ? ", " : " or ", o->choices[i]);
        break;
    default:
        buf_puts(out, o->accepts ? o->accepts : "a text that is not empty");
    }
    if (o->none)
        buf_printf(out, ", or %s", o->none);
}

static int refuse(const struct option_info *o, const char *text, const char *where, struct err *e)
{
    AUTO_BUF struct buf accepts = {0};
    value_accepts(&accepts, o);
    if (o->secret)
        return err_set(e, ERR_USAGE, "%s: the value is not accepted (not shown here): give %s",
                       where, buf_cstr(&accepts));
    return err_set(e, ERR_USAGE, "%s: \"%.200s\" is not accepted: give %s", where, text,
                   buf_cstr(&accepts));
}

static bool number_set(const struct option_info *o, const char *text, int64_t *field)
{
    int64_t v;
    if (o->none && strcmp(text, o->none) == 0) {
        *field = 0;
        return true;
    }
    bool ok = o->type == OPTION_BYTES      ? bytes_parse(text, &v)
              : o->type == OPTION_DURATION ? duration_parse(text, &v)
                                           : option_integer_parse(text, &v);
    if (!ok || v < o->min || v > o->max)
        return false;
    *field = v;
    return true;
}

static bool enum_set(const struct option_info *o, const char *text, int *field)
{
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(text, o->choices[i]) == 0) {
            *field = i;
            return true;
        }
    }
    return false;
}

static bool text_valid(const struct option_info *o, const char *text)
{
    return o->valid ? o->valid(text) : text[0] != 0;
}

int value_set(struct settings *s, const struct option_info *o, const char *text, const char *where,
              struct err *e)
{
    void *field = (char *)s + o->field;
    bool ok = false;
    switch (o->type) {
    case OPTION_SWITCH:
    case OPTION_BOOLEAN:
        ok = boolean_parse(text, field);
        break;
    case OPTION_INTEGER:
    case OPTION_BYTES:
    case OPTION_DURATION:
        ok = number_set(o, text, field);
        break;
    case OPTION_ENUM:
        ok = enum_set(o, text, field);
        break;
    case OPTION_STRING:
    case OPTION_FILE:
        ok = text_valid(o, text);
        if (ok) {
            free(*(char **)field);
            *(char **)field = xstrdup(text);
        }
        break;
    case OPTION_LIST:
        ok = text_valid(o, text);
        if (ok)
            strings_add(field, text, strlen(text));
        break;
    }
    return ok ? 0 : refuse(o, text, where, e);
}

int value_set_list(struct settings *s, const struct option_info *o, const char *text,
                   const char *where, struct err *e)
{
    bool quoted = false;
    for (const char *from = text, *at = text;; at++) {
        if (*at == '"')
            quoted = !quoted;
        if (*at && (quoted || *at != o->separator))
            continue;
        AUTO_FREE char *item = xstrndup(from, (size_t)(at - from));
        if (value_set(s, o, item, where, e) != 0)
            return -1;
        if (!*at)
            return 0;
        from = at + 1;
    }
}
