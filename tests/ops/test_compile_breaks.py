"""Plain ``torch.compile``, without ``fullgraph``: how often the graph is split, and into what."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.models.allocation import host_counts
from mmseg_arta.models.allocation.host_counts import _counted, _counted_bounded, counts_on_host
from tests.ops import compiling

pytestmark = pytest.mark.usefixtures('cpu_kernels', 'fresh_compiler')


POLICIES = (
    dict(policy='ThresholdAllocation'),
    dict(policy='BatchRatioAllocation', inference='batch'),
)


@torch.no_grad()
@pytest.mark.parametrize('options', POLICIES, ids=lambda options: options['policy'])
def test_one_graph_without_breaks_serves_all_token_counts(options):
    images = compiling.different_images()
    model = compiling.halved_by_scores(images, compiling.SHORT, **options)
    graphs = compiling.Graphs()
    compiled = torch.compile(model, backend=graphs)
    seen = set()
    for image in images:
        found = compiled(image)
        compiling.assert_same(found, model(image))
        seen.add(compiling.lengths(found))
        assert graphs.count == 1 and compiling.breaks() == 0
    # The host learns the counts once a round.
    assert len(seen) > len(images) // 2 and graphs.of('counted_rows') == 3


@torch.no_grad()
def test_a_bound_is_in_the_graph(monkeypatch):
    told = []
    monkeypatch.setattr(host_counts, 'tell_of_bound', lambda totals, most: told.append(totals))
    images = compiling.different_images()[:4]
    model = compiling.halved_by_scores(images, compiling.SHORT)
    most = min(sum(level.lengths[0] for level in model(image).levels) for image in images) - 1
    model.max_tokens = most
    graphs = compiling.Graphs()
    compiled = torch.compile(model, backend=graphs)
    for image in images:
        told.clear()
        found = compiled(image)
        # One read a round, as without a bound.
        assert len(told) == 3 and told[-1][0] > most
        compiling.assert_same(found, model(image))
        assert most - 4 < sum(level.lengths[0] for level in found.levels) <= most
    assert graphs.count == 1 and compiling.breaks() == 0


@pytest.mark.parametrize('counts', [[0], [3, 0, 1], [5, 7]])
def test_counts_in_a_graph_are_those_of_eager_mode(counts):
    graphs = compiling.Graphs('aot_eager')

    @torch.compile(backend=graphs)
    def rows_up_to(counts):
        chosen = counts_on_host(counts)
        return chosen, torch.arange(sum(chosen))

    for shift in range(3):
        given = torch.tensor(counts) + shift
        assert counts_on_host(given) == tuple(given.tolist())
        chosen, rows = rows_up_to(given)
        assert chosen == tuple(given.tolist())
        assert torch.equal(rows, torch.arange(int(given.sum())))
    assert graphs.count == 1 and compiling.breaks() == 0


def test_op_of_the_counts_does_as_its_fake_says():
    counts = torch.tensor([3, 0, 1])
    torch.library.opcheck(_counted, (counts,))
    torch.library.opcheck(_counted_bounded, (counts, counts * 4, 20))
