// What row_encode costs: ns a row of ten columns, the least of several runs.
//
//   meson test --benchmark row        or        bench_row [ROWS]
#include "proto/row.h"
#include "proto/types.h"

#include <stdio.h>
#include <time.h>

#define RUNS 7

static const struct {
    uint32_t oid;
    const char *text;
} columns[] = {
    {20, "1234567"},
    {23, "42"},
    {20, "-90071992547409"},
    {1184, "2026-11-23 15:44:00.123456+00"},
    {701, "1234.5678"},
    {1700, "99999.95"},
    {2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
    {25, "a customer's remark of some length"},
    {16, "t"},
    {3802, "{\"color\": \"blue\", \"sizes\": [1, 2, 3]}"},
};
#define N ARRAY_LEN(columns)

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    long rows = argc > 1 ? strtol(argv[1], NULL, 10) : 500000;
    struct column *c = xcalloc(N, sizeof *c);
    struct value v[N];
    static struct row_map map = {.n = N};
    for (size_t i = 0; i < N; i++) {
        const struct type *t = type_builtin(columns[i].oid);
        c[i] = (struct column){.number = (uint32_t)i + 1,
                               .kind = t->kind,
                               .base_type = (char *)t->base_name,
                               .key = i == 0};
        map.columns[i] = &c[i];
        v[i] = (struct value){columns[i].text, (uint32_t)strlen(columns[i].text), VALUE_TEXT};
    }
    row_map_init(&map);
    struct row_out out = {0};
    struct tuple t = {N, v};
    struct err e;
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        double start = seconds();
        for (long i = 0; i < rows; i++) {
            row_out_clear(&out);
            CHECK(row_encode(&out, &map, &t, NULL, ROW_AFTER, &e) == 0);
        }
        double took = (seconds() - start) / (double)rows * 1e9;
        best = took < best ? took : best;
    }
    printf("{\"benchmark\":\"row_encode\",\"columns\":%zu,\"bytes\":%zu,\"ns_per_row\":%.0f}\n", N,
           out.row.n, best);
    row_out_fini(&out);
    row_map_fini(&map);
    free(c);
    return 0;
}
