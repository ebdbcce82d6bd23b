"""One training step and one prediction of a config at reduced depth."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

from ..reduced import reduced_model
from .overrides import SIDE, overrides
from .subject import Subject


def run_step(subject: Subject, data_root: Path, side: int = SIDE) -> None:
    """Feed a batch of two from the config's own data pipeline to its model at reduced depth.

    Raises:
        AssertionError: if the loss or a weight is not finite, a parameter gets no gradient, or
            the prediction has another size than the image.
    """
    torch.manual_seed(0)
    config = copy.deepcopy(subject.config)
    config.merge_from_dict(overrides(subject, data_root, side))
    scope = config.get('default_scope', 'mmseg')
    init_default_scope(scope)
    # Stock segmentors read their test_cfg by attribute.
    model = MODELS.build(ConfigDict(reduced_model(config.model.to_dict())))
    model.init_weights()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    data = DATASETS.build(config.train_dataloader.dataset)
    model.train()
    batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), training=True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    assert loss.isfinite(), f'the loss is {loss}'
    optimizer.backward(loss)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check(
        'parameters without a gradient', [name for name, p in learning.items() if p.grad is None]
    )
    optimizer.step()
    broken = [name for name, p in learning.items() if not p.isfinite().all()]
    _check('weights that are not finite after a step', broken)
    model.eval()
    data = DATASETS.build(config.test_dataloader.dataset)
    sample = model.test_step(pseudo_collate([data[0]]))[0]
    found, wanted = tuple(sample.pred_sem_seg.data.shape[-2:]), tuple(sample.ori_shape)
    assert found == wanted, f'the prediction has {found} pixels (height, width), the image {wanted}'


def _check(what: str, names: list[str]) -> None:
    assert not names, f'{len(names)} {what}, such as {names[0]}'
