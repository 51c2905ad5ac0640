#include "proto/registry.h"
