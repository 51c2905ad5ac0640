#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int err_set(struct err *e, enum err_class class, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    e->class = class;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return -1;
}

int err_errno(struct err *e, enum err_class class, const char *fmt, ...)
{
    int no = errno;
    va_list ap;
    va_start(ap, fmt);
    e->class = class;
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(no));
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, "%.*s", (int)(sizeof text - (size_t)n - 1),
                 e->text);
    memcpy(e->text, text, sizeof text);
    return -1;
}

static const struct {
    const char *name;
    int exit_code;
} classes[] = {
    [ERR_NONE] = {"none", 0},
    [ERR_RETRY] = {"retry", 3},
    [ERR_USAGE] = {"usage", 2},
    [ERR_SOURCE] = {"source", 3},
    [ERR_SLOT_LOST] = {"slot_lost", 4},
    [ERR_SLOT_INVALID] = {"slot_invalidated", 9},
    [ERR_SLOT_CONSUMED] = {"slot_consumed", 10},
    [ERR_PROMOTED] = {"promoted_without_slot", 11},
    [ERR_RESTORED] = {"server_restored", 12},
    [ERR_DIVERGED] = {"timeline_diverged", 13},
    [ERR_OTHER_SYSTEM] = {"other_system", 14},
    [ERR_DATA] = {"data", 5},
    [ERR_JOURNAL] = {"journal", 6},
    [ERR_IN_USE] = {"journal_in_use", 6},
    [ERR_LISTEN] = {"listen", 7},
    [ERR_KAFKA] = {"kafka", 8},
    [ERR_INTERNAL] = {"internal", 1},
};

int err_exit_code(enum err_class class)
{
    CHECK(class < ARRAY_LEN(classes));
    return classes[class].exit_code;
}

const char *err_class_name(enum err_class class)
{
    CHECK(class < ARRAY_LEN(classes));
    return classes[class].name;
}
