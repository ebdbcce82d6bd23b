"""Write a toy data set to disk, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from .layouts import IGNORED, LAYOUTS, Layout
from .pictures import IMAGE_LAYOUTS, ImageLayout, make_picture
from .scenes import make_scene

MARKER = 'toy_dataset.json'
MIN_SIZE = 32


def write_toy_dataset(
    root: str | os.PathLike[str],
    layout: str,
    train: int = 40,
    val: int = 10,
    size: tuple[int, int] = (128, 192),
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Make a data set of procedural images that a stock data set class reads.

    For segmentation these are street scenes; for classification pictures of one object, of one
    class after the other. Image i of a split depends on layout, size, seed and i alone, not on
    how many are made.

    Args:
        root: Folder to create; what a config calls ``data_root``.
        layout: A key of :data:`LAYOUTS` (segmentation) or :data:`IMAGE_LAYOUTS` (classification).
        train: Number of training images, at least 1.
        val: Number of validation images, at least 1.
        size: Height and width of the images in pixels, each at least 32.
        seed: Non-negative seed of the scenes.
        overwrite: Replace ``root`` if an earlier call made it.
        progress: Called after each image with split, images done and images in all.

    Returns:
        The folder made.

    Raises:
        ValueError: An argument is out of range or the layout is unknown.
        FileExistsError: ``root`` holds something and may not be replaced.
    """
    style = _check_arguments(layout, train, val, size, seed)
    target = Path(root).expanduser().resolve()
    _check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    # a sibling is on the same file system, where renaming is one step
    partial = target.with_name(f'.{target.name}.partial-{os.getpid()}')
    try:
        for split, count in (('train', train), ('val', val)):
            if isinstance(style, Layout):
                _write_scenes(partial, style, split, count, size, seed, progress)
            else:
                _write_pictures(partial, style, split, count, size, seed, progress)
        about = dict(layout=layout, train=train, val=val, size=list(size), seed=seed)
        (partial / MARKER).write_text(json.dumps(about) + '\n')
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _check_arguments(
    layout: str, train: int, val: int, size: tuple[int, int], seed: int
) -> Layout | ImageLayout:
    layouts: dict[str, Layout | ImageLayout] = {**LAYOUTS, **IMAGE_LAYOUTS}
    if layout not in layouts:
        raise ValueError(f'unknown layout {layout!r}; expected one of {", ".join(layouts)}')
    for option, count in (('train', train), ('val', val)):
        if count < 1:
            raise ValueError(f'{option} is {count}; expected at least 1 image')
    if len(size) != 2 or min(size) < MIN_SIZE:
        raise ValueError(
            f'size is {tuple(size)}; expected height and width of at least {MIN_SIZE} pixels'
        )
    if seed < 0:
        raise ValueError(f'seed is {seed}; expected 0 or more')
    return layouts[layout]


def _check_target(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise FileExistsError(f'{target} is a file; expected a folder, or nothing, there')
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f'{target} is not empty; choose another folder, or overwrite it')
    if not (target / MARKER).is_file():
        raise FileExistsError(
            f'{target} was not made by this tool (it holds no {MARKER}), so it is not overwritten'
        )


def _write_scenes(
    root: Path,
    layout: Layout,
    split: str,
    count: int,
    size: tuple[int, int],
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    images, labels = (root / folder for folder in layout.folders[split])
    rare = layout.cast.rare
    for i in range(count):
        rng = np.random.default_rng([seed, split == 'val', i])
        # two by turns, so that a few images suffice to show every class there is
        chosen = (rare[2 * i % len(rare)], rare[(2 * i + 1) % len(rare)])
        image, label = make_scene(layout.cast, size, chosen, rng)
        stem = layout.name(split, i)
        _write_image(images / f'{stem}{layout.image_suffix}', image[..., ::-1])
        _write_image(labels / f'{stem}{layout.label_suffix}', encode(label, layout))
        if progress is not None:
            progress(split, i + 1, count)


def _write_pictures(
    root: Path,
    layout: ImageLayout,
    split: str,
    count: int,
    size: tuple[int, int],
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    # Every class has its folder, so that data set classes that scan folders find all of them.
    for folder in layout.classes.values():
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    classes = list(layout.classes.items())
    lines = []
    for i in range(count):
        rng = np.random.default_rng([seed, split == 'val', i])
        label, folder = classes[i % len(classes)]
        name = f'{folder}/toy_{split}_{i:08d}{layout.image_suffix}'
        _write_image(root / split / name, make_picture(label, size, rng)[..., ::-1])
        lines.append(f'{name} {label}\n')
        if progress is not None:
            progress(split, i + 1, count)
    (root / 'meta').mkdir(exist_ok=True)
    (root / 'meta' / f'{split}.txt').write_text(''.join(lines))


def encode(label: np.ndarray, layout: Layout) -> np.ndarray:
    """Class indices with 255 for ignored pixels (H, W) to the values that files hold."""
    if not layout.reduce_zero_label:
        return label
    return np.where(label == IGNORED, 0, label + 1).astype(np.uint8)


def _write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = path.suffix.lower() in ('.jpg', '.jpeg')
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if jpeg else []
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels), options):
        raise OSError(f'could not write {path}')
