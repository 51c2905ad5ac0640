// Texts made from the option table: help, the example file, the README's reference.
#pragma once

#include "base/buf.h"
#include "config/option.h"

void help_overview(struct buf *out);
void help_command(struct buf *out, const struct command_info *c);
void help_example_file(struct buf *out); // examples/rowcast.conf is this
void help_markdown(struct buf *out);     // the README's table of options
