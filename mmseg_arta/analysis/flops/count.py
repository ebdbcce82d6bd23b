"""Counting the operations of a model's forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...models.allocation import AllocationPolicy
from ...models.allocation.policies import Candidates
from ...models.segmentors.windows import check_window_options
from .components import ComponentMap, Part
from .counter import OperatorCounter
from .published import ModuleWatch, table_rows
from .result import ComponentCount, MaskStep, OperationCount, sum_of

MODES = ('whole', 'slide', 'config')

#: Largest share of candidates that get finer tokens, per round (ARTA 4.1, DUPS table 8).
CAPS = (0.85, 0.7, 0.6)

#: Names of who gets finer tokens; a share of the candidates such as '0.3' will do as well.
ALLOCATIONS = ('full', 'caps', 'model')


def count_operations(
    model: nn.Module,
    shape: tuple[int, int],
    allocation: str = 'model',
    mode: str = 'whole',
    dry: bool | None = None,
    seed: int = 0,
) -> OperationCount:
    """Cost of a segmentor's inference on one image, post-processing included.

    Args:
        model: a segmentor of MMSegmentation, or another model that takes ``(1, 3, H, W)``. It is
            left as it was.
        shape: ``(height, width)`` of the image in pixels.
        allocation: who gets finer tokens: 'full' for all candidates, 'caps' for the caps of the
            model's policy or else of the papers, a number such as '0.3' for that share of the
            candidates in every round, 'model' for its own policy's choice (on noise, which says
            little of real images: see :func:`count_samples`).
        mode: 'whole', 'slide', or 'config' for what the model's ``test_cfg`` says.
        dry: leave out the arithmetic; by default where the allocation is decided beforehand.
        seed: of the noise that the image is made of.

    Raises:
        ValueError: for bad arguments or a model that they do not fit.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f'shape must be two positive numbers (height, width), found {shape}')
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    noise = torch.Generator().manual_seed(seed)
    image = torch.randn((1, 3, *shape), generator=noise).to(device)

    def run() -> None:
        if not hasattr(model, 'postprocess_result'):
            model(image)
            return
        size = tuple(shape)
        metas = dict(ori_shape=size, img_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
        model(image, [SegDataSample(metainfo=metas)], mode='predict')

    dry = allocation != 'model' if dry is None else dry
    try:
        return count_run(model, run, tuple(shape), allocation, mode, dry)
    except (RuntimeError, AssertionError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(
            f'{type(model).__name__} cannot take an image of {shape[0]}x{shape[1]} px: {reason}'
        ) from error


def count_run(
    model: nn.Module,
    run: Callable[[], object],
    shape: tuple[int, int],
    allocation: str = 'model',
    mode: str = 'whole',
    dry: bool = False,
) -> OperationCount:
    """Cost of what ``run`` makes the model do; see :func:`count_operations`."""
    components = ComponentMap(model)
    watch = ModuleWatch(table_rows(model, shape))
    counter = OperatorCounter(model, dry)
    with (
        _evaluating(model),
        inference_mode(model, mode) as mode,
        forced_allocation(model, allocation),
        watch.on(model),
        counter,
    ):
        run()

    executed: Counter[Part] = Counter()
    published: Counter[Part] = Counter()
    mask_step, dense_mask_step = 0, counter.dense_mask_step.total()
    for caller, macs in counter.operators.items():
        part = components.of_caller(caller)
        executed[part] += macs
        mask_step += macs * caller.mask_step
        if not caller.mask_step and not watch.replaces(caller):
            published[part] += macs
    for caller, macs in counter.kernels.items():
        executed[components.of_caller(caller)] += macs
    for caller, macs in counter.dense_mask_step.items():
        published[components.of_caller(caller)] += macs
    for path, macs in watch.kernels.items():
        executed[components.of_module(path)] += macs
    for path, macs in watch.published.items():
        published[components.of_module(path)] += macs
    params = Counter()
    for name, value in model.named_parameters():
        params[components.of_module(name)] += value.numel()
    return OperationCount(
        shape,
        allocation,
        mode,
        _assemble(components.parts(), params, executed, published),
        watch.tokens,
        MaskStep(mask_step, dense_mask_step) if dense_mask_step else None,
        counter.uncounted,
    )


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    training = [module for module in model.modules() if module.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        # The fast path of nn.MultiheadAttention is one operator that hides its products.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module in training:
            module.training = True


@contextmanager
def inference_mode(model: nn.Module, mode: str) -> Generator[str]:
    """Sets ``test_cfg.mode`` to one of :data:`MODES`; yields what it is then.

    Raises:
        ValueError: for another mode, or one that the model has no settings for or wrong ones.
    """
    if mode not in MODES:
        raise ValueError(f'mode must be one of {", ".join(MODES)}, found {mode!r}')
    before = getattr(model, 'test_cfg', None)
    if before is None:
        if mode != 'whole':
            raise ValueError(f'mode {mode!r} needs a segmentor with test_cfg')
        yield mode
        return
    mode = before.get('mode', 'whole') if mode == 'config' else mode
    if mode == 'slide':
        if any(key not in before for key in ('crop_size', 'stride')):
            raise ValueError(
                f"mode 'slide' needs test_cfg with crop_size and stride, found {before}"
            )
        check_window_options(before)
    try:
        model.test_cfg = type(before)({**before, 'mode': mode})
        yield mode
    finally:
        model.test_cfg = before


def _assemble(
    parts: Sequence[Part],
    params: Counter[Part],
    executed: Counter[Part],
    published: Counter[Part],
) -> dict[str, ComponentCount]:
    """Components in running order, each with the sum of its parts."""
    components: dict[str, dict[str, ComponentCount]] = {}
    for name, *inner in parts:
        part = (name, *inner)
        count = ComponentCount(params[part], executed[part], published[part])
        if count != ComponentCount():
            components.setdefault(name, {})[inner[0] if inner else 'rest'] = count
    return {
        name: sum_of(counts.values(), {} if list(counts) == ['rest'] else counts)
        for name, counts in components.items()
    }


class EvenAllocation(AllocationPolicy):
    """Splits a fixed share of every image's candidates, spread evenly, whatever their scores.

    Args:
        shares: of every round, in [0, 1], the last one for all further rounds as well; the number
            of candidates is rounded down.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = tuple(shares)

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        share = self.shares[min(round_index, len(self.shares) - 1)]
        return tuple(int(length * share) for length in candidates.lengths)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        share = self.shares[min(round_index, len(self.shares) - 1)]
        chosen = []
        for length in candidates.lengths:
            keep = int(length * share)
            row = torch.arange(length, device=candidates.scores.device)
            chosen.append((row + 1) * keep // max(length, 1) > row * keep // max(length, 1))
        return torch.cat(chosen)


class AllocatingModule(Protocol):
    """A module that allocates tokens by a policy."""

    policy: AllocationPolicy


def allocating_modules(model: nn.Module) -> list[AllocatingModule]:
    """Modules of a model that allocate tokens by a policy."""
    return [
        cast(AllocatingModule, module)
        for module in model.modules()
        if isinstance(getattr(module, 'policy', None), AllocationPolicy)
    ]


def check_allocation(name: str) -> str:
    """A name of :data:`ALLOCATIONS`, or a share in [0, 1] as text, as it was given.

    Raises:
        ValueError: for anything else.
    """
    try:
        known = name in ALLOCATIONS or 0.0 <= float(name) <= 1.0
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            f'allocation must be one of {", ".join(ALLOCATIONS)} or a share from 0 to 1, '
            f'found {name!r}'
        )
    return name


@contextmanager
def forced_allocation(model: nn.Module, allocation: str) -> Generator[None]:
    """Within this context the model's tokens are allocated as named, afterwards as before.

    Args:
        model: any model.
        allocation: 'full' for all candidates; 'caps' for the policy's caps, or :data:`CAPS` for a
            policy that has none; a number such as '0.3' for that share of the candidates, spread
            evenly; 'model' for what the model itself decides.

    Raises:
        ValueError: for another name, or if the model allocates no tokens but is told how.
    """
    check_allocation(allocation)
    modules = [] if allocation == 'model' else allocating_modules(model)
    if not modules and allocation != 'model':
        raise ValueError(
            f'allocation {allocation!r} needs a model that allocates tokens by a policy (such as '
            f"ARTA), found none in {type(model).__name__}: use 'model'"
        )

    def even(policy: AllocationPolicy) -> AllocationPolicy:
        if allocation == 'caps':
            return EvenAllocation(tuple(policy.caps or CAPS))
        return EvenAllocation((1.0 if allocation == 'full' else float(allocation),))

    with other_policies(modules, even):
        yield


@contextmanager
def other_policies(
    modules: Sequence[AllocatingModule], of: Callable[[AllocationPolicy], AllocationPolicy]
) -> Generator[None]:
    """Within this context modules allocate by other policies, afterwards by their own again.

    Args:
        modules: see :func:`allocating_modules`.
        of: makes of a module's policy the other one.
    """
    policies = [module.policy for module in modules]
    try:
        for module, policy in zip(modules, policies, strict=True):
            module.policy = of(policy)
        yield
    finally:
        for module, policy in zip(modules, policies, strict=True):
            module.policy = policy
