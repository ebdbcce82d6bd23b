"""Renaming the keys of a state dict by rules, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

#: A pattern for a whole key, and its replacement.
Rule = tuple[str, str]


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
