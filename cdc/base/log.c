#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int level_min = LOG_INFO;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    level_min = (int)level;
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return (int)level >= level_min;
}

const char *log_quote(const char *text)
{
    static _Thread_local char ring[8][1024];
    static _Thread_local unsigned turn;
    char *buf = ring[turn++ % 8], *at = buf;
    *at++ = '"';
    for (const char *s = text; *s && at - buf < 1000; s++) {
        if (*s == '"' || *s == '\\') {
            *at++ = '\\';
            *at++ = *s;
        } else if (*s == '\n') {
            *at++ = '\\';
            *at++ = 'n';
        } else {
            *at++ = (unsigned char)*s < ' ' ? '?' : *s;
        }
    }
    *at++ = '"';
    *at = 0;
    return buf;
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    char line[4096], time[CLOCK_TEXT_MAX];
    clock_text(clock_wall_us(), time);
    int n =
        snprintf(line, sizeof line, "time=%s level=%s msg=%s ", time, names[level], log_quote(msg));
    CHECK(n > 0 && (size_t)n < sizeof line);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    size_t end = (size_t)n + size_min(m > 0 ? (size_t)m : 0, sizeof line - (size_t)n - 2);
    while (end > 0 && line[end - 1] == ' ')
        end--;
    line[end++] = '\n';
    // One write a line: lines of two threads never mix.
    ssize_t ignored = write(STDERR_FILENO, line, end);
    (void)ignored; // nowhere left to complain
}
