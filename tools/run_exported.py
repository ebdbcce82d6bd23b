"""Segment an image with a file of tools/export.py, without this package and MMSegmentation.

    python run_exported.py arta.onnx street.png --out segmented.png

Needs NumPy, Pillow, and ONNX Runtime for .onnx or PyTorch for .pt2. This file may be copied.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

KEY = 'mmseg_arta_export'
# Formats that hold colours in every Pillow.
SAVED = ('BMP', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')


def load(path: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """A function from pixels ``(B, C, H, W)`` float32 to scores, and the file's description.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if what runs it is not installed.
        ValueError: if it is another file, or not all of it.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file')
    try:
        return _load(path)
    except ImportError:
        raise
    # Runtimes have errors of their own, and stumble over other files in any way there is.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [''])[0] or type(error).__name__
        raise ValueError(f'{path} is no file of tools/export.py, or damaged: {reason}') from error


def _load(path: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    if path.suffix == '.onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        about = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
        return lambda image: session.run(None, {'image': image})[0], about

    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    compiled = any('/aotinductor/' in name for name in names)
    # PyTorch prints pages about archives of another kind.
    if not compiled and not any(name.rpartition('/')[2] == KEY for name in names):
        raise ValueError('it does not describe itself')
    if compiled:
        from torch._inductor import aoti_load_package

        module = aoti_load_package(str(path))
        about = json.loads(module.get_metadata()[KEY])
    else:
        files = {KEY: ''}
        module = torch.export.load(path, extra_files=files).module()
        about = json.loads(files[KEY])

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(image)).numpy()

    return predict, about


def pixels(image: Image.Image, about: dict[str, Any]) -> np.ndarray:
    """An image as the file takes it: resized, float32 from 0 to 255, equal images for a batch."""
    batch, channels, height, width = about['input']['shape']
    if channels not in (1, 3):
        raise ValueError(f'the file takes images of {channels} channels, which no picture has')
    picture = image.convert('L' if channels == 1 else 'RGB').resize(
        (width, height), Image.Resampling.BILINEAR
    )
    array = np.asarray(picture, dtype=np.float32).reshape(height, width, channels)
    return np.repeat(array.transpose(2, 0, 1)[None], batch, axis=0)


def labels_of(scores: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Labels ``(H, W)`` of the first image."""
    if about['output']['labels'] == 'threshold':
        return (scores[0, 0] > about['output']['threshold']).astype(np.uint8)
    return scores[0].argmax(0).astype(np.uint8 if scores.shape[1] <= 256 else np.int32)


def colours_of(about: dict[str, Any]) -> np.ndarray:
    """RGB colours, made up where the file holds none."""
    if about['palette']:
        return np.array(about['palette'], dtype=np.uint8)
    count = max(about['output']['shape'][1], 2)
    return np.random.default_rng(0).integers(0, 256, (count, 3)).astype(np.uint8)


def format_of(path: Path) -> str:
    """Pillow's name for the format of a picture to write.

    Raises:
        OSError, ValueError: if no picture can be written there.
    """
    Image.init()
    known = sorted(
        suffix for suffix, name in Image.registered_extensions().items() if name in SAVED
    )
    if path.suffix.lower() not in known:
        raise ValueError(
            f'--out {path}: expected a name that ends in one of {", ".join(known)}, found '
            f'{path.suffix!r}'
        )
    if path.is_dir():
        raise IsADirectoryError(f'--out {path} is a folder')
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f'--out {path}: the folder {folder} does not exist')
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f'--out {path}: the folder {folder} cannot be written to') from error
    return Image.registered_extensions()[path.suffix.lower()]


def write(picture: Image.Image, path: Path, kind: str) -> None:
    """Write a picture, whole or not at all."""
    part = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        picture.save(part, format=kind)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def segment(path: Path, picture: Path, opacity: float) -> tuple[Image.Image, np.ndarray, dict]:
    """A picture with its classes in colours, their labels at its size, and the description."""
    predict, about = load(path)
    with Image.open(picture) as opened:
        image = opened.convert('RGB')
        labels = labels_of(predict(pixels(opened, about)), about)
    whole = np.asarray(Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST))
    painted = Image.fromarray(colours_of(about)[whole])
    return Image.blend(image, painted, opacity), whole, about


def opacity(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be from 0 to 1, found {text}')
    return value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', type=Path, metavar='FILE', help='.onnx or .pt2 of tools/export.py')
    parser.add_argument('image', type=Path, metavar='IMAGE')
    parser.add_argument('--out', type=Path, required=True, metavar='PNG')
    parser.add_argument(
        '--opacity', type=opacity, default=0.6, help='of the colours (default: 0.6)'
    )
    args = parser.parse_args()
    try:
        kind = format_of(args.out)
        painted, labels, about = segment(args.file, args.image, args.opacity)
        write(painted, args.out, kind)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = f'{args.file} does not say {error}' if isinstance(error, KeyError) else error
        print(f'run_exported: error: {reason}', file=sys.stderr)
        return 2
    numbers, counts = np.unique(labels, return_counts=True)
    for number, count in sorted(zip(numbers, counts, strict=True), key=lambda pair: -pair[1]):
        name = about['classes'][number] if about['classes'] else f'class {number}'
        print(f'{100 * count / labels.size:5.1f} %  {name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
