"""Small valid options of every class that checks some, and how to try what was built of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_arta import datasets, engine, evaluation, models
from mmseg_arta.models.allocation import AllocationPolicy, TokenCosts
from mmseg_arta.models.backbones.aff import AFFArch
from mmseg_arta.models.backbones.arch import MixedEncoderArch
from mmseg_arta.models.backbones.lrformer import LRFormerArch
from mmseg_arta.models.backbones.step_vit import ViTArch
from mmseg_arta.models.decode_heads import mask2former
from mmseg_arta.models.losses import ATMLoss, HungarianMatcher, SetCriterion
from mmseg_arta.models.token_reduction import HaltingPoints
from tests.builders import NANO, SMALL_HEAD, samples

SIZE = (64, 64)
AFF = dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratio=2.0)
LRFORMER = dict(
    dims=(8, 8, 16, 16),
    depths=(1, 1, 2, 1),
    num_heads=(1, 1, 2, 2),
    mlp_ratios=(2.0, 2.0, 2.0, 2.0),
    layer_scale_init=(0.0, 0.0, 1e-6, 1e-6),
    pre_norm_blocks=(0, 1),
)
VIT = dict(embed_dims=16, num_layers=3, num_heads=2)
STEP = dict(arch=VIT, img_size=(64, 64), patch_size=16, out_indices=(0, 1, 2), drop_path_rate=0.1)
ATM = dict(in_channels=16, channels=16, num_classes=5, num_heads=2, num_layers=1)
HALTING = dict(
    after=(1, 2),
    head=dict(type='ATMTokenClassifier', **ATM),
    policy=dict(type='ConfidenceHalting'),
)
POLICY_NET = dict(type='GroupPolicyNet', init_cfg=None)


@dataclass(frozen=True)
class Case:
    """A class, options that it takes, and what shows that the object works.

    Attributes:
        make: the class, or a function that has its options.
        options: by name; what is left out has its default.
        use: gets what was built; raises unless it works.
        works: unusual values that this class takes, by option, besides those in ``WORKS``.
    """

    make: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    use: Callable[[Any], object] = repr
    works: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def tensors(found: Any) -> Iterator[Tensor]:
    """All tensors of floating-point numbers of an output."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        yield from tensors(list(found.values()))
    elif isinstance(found, (list, tuple)) and not hasattr(found, 'levels'):
        for one in found:
            yield from tensors(one)
    elif hasattr(found, 'levels'):
        yield from (level.feats for level in found.levels)
    elif hasattr(found, 'stages'):
        yield from (stage.feats for stage in found.stages)


def trained(model: nn.Module, found: Any) -> None:
    """A backward pass through all of an output; output and gradients are finite."""
    parts = list(tensors(found))
    assert parts and all(part.isfinite().all() for part in parts)
    wanted = [part.sum() for part in parts if part.requires_grad]
    if wanted:
        torch.stack(wanted).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def image(channels: int = 3) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, channels, *SIZE)


def run_backbone(model: nn.Module) -> None:
    trained(model.train(), model(image()))
    model.eval()
    with torch.no_grad():
        assert all(part.isfinite().all() for part in tensors(model(image())))


@cache
def sparse_tokens() -> Any:
    model = MODELS.build(
        dict(
            type='ARTA', arch=NANO, allocation=dict(type='ThresholdAllocation', thresholds=[0] * 3)
        )
    )
    with torch.no_grad():
        return model.eval()(image())


@cache
def vit_tokens(halting: bool = False, shrink: bool = False) -> Any:
    options = dict(STEP, out_indices=(2,), halting=HALTING) if halting else STEP
    if shrink:
        options = dict(STEP, out_indices=(1, 2), shrink_at=1)
    model = MODELS.build(dict(type='StepViT', **options))
    with torch.no_grad():
        return model.train()(image())


