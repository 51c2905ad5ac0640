#include "source/snapshot/chunk_line.h"

#include "source/snapshot/chunk.h"

// Takes the escapes out, from the first on; -1: one that is none of these.
static int unescape(char *text, size_t n, size_t first, uint32_t *ret_n)
{
    size_t to = first;
    for (size_t i = first; i < n; i++) {
        char c = text[i];
        if (c == '\\') {
            if (++i == n)
                return -1;
            switch (text[i]) {
            case '\\':
                c = '\\';
                break;
            case 'n':
                c = '\n';
                break;
            case 't':
                c = '\t';
                break;
            case 'r':
                c = '\r';
                break;
            case 'b':
                c = '\b';
                break;
            case 'f':
                c = '\f';
                break;
            case 'v':
                c = '\v';
                break;
            default:
                return -1;
            }
        }
        text[to++] = c;
    }
    *ret_n = (uint32_t)to;
    return 0;
}

static int take(char *text, size_t n, struct value *v)
{
    *v = (struct value){.text = text, .n = (uint32_t)n, .state = VALUE_TEXT};
    const char *escape = n ? memchr(text, '\\', n) : NULL;
    if (likely(!escape))
        return 0;
    if (n == 2 && text[1] == 'N' && text[0] == '\\') {
        *v = (struct value){.state = VALUE_NULL};
        return 0;
    }
    return unescape(text, n, (size_t)(escape - text), &v->n);
}

bool chunk_line_split(char *line, size_t n, struct value *values, size_t count)
{
    if (n == 0 || line[n - 1] != '\n')
        return false;
    char *at = line, *end = line + n - 1;
    if (count == 0)
        return at == end;
    for (size_t i = 0; i < count; i++) {
        char *tab = memchr(at, '\t', (size_t)(end - at));
        if ((i + 1 < count) != (tab != NULL))
            return false;
        char *stop = tab ? tab : end;
        if (take(at, (size_t)(stop - at), &values[i]) != 0)
            return false;
        at = stop + 1;
    }
    return true;
}

uint64_t chunk_line_place(const struct value *v)
{
    uint64_t part[2] = {0, 0};
    size_t which = 0;
    if (v->state != VALUE_TEXT || v->n < 5 || v->text[0] != '(' || v->text[v->n - 1] != ')')
        return 0;
    for (size_t i = 1; i + 1 < v->n; i++) {
        char c = v->text[i];
        if (c == ',' && which == 0)
            which = 1;
        else if (c >= '0' && c <= '9' && part[which] <= UINT32_MAX)
            part[which] = part[which] * 10 + (uint64_t)(c - '0');
        else
            return 0;
    }
    if (which == 0 || part[0] > UINT32_MAX || part[1] == 0 || part[1] > UINT16_MAX)
        return 0;
    return CHUNK_PLACE(part[0], part[1]);
}
