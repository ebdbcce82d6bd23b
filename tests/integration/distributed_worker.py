"""One of two processes that train small models of every family; see test_distributed.py.

Arguments: rank, port. Ends with an error that names the case.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch import distributed as dist

from mmseg_arta.engine import CPUDistributedDataParallel
from tests.builders import NANO, SMALL_HEAD, samples
from tests.option_table import AFF, ATM, HALTING, LRFORMER, STEP

SIZE = (64, 64)
FCN = dict(
    type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=5,
    norm_cfg=dict(type='SyncBN'),
)  # fmt: skip
SPARSE = dict(decode_head=SMALL_HEAD, auxiliary_head=dict(type='BoundaryScoreHead'))
LAST = dict(STEP, out_indices=(2,), drop_path_rate=0.0)
MERGING = dict(
    merging=dict(type='ThresholdMerging', thresholds={'2': 0.5}),
    policy_net=dict(type='GroupPolicyNet'),
)
FAMILIES: dict[str, dict[str, Any]] = {
    'arta': dict(backbone=dict(type='ARTA', arch=NANO, drop_path_rate=0.0), **SPARSE),
    'arta maps': dict(
        backbone=dict(type='ARTA', arch=NANO, drop_path_rate=0.0),
        neck=dict(type='TokensToMaps', in_channels=NANO['dims'], out_indices=(0,)),
        decode_head=FCN,
        auxiliary_head=dict(type='BoundaryScoreHead'),
    ),
    'dups': dict(backbone=dict(type='DUPS', arch=NANO, drop_path_rate=0.0), **SPARSE),
    'aff': dict(
        backbone=dict(type='AutoFocusFormer', arch=AFF, drop_path_rate=0.0),
        decode_head=dict(SMALL_HEAD, in_channels=AFF['dims']),
    ),
    'lrformer': dict(
        backbone=dict(type='LRFormer', arch=LRFORMER, drop_path_rate=0.0),
        decode_head=dict(
            type='LRHead',
            in_channels=LRFORMER['dims'][1:],
            channels=16,
            num_heads=2,
            num_classes=5,
            dropout_ratio=0.0,
            norm_cfg=dict(type='SyncBN'),
        ),
    ),
    'segvit': dict(
        backbone=dict(type='StepViT', **dict(STEP, drop_path_rate=0.0)),
        decode_head=dict(type='ATMHead', dropout=0.0, **ATM),
    ),
    'shrunk': dict(
        backbone=dict(type='StepViT', **dict(LAST, out_indices=(1, 2), shrink_at=1)),
        decode_head=dict(type='ShrunkATMHead', grid=(4, 4), num_stages=2, dropout=0.0, **ATM),
    ),
    'dtop': dict(
        backbone=dict(type='StepViT', **LAST, halting=HALTING),
        decode_head=dict(type='HaltingATMHead', dropout=0.0, **ATM),
    ),
    'step': dict(
        backbone=dict(type='StepViT', **LAST, **MERGING, halting=HALTING),
        decode_head=dict(type='HaltingATMHead', dropout=0.0, **ATM),
    ),
    'policy': dict(
        type='GroupPolicySegmentor',
        backbone=dict(type='EfficientNetLite0'),
        decode_head=dict(type='GroupPolicyHead'),
    ),
}
#: Backbones that recompute their blocks.
RECOMPUTED = ('arta', 'dups', 'aff', 'lrformer', 'segvit', 'dtop')


def build(family: str, **backbone: Any) -> tuple[CPUDistributedDataParallel, OptimWrapper]:
    """The same random weights in all processes."""
    torch.manual_seed(0)
    config = dict(type='EncoderDecoder', train_cfg=dict(), test_cfg=dict(mode='whole'))
    config |= FAMILIES[family]
    config['backbone'] = config['backbone'] | backbone
    config['data_preprocessor'] = dict(type='SegDataPreProcessor', size=SIZE)
    model = MODELS.build(config)
    parallel = CPUDistributedDataParallel(model.train(), device_ids=[dist.get_rank()])
    return parallel, OptimWrapper(torch.optim.SGD(parallel.parameters(), 0.01))


def batch(step: int, ignored: bool = False) -> dict[str, Any]:
    """Images and labels of this process."""
    torch.manual_seed(100 * step + dist.get_rank())
    found = samples(SIZE)
    if ignored:
        for sample in found:
            sample.gt_sem_seg.data.fill_(255)
    images = [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in found]
    return dict(inputs=images, data_samples=found)


def choose_tokens(model: nn.Module, all_of_them: bool) -> None:
    """All tokens, or none, from a backbone that decides about some."""
    backbone = model.backbone
    far = 1e9 if all_of_them else -1e9
    policy = getattr(backbone, 'policy', None)
    if policy is not None:
        policy.thresholds = (-far,) * 3
    if getattr(backbone, 'halting', None) is not None:
        backbone.halting.policy.threshold = 1.0 if all_of_them else 0.0
        backbone.halting.policy.keep_per_class = 0
    if getattr(backbone, 'merging', None) is not None:
        backbone.merging.thresholds = {2: 1.0 if all_of_them else -1.0}


def loss_of(parallel: CPUDistributedDataParallel, data: dict[str, Any]) -> Tensor:
    """The loss that a training step goes back from."""
    data = parallel.module.data_preprocessor(data, True)
    return parallel.module.parse_losses(parallel(**data, mode='loss'))[0]


def step(parallel: CPUDistributedDataParallel, wrapper: OptimWrapper, data: dict) -> None:
    """A training step after which all weights are equal and all have gradients."""
    wrapper.zero_grad()
    loss_of(parallel, data).backward()
    missing = [name for name, one in parallel.named_parameters() if one.grad is None]
    assert not missing, f'no gradient for {missing}'
    assert all(one.grad.isfinite().all() for one in parallel.parameters()), 'not finite'
    wrapper.step()
    assert_equal(parallel)


def assert_equal(parallel: nn.Module) -> None:
    """All processes have the same weights, bit for bit."""
    mine = torch.cat([one.detach().flatten() for one in parallel.parameters()])
    other = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(other, mine)
    assert torch.equal(*other), 'the weights of the processes differ'


def trains(family: str) -> None:
    """Equal weights, whatever the images of a process are like."""
    parallel, wrapper = build(family)
    rank = dist.get_rank()
    step(parallel, wrapper, batch(0))
    step(parallel, wrapper, batch(1, ignored=rank == 1))
    choose_tokens(parallel.module, all_of_them=rank == 1)
    step(parallel, wrapper, batch(2))
    choose_tokens(parallel.module, all_of_them=False)
    step(parallel, wrapper, batch(3, ignored=rank == 0))
    step(parallel, wrapper, batch(4, ignored=True))


def accumulates(family: str) -> None:
    """Two steps with half the gradient each are one with their mean."""
    parallel, wrapper = build(family)
    before = [one.detach().clone() for one in parallel.parameters()]
    sums = [torch.zeros_like(one) for one in before]
    for number in range(2):
        parallel.zero_grad()
        loss_of(parallel, batch(number)).backward()
        for total, one in zip(sums, parallel.parameters(), strict=True):
            total += one.grad / 2
    parallel.zero_grad()
    accumulating = OptimWrapper(wrapper.optimizer, accumulative_counts=2)
    accumulating.initialize_count_status(parallel, 0, 2)
    for number in range(2):
        parallel.train_step(batch(number), accumulating)
        if number == 0:
            changed = zip(before, parallel.parameters(), strict=True)
            assert all(torch.equal(*pair) for pair in changed), 'a step too early'
    assert_equal(parallel)
    for old, gradient, new in zip(before, sums, parallel.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.01 * gradient, atol=1e-6, rtol=1e-4)


def recomputes(family: str) -> None:
    """Weights after a step are those without recomputing."""
    found = []
    for with_cp in (False, True):
        parallel, wrapper = build(family, with_cp=with_cp)
        for number in range(2):
            step(parallel, wrapper, batch(number))
        found.append([one.detach().clone() for one in parallel.parameters()])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-4)


def cases() -> Iterator[tuple[str, Callable[[str], None], str]]:
    yield from (('trains', trains, family) for family in FAMILIES)
    # Statistics of batch normalisation are those of the last images; its output is not.
    yield from (('accumulates', accumulates, family) for family in ('arta', 'segvit', 'lrformer'))
    yield from (('recomputes', recomputes, family) for family in RECOMPUTED)


def main(rank: int, port: int) -> None:
    """All cases, in the same order in both processes."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    init_default_scope('mmseg')
    dist.init_process_group('gloo', rank=rank, world_size=2)
    for name, run, family in cases():
        try:
            run(family)
        except Exception as error:
            raise SystemExit(f'{family} {name}: {type(error).__name__}: {error}') from error
        print(f'{name}: {family}', flush=True)
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]))
