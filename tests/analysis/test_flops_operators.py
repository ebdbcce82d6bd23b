from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_arta.analysis.flops import count_operations
from mmseg_arta.analysis.flops.counter import OperatorCounter, skipped


class Calls(nn.Module):
    """A model that does what it is told with an image."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, image):
        return self.call(image)


def macs(call, shape=(8, 12)):
    count = count_operations(Calls(call), shape)
    assert list(count.components) in (['model'], [])
    return count.macs, count.macs_published


WEIGHT = torch.randn(5, 3, 3, 3)
ROWS = torch.randn(2, 4, 7, 6)  # batch, heads, tokens, channels of a head
KEYS = torch.randn(2, 4, 9, 6)

# What fvcore 0.1.5 gives for the same calls; attention is its two matrix products.
OPERATORS = {
    'convolution': (lambda x: F.conv2d(x, WEIGHT, stride=2, padding=1), 5 * 27 * 4 * 6),
    'grouped convolution': (
        lambda x: F.conv2d(x, torch.randn(6, 1, 3, 3), groups=3, padding=1),
        6 * 9 * 96,
    ),
    'transposed convolution': (
        lambda x: F.conv_transpose2d(x, torch.randn(3, 5, 2, 2), stride=2),
        96 * 60,
    ),
    'linear': (lambda x: F.linear(x, torch.randn(7, 12), torch.randn(7)), 3 * 8 * 12 * 7),
    'linear of a matrix': (lambda x: F.linear(x[0, 0], torch.randn(7, 12)), 8 * 12 * 7),
    'matrix times vector': (lambda x: x[0, 0] @ torch.randn(12), 96),
    'batched product': (lambda x: x[0] @ torch.randn(3, 12, 5), 3 * 8 * 12 * 5),
    'product with an addend': (
        lambda x: torch.baddbmm(torch.zeros(3, 8, 5), x[0], torch.randn(3, 12, 5)),
        3 * 8 * 12 * 5,
    ),
    'einsum': (lambda x: torch.einsum('bchw,dc->bdhw', x, torch.randn(5, 3)), 3 * 5 * 96),
    'attention': (lambda x: F.scaled_dot_product_attention(ROWS, KEYS, KEYS), 8 * 7 * 9 * 12),
    'masked attention': (
        lambda x: F.scaled_dot_product_attention(ROWS, KEYS, KEYS, torch.ones(7, 9).bool()),
        8 * 7 * 9 * 12,
    ),
    'attention in double precision': (
        lambda x: F.scaled_dot_product_attention(ROWS.double(), KEYS.double(), KEYS.double()),
        8 * 7 * 9 * 12,
    ),
    'layer norm': (lambda x: F.layer_norm(x, (12,), torch.ones(12), torch.ones(12)), 5 * 288),
    'plain layer norm': (lambda x: F.layer_norm(x, (12,)), 4 * 288),
    'group norm': (lambda x: F.group_norm(x, 3, torch.ones(3), torch.ones(3)), 5 * 288),
    'batch norm': (
        lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), torch.ones(3), torch.ones(3)),
        2 * 288,
    ),
    'bilinear': (lambda x: F.interpolate(x, size=(5, 7), mode='bilinear'), 4 * 105),
    'bilinear, antialiased': (
        lambda x: F.interpolate(x, size=(5, 7), mode='bilinear', antialias=True),
        4 * 105,
    ),
    'nearest': (lambda x: F.interpolate(x, size=(5, 7)), 105),
    'adaptive pooling': (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), 288),
    'adaptive pooling to one cell': (lambda x: F.adaptive_avg_pool2d(x, 1), 288),
    'grid sampling': (
        lambda x: F.grid_sample(x, torch.zeros(1, 5, 7, 2), align_corners=False),
        4 * 105,
    ),
    'elementwise': (lambda x: (x * 2 + x).relu().softmax(-1).mean(1), 0),
}


@pytest.mark.parametrize('name', OPERATORS)
def test_operator_counts_as_in_fvcore(name):
    call, expected = OPERATORS[name]
    assert macs(call) == (expected, expected)


def test_multi_head_attention_shows_its_products():
    # Its fast path would be one operator that nothing is known of.
    attention = nn.MultiheadAttention(12, 4, batch_first=True).eval()
    executed, published = macs(lambda x: attention(x[0], x[0], x[0]))
    assert executed == published == 3 * (4 * 8 * 12 * 12 + 2 * 8 * 8 * 12)


def test_weighted_gathers_are_kernels_that_fvcore_does_not_see():
    index = torch.zeros(10, 4, dtype=torch.int64)

    def weighted(x):
        return F.embedding_bag(index, x[0, 0], per_sample_weights=torch.ones(10, 4), mode='sum')

    assert macs(weighted) == (10 * 4 * 12, 0)
    assert macs(lambda x: F.embedding_bag(index, x[0, 0], mode='sum')) == (0, 0)


def test_custom_operators_without_formula_are_named():
    @torch.library.custom_op('mmseg_arta_tests::unknown', mutates_args=())
    def unknown(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    count = count_operations(Calls(lambda x: unknown(unknown(x))), (8, 12))
    assert dict(count.uncounted) == {'mmseg_arta_tests::unknown': 2}
    assert count.macs == 0


def test_calls_are_booked_on_modules_entered_by_any_method():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def predict(self, x):
            return F.interpolate(self.conv(x), scale_factor=2, mode='bilinear')

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = Head()

        def forward(self, x):
            return self.head.predict(x)

    model = Model()
    with torch.no_grad(), OperatorCounter(model) as counter:
        model(torch.zeros(1, 3, 4, 4))
    booked = {(caller.path, caller.method): n for caller, n in counter.operators.items()}
    assert booked[('head.conv', 'forward')] == 96
    assert booked[('head', 'predict')] == 4 * 2 * 64


def test_dry_runs_have_the_shapes_and_strides_of_real_ones():
    aten = torch.ops.aten
    x, weight = (
        torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),
        torch.randn(4, 3, 3, 3),
    )
    args = (x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    real, dry = aten.convolution.default(*args), skipped(aten.convolution.default, args, {})
    assert dry.shape == real.shape and dry.dtype == real.dtype and not dry.any()
    dry = skipped(aten.native_layer_norm.default, (x, [8], None, None, 1e-5), {})
    assert [t.shape for t in dry] == [(2, 3, 8, 8), (2, 3, 8, 1), (2, 3, 8, 1)]


@pytest.mark.parametrize(
    ('operator', 'args'),
    [
        (torch.ops.aten.add.Tensor, (torch.ones(2), torch.ones(2))),
        (torch.ops.aten.relu_.default, (torch.ones(2),)),
        (torch.ops.aten.pow.Tensor_Scalar, (torch.ones(2, dtype=torch.int64), 2)),
    ],
    ids=['cheap', 'in place', 'integers'],
)
def test_dry_runs_compute_what_positions_depend_on(operator, args):
    assert skipped(operator, args, {}) is None
