// The C interface of the CUDA kernels: plain pointers, sizes and a stream.
//
// Pointers are to the device. Functions start kernels and do not wait. They return 0,
// ARTA_CUDA_UNSUPPORTED for sizes that the kernels do not have, ARTA_CUDA_FAILED for an exception,
// or a CUDA error code plus ARTA_CUDA_ERROR.
#pragma once

typedef float ArtaWide;

#include "../interface.h"

#define ARTA_CUDA_UNSUPPORTED 1
#define ARTA_CUDA_FAILED 2
#define ARTA_CUDA_ERROR 1000
