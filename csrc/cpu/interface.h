// The C interface of the CPU kernels: plain pointers, sizes and a thread count.
//
// Functions return 0, 1 when they could not get memory, or 2 when an index lies outside its array;
// results are then incomplete.
#pragma once

typedef void ArtaWide;  // float or double, as `real`

#include "../interface.h"

#define ARTA_NO_MEMORY 1
#define ARTA_BAD_INDEX 2
