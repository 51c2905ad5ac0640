// The stdout sink: every entry as a line of JSON.
#pragma once

#include "sinks/sink.h"

struct stdout_options {
    char *const *tables; // globs; none: all
    size_t table_count;
    int fd; // 1, unless a test says otherwise
};

extern const struct sink_ops stdout_sink;
