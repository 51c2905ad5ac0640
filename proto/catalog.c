#include "proto/catalog.h"
