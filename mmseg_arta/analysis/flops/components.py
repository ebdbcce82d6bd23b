"""Into which parts a segmentor's cost is divided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ...models.backbones.mixed_encoder import MixedResolutionEncoder
from .counter import Caller

#: Name of the component that holds resizing and combining of the head's output.
POST_PROCESSING = 'post_processing'
#: Name of the component for what belongs nowhere else; left out if empty.
OTHER = 'other'

# Name of the only component of a model that is not made of known ones.
_WHOLE = 'model'
# Children of models that are components.
_CHILDREN = ('backbone', 'neck', 'decode_head', 'head', 'auxiliary_head')

# Methods of heads and segmentors that come after the network proper.
_POST_METHODS = ('predict_by_feat', 'postprocess_result')

# Parts of a head that are components of their own.
_HEAD_PARTS = ('pixel_decoder', 'transformer_decoder')

Part = tuple[str, ...]


def _mixed_parts(backbone: MixedResolutionEncoder) -> dict[str, list[str]]:
    """The seven stages in running order; a round's new tokens belong to the stage they enter."""
    parts = {
        'stage 0': ['patch_embed', 'allocation_rounds.0'],
        'stage 1': ['allocators.0.embed', 'allocation_rounds.1'],
        'stage 2': ['allocators.1.embed', 'allocation_rounds.2'],
        'stage 3': ['allocators.2.embed', 'refinement_rounds.0'],
    }
    for index in range(1, len(backbone.refinement_rounds)):
        parts[f'stage {3 + index}'] = [f'refinement_rounds.{index}']
    parts['allocators'] = ['allocators']
    return parts


#: For every kind of backbone that is broken down: its parts, as prefixes of module names.
BACKBONE_PARTS: dict[type, Callable[[Any], dict[str, list[str]]]] = {
    MixedResolutionEncoder: _mixed_parts
}


class ComponentMap:
    """Assigns modules, parameters and callers to components.

    A part is ``(component,)`` or ``(component, part of it)``.

    Args:
        model: a segmentor, or another model with some of ``backbone``, ``neck``, ``decode_head``,
            ``head`` and ``auxiliary_head``; any other is taken for a backbone.
    """

    def __init__(self, model: nn.Module) -> None:
        self._prefixes = dict(_prefixes(model))
        # Where what a model computes itself belongs: in segmentors it comes after the head.
        self._own = (POST_PROCESSING,) if '' not in self._prefixes else (_WHOLE,)
        head = getattr(model, 'decode_head', None)
        self._has_transformer = hasattr(head, 'transformer_decoder')

    def parts(self) -> list[Part]:
        """All parts in running order, the general ones last."""
        every = [*self._prefixes.values(), (POST_PROCESSING,), (OTHER,)]
        return list(dict.fromkeys(every))

    def of_module(self, path: str) -> Part:
        """The part that a module or parameter of this dotted name belongs to."""
        while path:
            if path in self._prefixes:
                return self._prefixes[path]
            path = path.rpartition('.')[0]
        return self._prefixes.get('', (OTHER,))

    def of_caller(self, caller: Caller) -> Part:
        """The part that a call belongs to."""
        if caller.mask_step and self._has_transformer:
            return ('transformer_decoder',)
        if caller.method in _POST_METHODS:
            return (POST_PROCESSING,)
        if caller.path == 'decode_head' and caller.method == 'predict':
            return (POST_PROCESSING,)
        return self.of_module(caller.path) if caller.path else self._own


def _prefixes(model: nn.Module) -> Iterator[tuple[str, Part]]:
    children = dict(model.named_children())
    names = [name for name in _CHILDREN if name in children]
    if not names:
        for part, paths in _backbone_parts(model).items():
            yield from ((path, (_WHOLE, part)) for path in paths)
        yield '', (_WHOLE,)
    for name in names:
        module = children[name]
        found = _backbone_parts(module) if name == 'backbone' else {}
        for part, paths in found.items():
            for path in paths:
                yield f'{name}.{path}', (name, part)
        for part in _HEAD_PARTS if name == 'decode_head' else ():
            if isinstance(getattr(module, part, None), nn.Module):
                yield f'{name}.{part}', (part,)
        yield name, (name,)


def _backbone_parts(backbone: nn.Module) -> dict[str, list[str]]:
    mro = type(backbone).__mro__
    describe = next((BACKBONE_PARTS[kind] for kind in mro if kind in BACKBONE_PARTS), None)
    return {} if describe is None else describe(backbone)
