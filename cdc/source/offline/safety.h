// `rowcast check`: settings that work but are weak: who could read along, pretend to be the server,
// or find a secret.
#pragma once

#include "source/preflight.h"

// Reports a warning for each, with its remedy. -1: a question got no answer.
int safety_check(struct preflight *p, struct err *e) MUST_CHECK;
