"""Several processes that train one model on CPUs."""

from __future__ import annotations

from typing import Any

from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from torch import nn


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """The stock wrapper without a device, for models with ``SyncBN`` too.

    PyTorch synchronises batch statistics on accelerators only and refuses such models on CPUs, so
    ``SyncBN`` becomes batch normalisation here, as MMEngine does with a single process; names of
    weights stay. ``mim train mmseg_arta ... --launcher pytorch`` uses it where there is no
    accelerator.

    Args:
        module: the model.
        device_ids: left out, whatever it is: MMEngine names the device of a GPU.
        options: of ``torch.nn.parallel.DistributedDataParallel``.
    """

    def __init__(self, module: nn.Module, device_ids: Any = None, **options: Any) -> None:
        super().__init__(revert_sync_batchnorm(module), device_ids=None, **options)
