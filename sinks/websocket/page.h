// The files of the live page, embedded when rowcast is built.
#pragma once

#include "base/base.h"

struct page_file {
    const char *path; // "/"
    const char *type;
    const uint8_t *p;
    size_t n;
};

extern const struct page_file page_files[];
extern const size_t page_file_count;

const struct page_file *page_find(const char *path); // or NULL
