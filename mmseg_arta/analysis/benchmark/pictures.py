"""The images that all models of a run see: random ones, a folder's, or a data set's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np

from ...image_files import IMAGE_SUFFIXES, is_image
from ..flops.load import load_config
from ..flops.samples import Picture, dataset_pictures, spread_numbers, validation_set

_DATASET = 'dataset:'


@dataclass(frozen=True)
class PictureStore:
    """Images of one size in a file, read a batch at a time so that they take no memory.

    Attributes:
        path: of the images ``(H, W, 3)``, uint8, one after the other.
        shape: height and width.
        count: how many.
        source: what they are, in words.
        label_path: of their labels ``(H, W)``, uint8, if there are any.
    """

    path: Path
    shape: tuple[int, int]
    count: int
    source: str
    label_path: Path | None = None

    def batch(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images ``(size, H, W, 3)`` and labels ``(size, H, W)`` of a step; they start over."""
        numbers = [(step * size + index) % self.count for index in range(size)]
        height, width = self.shape
        pixels = [_read(self.path, number, (height, width, 3)) for number in numbers]
        if self.label_path is None:
            return np.stack(pixels), None
        labels = [_read(self.label_path, number, (height, width)) for number in numbers]
        return np.stack(pixels), np.stack(labels)


def store_pictures(
    source: str | None,
    shape: tuple[int, int],
    folder: Path,
    at_most: int,
    config: tuple[str, Mapping[str, Any]] | None = None,
    labels: bool = False,
) -> PictureStore:
    """Resize images to ``shape`` and write them to ``folder``.

    Args:
        source: a folder of images; 'dataset:K' for K images of a config's validation set; None
            for random ones.
        shape: height and width, pixels.
        folder: for the files of the store.
        at_most: no more images than that are of use.
        config: name and settings of the config whose set is meant.
        labels: store the data set's labels as well.

    Raises:
        OSError: if images are missing or cannot be read.
        ValueError: if ``source`` is none of these.
    """
    labels = labels and source is not None and source.startswith(_DATASET)
    if source is None:
        found: Iterable[Picture] = _noise(shape, at_most)
        words = 'random images'
    elif source.startswith(_DATASET):
        found, words = _of_dataset(source, at_most, config, labels)
    else:
        files = image_files(source)
        files = [files[number] for number in spread_numbers(at_most, len(files))]
        found, words = _of_files(files), f'{_images(len(files))} of {Path(source).name}'
    path, label_path = folder / 'images', folder / 'labels'
    count = 0
    with path.open('wb') as out, label_path.open('wb') as label_out:
        for picture in found:
            resized = picture.resized(shape)
            resized.pixels.astype(np.uint8).tofile(out)
            if resized.labels is not None:
                resized.labels.astype(np.uint8).tofile(label_out)
            count += 1
    return PictureStore(path, shape, count, words, label_path if labels else None)


def image_files(folder: str, option: str = '--images') -> list[Path]:
    """The images of a folder and of those in it, by name.

    Args:
        folder: where to look.
        option: that names it, for messages.

    Raises:
        OSError: if there is no such folder, or nothing in it.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f'{option} {folder}: there is no such folder')
    found = sorted(
        Path(root) / name for root, _, names in os.walk(folder) for name in names if is_image(name)
    )
    if not found:
        raise FileNotFoundError(f'{option} {folder}: no images there ({", ".join(IMAGE_SUFFIXES)})')
    return found


def _images(count: int) -> str:
    return f'{count} image' if count == 1 else f'{count} images'


def _noise(shape: tuple[int, int], count: int) -> Iterator[Picture]:
    generator = np.random.default_rng(0)
    for number in range(count):
        yield Picture(str(number), generator.integers(0, 256, (*shape, 3), dtype=np.uint8))


def _of_files(files: Sequence[Path]) -> Iterator[Picture]:
    for path in files:
        try:
            pixels = mmcv.imread(str(path), flag='color', channel_order='bgr')
        except Exception as error:  # the decoders raise all kinds
            raise OSError(f'image {path} cannot be read: {error}') from error
        if pixels is None:
            raise OSError(f'image {path} cannot be read')
        yield Picture(str(path), pixels)


def _of_dataset(
    source: str, at_most: int, config: tuple[str, Mapping[str, Any]] | None, labels: bool
) -> tuple[Iterator[Picture], str]:
    text = source.removeprefix(_DATASET)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--images takes a folder or 'dataset:K', K at least 1, found {source!r}")
    if config is None:
        raise ValueError(f'--images {source} needs a config')
    dataset = validation_set(load_config(*config))
    images = min(int(text), at_most, len(dataset))
    return (
        _readable(dataset_pictures(dataset, images, labels)),
        f'{_images(images)} of {type(dataset).__name__}',
    )


def _readable(pictures: Iterator[Picture]) -> Iterator[Picture]:
    try:
        yield from pictures
    except OSError:
        raise
    except Exception as error:
        raise OSError(f'an image of the data set cannot be read: {error}') from error


def _read(path: Path, number: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    return np.fromfile(path, np.uint8, size, offset=number * size).reshape(shape)
