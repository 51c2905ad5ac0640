#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

_Noreturn void check_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "level=fatal msg=\"invariant broken, please report\" cond=\"%s\" at=%s:%d\n",
            cond, file, line);
    abort();
}

static void *must(void *p)
{
    if (!p) {
        fputs("level=fatal msg=\"out of memory\"\n", stderr);
        abort();
    }
    return p;
}

void *xmalloc(size_t n)
{
    return must(malloc(n ? n : 1));
}

void *xcalloc(size_t n, size_t size)
{
    return must(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
    return must(realloc(p, n ? n : 1));
}

char *xstrdup(const char *s)
{
    return must(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
    return must(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return must(n < 0 ? NULL : s);
}

void close_p(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
