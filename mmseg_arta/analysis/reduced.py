"""Models made small: configs at reduced depth, and models without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from ..models.backbones.aff import AFF_ARCHS
from ..models.backbones.arch import ARTA_ARCHS, DUPS_ARCHS, resolve_arch
from ..models.backbones.lrformer import LRFORMER_ARCHS
from ..models.backbones.step_vit import VIT_ARCHS

Reducer = Callable[[dict[str, Any]], dict[str, Any]]

#: Rule of every registered type that has one.
REDUCERS: dict[str, Reducer] = {}

_DROP_PATHS = ('drop_path', 'drop_path_rate')


def reduces(*types: str) -> Callable[[Reducer], Reducer]:
    """Decorator: the function reduces the configs of modules of these registered types.

    It takes and returns the config of one module, ``type`` included, and may change what it is
    given. Drop paths, checkpoints and SyncBN are seen to before it is called.

    Raises:
        ValueError: if a type has a rule already.
    """

    def register(rule: Reducer) -> Reducer:
        for name in types:
            if name in REDUCERS:
                raise ValueError(f'{name} has a rule already: {REDUCERS[name].__module__}')
            REDUCERS[name] = rule
        return rule

    return register


def reduced_model(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The same model at the least depth that keeps its structure, at full width.

    Types without a rule stay as they are, wherever they are in the config. Everywhere drop
    paths become 0, SyncBN becomes BN, and nothing is loaded from checkpoints.

    Args:
        model_cfg: config of a model; not changed.

    Returns:
        A copy made of plain containers.
    """
    return _reduced(model_cfg)


def _reduced(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_reduced(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    found = {key: _reduced(item) for key, item in value.items()}
    found.update({key: 0.0 for key in _DROP_PATHS if isinstance(found.get(key), (int, float))})
    if isinstance(found.get('pretrained'), str):
        found['pretrained'] = None
    if 'init_cfg' in found:
        found['init_cfg'] = _without_checkpoints(found['init_cfg'])
        if not found['init_cfg']:
            del found['init_cfg']
    if found.get('type') == 'SyncBN':
        found['type'] = 'BN'
    rule = REDUCERS.get(_name(found.get('type')))
    return found if rule is None else rule(found)


def _name(kind: Any) -> str:
    """Registered name of a ``type``: a name, one with a scope before it, or a class."""
    return getattr(kind, '__name__', str(kind)).rsplit('.', 1)[-1]


def _without_checkpoints(init_cfg: Any) -> Any:
    if isinstance(init_cfg, list):
        return [item for item in map(_without_checkpoints, init_cfg) if item]
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        return None
    return init_cfg


class _RatesOnHost(TorchFunctionMode):
    """Stock backbones read the drop rates that they make by ``linspace`` while being built."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


def build_on_meta(model_cfg: Mapping[str, Any]) -> nn.Module:
    """The model, built on the meta device: parameters have shapes, but take no memory.

    Args:
        model_cfg: config of a model; not changed.
    """
    with torch.device('meta'), _RatesOnHost():
        return MODELS.build(dict(model_cfg))


@reduces('ARTA')
def reduce_arta(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every round."""
    arch = resolve_arch(config.get('arch', 'tiny'), ARTA_ARCHS)
    config['arch'] = asdict(arch) | dict(
        allocation_depths=(1,) * len(arch.allocation_depths),
        refinement_depths=(1,) * len(arch.refinement_depths),
    )
    return config


@reduces('DUPS')
def reduce_dups(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every round."""
    arch = resolve_arch(config.get('arch', 'tiny'), DUPS_ARCHS)
    config['arch'] = asdict(arch) | dict(
        allocation_depths=(1,) * len(arch.allocation_depths),
        refinement_depths=(1,) * len(arch.refinement_depths),
    )
    return config


@reduces('AutoFocusFormer')
def reduce_aff(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    arch = resolve_arch(config.get('arch', 'tiny'), AFF_ARCHS)
    config['arch'] = asdict(arch) | dict(depths=(1,) * len(arch.depths))
    return config


@reduces('AFFSwin')
def reduce_aff_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    arch = resolve_arch(config.get('arch', 'mini'), AFF_ARCHS)
    depths = (min(arch.depths[0], 2), *(1 for _ in arch.depths[1:]))
    config['arch'] = asdict(arch) | dict(depths=depths)
    return config


@reduces('LRFormer')
def reduce_lrformer(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, with batch normalisation of its input if the arch has any."""
    arch = resolve_arch(config.get('arch', 'small'), LRFORMER_ARCHS)
    config['arch'] = asdict(arch) | dict(
        depths=(1, 1, 1, 1), pre_norm_blocks=(0,) if arch.pre_norm_blocks else ()
    )
    return config


@reduces('SparseMask2FormerHead')
def reduce_mask2former(config: dict[str, Any]) -> dict[str, Any]:
    """One encoder layer, and one decoder layer for every level that queries attend to."""
    pixel_decoder = config.get('pixel_decoder', 'point')
    if isinstance(pixel_decoder, str):
        pixel_decoder = dict(type=pixel_decoder)
    config['pixel_decoder'] = pixel_decoder | dict(num_layers=1)
    decoder = config.get('transformer_decoder') or {}
    levels = len(config['in_channels']) - 1
    config['transformer_decoder'] = decoder | dict(num_layers=levels)
    return config


@reduces('StepViT')
def reduce_step_vit(config: dict[str, Any]) -> dict[str, Any]:
    """One block per output, halting point and change of resolution, and one behind the last."""
    arch = asdict(resolve_arch(config.get('arch', 'base'), VIT_ARCHS))
    halting, shrink = config.get('halting'), config.get('shrink_at')
    if halting:
        arch['num_layers'] = len(halting['after']) + 1
        config['halting'] = {**halting, 'after': tuple(range(1, arch['num_layers']))}
        config['out_indices'] = (arch['num_layers'] - 1,)
    else:
        outputs = config.get('out_indices', (5, 7, 11))
        arch['num_layers'] = len(outputs)
        config['out_indices'] = tuple(range(len(outputs)))
        if shrink is not None:
            config['shrink_at'] = sum(index < shrink for index in outputs)
    config['arch'] = arch
    return config


@reduces('ATMHead', 'HaltingATMHead', 'ShrunkATMHead', 'ATMTokenClassifier')
def reduce_atm_head(config: dict[str, Any]) -> dict[str, Any]:
    """One decoder layer per stage."""
    config['num_layers'] = 1
    return config


@reduces('MixVisionTransformer')
def reduce_mit(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    config['num_layers'] = [1] * config.get('num_stages', 4)
    return config


@reduces('SwinTransformer')
def reduce_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    depths = config.get('depths', (2, 2, 6, 2))
    config['depths'] = [min(depths[0], 2), *(1 for _ in depths[1:])]
    return config


@reduces('ResNet', 'ResNetV1c', 'ResNetV1d')
def reduce_resnet(config: dict[str, Any]) -> dict[str, Any]:
    """The shallowest network of the same blocks: 18 of basic ones, 50 of bottlenecks."""
    config['depth'] = 18 if config['depth'] < 50 else 50
    return config
