"""``torch.compile``: the model over images of different token counts, and the ops on few rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from mmseg_arta.models import ARTA, SparseMask2FormerHead
from mmseg_arta.models.allocation import AllocationPolicy
from mmseg_arta.models.layers import ClusterAttention
from mmseg_arta.ops import (
    balanced_clusters,
    cluster_attention,
    gather_patches,
    nearest_clusters,
    nearest_tokens,
    neighborhood_merge,
    point_deform_attention,
)
from mmseg_arta.structures import MixedTokens
from tests.helpers import some_tokens
from tests.ops.compiling import (
    IMAGES,
    NANO,
    SHORT,
    SIZE,
    Graphs,
    assert_same,
    breaks,
    different_images,
    halved_by_scores,
    lengths,
)
from tests.ops.inputs import attention_inputs, deform_inputs, merge_inputs

pytestmark = pytest.mark.usefixtures('cpu_kernels', 'fresh_compiler')

COARSE_GRID = (4, 5)


@torch.no_grad()
def test_one_graph_without_breaks_serves_all_token_counts_and_sizes():
    images = different_images()
    model = halved_by_scores(images)
    graphs = Graphs()
    # Raises at any break.
    compiled = torch.compile(model, backend=graphs, fullgraph=True, dynamic=True)
    # PyTorch itself sets images of so many pixels apart that convolutions treat them otherwise.
    sizes = ((100, 158), (160, 128), (97, 131))
    seen = set()
    for image in (*images, *(torch.randn(1, 3, *size) for size in sizes)):
        expected, found = model(image), compiled(image)
        seen.add(lengths(expected))
        assert_same(found, expected)
        assert graphs.count == 1
    assert len(seen) >= IMAGES and breaks() == 0
    # All of the model is in the graph.
    kinds = Counter(type(module) for module in model.modules())
    assert graphs.of('cluster_attention') == kinds[ClusterAttention] == 5
    # Position embeddings are linear inside the attention.
    assert graphs.of('linear') == kinds[nn.Linear] - kinds[ClusterAttention]
    assert graphs.of('layer_norm') == kinds[nn.LayerNorm]
    assert graphs.of('gather_patches') == graphs.of('balanced_clusters') == 3
    # The host learns the counts once a round, inside the graph.
    assert graphs.of('_assert_scalar') > 0 and sum(graphs.calls.values()) > 400


class SelectTruth(AllocationPolicy):
    """Selects what the ground truth marks: any number of tokens."""

    def __call__(self, candidates, round_index: int, training: bool) -> torch.Tensor:
        return candidates.truth > 0.5


def marks(counts: Sequence[int]) -> list[torch.Tensor]:
    """Maps of patches of 32, 16 and 8 px that mark so many of the children of marked ones."""
    maps, possible = [], torch.ones(1, *COARSE_GRID, dtype=torch.bool)
    for count in counts:
        places = possible.flatten().nonzero()[:, 0]
        chosen = places[torch.randperm(len(places))[:count]]
        marked = torch.zeros_like(possible).flatten().index_fill(0, chosen, True)
        maps.append(marked.view_as(possible).float())
        possible = maps[-1].bool().repeat_interleave(2, 1).repeat_interleave(2, 2)
    return maps


FEW = ((3, 5, 7), (0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 4), (20, 80, 320))


@torch.no_grad()
def test_no_new_graph_for_no_token_or_one():
    torch.manual_seed(0)
    model = ARTA(NANO, allocation=SelectTruth()).eval()
    graphs = Graphs()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    image = torch.randn(1, 3, *SIZE)
    for counts in FEW:
        maps = marks(counts)
        found = compiled(image, maps)
        assert lengths(found)[1:] == tuple((4 * count,) for count in counts)
        assert_same(found, model(image, maps))
    assert graphs.count == 1


@torch.no_grad()
def test_late_choices_under_a_budget_are_in_the_graph():
    torch.manual_seed(0)
    policy = dict(
        type='ReconsideringAllocation',
        policy=dict(type='BudgetAllocation', tokens=150, thresholds=(-0.1, -0.1, -0.1)),
    )
    model = ARTA(SHORT, allocation=policy).eval()
    graphs = Graphs()
    compiled = torch.compile(model, backend=graphs)
    seen = set()
    for image in different_images()[:3]:
        tokens = compiled(image)
        assert_same(tokens, model(image))
        seen.add(lengths(tokens))
        assert len(tokens.rounds) == 6 and sum(map(sum, lengths(tokens))) <= 150
    assert len(seen) > 1 and graphs.count == 1 and breaks() == 0


def test_training_is_one_graph_too():
    images = different_images()
    model = halved_by_scores(images, SHORT).train()
    parameters = dict(model.named_parameters())
    graphs = Graphs('aot_eager')
    compiled = torch.compile(model, backend=graphs, fullgraph=True)

    def gradients(tokens: MixedTokens) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(2)
        outputs = [level.feats for level in tokens.levels]
        outputs += [allocated.scores for allocated in tokens.rounds]
        weights = [torch.randn_like(output) for output in outputs]
        return torch.autograd.grad(outputs, parameters.values(), weights)

    seen = set()
    for pair in (torch.cat(images[:2]), torch.cat(images[2:4])):
        # Images drop blocks at random.
        torch.manual_seed(1)
        expected = model(pair)
        torch.manual_seed(1)
        found = compiled(pair)
        seen.add(lengths(expected))
        assert_same(found, expected)
        pairs = zip(gradients(found), gradients(expected), strict=True)
        for name, (mine, truth) in zip(parameters, pairs, strict=True):
            torch.testing.assert_close(
                mine, truth, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f'{name}: {text}'
            )
    assert len(seen) == 2 and graphs.count == 1


@torch.no_grad()
def test_encoder_and_decoder_are_one_graph():
    torch.manual_seed(0)
    model = ARTA(NANO, allocation=SelectTruth()).eval()
    head = SparseMask2FormerHead(
        in_channels=NANO['dims'],
        num_classes=5,
        dim=16,
        num_queries=4,
        pixel_decoder=dict(type='point', num_layers=1, num_heads=2, hidden=16),
        transformer_decoder=dict(num_layers=3, num_heads=2, hidden=16),
    ).eval()

    def predict(image, maps):
        return head(model(image, maps))

    graphs = Graphs()
    compiled = torch.compile(predict, backend=graphs)
    images = torch.randn(2, 3, *SIZE)
    for first, second in ((3, 1), (1, 1), (4, 2), (6, 5)):
        pairs = zip(marks(FEW[first]), marks(FEW[second]), strict=True)
        maps = [torch.cat(pair) for pair in pairs]
        torch.testing.assert_close(compiled(images, maps), predict(images, maps))
    assert graphs.count == 1 and breaks() == 0
    assert graphs.of('point_deform_attention') == 1 and graphs.of('neighborhood_merge') == 2


def compiled_once(function):
    return torch.compile(function, backend='aot_eager', fullgraph=True, dynamic=True)


@pytest.mark.parametrize('rows', [0, 1, 5])
@pytest.mark.parametrize('backend', ['cpu', 'reference'])
class TestFewRows:
    @pytest.fixture(autouse=True)
    def chosen(self, backend, monkeypatch):
        monkeypatch.setenv('MMSEG_ARTA_OPS', backend)

    def check(self, function, *tensors):
        leaves = [t.requires_grad_() for t in tensors]
        expected, found = function(*leaves), compiled_once(function)(*leaves)
        torch.testing.assert_close(found, expected)
        grad_out = torch.randn_like(expected)
        torch.testing.assert_close(
            torch.autograd.grad(found, leaves, grad_out),
            torch.autograd.grad(expected, leaves, grad_out),
        )

    def test_cluster_attention(self, rows):
        tensors, hood, clamp = attention_inputs((rows,), 2, 8)
        self.check(lambda *t: cluster_attention(*t, hood, clamp), *tensors)

    def test_point_deform_attention(self, rows):
        sizes = (rows, rows, 1, 2, 8, 2, 2, 4, 3.0)
        tensors, (centers, nearest, batch) = deform_inputs(*sizes)
        self.check(
            lambda v, x, w, p: point_deform_attention(v, centers, nearest, batch, x, w, p),
            *tensors,
        )

    def test_neighborhood_merge(self, rows):
        tensors, index = merge_inputs(rows, rows, 3, 4, 8)
        self.check(lambda feats, weights: neighborhood_merge(feats, index, weights), *tensors)

    def test_gather_patches(self, rows):
        image = torch.randn(1, 3, 16, 16)
        xy, batch = torch.zeros((rows, 2), dtype=torch.int32), torch.zeros(rows, dtype=torch.long)
        self.check(lambda image: gather_patches(image, xy, batch, 8), image)

    def test_places(self, rows):
        level = some_tokens((rows,), (4, 4), 4)
        counts = torch.tensor([rows])

        def function(xy, batch):
            order, start = balanced_clusters(xy, batch, counts, (4, 4))
            near = nearest_clusters(xy[order], start, (rows,))
            return order, start, near, nearest_tokens(xy, (rows,), level, 4).rows

        batch = level.batch_index()
        found, expected = compiled_once(function)(level.xy, batch), function(level.xy, batch)
        assert all(map(torch.equal, found, expected))
