"""What ``csrc/cpu/interface.h`` declares, for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p

from ..native.interface import Attention, Deform, Merge, Patches, Run, fields

#: Version of the interface that this file declares.
VERSION = 5

#: What a function returns when it could not get memory, or when an index was out of range.
NO_MEMORY, BAD_INDEX = 1, 2


class AttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad``."""

    _fields_ = fields(
        c_void_p,
        'grad_out out lse grad_q grad_kv grad_bias_weight grad_bias_bias grad_blank_k grad_blank_v',
    )


class DeformGrad(ctypes.Structure):
    """``ArtaDeformGrad``."""

    _fields_ = fields(c_void_p, 'grad_out grad_value grad_location grad_weight grad_power')


class Masks(ctypes.Structure):
    """``ArtaMasks``."""

    _fields_ = [
        *fields(c_void_p, 'logits'),
        *fields(c_int64, 'queries rows columns cell first height width strips'),
        *fields(Run, 'run'),
    ]


_P, _N = c_void_p, c_int64

#: Every function's result type and argument types.
FUNCTIONS = {
    'arta_cpu_version': (c_int64, []),
    'arta_cpu_instructions': (c_char_p, []),
    'arta_cpu_use': (c_int, [c_char_p]),
    'arta_cpu_shares_openmp': (c_int64, []),
    'arta_cluster_attention': (c_int, [POINTER(Attention), _P, _P]),
    'arta_cluster_attention_backward': (c_int, [POINTER(Attention), POINTER(AttentionGrad)]),
    'arta_point_deform_attention': (c_int, [POINTER(Deform), _P]),
    'arta_point_deform_attention_backward': (c_int, [POINTER(Deform), POINTER(DeformGrad)]),
    'arta_neighborhood_merge': (c_int, [POINTER(Merge), _P]),
    'arta_neighborhood_merge_backward': (c_int, [POINTER(Merge), _P, _P, _P]),
    'arta_balanced_clusters': (c_int, [_P, _P, _N, _P, _N, _N, _N, _N, _P, _P, _N]),
    'arta_nearest_clusters': (c_int, [_P, _P, _N, _P, _N, _N, _N, _P, _N]),
    'arta_nearest_tokens': (c_int, [_P, _P, _P, _P, _N, _N, _P, _N]),
    'arta_gather_patches': (c_int, [POINTER(Patches), _P, _P]),
    'arta_gather_patches_backward': (c_int, [POINTER(Patches), _P, _P]),
    'arta_mask_probabilities': (c_int, [POINTER(Masks), _P]),
    'arta_make_room': (c_int, [_P, _N, _N]),
}
