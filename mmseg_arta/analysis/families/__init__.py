"""Families of models: what is counted, made small and told apart.

A module here with a ``FAMILY`` is all that the analyses need to know of a family.
"""

from __future__ import annotations

import importlib
import math
import pkgutil

from ..family import Family


def _place(family: Family) -> float:
    return math.inf if family.chapter is None else family.chapter.number


_modules = {
    module.name: importlib.import_module(f'{__name__}.{module.name}')
    for module in pkgutil.iter_modules(__path__)
}

#: Every family by the name of its module, in the order of their chapters.
FAMILIES: dict[str, Family] = {
    name: module.FAMILY
    for name, module in sorted(_modules.items(), key=lambda item: _place(item[1].FAMILY))
}
