"""What the C++ and CUDA back ends share: libraries behind a plain C interface, for ctypes."""
