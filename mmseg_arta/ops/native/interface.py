"""What ``csrc/problems.h`` declares, for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int64, c_void_p


def fields(kind: type, names: str) -> list[tuple[str, type]]:
    """Fields of one type, their names separated by blanks."""
    return [(name, kind) for name in names.split()]


class Run(ctypes.Structure):
    """``ArtaRun``."""

    _fields_ = [*fields(c_int64, 'type threads'), *fields(c_void_p, 'stream')]


class Attention(ctypes.Structure):
    """``ArtaAttention``."""

    _fields_ = [
        *fields(c_void_p, 'q kv bias_weight bias_bias blank_k blank_v xy start neighbors'),
        *fields(c_int64, 'total clusters heads dim num_neighbors cluster_size'),
        *fields(c_double, 'blank_clamp'),
        *fields(Run, 'run'),
    ]


class Deform(ctypes.Structure):
    """``ArtaDeform``."""

    _fields_ = [
        *fields(c_void_p, 'value centers nearest batch location weight power'),
        *fields(c_int64, 'values queries heads dim levels points images rows columns k'),
        *fields(c_double, 'floor eps'),
        *fields(Run, 'run'),
    ]


class Merge(ctypes.Structure):
    """``ArtaMerge``."""

    _fields_ = [
        *fields(c_void_p, 'feats rows weights'),
        *fields(c_int64, 'values places k sets dim'),
        *fields(Run, 'run'),
    ]


class Patches(ctypes.Structure):
    """``ArtaPatches``."""

    _fields_ = [
        *fields(c_void_p, 'xy batch'),
        *fields(c_int64, 'total images channels height width size unit item'),
        *fields(Run, 'run'),
    ]
