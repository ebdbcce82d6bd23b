"""From a segmentor to a file that was compared with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from ...files import replaced
from .describe import describe
from .formats import FORMATS, load_exported
from .images import ExportError, ImageToScores
from .obstacles import obstacle
from .plain_operators import plain_ops

#: Scores may differ by this much of the largest one, or of 1 if that is more.
TOLERANCE = 1e-4

# Characters of an error of PyTorch's: it goes on with advice on how to program.
_REASON = 300


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        path: the file.
        bytes: its size.
        seconds: that exporting took, the comparison left out.
        difference: largest difference of a score to the segmentor's own, over the largest score or
            1; None if it was not compared.
        same_labels: share of pixels with the same label; likewise.
    """

    path: Path
    bytes: int
    seconds: float
    difference: float | None
    same_labels: float | None


def export_segmentor(
    module: ImageToScores,
    path: str | Path,
    kind: str,
    *,
    name: str = '',
    batch_size: int = 1,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    compare: bool = True,
) -> Exported:
    """Write a segmentor as a file that runs without this package, and compare the two.

    The file appears under its name when it is whole and agrees with the segmentor, and replaces
    one that was there before.

    Args:
        module: the segmentor with its preprocessing, on the CPU.
        path: of the file, with the ending of its format.
        kind: a name in :data:`FORMATS`.
        name: of the config.
        batch_size: images at a time.
        classes, palette: names and RGB colours of the classes.
        compare: run the file and the segmentor on the same random image.

    Raises:
        ExportError: if the model cannot be exported, or the file's scores differ.
        OSError: if the file cannot be written.
        ValueError: for another format or ending.
    """
    path = Path(path)
    if kind not in FORMATS:
        raise ValueError(f'--format must be one of {", ".join(FORMATS)}, found {kind!r}')
    suffix, write = FORMATS[kind]
    if path.suffix != suffix:
        raise ValueError(f'--format {kind} writes files that end in {suffix}, found {path.name}')
    module = module.eval()
    image = check_image(module, batch_size)
    begin = time.perf_counter()
    program = to_program(module, image)
    about = describe(module, batch_size, name, classes, palette)
    with replaced(path) as part:
        try:
            write(program, part, about)
        except (ExportError, OSError):
            raise
        except Exception as error:
            raise ExportError(f'{kind} cannot hold this model: {_in_short(error)}') from error
        seconds = time.perf_counter() - begin
        difference = same = None
        if compare:
            difference, same = _compare(module, image, part)
            if not difference <= TOLERANCE:
                raise ExportError(
                    f'the scores of the file differ from those of the model by {difference:.1e} '
                    f'of the largest, {100 * same:.3f} % of labels are the same, more than '
                    f'{TOLERANCE:g} is too much; no file was written'
                )
    return Exported(path, path.stat().st_size, seconds, difference, same)


def to_program(module: ImageToScores, image: Tensor) -> ExportedProgram:
    """A segmentor as a graph of PyTorch's own operators.

    Args:
        module: with what it is made of in eval mode.
        image: ``(B, C, H, W)``, of the size that the graph will be for.

    Raises:
        ExportError: if that cannot be, with what to do about it where that is known.
    """
    reason = obstacle(module.segmentor)
    if reason is not None:
        raise ExportError(reason)
    # The fast path of nn.MultiheadAttention is an operator for inference in eager mode alone.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with plain_ops(), torch.no_grad():
            program = torch.export.export(module, (image,), strict=False)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f'torch.export cannot trace this model: {_in_short(error)}') from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    foreign = sorted({str(node.target) for node in program.graph.nodes if _is_own(node)})
    if foreign:
        raise ExportError(f'the graph holds operators of this package: {", ".join(foreign)}')
    return program


def _is_own(node: Any) -> bool:
    return node.op == 'call_function' and str(node.target).startswith('mmseg_arta')


def check_image(module: ImageToScores, batch_size: int) -> Tensor:
    """Whole random pixels ``(B, C, H, W)`` float32, smooth patches with edges between them."""
    noise = torch.Generator().manual_seed(0)
    height, width = module.shape
    cells = torch.rand((batch_size, module.channels, 5, 7), generator=noise)
    smooth = F.interpolate(cells, (height, width), mode='bilinear', align_corners=False)
    edges = F.interpolate(cells.flip(1, 3), (height, width), mode='nearest')
    grain = torch.rand(smooth.shape, generator=noise)
    return (255 * (0.5 * smooth + 0.4 * edges + 0.1 * grain)).round()


def _compare(module: ImageToScores, image: Tensor, path: Path) -> tuple[float, float]:
    expected = module.as_tested(image).numpy()
    predict, _ = load_exported(path)
    try:
        found = predict(image.numpy())
    except Exception as error:
        raise ExportError(f'the file does not run: {_in_short(error)}') from error
    return difference(found, expected), same_labels(found, expected, module)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of scores, over the largest expected one or 1 if that is more."""
    if found.shape != expected.shape:
        raise ExportError(f'the file gives scores {found.shape}, the model {expected.shape}')
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def same_labels(found: np.ndarray, expected: np.ndarray, module: ImageToScores) -> float:
    """Share of pixels with the same label."""

    def labels(scores: np.ndarray) -> np.ndarray:
        if scores.shape[1] == 1:
            return scores > module.segmentor.decode_head.threshold
        return scores.argmax(1)

    return float((labels(found) == labels(expected)).mean())


def _in_short(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON else f'{text[:_REASON]} ...'
