"""Exported files beside the model that they were made of: the same labels, and how much faster.

Every image is segmented by the model in eager mode, by the model compiled (``--compile``), and by
every file, in turn. Images are resized to the size that the files are for.

    python benchmarks/exported.py CONFIG arta.onnx arta.pt2 --checkpoint CKPT --allocation 0.3 \\
        --images data/camvid/images/val

Everything but the files must be as it was when tools/export.py wrote them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from mmengine.logging import MMLogger

from benchmarks.measure import machine, table
from mmseg_arta.analysis.benchmark.pictures import PictureStore, store_pictures
from mmseg_arta.analysis.benchmark.timing import Timing, disagreement, speed_ratio
from mmseg_arta.analysis.exportable import exportable
from mmseg_arta.analysis.flops.load import load_config
from mmseg_arta.command_line import Parser, Settings, run_command
from mmseg_arta.engine.export import load_exported
from mmseg_arta.files import check_writable, write_json

Labels = Callable[[np.ndarray], np.ndarray]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('exported', description=__doc__)
    add = parser.add_argument
    add('config', metavar='CONFIG')
    add('files', nargs='+', type=Path, metavar='FILE', help='that tools/export.py wrote')
    add('--checkpoint', metavar='FILE', help='weights; the random ones of tools/export.py without')
    add('--allocation', default='model', metavar='NAME')
    add('--images', metavar='DIR', help='default: random ones')
    add('--number', type=int, default=20, metavar='N', help='of images (default: 20)')
    add('--compile', action='store_true', help='the model by torch.compile as well')
    add('--json', type=Path, metavar='FILE', help='write all figures')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', help='of the config')
    args = parser.parse_args(argv)
    if args.number < 1:
        parser.error(f'--number must be at least 1, found {args.number}')
    return args


def of_scores(predict: Callable[[np.ndarray], Any], threshold: float | None) -> Labels:
    """Labels ``(H, W)`` by a function that gives scores; those of one channel have a threshold."""

    def labels(image: np.ndarray) -> np.ndarray:
        scores = np.asarray(predict(image))[0]
        return scores.argmax(0) if threshold is None else scores[0] > threshold

    return labels


def of_module(module: Any) -> Callable[[np.ndarray], Any]:
    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(image)).numpy()

    return predict


def ways(args: argparse.Namespace) -> tuple[dict[str, Labels], tuple[int, int]]:
    """Everything that segments, eager mode first, and the height and width of images.

    Raises:
        OSError, ValueError: if a file cannot be loaded, or is for other images than the others.
    """
    loaded = {}
    for path in args.files:
        loaded[path.name] = load_exported(path)
    sizes = {name: tuple(about['input']['shape']) for name, (_, about) in loaded.items()}
    if len(set(sizes.values())) > 1 or next(iter(sizes.values()))[:2] != (1, 3):
        raise ValueError(f'files must take one image of three channels and one size, found {sizes}')
    height, width = next(iter(sizes.values()))[2:]
    config = load_config(args.config, args.cfg_options)
    module = exportable(config, args.checkpoint, args.allocation, (height, width))
    threshold = next(iter(loaded.values()))[1]['output']['threshold']
    found = {'eager': of_scores(of_module(module), threshold)}
    if args.compile:
        found['compiled'] = of_scores(of_module(torch.compile(module)), threshold)
    for name, (predict, _) in loaded.items():
        found[name] = of_scores(predict, threshold)
    return found, (height, width)


def compare(every: dict[str, Labels], pictures: PictureStore, number: int) -> list[dict[str, Any]]:
    """Figures of every way to segment, over the images."""
    seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in every}
    same: dict[str, list[float]] = {name: [] for name in every}
    seen: set[int] = set()
    for turn in range(-1, number):
        pixels, _ = pictures.batch(max(turn, 0), 1)
        image = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)
        labels = {}
        for name in list(every)[:: -1 if turn % 2 else 1]:
            begin = time.perf_counter()
            labels[name] = every[name](image)
            if turn >= 0:
                seconds[name].append((time.perf_counter() - begin,))
        seen |= set(np.unique(labels['eager']).tolist())
        for name in every if turn >= 0 else ():
            same[name].append(float((labels[name] == labels['eager']).mean()))
    first = Timing(1, tuple(seconds['eager']))
    rows = []
    for name in every:
        timing = Timing(1, tuple(seconds[name]))
        rows.append(
            dict(
                way=name,
                same_labels=float(np.mean(same[name])),
                same_labels_worst=min(same[name]),
                ms=1000 * timing.latency,
                speed_ratio=speed_ratio(first, timing),
                disagreement=disagreement(first, timing),
                classes_seen=len(seen),
            )
        )
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    head = ['', 'same labels (%)', 'worst image (%)', 'ms', '× eager']
    lines = [head]
    for row in rows:
        shares = [f'{100 * row[name]:.4f}' for name in ('same_labels', 'same_labels_worst')]
        lines.append([row['way'], *shares, f'{row["ms"]:.0f}', f'{row["speed_ratio"]:.2f}'])
    return table(lines)


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    if args.json:
        check_writable('--json', args.json)
    every, shape = ways(args)
    with tempfile.TemporaryDirectory() as folder:
        pictures = store_pictures(args.images, shape, Path(folder), args.number)
        rows = compare(every, pictures, args.number)
    print(report(rows))
    print(f'{args.number} images of {shape[0]}x{shape[1]} px, {rows[0]["classes_seen"]} classes in')
    if args.json:
        about = dict(config=Path(args.config).stem, allocation=args.allocation, shape=list(shape))
        write_json(args.json, dict(machine=machine('cpu'), **about, images=args.number, rows=rows))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel('ERROR')
    return run_command('exported', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
