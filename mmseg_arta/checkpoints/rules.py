"""What converters are made of: their names, and strict renaming of the keys of a state dict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

#: Takes a published state dict, and options of its own as keywords.
Converter = Callable[..., dict[str, Tensor]]
_AnyConverter = TypeVar('_AnyConverter', bound=Converter)

#: From a family's name to the function that converts its authors' state dicts.
CONVERTERS: dict[str, Converter] = {}

#: A pattern for a whole key, and its replacement.
Rule = tuple[str, str]


def converts(*families: str) -> Callable[[_AnyConverter], _AnyConverter]:
    """Decorator: the function converts the checkpoints of these families.

    Raises:
        ValueError: if a family has a converter already.
    """

    def register(converter: _AnyConverter) -> _AnyConverter:
        for family in families:
            if family in CONVERTERS:
                raise ValueError(f'{family} has a converter in {CONVERTERS[family].__module__}')
            CONVERTERS[family] = converter
        return converter

    return register


def rename_keys(state_dict: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Rename every key by the first rule that matches it whole.

    Args:
        state_dict: published layout.
        rules: ``(pattern, replacement)`` pairs of regular expressions.

    Raises:
        ValueError: naming the keys that no rule matches, or that two keys map to.
    """
    renamed: dict[str, Tensor] = {}
    unmatched, doubled = [], []
    for key, value in state_dict.items():
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, key)
            if match:
                name = match.expand(replacement)
                if name in renamed:
                    doubled.append(name)
                renamed[name] = value
                break
        else:
            unmatched.append(key)
    if unmatched or doubled:
        raise ValueError(
            f'the checkpoint does not have the expected layout: {len(unmatched)} keys '
            f'without a rule {unmatched}, {len(doubled)} targets named twice '
            f'{doubled}'
        )
    return renamed


def below(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What has a prefix in its key, without it."""
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


def convert_parts(
    state_dict: Mapping[str, Tensor], parts: Mapping[str, tuple[str, Converter]]
) -> dict[str, Tensor]:
    """Convert the keys below every prefix by its function, and give them another prefix.

    Args:
        state_dict: published layout.
        parts: from published prefixes to ours and to functions of the keys behind them.

    Raises:
        ValueError: naming the keys outside of all prefixes.
    """
    unknown = [key for key in state_dict if not key.startswith(tuple(parts))]
    if unknown:
        raise ValueError(
            f'the checkpoint does not have the expected layout: {len(unknown)} keys outside '
            f'{list(parts)}: {unknown}'
        )
    converted: dict[str, Tensor] = {}
    for prefix, (target, convert) in parts.items():
        own = convert(below(state_dict, prefix))
        converted.update({target + key: value for key, value in own.items()})
    return converted


def convert_classifier(
    state_dict: Mapping[str, Tensor], convert_backbone: Converter
) -> dict[str, Tensor]:
    """A backbone without a prefix and its ``head.*``, as mmpretrain's ``ImageClassifier``."""
    head = {key: value for key, value in state_dict.items() if key.startswith('head.')}
    rest = {key: value for key, value in state_dict.items() if key not in head}
    converted = {f'backbone.{key}': value for key, value in convert_backbone(rest).items()}
    return converted | rename_keys(head, [(r'head\.(weight|bias)', r'head.fc.\1')])
