"""What several command-line tools share: how they end, their errors, and options."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from mmengine.config import DictAction

from .option_checks import MOST_PIXELS, MOST_WHOLE, check_wholes

_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Shows the description as it is written, and says what is wrong in one line.

    Args:
        name: of the command, in messages.
        options: of ``argparse.ArgumentParser``.
    """

    def __init__(self, name: str, **options: Any) -> None:
        options.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        self.name = name

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.name}: error: {message}\n')


def run_command(name: str, command: Callable[[], int | None]) -> int:
    """Run a command whose errors are one line each.

    Args:
        name: of the command, in messages.
        command: gives the exit status, None for 0.

    Returns:
        the exit status: 2 after an ``OSError``, a ``ValueError`` or a ``MemoryError``, 130 after
        Ctrl-C.
    """
    try:
        status = command()
        # Here rather than when Python ends, where nobody catches what a closed pipe raises.
        sys.stdout.flush()
    except BrokenPipeError:  # a pager or head that has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError) as error:
        print(f'{name}: error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    except MemoryError as error:
        reason = f': {error}' if str(error) else ''
        print(f'{name}: error: the memory does not suffice{reason}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status or 0


def whole(least: int = 1, most: int = MOST_WHOLE) -> Callable[[str], int]:
    """For argparse: the type of integers from ``least`` to ``most``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f'expected an integer from {least} to {most}, found {text!r}'
            )
        return value

    return read


def real(least: float, most: float) -> Callable[[str], float]:
    """For argparse: the type of numbers from ``least`` to ``most``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f'expected a number from {least:g} to {most:g}, found {text!r}'
            )
        return value

    return read


def check_shape(shape: Sequence[int], images: int = 1, option: str = '--shape') -> None:
    """Whether this machine can hold images of a height and width at all.

    Args:
        shape: in pixels.
        images: at once.
        option: that gave them, in messages.

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
            f'{option} {size}: {what} of that size would take {takes / 2**30:.0f} GiB, this '
            f'machine has {has / 2**30:.0f}'
        )


def check_windows(config: Mapping[str, Any], mode: str) -> None:
    """Whether a model's ``test_cfg`` has windows, where it is to be run in windows.

    Args:
        config: with the model's own config.
        mode: 'whole', 'slide', or 'config' for what ``test_cfg`` says.

    Raises:
        ValueError: if they are no windows.
    """
    model = config.get('model')
    windows = model.get('test_cfg') if isinstance(model, Mapping) else None
    if not isinstance(windows, Mapping):
        return
    if mode == 'slide' or (mode == 'config' and windows.get('mode') == 'slide'):
        for name in ('crop_size', 'stride'):
            # What is not there at all, models themselves complain of.
            if name in windows:
                check_wholes('model.test_cfg', 1, MOST_PIXELS, 2, **{name: windows[name]})


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
