#include "proto/relation.h"
