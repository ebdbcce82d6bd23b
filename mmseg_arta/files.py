"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_writable(option: str, path: str | Path) -> None:
    """Before a long measurement rather than after it.

    Raises:
        OSError: if there can be no such file.
    """
    path = Path(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f'{option} {path}: the folder {folder} does not exist')
    if path.is_dir():
        raise IsADirectoryError(f'{option} {path} is a folder')
    _check_takes_files(f'{option} {path}', folder)


def check_folder(option: str, path: str | Path) -> None:
    """Likewise for a folder that may have to be made first; nothing is made.

    Raises:
        OSError: if there can be no such folder, or no files in it.
    """
    folder = Path(path).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f'{option} {path}: {folder} is no folder')
    _check_takes_files(f'{option} {path}', folder)


def _check_takes_files(what: str, folder: Path) -> None:
    # Permissions tell root nothing, and nothing about file systems such as /proc.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f'{what}: the folder {folder} cannot be written to') from error


@contextmanager
def replaced(path: str | Path) -> Generator[Path]:
    """A temporary file with the same suffix that takes the place of ``path`` on leaving.

    After an exception ``path`` is what it was, and if the process ends meanwhile as well.

    Raises:
        OSError: if the file cannot be written.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}.', suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes private files; this one is as public as any other.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text; see :func:`replaced`."""
    with replaced(path) as part:
        part.write_text(text, encoding='utf-8')


def write_json(path: str | Path, result: Mapping[str, Any]) -> None:
    """Write a result; see :func:`replaced`."""
    write_text(path, json.dumps(result, indent=2) + '\n')


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, which are on the disk before the name is theirs; see :func:`replaced`."""
    with replaced(path) as part, open(part, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
