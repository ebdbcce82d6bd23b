"""What ``csrc/cuda/interface.h`` declares, for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int64, c_void_p

from ..native.interface import Attention, Deform, Merge, Patches, fields

#: Version of the interface that this file declares.
VERSION = 2

#: Codes that functions return.
UNSUPPORTED, ERROR = 1, 1000


class AttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad``."""

    _fields_ = fields(c_void_p, 'grad_out out lse first attending delta grad_q grad_kv sums')


class DeformGrad(ctypes.Structure):
    """``ArtaDeformGrad``."""

    _fields_ = fields(
        c_void_p, 'grad_out grad_value grad_location grad_weight grad_power rows shares'
    )


class Grid(ctypes.Structure):
    """``ArtaGrid``."""

    _fields_ = [
        *fields(c_void_p, 'points index first low step base side places image nearest'),
        *fields(c_int64, 'total k'),
        *fields(c_void_p, 'stream'),
    ]


_P, _N = c_void_p, c_int64

#: Every function's result type and argument types.
FUNCTIONS = {
    'arta_cuda_version': (c_int64, []),
    'arta_attention_parts': (c_int64, []),
    'arta_cluster_attention': (c_int, [POINTER(Attention), _P, _P]),
    'arta_cluster_attention_backward': (c_int, [POINTER(Attention), POINTER(AttentionGrad)]),
    'arta_point_deform_attention': (c_int, [POINTER(Deform), _P]),
    'arta_point_deform_attention_backward': (c_int, [POINTER(Deform), POINTER(DeformGrad)]),
    'arta_deform_return': (c_int, [POINTER(Deform), POINTER(DeformGrad), _P, _P, _P]),
    'arta_neighborhood_merge': (c_int, [POINTER(Merge), _P]),
    'arta_neighborhood_merge_backward': (c_int, [POINTER(Merge), _P, _P, _P, _P, _P]),
    'arta_cluster_keys': (c_int, [_P, _P, _P, _N, _N, _N, _P, _P]),
    'arta_nearest': (c_int, [POINTER(Grid)]),
    'arta_gather_patches': (c_int, [POINTER(Patches), _P, _P]),
    'arta_gather_patches_backward': (c_int, [POINTER(Patches), _P, _P, _P, _P]),
}
