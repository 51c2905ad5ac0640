// What older servers lack, and what is done instead.
#pragma once

#include "source/preflight.h"

// A line for each thing that came after this server's version. Not a fault: nothing is to be done.
void versions_report(struct preflight *p);
