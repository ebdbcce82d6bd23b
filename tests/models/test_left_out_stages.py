"""What stands behind a backbone's last output is left out: it would get no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmseg_arta.models import AFFSwin, AutoFocusFormer, LRFormer, StepViT
from tests.option_table import VIT

AFF = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), mlp_ratio=2.0)
LR = dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))

#: Backbones by their outputs, how many those can be, and the maps or tokens, finest first.
BACKBONES: dict[str, tuple[Callable[..., nn.Module], int, Callable[[Any], list[Tensor]]]] = {
    'aff': (
        lambda outputs, **options: AutoFocusFormer(AFF, out_stages=outputs, **options),
        4,
        lambda found: [level.feats for level in reversed(found.levels)],
    ),
    'swin': (lambda outputs, **options: AFFSwin(AFF, out_stages=outputs, **options), 4, list),
    'lrformer': (
        lambda outputs, **options: LRFormer(LR, 4, out_indices=outputs, **options),
        4,
        list,
    ),
    'vit': (
        lambda outputs, **options: StepViT(VIT, 64, out_indices=outputs, maps=True, **options),
        VIT['num_layers'],
        list,
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('outputs', [(0,), (0, 1), (1,)], ids=str)
def test_every_weight_gets_a_gradient_and_whole_files_load(name, outputs, tmp_path):
    build, count, tensors = BACKBONES[name]
    whole = build(tuple(range(count))).eval()
    path = str(tmp_path / 'whole.pth')
    torch.save(whole.state_dict(), path)
    model = build(outputs, init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    assert 0 < len(list(model.parameters())) < len(list(whole.parameters()))

    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = tensors(whole(image))
        found = tensors(model.eval()(image))
    for index, one in zip(outputs, found, strict=True):
        assert torch.equal(one, expected[index])
    sum(one.square().sum() for one in tensors(model.train()(torch.randn(2, 3, 64, 64)))).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]

    # A part that the model has must still be there.
    torch.save({key: value for key, value in whole.state_dict().items() if '.0.' not in key}, path)
    with pytest.raises(ValueError, match='keys missing'):
        model.init_weights()
