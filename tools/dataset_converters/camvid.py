"""Bring CamVid from the SegNet distribution into the layout of ``CamVidDataset``.

The SegNet distribution holds 360x480 PNG files, labels 0 to 10 and 11 for void; images may be of
another kind (``.tif``, ``.PNG``, ...):

    CamVid/train  CamVid/trainannot  CamVid/train.txt  (and so for val and test)

What is written, void becoming 255:

    data/camvid/images/{train,val,test}/*.png         with the ending that they had
    data/camvid/annotations/{train,val,test}/*.png

Example: ``python tools/dataset_converters/camvid.py path/to/CamVid -o data/camvid``
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_arta.command_line import Parser, run_command
from mmseg_arta.files import check_folder
from mmseg_arta.image_files import IMAGE_SUFFIXES, is_image

NUM_CLASSES = 11
VOID = 11
IGNORED = 255


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('camvid', description=__doc__)
    parser.add_argument('source', type=Path, help='folder with train/, trainannot/ and so on')
    parser.add_argument('-o', '--out-dir', type=Path, default=Path('data/camvid'))
    parser.add_argument('--splits', nargs='+', default=['train', 'val', 'test'])
    return parser.parse_args(argv)


def list_pairs(source: Path, split: str) -> list[tuple[Path, Path]]:
    """Image and label files of a split: those that ``<split>.txt`` lists, or all there are.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        ValueError: The list is no text.
    """
    images, labels = source / split, source / f'{split}annot'
    for folder in (images, labels):
        if not folder.is_dir():
            raise FileNotFoundError(
                f'folder {folder} not found; expected the SegNet distribution of CamVid, which '
                f'holds {split}/ and {split}annot/, in {source}'
            )
    listing = source / f'{split}.txt'
    if listing.is_file():
        try:
            lines = listing.read_text(encoding='utf-8-sig').splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f'{listing} is no text in UTF-8: {error}') from error
        names = [listed_image(line.strip(), images) for line in lines if line.strip()]
    else:
        names = sorted(path.name for path in images.iterdir() if is_image(path))
    if not names:
        raise FileNotFoundError(f'no images in {images} ({", ".join(IMAGE_SUFFIXES)})')
    pairs = [(images / name, labels / name) for name in names]
    # Labels of images of another kind are PNG files all the same.
    pairs = [(one, two if two.is_file() else two.with_suffix('.png')) for one, two in pairs]
    for path in (path for pair in pairs for path in pair):
        if not path.is_file():
            raise FileNotFoundError(f'file {path} not found; split {split} needs it')
    return pairs


def listed_image(line: str, images: Path) -> str:
    """The name of the image in a line of a list, which goes on with the label after a space.

    Lines hold the absolute paths of somebody else's machine, so only the names count. Paths may
    have spaces in them: the image is the shortest beginning of the line whose name is that of a
    file there is; of none, the shortest with an image's ending, or the first word.
    """
    ends = [*(space.start() for space in re.finditer(r'\s+', line)), len(line)]
    names = [Path(line[:end]).name for end in ends]
    there = (name for name in names if (images / name).is_file())
    return next(there, None) or next(filter(is_image, map(Path, names)), Path(names[0])).name


def convert_label(image_path: Path, label_path: Path) -> np.ndarray:
    """Read a label file and turn void into 255.

    Returns:
        Label map (H, W), uint8: 0 to 10, or 255.

    Raises:
        ValueError: The file is no single-channel image, is not of the image's size, or holds
            another value than 0 to 11.
    """
    with Image.open(image_path) as image, Image.open(label_path) as label_image:
        size, label_size = image.size, label_image.size
        label = np.array(label_image)
    if label.ndim != 2:
        raise ValueError(
            f'{label_path} has {label.shape[2]} channels; expected one, with class indices'
        )
    if size != label_size:
        raise ValueError(
            f'{label_path} is {label_size[1]}x{label_size[0]} but its image {image_path} is '
            f'{size[1]}x{size[0]} (height x width); expected the same size'
        )
    strange = np.setdiff1d(label, np.arange(VOID + 1))
    if strange.size:
        raise ValueError(
            f'{label_path} holds label {", ".join(map(str, strange[:8]))}; expected 0 to '
            f'{NUM_CLASSES - 1} and {VOID} for void'
        )
    return np.where(label == VOID, IGNORED, label).astype(np.uint8)


def convert(source: Path, out_dir: Path, splits: list[str]) -> None:
    """Convert ``splits`` and print a summary of each; nothing is left if one of them fails.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        FileExistsError: ``out_dir`` is not empty.
        NotADirectoryError, PermissionError: There can be no such folder.
        ValueError: A label file is not what it should be, or a split is named twice.
    """
    twice = [split for split, count in Counter(splits).items() if count > 1]
    if twice:
        raise ValueError(f'--splits names {", ".join(twice)} more than once')
    check_folder('--out-dir', out_dir)
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f'{out_dir} is not empty; choose another folder with --out-dir')
    pairs = {split: list_pairs(source, split) for split in splits}
    out_dir = out_dir.resolve()
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.with_name(f'.{out_dir.name}.partial-{os.getpid()}')
    try:
        for split in splits:
            convert_split(pairs[split], partial, split)
        if out_dir.exists():
            out_dir.rmdir()
        partial.rename(out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def convert_split(pairs: list[tuple[Path, Path]], out_dir: Path, split: str) -> None:
    images, labels = out_dir / 'images' / split, out_dir / 'annotations' / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    sizes: Counter[str] = Counter()
    void = pixels = 0
    for done, (image_path, label_path) in enumerate(pairs, 1):
        label = convert_label(image_path, label_path)
        shutil.copyfile(image_path, images / image_path.name)
        Image.fromarray(label).save(labels / f'{image_path.stem}.png')
        sizes[f'{label.shape[0]}x{label.shape[1]}'] += 1
        void += int((label == IGNORED).sum())
        pixels += label.size
        if sys.stderr.isatty():
            print(f'\r{split}: {done}/{len(pairs)}', end='', file=sys.stderr)
    if sys.stderr.isatty():
        print('\r', end='', file=sys.stderr)
    found = ', '.join(f'{count} of {size}' for size, count in sizes.items())
    print(f'{split}: {len(pairs)} images ({found}), {100 * void / pixels:.1f} % of pixels ignored')


def run(args: argparse.Namespace) -> None:
    convert(args.source, args.out_dir, args.splits)
    print(f'CamVid in {args.out_dir}')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('camvid', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
