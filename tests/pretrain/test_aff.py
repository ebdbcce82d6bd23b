"""AutoFocusFormer and its Swin baseline as classifiers take them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)

from mmseg_arta.models import AFFSwin, AutoFocusFormer
from mmseg_arta.pretrain.aff import AutoFocusFormer as ImageBackbone
from mmseg_arta.pretrain.swin import AFFSwin as ImageSwin

SMALL = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2.0)


def test_classifiers_get_one_map_that_averages_to_the_tokens_mean():
    model = ImageBackbone(SMALL, drop_path_rate=0.0).eval()
    images = torch.randn(2, 3, 64, 96)
    (found,) = model(images)
    assert found.shape == (2, 32, 6, 1)
    (level,) = AutoFocusFormer.forward(model, images).levels
    torch.testing.assert_close(
        found.mean((2, 3)), level.feats.unflatten(0, (2, -1)).mean(1), atol=1e-6, rtol=1e-5
    )
    assert AutoFocusFormer('mini', out_stages=(3,)).state_dict().keys() == (
        ImageBackbone('mini').state_dict().keys()
    )
    with pytest.raises(TypeError, match='depth'):
        ImageBackbone('mini', depth=3)


def test_classifiers_attend_globally_in_the_last_stage():
    model = ImageBackbone(SMALL).eval()
    level = model(torch.randn(1, 3, 224, 224))[0]
    assert level.shape[2] == 49
    tokens = AutoFocusFormer.forward(model, torch.randn(1, 3, 224, 224)).levels[0]
    assert model.stages[3].clustering(tokens, (56, 56)).num_neighbors == 7
    model.stages[3].neighborhood_size = 48
    assert model.stages[3].clustering(tokens, (56, 56)).num_neighbors == 6


def test_swin_hands_out_its_last_map_and_has_no_other_norms():
    model = ImageSwin(SMALL).eval()
    whole = AFFSwin(SMALL).eval()
    whole.load_state_dict(model.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 96)
    (found,) = model(image)
    assert torch.equal(found, whole(image)[-1]) and found.shape == (1, 32, 2, 3)
    missing = whole.state_dict().keys() - model.state_dict().keys()
    assert {key.rpartition('.')[0] for key in missing} == {f'norms.{i}' for i in range(3)}
    with pytest.raises(ValueError, match=r'out_stages must be ascending.*found \(3, 0\)'):
        AFFSwin(SMALL, out_stages=(3, 0))
