"""``torch.compile``: the model over images of different token counts, and the ops on few rows."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.models import ARTA
from mmseg_arta.ops import (
    balanced_clusters,
    cluster_attention,
    gather_patches,
    nearest_clusters,
    nearest_tokens,
    neighborhood_merge,
    point_deform_attention,
)
from tests.helpers import some_tokens
from tests.ops import (
    test_cpu_cluster_attention,
    test_cpu_neighborhood_merge,
    test_cpu_point_deform_attention,
)

pytestmark = pytest.mark.usefixtures('cpu_kernels')

NANO = dict(
    dims=(32, 16, 16, 8),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    num_heads=(2, 2, 2, 1),
    mlp_ratio=2.0,
)
IMAGES = 12


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def halved_by_scores(images: torch.Tensor) -> ARTA:
    """A model whose thresholds select half of all candidates, so that images differ."""
    torch.manual_seed(0)
    policy = dict(type='ThresholdAllocation', thresholds=(0.5, 0.5, 0.5))
    model = ARTA(NANO, allocation=policy).eval()
    for index in range(3):
        scores = model(images).rounds[index].scores
        thresholds = list(model.policy.thresholds)
        thresholds[index] = float(scores.median())
        model.policy.thresholds = tuple(thresholds)
    return model


@torch.no_grad()
def test_the_compiled_model_equals_eager_for_all_token_counts():
    images = torch.cat([torch.randn(1, 3, 128, 160) * (1 + i) for i in range(IMAGES)])
    model = halved_by_scores(images)
    graphs, ops = [], set()

    def backend(graph, inputs):
        calls = [str(node.target) for node in graph.graph.nodes if node.op == 'call_function']
        graphs.append(len(calls))
        ops.update(calls)
        return graph.forward

    compiled = torch.compile(model, backend=backend, dynamic=True)
    compiled(images[:1])
    captured = list(graphs)
    # More than bookkeeping was captured: attention, linear layers, embeddings.
    assert len(captured) >= 4 and sum(captured) > 100
    assert any('cluster_attention_cpu' in op for op in ops)
    seen = set()
    for image in images.split(1):
        expected, found = model(image), compiled(image)
        seen.add(tuple(level.lengths for level in expected.levels))
        for mine, truth in zip(found.levels, expected.levels, strict=True):
            assert mine.lengths == truth.lengths and torch.equal(mine.xy, truth.xy)
            torch.testing.assert_close(mine.feats, truth.feats)
    assert len(seen) >= IMAGES - 2


def compiled_once(function):
    return torch.compile(function, backend='aot_eager', fullgraph=True, dynamic=True)


@pytest.mark.parametrize('rows', [0, 1, 5])
class TestFewRows:
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
        tensors, hood, clamp = test_cpu_cluster_attention.make((rows,), 2, 8)
        self.check(lambda *t: cluster_attention(*t, hood, clamp), *tensors)

    def test_point_deform_attention(self, rows):
        sizes = (rows, rows, 1, 2, 8, 2, 2, 4, 3.0)
        tensors, (centers, nearest, batch) = test_cpu_point_deform_attention.make(*sizes)
        self.check(
            lambda v, x, w, p: point_deform_attention(v, centers, nearest, batch, x, w, p),
            *tensors,
        )

    def test_neighborhood_merge(self, rows):
        tensors, index = test_cpu_neighborhood_merge.make(rows, rows, 3, 4, 8)
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
