#include "proto/schema.h"
