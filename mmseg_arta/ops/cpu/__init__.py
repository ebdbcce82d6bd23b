"""The C++ back end: a shared library with a plain C interface, loaded with ctypes.

``python -m mmseg_arta.ops.cpu.build`` builds it in a checkout.
"""
