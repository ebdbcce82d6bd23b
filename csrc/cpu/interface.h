// The C interface of the CPU kernels: plain pointers, sizes and a thread count.
//
// Functions return 0 or one of the codes below; results are then incomplete.
#pragma once

typedef void ArtaWide;  // float or double, as `real`

#include "../interface.h"

#define ARTA_NO_MEMORY 1
#define ARTA_BAD_INDEX 2  // a number in an array is not what it may be
#define ARTA_BAD_SIZE 3   // sizes that cannot be, or that the kernels cannot count
#define ARTA_FAILED 4     // anything else
