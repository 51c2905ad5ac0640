// What every file needs: attributes, assertions that stay in release builds, scoped clean-up.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))
#define likely(x)         __builtin_expect(!!(x), 1)
#define unlikely(x)       __builtin_expect(!!(x), 0)

_Noreturn void check_failed(const char *cond, const char *file, int line);

// An invariant of our own, also in release builds; never for outside input.
#define CHECK(cond) (likely(cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

// Memory that must be there: a daemon of this size cannot do better than stop.
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

// Borrowed bytes: the owner and the life time stand where the slice is handed out.
struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

static inline void free_p(void *p)
{
    free(*(void **)p);
}
#define AUTO_FREE __attribute__((cleanup(free_p)))
void close_p(int *fd);
#define AUTO_CLOSE __attribute__((cleanup(close_p)))

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// For qsort.
static inline int u32_cmp(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}
