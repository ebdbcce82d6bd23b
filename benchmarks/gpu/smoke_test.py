"""Every op on every back end of a device, and one step of the smallest models, in all types.

    python benchmarks/gpu/smoke_test.py [--device cuda] [--tiny]

Results are held against the reference. Stops at the first failure and shows it whole: the first
thing to be mended on a card.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.cases import Case, cases
from benchmarks.ops import on
from mmseg_arta.analysis.benchmark.pictures import store_pictures
from mmseg_arta.analysis.benchmark.runner import Runner
from mmseg_arta.analysis.benchmark.subjects import Conditions, read_models
from mmseg_arta.ops.backend import OPS, available_backends, device_of

MODELS = (
    'arta-nano_mask2former_1xb4-2k_camvid-256x256',
    'dups-tiny_mask2former_4xb8-80k_ade20k-512x512',
    'aff-mini-1-5_mask2former_4xb8-80k_ade20k-512x512',
    'lrformer-t_lrhead_4xb4-160k_ade20k-512x512',
    'segvit-v2_vit-b16_1xb4-160k_ade20k-512x512',
)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
#: Largest difference, as a share of the largest value.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}

Check = tuple[str, Callable[[], None]]


def tensors(found: object) -> Iterator[Tensor]:
    """All tensors of a result."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (list, tuple)):
        for item in found:
            yield from tensors(item)
    elif hasattr(found, '__dict__'):
        yield from tensors(list(vars(found).values()))


def both_passes(case: Case) -> list[Tensor]:
    """Output and gradients."""
    out = list(tensors(case.call()))
    if not case.leaves:
        return out
    torch.manual_seed(1)
    gradient = torch.randn_like(out[0])
    return [*out, *torch.autograd.grad(out[0], case.leaves, gradient)]


def compare(case: Case, backend: str, dtype: torch.dtype) -> None:
    """Raise AssertionError if a back end differs from the reference."""
    found = on(backend, lambda: both_passes(case))()
    right = on('reference', lambda: both_passes(case))()
    assert isinstance(found, list) and isinstance(right, list)
    for number, (mine, other) in enumerate(zip(found, right, strict=True)):
        if not mine.is_floating_point():
            # Places may differ where distances are equal; most must not.
            share = (mine == other).double().mean().item() if mine.numel() else 1.0
            assert share > 0.99, f'tensor {number}: {share:.1%} are those of the reference'
            continue
        # Gradients of biases are sums that all but cancel: their terms are about 1.
        least = 1.0 if number else 1e-2
        largest = max(other.abs().max().item(), least) if other.numel() else 1.0
        torch.testing.assert_close(
            mine.double(), other.double(), rtol=0, atol=TOLERANCE[dtype] * largest
        )


def checks_of_ops(device: str) -> Iterator[Check]:
    """Every op with kernels for the device."""
    reasons = available_backends()
    for dtype in TYPES:
        for case in cases((128, 192), 0.5, 2, device, dtype):
            for backend in OPS[case.op]:
                if device_of(backend) != device:
                    continue
                name = f'{case.op} ({case.name}), {backend}, {dtype}'
                if reasons[backend]:
                    print(f'{name}: left out: {reasons[backend]}', flush=True)
                    continue
                yield (
                    name,
                    lambda case=case, backend=backend, dtype=dtype: compare(case, backend, dtype),
                )


def step(config: str, device: str, shape: tuple[int, int], dtype: str) -> None:
    """A prediction, and a training step after which all parameters must be finite."""
    conditions = Conditions(shape, 2, device, dtype)
    with tempfile.TemporaryDirectory() as folder:
        pictures = store_pictures(None, shape, Path(folder), 2)
        runner = Runner(read_models([config])[0], conditions, pictures)
        runner.infer(0, 1)
        # Gradients in half precision overflow without a loss scaler, which training brings along.
        if dtype != 'fp16':
            runner.train(0, 1)
        bad = runner.not_finite()
        runner.close()
    assert not bad, f'not finite after a training step: {", ".join(bad)}'


def checks_of_models(device: str, tiny: bool) -> Iterator[Check]:
    """Small models of every family with ops of its own, in every type."""
    shape = (64, 96) if tiny else (256, 320)
    for config in MODELS[: 1 if tiny else None]:
        for dtype in ('fp32', 'bf16', 'fp16'):
            yield (
                f'{config}, {dtype}',
                lambda config=config, dtype=dtype: step(config, device, shape, dtype),
            )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'))
    parser.add_argument('--tiny', action='store_true', help='small images')
    args = parser.parse_args(argv)
    # MMEngine would list every parameter.
    MMLogger.get_instance('smoke', log_level='WARNING')
    count = 0
    begin = time.monotonic()
    for checks in (checks_of_ops(args.device), checks_of_models(args.device, args.tiny)):
        for name, check in checks:
            print(name, flush=True)
            check()
            count += 1
    print(f'{count} checks passed in {time.monotonic() - begin:.0f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
