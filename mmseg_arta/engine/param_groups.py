"""Parameter groups of the recipes."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

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
    :class:`mmengine.optim.DefaultOptimWrapperConstructor`.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Append one group per parameter of ``module`` itself, then of its children."""
        begin = len(params)
        super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
        multiplier = self._decay_mult(module)
        if multiplier is None or self.base_wd is None:
            return
        for group in params[begin:]:
            if 'decay_mult' not in group:
                group['weight_decay'] = self.base_wd * multiplier

    def _decay_mult(self, module: nn.Module) -> float | None:
        if isinstance(module, NORMS):
            return self.paramwise_cfg.get('norm_decay_mult')
        if isinstance(module, nn.Embedding):
            return self.paramwise_cfg.get('embed_decay_mult')
        return None
