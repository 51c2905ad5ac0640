// What a server sends to `rowcast tail`.
#include "sinks/websocket/tail_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf out = {0};
    struct slice key, value;
    tail_line(&out, (struct slice){data, size}, true);
    for (size_t i = 0; i < out.n; i++) // nothing but our own colours reaches a terminal
        CHECK(out.p[i] >= ' ' || out.p[i] == '\n' || (out.p[i] == 033 && out.p[i + 1] == '['));
    struct scan s = scan_open((struct slice){data, size});
    while (scan_member(&s, &key, &value))
        CHECK(value.n > 0 && value.p + value.n <= data + size);
    s = scan_open((struct slice){data, size});
    while (scan_element(&s, &value))
        CHECK(value.n > 0 && value.p + value.n <= data + size);
    buf_clear(&out);
    scan_text(&out, (struct slice){data, size});
    return 0;
}
