"""Options that several command-line tools have."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.config import DictAction


def check_shape(shape: Sequence[int], images: int = 1) -> None:
    """Whether this machine can hold images of a height and width at all.

    Args:
        shape: in pixels.
        images: at once.

    Raises:
        ValueError: if it cannot.
    """
    takes = 3 * 4 * images * math.prod(shape)
    if not hasattr(os, 'sysconf'):  # Windows does not tell
        return
    has = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if takes > has:
        size = ' '.join(map(str, shape))
        what = 'an image' if images == 1 else f'{images} images'
        raise ValueError(
            f'--shape {size}: {what} of that size would take {takes / 2**30:.0f} GiB, this machine '
            f'has {has / 2**30:.0f}'
        )


class Settings(DictAction):
    """``KEY=VALUE ...``, values as MMEngine reads them; anything else is an error in one line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            found = self.parse(values or ())
        except ValueError as error:
            parser.error(f'{option_string}: {error}')
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **found})

    @classmethod
    def parse(cls, words: Iterable[str]) -> dict[str, Any]:
        """Settings by key.

        Raises:
            ValueError: if a word is no ``KEY=VALUE``.
        """
        found = {}
        for word in words:
            key, equals, value = word.partition('=')
            if not (key and equals):
                raise ValueError(f'expected KEY=VALUE, found {word!r}')
            try:
                found[key] = cls._parse_iterable(value)
            except AssertionError as error:
                raise ValueError(f'{word!r}: {error}') from error
        return found
