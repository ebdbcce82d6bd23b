"""Halting: parity with DToP's published code, and what leaves the computation."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.checkpoints.segvit import convert_segvit
from mmseg_arta.models import ConfidenceHalting, StepViT
from mmseg_arta.models.layers import packed_self_attention
from tests.helpers import load_fixture

HEAD = dict(in_channels=48, channels=24, num_classes=6, num_layers=2, num_heads=4, dropout=0.0)


@cache
def fixture():
    return load_fixture('dtop/prune.pt')


def close(found, expected, tolerance=1e-4):
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


def samples(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


def published(threshold=None, after=(2, 4), keep=5):
    case = fixture()
    threshold = case['config']['head']['thresh'] if threshold is None else threshold
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='StepViT',
                arch=dict(embed_dims=48, num_layers=6, num_heads=4),
                img_size=128,
                out_indices=(5,),
                drop_path_rate=0.0,
                patch_bias=True,
                halting=dict(
                    after=after,
                    head=dict(type='ATMTokenClassifier', **HEAD),
                    policy=dict(type='ConfidenceHalting', threshold=threshold, keep_per_class=keep),
                ),
            ),
            decode_head=dict(type='HaltingATMHead', loss=dict(ignored_pixels='negative'), **HEAD),
        )
    )
    model.load_state_dict(convert_segvit(case['state_dict']))
    return case, model.eval()


def test_tokens_halt_and_predict_as_published():
    case, model = published()
    out = model.backbone(case['inputs']['x'])
    stages = case['outputs']['stages']
    for halt, stage in zip(out.halts, stages, strict=False):
        going_on = torch.zeros(128, dtype=torch.bool)
        going_on[halt.rows] = True
        assert torch.equal(~going_on.view(2, 64), stage['pruned_after'])
        assert halt.kept == tuple((~stage['pruned_after']).sum(1).tolist())
    class_logits, maps = model.decode_head(out)
    for logits, mask, stage in zip(class_logits, maps, stages, strict=True):
        close(logits, stage['pred_logits'])
        close(mask.flatten(2), stage['canvas_attn_logits'])
    scores = model.decode_head.predict(out, [])
    close(scores[..., 1::8, 3::8], case['outputs']['scores'])


def test_losses_and_gradients_are_the_published_ones():
    case, model = published()
    model.train()
    losses = model.loss(case['inputs']['x'], samples(case['inputs']['label']))
    expected = case['outputs']['train']['losses']
    for suffix, part in (('', 'decode'), ('_0', 'aux_0'), ('_1', 'aux_1')):
        for name, value in expected[part].items():
            found = float(losses[f'decode.{name}{suffix}'].detach())
            assert found == pytest.approx(float(value), rel=1e-5)
    assert len(losses) == 9
    sum(losses.values()).backward()
    norms = {
        key: value
        for key, value in case['outputs']['train']['grad_norms'].items()
        # Ours has no class token, nor a position for it.
        if key not in ('backbone.cls_token', 'backbone.pos_embed')
    }
    for key, norm in convert_segvit(norms).items():
        found = float(model.get_parameter(key).grad.norm())
        assert found == pytest.approx(float(norm), rel=1e-3, abs=1e-6)
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def kept(confidence, classes, image, threshold=0.5, keep=2):
    policy = ConfidenceHalting(threshold, keep)
    tensors = (torch.tensor(values) for values in (confidence, classes, image))
    return policy(*tensors, 3).nonzero()[:, 0].tolist()


def test_the_surest_few_of_every_class_go_on():
    #              0    1    2    3    4    5    6    7
    confidence = [0.9, 0.8, 0.7, 0.4, 0.6, 0.9, 0.8, 0.7]
    classes = [0, 0, 0, 0, 1, 0, 0, 0]
    image = [0, 0, 0, 0, 0, 1, 1, 1]
    assert kept(confidence, classes, image) == [0, 1, 3, 4, 5, 6]
    assert kept(confidence, classes, image, keep=0) == [3]
    assert kept(confidence, classes, image, threshold=1.0) == list(range(8))
    # Exactly at the threshold a token goes on; among equals the first.
    assert kept([0.5, 0.6, 0.6, 0.6], [0] * 4, [0] * 4) == [0, 1, 2]


@pytest.mark.parametrize('keep', [5, 0], ids=['kept for context', 'none left'])
def test_all_tokens_confident_at_the_first_head(keep):
    case, model = published(threshold=0.0, keep=keep)
    image = case['inputs']['x']
    out = model.backbone(image)
    if keep:
        assert all(0 < count <= 5 * 6 for count in out.halts[0].kept)
    else:
        assert out.halts[0].kept == (0, 0) and out.stages[-1].feats.shape == (0, 48)
    scores = model.decode_head.predict(out, [])
    assert scores.shape == (2, 6, 128, 128) and scores.isfinite().all()
    model.train()
    total = sum(model.loss(image, samples(case['inputs']['label'])).values())
    total.backward()
    assert total.isfinite()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_no_token_confident_is_the_plain_backbone():
    case, model = published(threshold=1.0)
    out = model.backbone(case['inputs']['x'])
    assert out.stages[-1].rows is None and [halt.kept for halt in out.halts] == [(64, 64)] * 2
    plain = StepViT(
        arch=dict(embed_dims=48, num_layers=6, num_heads=4),
        img_size=128,
        out_indices=(5,),
        patch_bias=True,
    ).eval()
    weights = {k: v for k, v in model.backbone.state_dict().items() if 'halting' not in k}
    plain.load_state_dict(weights)
    close(out.stages[0].feats, plain(case['inputs']['x']).stages[0].feats)


def test_halted_tokens_leave_the_computation_at_once():
    _, model = published()
    seen = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda module, args, out: seen.append((args[1], len(out))))
    image = fixture()['inputs']['x']
    out = model.backbone(image)
    first, second = out.halts
    assert seen[:2] == [((64, 64), 128)] * 2
    assert seen[2:4] == [(first.kept, sum(first.kept))] * 2
    assert seen[4:] == [(second.kept, sum(second.kept))] * 2
    assert sum(second.kept) < sum(first.kept) < 128


def test_images_of_a_batch_do_not_see_each_other():
    case, model = published()
    image = case['inputs']['x']
    together = model.decode_head.predict(model.backbone(image), [])
    for number in range(2):
        alone = model.decode_head.predict(model.backbone(image[number : number + 1]), [])
        close(together[number : number + 1], alone)


def test_injected_confidence_decides():
    case, model = published(threshold=0.5, keep=0)
    given = [torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)]
    given[0][0, :4], given[1][1, 2:] = 1, 1
    out = model.backbone(case['inputs']['x'], confidence=given)
    assert out.halts[0].kept == (32, 64) and out.halts[1].kept == (32, 16)
    assert out.stages[-1].rows.tolist() == [*range(32, 64), *range(64, 80)]


@pytest.mark.parametrize('lengths', [(3, 3), (5, 0, 2), (0, 0)], ids=str)
def test_packed_attention_is_attention_per_image(lengths):
    qkv = torch.randn(sum(lengths), 3 * 8)
    found = packed_self_attention(qkv, 2, lengths)
    assert found.shape == (sum(lengths), 8)
    for part, rows in zip(found.split(lengths), qkv.split(lengths), strict=True):
        q, k, v = rows.view(-1, 3, 2, 4).permute(1, 2, 0, 3)
        share = (q @ k.transpose(1, 2) / 2).softmax(-1)
        torch.testing.assert_close(part, (share @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize('after', [(), (0, 2), (4, 2), (2, 6)], ids=str)
def test_bad_halting_points(after):
    with pytest.raises(ValueError, match='after'):
        published(after=after)


def test_heads_must_agree_on_classes():
    case, model = published()
    model.decode_head.num_classes = 7
    with pytest.raises(ValueError, match='num_classes is 7'):
        model.decode_head.predict(model.backbone(case['inputs']['x']), [])
