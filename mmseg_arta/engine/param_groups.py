"""Parameter groups of the recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..option_checks import check_config, check_number

NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalisation
    nn.GroupNorm,
    nn.LayerNorm,
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NormFreeDecayConstructor(DefaultOptimWrapperConstructor):
    """Learning rates by name, weight decay by kind of module.

    The stock constructor lets ``norm_decay_mult`` go wherever one of the ``custom_keys`` matches,
    so a backbone with a learning rate of its own would decay its norms. Here the multipliers
    of ``paramwise_cfg`` for norms and embeddings hold everywhere:

    - ``norm_decay_mult``: weight and bias of batch, instance, group and layer normalisation;
    - ``embed_decay_mult``: weights of ``nn.Embedding``.

    A matching custom key that states ``decay_mult`` itself still wins. All else is as in
    :class:`mmengine.optim.DefaultOptimWrapperConstructor`, but for its one group per parameter:
    parameters with equal settings share a group, so that an optimiser steps them together. On a
    GPU a step of its own for each is hundreds of times as many kernels.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Append one group per setting that parameters of ``module`` and its children have."""
        begin = len(params)
        multiplier = self._decay_mult(module) if self.base_wd is not None else None
        stated = self.paramwise_cfg
        if multiplier is not None:
            # Before the stock constructor sets, and logs, the decay of the others.
            decay = dict(weight_decay=self.base_wd * multiplier)
            keys = stated.get('custom_keys', {}).items()
            ours = {key: v if 'decay_mult' in v else {**v, **decay} for key, v in keys}
            self.paramwise_cfg = {**stated, 'custom_keys': ours}
        try:
            super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
        finally:
            self.paramwise_cfg = stated
        if multiplier is not None:
            self._set_decay(params[begin:], self.base_wd * multiplier, module, prefix)
        if not prefix:
            # Not before: what is above looks at single parameters.
            params[begin:] = merged(params[begin:])

    @staticmethod
    def _set_decay(
        groups: Sequence[dict[str, Any]], decay: float, module: nn.Module, prefix: str
    ) -> None:
        """What the stock constructor has no rule for, such as embeddings without a custom key."""
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in groups:
            if 'decay_mult' in group or group.get('weight_decay') == decay:
                continue
            group['weight_decay'] = decay
            name = '.'.join(part for part in (prefix, names[id(group['params'][0])]) if part)
            print_log(f'paramwise_options -- {name}:weight_decay={decay}', logger='current')

    def _decay_mult(self, module: nn.Module) -> float | None:
        if isinstance(module, NORMS):
            return self.paramwise_cfg.get('norm_decay_mult')
        if isinstance(module, nn.Embedding):
            return self.paramwise_cfg.get('embed_decay_mult')
        return None


def merged(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups with equal settings as one, in the order in which they first come."""
    found: list[dict[str, Any]] = []
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        for other in found:
            if settings == {key: value for key, value in other.items() if key != 'params'}:
                other['params'].extend(group['params'])
                break
        else:
            found.append({**group, 'params': [*group['params']]})
    return found


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(LearningRateDecayOptimizerConstructor):
    """Learning rates that fall from the head to the first layer, for Vision Transformers too.

    The stock constructor knows the layers of ConvNeXt, BEiT and MAE by the names of their classes.
    This one also asks a backbone that says which layer a parameter belongs to
    (``get_layer_depth``: ``StepViT``, and the transformers of mmpretrain). The learning rate of
    layer ``i`` of ``n`` is multiplied by ``decay_rate^(n - 1 - i)``. Norms, biases and position
    embeddings have no weight decay. ``paramwise_cfg`` holds ``decay_rate``, which mmpretrain
    calls ``layer_decay_rate``; ``num_layers`` is needed by backbones of the stock constructor only.

    Args:
        optim_wrapper_cfg: as of every constructor.
        paramwise_cfg: see above.

    Raises:
        ValueError: without a decay rate in (0, 1], or if ``num_layers`` is not the backbone's.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        check_config(self, ('optimizer',), optim_wrapper_cfg=optim_wrapper_cfg)
        check_config(self, optional=True, paramwise_cfg=paramwise_cfg)
        options = paramwise_cfg or {}
        rate = options.get('decay_rate', options.get('layer_decay_rate'))
        name = 'LayerDecayConstructor.paramwise_cfg'
        check_number(name, most=1.0, above=0.0, decay_rate=rate)
        super().__init__(optim_wrapper_cfg, dict(options, decay_rate=rate))

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the parameters of a model, in one group per layer and weight decay."""
        options = self.paramwise_cfg
        layer_of = getattr(getattr(module, 'backbone', None), 'get_layer_depth', None)
        if layer_of is None:
            super().add_params(params, module, **kwargs)
            return
        groups: dict[str, dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            layer, count = layer_of(name, 'backbone.')
            if options.get('num_layers', count - 2) != count - 2:
                raise ValueError(
                    f'LayerDecayConstructor.paramwise_cfg.num_layers is {options["num_layers"]}, '
                    f'but the backbone has {count - 2} layers'
                )
            decays = parameter.ndim > 1 and not name.endswith(('.bias', 'pos_embed', 'cls_token'))
            key = f'layer_{layer}_{"decay" if decays else "no_decay"}'
            scale = options['decay_rate'] ** (count - 1 - layer)
            group = groups.setdefault(
                key,
                dict(
                    params=[],
                    param_names=[],
                    group_name=key,
                    lr_scale=scale,
                    lr=scale * self.base_lr,
                    weight_decay=self.base_wd if decays else 0.0,
                ),
            )
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())
