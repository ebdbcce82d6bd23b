"""Which files are images, for data sets and tools alike."""

from __future__ import annotations

from pathlib import Path

#: Endings of the image files that all data sets and tools look for, in small or capital letters.
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


def is_image(name: str | Path) -> bool:
    """Whether a file is an image, by its name; hidden files are none."""
    name = Path(name).name
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