def run_head(head: nn.Module, inputs: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    losses = head.train().loss(inputs(), samples(SIZE), {})
    trained(head, {name: value for name, value in losses.items() if 'loss' in name})
    if not isinstance(head, models.BoundaryScoreHead):
        metas = [dict(img_shape=SIZE, pad_shape=SIZE)] * 2
        with torch.no_grad():
            found = head.eval().predict(inputs(), metas, {})
        assert all(part.isfinite().all() for part in tensors(found))


def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 16, 16 >> level, 16 >> level) for level in range(4)]


def run_policy(policy: AllocationPolicy) -> None:
    model = MODELS.build(dict(type='ARTA', arch=NANO, allocation=policy))
    if not isinstance(policy, models.OracleAllocation):
        trained(model.train(), model(image()))
    with torch.no_grad():
        model.eval()(image())


def run_arch(backbone: str, arch: Any) -> None:
    options = dict(arch={name: getattr(arch, name) for name in arch.__dataclass_fields__})
    if backbone == 'StepViT':
        options.update(img_size=SIZE, out_indices=(0,))
    run_backbone(MODELS.build(dict(type=backbone, **options)))


def run_step(**options: Any) -> None:
    run_backbone(MODELS.build(dict(type='StepViT', **(STEP | options))))


def run_merging(policy: Any) -> None:
    sizes = policy.group_sizes
    scores = {size: torch.rand(2, 16 // size, 16 // size) for size in sizes}
    assert set(policy(scores)[0]) == set(sizes)


def run_halting(policy: Any) -> None:
    confidence, image_of = torch.rand(8), torch.zeros(8, dtype=torch.long)
    assert len(policy(confidence, image_of, image_of, 5)) == 8


def run_mask_head(**parts: Any) -> None:
    torch.manual_seed(0)
    run_head(MODELS.build(dict(SMALL_HEAD, **parts)), sparse_tokens)


def run_criterion(criterion: Any) -> None:
    head = MODELS.build(dict(SMALL_HEAD))
    head.criterion = criterion
    run_head(head, sparse_tokens)


def run_matcher(matcher: Any) -> None:
    criterion = SetCriterion(5)
    criterion.matcher = matcher
    run_criterion(criterion)


def run_decoder(name: str, decoder: nn.Module) -> None:
    head = MODELS.build(dict(SMALL_HEAD, dim=32))
    setattr(head, name, decoder)
    run_head(head, sparse_tokens)


def run_grid_decoder(decoder: nn.Module) -> None:
    options = dict(in_channels=(16,) * 4, dim=32, cell_position='none', pixel_decoder='grid')
    head = MODELS.build(SMALL_HEAD | options)
    head.pixel_decoder = decoder
    run_head(head, maps)


def run_atm_loss(loss: Any) -> None:
    head = MODELS.build(dict(type='ATMHead', classes=loss.classes, **ATM))
    head.criterion = loss
    run_head(head, vit_tokens)


def run_classifier(head: nn.Module) -> None:
    tokens = vit_tokens()
    trained(head, head(tokens.stages[-1], tokens.layout))


def run_points(points: nn.Module) -> None:
    model = MODELS.build(dict(type='StepViT', **dict(STEP, out_indices=(2,))))
    model.halting = points
    run_backbone(model)


def run_group_net(net: nn.Module) -> None:
    found = net.scores(image(net.backbone.in_channels), (4, 4), 16)
    assert all(part.isfinite().all() for part in tensors(found))


def run_labels(check: Any) -> None:
    label = torch.full(SIZE, 0, dtype=torch.uint8).numpy()
    check.transform(dict(gt_seg_map=label, ori_shape=SIZE))


def run_preprocessor(cut: nn.Module) -> None:
    data = dict(inputs=list(image()), data_samples=samples(SIZE))
    assert len(cut(data, training=True)['inputs']) == 2


def run_segmentor(model: nn.Module) -> None:
    trained(model, model.loss(image(), samples(SIZE)))


_TOKENS = partial(run_head, inputs=sparse_tokens)
_PATCHES = partial(run_head, inputs=vit_tokens)
_CONFIGS = dict(backbone=('empty dict',), head=('empty dict',))
_MASK = dict(num_layers=1, num_heads=2, hidden=32)

_PARTS = dict(
    backbone=dict(type='ARTA', arch=NANO),
    decode_head=SMALL_HEAD,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

CASES = {
    # Backbones
    'ARTA': Case(models.ARTA, dict(arch=NANO), run_backbone),
    'DUPS': Case(models.DUPS, dict(arch=NANO), run_backbone),
    'AutoFocusFormer': Case(
        models.AutoFocusFormer, dict(arch=AFF, neighborhood_size=(48, 48, 48, 48)), run_backbone
    ),
    'AFFSwin': Case(models.AFFSwin, dict(arch=AFF), run_backbone),
    'LRFormer': Case(models.LRFormer, dict(arch=LRFORMER), run_backbone),
    'StepViT': Case(models.StepViT, STEP, run_backbone),
    'EfficientNetLite0': Case(models.EfficientNetLite0, {}, run_backbone),
    'GroupPolicyNet': Case(models.GroupPolicyNet, {}, run_group_net, _CONFIGS),
    'MixedEncoderArch': Case(MixedEncoderArch, NANO, partial(run_arch, 'ARTA')),
    'AFFArch': Case(AFFArch, AFF, partial(run_arch, 'AutoFocusFormer')),
    'LRFormerArch': Case(LRFormerArch, LRFORMER, partial(run_arch, 'LRFormer')),
    'ViTArch': Case(ViTArch, VIT, partial(run_arch, 'StepViT')),
    # What decides about tokens
    'ThresholdAllocation': Case(models.ThresholdAllocation, {}, run_policy),
    'BatchRatioAllocation': Case(models.BatchRatioAllocation, {}, run_policy),
    'FixedRatioAllocation': Case(models.FixedRatioAllocation, {}, run_policy),
    'RandomAllocation': Case(models.RandomAllocation, {}, run_policy),
    'BudgetAllocation': Case(models.BudgetAllocation, dict(tokens=100), run_policy),
    'BudgetAllocation in GFLOPs': Case(
        models.BudgetAllocation, dict(gflops=100.0, costs=dict(tokens=(0.01,) * 4)), run_policy
    ),
    'OracleAllocation': Case(models.OracleAllocation, dict(rate=0.5), run_policy),
    'TrainTestAllocation': Case(
        models.TrainTestAllocation,
        dict(train=dict(type='FullAllocation'), test=dict(type='ThresholdAllocation')),
        run_policy,
    ),
    'ReconsideringAllocation': Case(
        models.ReconsideringAllocation, dict(policy=dict(type='ThresholdAllocation')), run_policy
    ),
    'TokenCosts': Case(
        TokenCosts, dict(tokens=(1.0,) * 4), lambda costs: costs.total((4, 4, 4, 4))
    ),
    'ConfidenceHalting': Case(models.ConfidenceHalting, {}, run_halting),
    'TopGroupMerging': Case(models.TopGroupMerging, {}, run_merging),
    'ThresholdMerging': Case(
        models.ThresholdMerging, dict(thresholds={'2': 0.5, '4': 0.5}), run_merging
    ),
    'HaltingPoints': Case(HaltingPoints, dict(depth=3, **HALTING), run_points),
    # Heads and their parts
    'SparseMask2FormerHead': Case(
        models.SparseMask2FormerHead,
        {name: value for name, value in SMALL_HEAD.items() if name != 'type'},
        _TOKENS,
    ),
    'PointPixelDecoder': Case(
        mask2former.PointPixelDecoder,
        dict(in_channels=NANO['dims'], dim=32, mask_dim=32, **_MASK),
        partial(run_decoder, 'pixel_decoder'),
    ),
    'GridPixelDecoder': Case(
        mask2former.GridPixelDecoder,
        dict(in_channels=(16,) * 4, dim=32, mask_dim=32, **_MASK),
        run_grid_decoder,
    ),
    'MaskedTransformerDecoder': Case(
        mask2former.MaskedTransformerDecoder,
        dict(num_classes=5, dim=32, mask_dim=32, num_queries=8, **_MASK),
        partial(run_decoder, 'transformer_decoder'),
    ),
    'SetCriterion': Case(SetCriterion, dict(num_classes=5), run_criterion),
    'HungarianMatcher': Case(HungarianMatcher, {}, run_matcher),
    'ATMHead': Case(models.ATMHead, ATM, _PATCHES),
    'ShrunkATMHead': Case(
        models.ShrunkATMHead,
        dict(ATM, grid=(4, 4), num_stages=2),
        partial(run_head, inputs=partial(vit_tokens, shrink=True)),
    ),
    'HaltingATMHead': Case(
        models.HaltingATMHead, ATM, partial(run_head, inputs=partial(vit_tokens, halting=True))
    ),
    'ATMTokenClassifier': Case(models.ATMTokenClassifier, ATM, run_classifier),
    'ATMLoss': Case(ATMLoss, dict(num_classes=5), run_atm_loss),
    'LRHead': Case(
        models.LRHead,
        dict(in_channels=(16, 16, 16), channels=16, num_classes=5, num_heads=2),
        partial(run_head, inputs=maps),
    ),
    'BoundaryScoreHead': Case(models.BoundaryScoreHead, {}, _TOKENS),
    'GroupPolicyHead': Case(
        models.GroupPolicyHead,
        dict(in_channels=16),
        partial(run_head, inputs=lambda: [torch.randn(2, 16, 2, 2)]),
    ),
    'MultiSizeCropPreProcessor': Case(
        models.MultiSizeCropPreProcessor,
        dict(crop_sizes=((32, 48), (64, 64)), weights=(1.0, 2.0), size=SIZE),
        run_preprocessor,
        dict(weights=('fraction', 'huge')),
    ),
    'TokensToMaps': Case(
        models.TokensToMaps,
        dict(in_channels=NANO['dims']),
        lambda neck: trained(neck, neck(sparse_tokens())),
    ),
    'BatchedSlideEncoderDecoder': Case(models.BatchedSlideEncoderDecoder, _PARTS, run_segmentor),
    'OracleEncoderDecoder': Case(models.OracleEncoderDecoder, _PARTS, run_segmentor),
    # The rest
    'CheckWeightsHook': Case(
        engine.CheckWeightsHook, {}, works=dict(allow=('text', 'empty sequence'))
    ),
    'NonFiniteLossHook': Case(engine.NonFiniteLossHook),
    'TokenPictureHook': Case(engine.TokenPictureHook, works=dict(out_dir=('text',))),
    'TokenStatisticsHook': Case(engine.TokenStatisticsHook),
    'LayerDecayConstructor': Case(
        engine.LayerDecayConstructor,
        dict(
            optim_wrapper_cfg=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            paramwise_cfg=dict(decay_rate=0.5),
        ),
    ),
    'GroupPolicyMetric': Case(engine.GroupPolicyMetric, works=dict(prefix=('text',))),
    'GroupedIoUMetric': Case(evaluation.GroupedIoUMetric),
    'CamVidDataset': Case(
        datasets.CamVidDataset,
        dict(lazy_init=True),
        works=dict(img_suffix=('text',), seg_map_suffix=('text',)),
    ),
    'CheckLabels': Case(datasets.CheckLabels, dict(num_classes=5), run_labels),
}

try:
    from mmseg_arta import pretrain
except ImportError:
    pass
else:
    CASES |= {
        f'{one.__name__} in mmpretrain': Case(one, CASES[one.__name__].options, run_backbone)
        for one in pretrain.BACKBONES
        if one is not models.LRFormer
    }
