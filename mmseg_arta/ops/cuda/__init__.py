"""The CUDA back end: a shared library with a plain C interface, loaded with ctypes.

``python -m mmseg_arta.ops.cuda.build`` builds it in a checkout; it takes nvcc and no GPU.
"""
