"""What ``csrc/cpu/interface.h`` declares, for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_void_p

#: Version of the interface that this file declares.
VERSION = 3

#: What a function returns when it could not get memory, or when an index was out of range.
NO_MEMORY, BAD_INDEX = 1, 2


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class Attention(ctypes.Structure):
    """``ArtaAttention``."""

    _fields_ = [
        *_fields(c_void_p, 'q kv bias_weight bias_bias blank_k blank_v xy start neighbors'),
        *_fields(c_int64, 'total clusters heads dim num_neighbors cluster_size'),
        *_fields(c_double, 'blank_clamp'),
        *_fields(c_int64, 'is_double threads'),
    ]


class AttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad``."""

    _fields_ = _fields(
        c_void_p,
        'grad_out out lse grad_q grad_kv grad_bias_weight grad_bias_bias grad_blank_k grad_blank_v',
    )


class Deform(ctypes.Structure):
    """``ArtaDeform``."""

    _fields_ = [
        *_fields(c_void_p, 'value centers nearest batch location weight power'),
        *_fields(c_int64, 'values queries heads dim levels points images rows columns k'),
        *_fields(c_double, 'floor eps'),
        *_fields(c_int64, 'is_double threads'),
    ]


class DeformGrad(ctypes.Structure):
    """``ArtaDeformGrad``."""

    _fields_ = _fields(c_void_p, 'grad_out grad_value grad_location grad_weight grad_power')


class Merge(ctypes.Structure):
    """``ArtaMerge``."""

    _fields_ = [
        *_fields(c_void_p, 'feats rows weights'),
        *_fields(c_int64, 'values places k sets dim is_double threads'),
    ]


class Patches(ctypes.Structure):
    """``ArtaPatches``."""

    _fields_ = [
        *_fields(c_void_p, 'xy batch'),
        *_fields(c_int64, 'total images channels height width size unit item threads'),
    ]


class Scores(ctypes.Structure):
    """``ArtaScores``."""

    _fields_ = [
        *_fields(c_void_p, 'class_probs mask_logits'),
        *_fields(c_int64, 'images queries classes rows columns height width'),
        *_fields(c_double, 'step_y step_x'),
        *_fields(c_int64, 'is_double threads'),
    ]


#: Every function's result type and argument types.
FUNCTIONS = {
    'arta_cpu_version': (c_int64, []),
    'arta_cpu_instructions': (c_char_p, []),
    'arta_cpu_use': (c_int, [c_char_p]),
    'arta_cpu_shares_openmp': (c_int64, []),
    'arta_cluster_attention': (c_int, [POINTER(Attention), c_void_p, c_void_p]),
    'arta_cluster_attention_backward': (c_int, [POINTER(Attention), POINTER(AttentionGrad)]),
    'arta_point_deform_attention': (c_int, [POINTER(Deform), c_void_p]),
    'arta_point_deform_attention_backward': (c_int, [POINTER(Deform), POINTER(DeformGrad)]),
    'arta_neighborhood_merge': (c_int, [POINTER(Merge), c_void_p]),
    'arta_neighborhood_merge_backward': (c_int, [POINTER(Merge), c_void_p, c_void_p, c_void_p]),
    'arta_balanced_clusters': (
        c_int,
        [
            *(c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_int64, c_int64),
            *(c_void_p, c_void_p, c_int64),
        ],
    ),
    'arta_nearest_clusters': (
        c_int,
        [c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64],
    ),
    'arta_nearest_tokens': (
        c_int,
        [c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_int64],
    ),
    'arta_gather_patches': (c_int, [POINTER(Patches), c_void_p, c_void_p]),
    'arta_gather_patches_backward': (c_int, [POINTER(Patches), c_void_p, c_void_p]),
    'arta_class_scores': (c_int, [POINTER(Scores), c_void_p]),
}
