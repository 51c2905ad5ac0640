#include "source/snapshot/view.h"

void view_copy(struct view *to, const struct view *from)
{
    *to = *from;
    to->xip = NULL;
    if (from->xip_n) {
        to->xip = xmalloc(from->xip_n * sizeof *to->xip);
        memcpy(to->xip, from->xip, from->xip_n * sizeof *to->xip);
    }
}

void view_fini(struct view *v)
{
    free(v->xip);
    *v = (struct view){0};
}

uint64_t view_widen(const struct view *v, uint32_t xid)
{
    int32_t ahead = (int32_t)(xid - (uint32_t)v->xmax);
    uint64_t wide = v->xmax + (uint64_t)(int64_t)ahead;
    return ahead < 0 && v->xmax < (uint64_t) - (int64_t)ahead ? xid : wide;
}

bool view_ran(const struct view *v, uint64_t xid)
{
    size_t low = 0, high = v->xip_n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (v->xip[middle] < xid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->xip_n && v->xip[low] == xid;
}

bool view_sees(const struct view *v, uint32_t xid)
{
    uint64_t wide = view_widen(v, xid);
    return wide < v->xmin || (wide < v->xmax && !view_ran(v, wide));
}
