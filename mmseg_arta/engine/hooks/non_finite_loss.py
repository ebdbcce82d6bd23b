"""What happens to training steps whose loss is no finite number."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

from ...option_checks import check_whole

# How many images of every step are named.
_SHOWN = 4


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop a run whose losses stay NaN or infinite, and say where that began.

    Mixed precision overflows now and then: the loss scaler skips such a step, and no loss of this
    package stops the run for it. If the loss of every step since the last look is not finite, and
    of at least ``patience`` steps in a row, nothing will come of the run any more.

    Args:
        patience: steps in a row.
        interval: steps between two looks, each of which waits for the device.

    Raises:
        ValueError: if ``patience`` or ``interval`` is below 1.
        FloatingPointError: on use, with iteration, images and the first module whose output is not
            finite.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, patience: int = 25, interval: int = 10) -> None:
        # The names of so many iterations' images are kept.
        check_whole(self, 1, 1 << 16, patience=patience, interval=interval)
        self.patience, self.interval = patience, interval
        self._row: Tensor | None = None
        self._images: deque[list[str]] = deque(maxlen=patience + interval)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Count without waiting for the device, and look now and then."""
        loss = (outputs or {}).get('loss')
        if not isinstance(loss, Tensor):
            return
        bad = ~torch.isfinite(loss.detach()).all()
        before = torch.zeros_like(bad, dtype=torch.int64) if self._row is None else self._row
        self._row = (before + 1) * bad
        self._images.append(_names(data_batch))
        if not self.every_n_train_iters(runner, self.interval):
            return
        row = int(self._row)
        if row >= self.patience:
            first = runner.iter + 1 - row
            images = self._images[-row] if row <= len(self._images) else self._images[0]
            raise FloatingPointError(
                f'the loss was not finite in {row} iterations in a row, since iteration '
                f'{first + 1}; images there: {", ".join(images) or "unknown"}. '
                f'{_first_non_finite(runner, data_batch)}'
            )


def _names(data_batch: Any) -> list[str]:
    samples = data_batch.get('data_samples', ()) if isinstance(data_batch, Mapping) else ()
    if not isinstance(samples, Sequence):
        return []
    return [str(getattr(sample, 'img_path', '?')) for sample in samples[:_SHOWN]]


@torch.no_grad()
def _first_non_finite(runner: Runner, data_batch: Any) -> str:
    """Where in the model it begins, by running it once more on the last images."""
    model: Any = getattr(runner.model, 'module', runner.model)
    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if bad:
        more = f' and {len(bad) - 1} more' if len(bad) > 1 else ''
        return f'Weights are not finite by now: {bad[0]}{more}.'
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not found and not all(torch.isfinite(value).all() for value in _tensors(output)):
                found.append(f'{name} ({type(module).__name__})')

        return hook

    handles = [
        module.register_forward_hook(look(name)) for name, module in model.named_modules() if name
    ]
    try:
        with runner.optim_wrapper.optim_context(runner.model):
            model(**model.data_preprocessor(data_batch, True), mode='loss')
    except (RuntimeError, ValueError) as error:
        found.append(f'none that ended: {" ".join(str(error).split())}')
    finally:
        for handle in handles:
            handle.remove()
    where = found[0] if found else 'none: the loss itself, or its gradient, is not'
    return f'First module with an output that is not finite: {where}.'


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
