"""Where tokens are seen, and that pictures show them there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_arta.engine.coverage import covered_share, token_cover
from mmseg_arta.engine.drawing import (
    Panel,
    class_legend,
    draw_cells,
    draw_errors,
    draw_labels,
    draw_scores,
    natural_width,
    render,
)
from mmseg_arta.engine.token_view import (
    ScoreMap,
    TokenCells,
    chosen_patches,
    joined,
    point_cells,
    view_of,
)
from mmseg_arta.models.token_reduction.tokens import ReducedTokens, StagePrediction, TokenLayout
from tests.builders import NANO


@pytest.fixture
def tokens():
    """Of an ARTA with random weights on two images that need padding."""
    torch.manual_seed(0)
    policy = dict(type='FixedRatioAllocation', ratios=(0.5, 0.5, 0.5))
    backbone = MODELS.build(dict(type='ARTA', arch=NANO, allocation=policy)).eval()
    with torch.no_grad():
        return backbone(torch.randn(2, 3, 70, 100))


@pytest.mark.parametrize('index', [0, 1])
def test_every_token_is_seen_in_its_patch(tokens, index):
    view = view_of(tokens, index)
    for cells, level in zip(view.rounds, tokens.levels[1:], strict=True):
        begin, end = (int(level.offsets[index + i]) for i in range(2))
        assert len(cells.sides) == end - begin and (cells.sides == level.patch_size).all()
        assert f'{end - begin} tokens of {level.patch_size} px' in cells.caption
        for number, (x, y) in enumerate((level.xy[begin:end] * 4).tolist()):
            side = level.patch_size
            assert (cells.owner[y : y + side, x : x + side] == number).all()
        assert (cells.owner >= 0).sum() == (end - begin) * level.patch_size**2
    # Together all pixels, each in the finest token that is there.
    assert view.cells.owner.shape == tokens.canvas and view.cells.owner.min() == 0
    sides = view.cells.sides[view.cells.owner]
    for cells in view.rounds:
        assert (sides[cells.owner >= 0] <= cells.sides[0]).all()
    assert (sides[view.rounds[-1].owner >= 0] == 4).all()


def test_scores_lie_on_their_candidates(tokens):
    view = view_of(tokens, 1)
    for scores, record in zip(view.scores, tokens.rounds, strict=True):
        begin, end = (int(record.offsets[1 + i]) for i in range(2))
        known = np.isfinite(scores.values)
        assert known.sum() == (end - begin) * record.patch_size**2
        x, y = (record.xy[end - 1] * 4).tolist()
        assert scores.values[y, x] == pytest.approx(float(record.scores[end - 1]))


def test_chosen_patches_cover_what_the_finest_tokens_cover(tokens):
    edges = torch.rand(1, 70, 100) < 0.1
    for index in (0, 1):
        last = chosen_patches(tokens, index)[-1]
        assert last.patch_size == 8 and last.chosen.shape == (9, 13)
        cover = last.chosen.repeat(8, 0).repeat(8, 1)[:70, :100]
        of_hook = token_cover(tokens.levels[-1], tokens.canvas)[index, :70, :100]
        expected = covered_share(edges, of_hook[None])
        assert covered_share(edges, torch.from_numpy(cover)[None]) == expected


def test_points_own_what_is_nearest_to_them():
    xy = np.array([[0, 0], [5, 1], [2, 6], [7, 7]])
    owner = point_cells(xy, (30, 33))
    rows, columns = np.mgrid[:30, :33]
    centers = xy * 4 + 1.5
    distance = np.hypot(columns[..., None] - centers[:, 0], rows[..., None] - centers[:, 1])
    best = distance.min(-1)
    assert np.allclose(np.take_along_axis(distance, owner[..., None], -1)[..., 0], best)


def test_stages_of_autofocusformer():
    torch.manual_seed(0)
    arch = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    backbone = MODELS.build(dict(type='AutoFocusFormer', arch=arch)).eval()
    with torch.no_grad():
        tokens = backbone(torch.randn(1, 3, 64, 96))
    view = view_of(tokens)
    assert [cells.caption for cells in view.rounds] == [
        'stage 2: 96 of 384 tokens',
        'stage 3: 24 of 384 tokens',
        'stage 4: 6 of 384 tokens',
    ]
    chosen = chosen_patches(tokens)
    assert [one.name for one in chosen] == ['stage 2', 'stage 3', 'stage 4']
    assert [int(one.chosen.sum()) for one in chosen] == [96, 24, 6]
    assert not (chosen[1].chosen & ~chosen[0].chosen).any()
    for x, y in tokens.levels[0].xy.tolist():
        assert chosen[2].chosen[y, x]


def test_superpatches_and_halted_tokens():
    # 2x4 patches of 16 px: one group of 2x2, and four single ones; one of each halts.
    groups = {2: torch.tensor([[[True, False]]])}
    layout = TokenLayout.merged(groups, None, (2, 4), 16, (30, 60))
    assert layout.lengths == (5,)
    halt = StagePrediction(
        torch.zeros(1, 1, 2), torch.zeros(5, 1), (5,), (3,), torch.tensor([0, 1, 2])
    )
    tokens = ReducedTokens(layout, (), (halt,))
    view = view_of(tokens)
    assert view.cells.caption == '5 tokens for 8 patches'
    assert sorted(view.cells.sides.tolist()) == [16, 16, 16, 16, 32]
    (head,) = view.rounds
    assert head.caption == 'head 1: 2 of 5 tokens halted'
    drawn = draw_cells(np.full((32, 64, 3), 200, np.uint8), head)
    # The group and the last single patch are black.
    assert not drawn[:, :32].any() and not drawn[16:, 48:].any() and drawn[:16, 32:].all()
    (single,) = chosen_patches(tokens)
    assert single.chosen.tolist() == [[False, False, True, True]] * 2


def test_windows_are_joined(tokens):
    left, right = view_of(tokens, 0), view_of(tokens, 1)
    whole = joined([left, right], [(0, 0), (0, 60)], (70, 160))
    for number, cells in enumerate(whole.rounds):
        parts = left.rounds[number], right.rounds[number]
        assert len(cells.sides) == sum(len(part.sides) for part in parts)
        assert ((cells.owner[:, :60] >= 0) == (parts[0].owner[:70, :60] >= 0)).all()
        seen = parts[1].owner[:70, :100]
        expected = np.where(seen >= 0, seen + len(parts[0].sides), -1)
        assert (cells.owner[:, 60:] == expected).all()
    assert whole.cells.owner.min() >= 0


def test_mosaic_has_mean_colours_and_rounds_are_marked():
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :8], image[:, 8:16] = 100, 200
    owner = np.repeat([[0, 1]], 16, 1).repeat(16, 0).astype(np.int32)
    mosaic = TokenCells('{count}', owner, np.array([16, 16]), 2, 'mosaic')
    drawn = draw_cells(image, mosaic)
    assert (drawn[1:, 1:16] == 150).all() and not drawn[:, 17:].any()
    chosen = TokenCells('{count}', np.where(owner == 0, 0, -1), np.array([16]), 2)
    drawn = draw_cells(image, chosen)
    assert (drawn[:, :16].std(-1) > 0).all() and not drawn[:, 16:].any()


def test_labels_errors_and_scores():
    coloured = draw_labels(np.array([[0, 1], [255, 7]]), [[1, 2, 3], [4, 5, 6]])
    assert coloured.tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]
    image = np.full((1, 3, 3), 90, np.uint8)
    wrong, unknown = np.array([[True, False, False]]), np.array([[False, True, False]])
    red, black, pale = draw_errors(image, wrong, unknown)[0].tolist()
    assert red[0] > 200 and red[1] < 60 and black == [0, 0, 0] and min(pale) > 120
    values = np.array([[np.nan, -0.1, 0.5]], np.float32)
    drawn, between = draw_scores(image, ScoreMap('', values))
    assert between == '0 to 0.5' and drawn[0, 2].sum() > drawn[0, 1].sum()
    assert draw_scores(image, ScoreMap('', np.full((1, 3), np.nan)))[1] == 'none'


def test_legend_has_the_largest_classes():
    labels = [np.array([[0, 0, 0, 2, 2, 1, 255]])]
    names, palette = ('a', 'b', 'c', 'd'), [[n, n, n] for n in range(4)]
    assert class_legend(labels, names, palette, 2) == [('a', [0] * 3), ('c', [2] * 3)]


def test_a_pixel_of_a_panel_is_one_of_the_picture():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (30, 450, 3), np.uint8) for _ in range(3)]
    rows = [[Panel('a', 'one', pictures[0]), Panel('b', 'two', pictures[1])]]
    rows.append([Panel('c', 'three', pictures[2])])
    figure = render(rows, [('class', (255, 0, 0))])
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    for picture in pictures:
        (tops, lefts) = np.nonzero((drawn == picture[0, 0]).all(-1))
        assert any(
            (drawn[top : top + 30, left : left + 450] == picture).all()
            for top, left in zip(tops, lefts, strict=True)
            if drawn[top : top + 30, left : left + 450].shape == picture.shape
        )
    assert [natural_width(width) for width in (96, 256, 480, 2048)] == [480, 512, 480, 800]
