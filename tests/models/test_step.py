"""dCTS and STEP: groups of several sizes, thresholds, and halting on top."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.models import StepViT, ThresholdMerging
from mmseg_arta.models.token_reduction import TokenLayout, embed_supertokens
from tests.helpers import DATA

TINY = dict(embed_dims=16, num_layers=3, num_heads=2)
SIZES = (2, 4, 8, 16)
T6899 = {'2': 0.6, '4': 0.8, '8': 0.9, '16': 0.9}


def full_scores(value, grid, batch=1):
    return {s: torch.full((batch, grid[0] // s, grid[1] // s), value) for s in SIZES}


def test_groups_merge_coarse_to_fine_without_overlap():
    scores = full_scores(0.0, (32, 48))
    scores[16][0, 0, 1] = 0.95
    scores[8][0, 0, 2] = 1.0  # inside the 16x16 group
    scores[8][0, 0, 0] = 0.95
    scores[4][0, 7, :2] = 0.85
    scores[4][0, 0, 0] = 0.85  # inside the 8x8 group
    scores[2][0, 15, 0] = 0.65  # inside a 4x4 group
    scores[2][0, 15, 23] = 0.65
    scores[2][0, 15, 22] = 0.6  # not above the threshold
    groups, counts = ThresholdMerging(T6899)(scores)
    assert counts is None
    assert {s: g.nonzero().tolist() for s, g in groups.items()} == {
        16: [[0, 0, 1]],
        8: [[0, 0, 0]],
        4: [[0, 7, 0], [0, 7, 1]],
        2: [[0, 15, 23]],
    }
    layout = TokenLayout.merged(groups, counts, (32, 48), 16, (512, 768))
    assert layout.counts == ((32 * 48 - 256 - 64 - 32 - 4, 1, 2, 1, 1),)
    assert int(layout.areas().sum()) == 32 * 48
    assert torch.equal(layout.owner.flatten().bincount(), layout.areas())
    # Every patch lies inside the token that owns it.
    row, col = torch.meshgrid(torch.arange(32), torch.arange(48), indexing='ij')
    place, size = layout.places[layout.owner[0]], layout.sizes[layout.owner[0]]
    for at, corner in ((row, place[..., 0]), (col, place[..., 1])):
        assert ((corner <= at) & (at < corner + size)).all()


def test_counts_differ_between_images():
    scores = full_scores(0.0, (16, 16), batch=3)
    scores[16][1] = 1.0
    scores[2][2, 0, :3] = 1.0
    groups, counts = ThresholdMerging(T6899)(scores)
    layout = TokenLayout.merged(groups, counts, (16, 16), 16, (256, 256))
    assert layout.lengths == (256, 1, 247)
    assert layout.batch_index().bincount().tolist() == [256, 1, 247]
    values = torch.arange(float(len(layout)))[:, None]
    cells = layout.to_cells(values)
    assert (cells[1] == 256).all() and cells[2].max() == 503 and cells.shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    'thresholds, message',
    [({}, 'at least one'), ({'3': 0.5}, 'powers of two'), ({'2': 1.2}, r'\[0, 1\]')],
)
def test_bad_thresholds(thresholds, message):
    with pytest.raises(ValueError, match=message):
        ThresholdMerging(thresholds)


def test_superpatches_are_resized_bilinearly_and_projected_like_patches():
    image = torch.randn(1, 3, 128, 128)
    projection = torch.nn.Conv2d(3, 8, 16, 16)
    positions = torch.randn(1, 64, 8)
    groups = {s: torch.zeros(1, 8 // s, 8 // s, dtype=torch.bool) for s in SIZES}
    groups[4][0, 1, 0], groups[2][0, 0, 3] = True, True
    layout = TokenLayout.merged(groups, None, (8, 8), 16, (128, 128))
    found = embed_supertokens(image, layout, projection, positions)
    maps = positions[0].T.view(8, 8, 8)
    for size, row, col in ((4, 4, 0), (2, 0, 6), (1, 0, 0), (1, 7, 7)):
        number = int(layout.owner[0, row, col])
        assert int(layout.sizes[number]) == size
        crop = image[:, :, row * 16 : (row + size) * 16, col * 16 : (col + size) * 16]
        patch = F.interpolate(crop, (16, 16), mode='bilinear')
        place = maps[:, row : row + size, col : col + size].mean((1, 2))
        torch.testing.assert_close(found[number], projection(patch)[0, :, 0, 0] + place)


def step(halting=True, thresholds=T6899, threshold=0.9):
    head = dict(in_channels=16, channels=8, num_classes=5, num_layers=1, num_heads=2,
                self_attention=False)  # fmt: skip
    halting = dict(
        after=(1, 2),
        head=dict(type='ATMTokenClassifier', **head),
        policy=dict(type='ConfidenceHalting', threshold=threshold),
    ) if halting else None  # fmt: skip
    decode_head = dict(type='HaltingATMHead' if halting else 'ATMHead', **head)
    if not halting:
        decode_head['classes'] = 'presence'
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='StepViT',
                arch=TINY,
                img_size=256,
                out_indices=(2,) if halting else (0, 1, 2),
                merging=dict(type='ThresholdMerging', thresholds=thresholds),
                policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=SIZES)),
                halting=halting,
            ),
            decode_head=decode_head,
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )
    model.init_weights()
    return model


def samples(size, batch=2):
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, *size))),
            metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size),
        )
        for _ in range(batch)
    ]


@pytest.mark.parametrize('halting', [False, True], ids=['dCTS', 'STEP'])
@pytest.mark.parametrize('size', [(256, 512), (270, 300), (90, 40)], ids=str)
@pytest.mark.parametrize('value', [0.0, 0.7, 1.0], ids=['nothing', 'only 2x2', 'everything'])
def test_edges_of_merging(halting, size, value):
    model = step(halting).eval()
    grid = tuple(-(-side // 16) for side in size)
    image = torch.randn(2, 3, *size)
    out = model.backbone(image, group_scores=full_scores(value, grid, 2))
    if value == 0:
        assert out.layout.lengths == (grid[0] * grid[1],) * 2
    if value == 1 and size == (256, 512):
        assert out.layout.counts == ((0, 0, 0, 0, 2),) * 2
    assert out.layout.areas().sum() == 2 * grid[0] * grid[1]
    scores = model.decode_head.predict(out, [])
    assert scores.shape == (2, 5, *size) and scores.isfinite().all()


def test_nothing_merged_is_the_plain_backbone():
    model = step(halting=False).eval()
    image = torch.randn(2, 3, 64, 96)
    out = model.backbone(image, group_scores=full_scores(0.0, (4, 6), 2))
    plain = StepViT(arch=TINY, img_size=256, out_indices=(0, 1, 2)).eval()
    weights = model.backbone.state_dict()
    plain.load_state_dict({k: v for k, v in weights.items() if 'policy' not in k})
    for found, expected in zip(out, plain(image), strict=True):
        torch.testing.assert_close(found.feats, expected.feats, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('threshold', [0.0, 1.0], ids=['all confident', 'none confident'])
def test_step_trains(threshold):
    model = step(threshold=threshold, thresholds={'2': 0.4, '4': 0.4, '8': 0.4, '16': 0.4})
    losses = model.loss(torch.randn(2, 3, 270, 140), samples((270, 140)))
    assert len(losses) == 9
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_one_host_read_for_merging_and_one_per_halting_point(monkeypatch):
    model = step().eval()
    reads = []
    real = torch.Tensor.tolist

    def count(self):
        reads.append(tuple(self.shape))
        return real(self)

    monkeypatch.setattr(torch.Tensor, 'tolist', count)
    for name in ('item', '__int__', '__float__', '__bool__'):

        def refuse(self, *args, name=name):
            raise AssertionError(f'{name} reads from the device')

        monkeypatch.setattr(torch.Tensor, name, refuse)
    tokens = model.backbone(torch.randn(2, 3, 128, 128))
    model.decode_head.predict(tokens, [])
    assert reads == [(2, 4), (2,), (2,)]


def test_batch_mates_do_not_matter():
    model = step(threshold=0.0).eval()
    image = torch.randn(2, 3, 128, 160)
    scores = full_scores(0.0, (8, 10), 2)
    scores[4][1] = 1.0
    together = model.decode_head.predict(model.backbone(image, group_scores=scores), [])
    for number in range(2):
        own = {s: maps[number : number + 1] for s, maps in scores.items()}
        alone = model.backbone(image[number : number + 1], group_scores=own)
        found = model.decode_head.predict(alone, [])
        torch.testing.assert_close(together[number : number + 1], found, atol=1e-5, rtol=1e-4)


def benchmark():
    path = DATA.parents[1] / 'benchmarks' / 'step.py'
    spec = importlib.util.spec_from_file_location('benchmark_step', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('size, reduction', [(512, 2.5), (1024, 2.5), (1024, 3.0)], ids=str)
def test_benchmark_injects_the_reduction_it_claims(size, reduction):
    scores = benchmark().group_scores(size, reduction, 2)
    cells = size // 16
    policy = ThresholdMerging({str(group): 0.5 for group in SIZES})
    layout = TokenLayout.merged(*policy(scores), (cells, cells), 16, (size, size))
    for length, counts in zip(layout.lengths, layout.counts, strict=True):
        assert length == pytest.approx(cells**2 / reduction, abs=2)
        # All sizes occur where the image is large enough for a share of the largest.
        assert min(counts[:4]) > 0 and (size < 1024 or counts[4] > 0)


def test_benchmark_judges_by_the_fastest_run():
    rows = [
        dict(gmacs=100.0, ms=[12.0, 10.0]),
        dict(gmacs=50.0, ms=[6.0, 9.0]),
    ]
    benchmark().judge(rows, 'ms')
    assert rows[1]['promised'] == 2 and rows[1]['ratio'] == pytest.approx(10 / 6 - 1)
    assert 'ratio' not in rows[0]
