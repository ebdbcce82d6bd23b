"""Faster inference on a CPU: modules of a built model swapped for ones that compute the same.

What large images cost beside their arithmetic on a CPU is memory: the system hands every large
tensor out anew and clears it. Blocks and row-wise layers are therefore computed for some rows at
a time, whose intermediate results stay in the cache, and a linear layer takes the activation or
the sum after it along in oneDNN.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..models.allocation import BoundaryScorePredictor, SubPatchEmbed
from ..models.decode_heads.mask2former.pixel_decoder import DeformEncoderLayer
from ..models.layers import ClusterBlock, Mlp, PointConv, PointDeformBlock

# oneDNN prepares code for every number of rows that it meets, which takes longer than the step
# that is saved: numbers of tokens, which differ from image to image, must not reach it.
_ROWS = 256
# Numbers in a block's input for every thread: with hidden channels they about fit a second-level
# cache.
_NUMBERS = 2**18
# With fewer blocks, what lies between the layers fits the caches anyway.
_LEAST_BLOCKS = 8


def prepare_for_cpu_inference(model: nn.Module) -> nn.Module:
    """Swap modules of ``model`` for ones that predict the same faster on a CPU.

    For prediction in float32 with weights that stay as they are: load a checkpoint before, since
    parameters are renamed. Results differ by rounding, boundary scores in the sixth digit. On
    another device, in another number type or with gradients the swapped modules compute as the
    plain ones do, only their hooks are gone.

    Args:
        model: a segmentor or backbone, changed in place and put into evaluation mode.

    Returns:
        The model, or what takes its place if it is itself a module that is swapped.
    """
    model.eval()
    for kind, swap in _SWAPS.items():
        if type(model) is kind:
            return swap(model)
    for name, child in model.named_children():
        prepared = prepare_for_cpu_inference(child)
        if prepared is not child:
            setattr(model, name, prepared)
    return model


class FusedMlp(nn.Module):
    """:class:`~mmseg_arta.models.layers.Mlp` with its GELU computed in its first layer."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(linear_gelu(x, self.fc1))


class FusedSequential(nn.Module):
    """Layers one after the other, a GELU computed in the linear layer before it."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(prepare_for_cpu_inference(layer) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self.layers)
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Linear) and layers and isinstance(layers[0], nn.GELU):
                layers.pop(0)
                x = linear_gelu(x, layer)
            else:
                x = layer(x)
        return x


class RowWiseScores(nn.Module):
    """Boundary scores for some tokens at a time."""

    def __init__(self, predictor: BoundaryScorePredictor) -> None:
        super().__init__()
        self.layers = FusedSequential(predictor.layers)

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(self.layers, x)[:, 0]


class RowWisePointConv(nn.Module):
    """:class:`~mmseg_arta.models.layers.PointConv` around some places at a time."""

    def __init__(self, conv: PointConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(
        self, x: Tensor, neighbors: Tensor, relative: Tensor, importance: Tensor | None = None
    ) -> Tensor:
        def convolve(neighbors: Tensor, relative: Tensor) -> Tensor:
            return self.conv(x, neighbors, relative, importance)

        return by_rows(convolve, neighbors, relative, width=x.shape[1])


class RowWiseSubPatchEmbed(nn.Module):
    """New tokens for some of them at a time."""

    def __init__(self, embed: SubPatchEmbed) -> None:
        super().__init__()
        if embed.image_mlp is not None:
            embed.add_module('image_mlp', FusedSequential(embed.image_mlp))
        self.embed = embed

    def forward(
        self,
        parents: Tensor,
        image: Tensor,
        xy: Tensor,
        batch: Tensor,
        parent: Tensor,
        corner: Tensor,
    ) -> Tensor:
        def embed(*rows: Tensor) -> Tensor:
            return self.embed(parents, image, *rows)

        return by_rows(embed, xy, batch, parent, corner, width=parents.shape[1])


class RowWiseBlock(nn.Module):
    """A pre-norm transformer block on packed tokens: after its attention, some rows at a time.

    Args:
        block: its attention loses its last layer.
    """

    def __init__(self, block: ClusterBlock | PointDeformBlock) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = block.norm1, block.attn, block.norm2
        self.scale1, self.scale2 = block.scale1, block.scale2
        self.fc1, self.fc2 = block.mlp.fc1, block.mlp.fc2
        # The last layer of the attention is computed with the sum after it.
        self.proj = block.attn.proj
        block.attn.add_module('proj', nn.Identity())

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both short connections and the feed-forward network, rows ``(T, C)`` to ``(T, C)``."""

        def short(x: Tensor, y: Tensor, last: nn.Linear, scale: nn.Module) -> Tensor:
            plain = isinstance(scale, nn.Identity)
            return linear_add(y, last, x) if plain else x + scale(last(y))

        def rows(x: Tensor, attended: Tensor) -> Tensor:
            x = short(x, attended, self.proj, self.scale1)
            return short(x, linear_gelu(self.norm2(x), self.fc1), self.fc2, self.scale2)

        return by_rows(rows, x, attended)


class RowWiseClusterBlock(RowWiseBlock):
    """See :class:`~mmseg_arta.models.layers.ClusterBlock`."""

    def forward(self, x: Tensor, neighborhood: object) -> Tensor:
        return self.finish(x, self.attn(self.norm1(x), neighborhood))


class RowWiseDeformBlock(RowWiseBlock):
    """See :class:`~mmseg_arta.models.layers.PointDeformBlock`."""

    def forward(self, x: Tensor, places: object, position: Tensor) -> Tensor:
        y = self.norm1(x)
        return self.finish(x, self.attn(y + position, y, places))


class RowWiseDeformEncoderLayer(nn.Module):
    """See ``DeformEncoderLayer`` of the pixel decoders of Mask2Former."""

    def __init__(self, layer: DeformEncoderLayer) -> None:
        super().__init__()
        self.attn, self.norm1, self.norm2 = layer.attn, layer.norm1, layer.norm2
        self.fc1, self.fc2 = layer.fc1, layer.fc2
        self.proj = layer.attn.proj
        layer.attn.add_module('proj', nn.Identity())

    def forward(self, x: Tensor, position: Tensor, places: object) -> Tensor:
        return by_rows(self.finish, x, self.attn(x + position, x, places))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """All after the attention, rows ``(..., C)`` to ``(..., C)``."""
        x = self.norm1(linear_add(attended, self.proj, x))
        return self.norm2(linear_add(linear_relu(x, self.fc1), self.fc2, x))


_SWAPS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    ClusterBlock: RowWiseClusterBlock,
    PointDeformBlock: RowWiseDeformBlock,
    DeformEncoderLayer: RowWiseDeformEncoderLayer,
    Mlp: FusedMlp,
    PointConv: RowWisePointConv,
    BoundaryScorePredictor: RowWiseScores,
    SubPatchEmbed: RowWiseSubPatchEmbed,
}


def linear_gelu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer`` and an exact GELU: ``(..., C)`` to ``(..., D)``."""
    if not _fuses(x, layer):
        return nn.functional.gelu(layer(x))
    fused = torch.ops.mkldnn._linear_pointwise
    return fused(x, layer.weight, layer.bias, 'gelu', [], 'none')


def linear_relu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer`` and a ReLU: ``(..., C)`` to ``(..., D)``."""
    if not _fuses(x, layer):
        return nn.functional.relu(layer(x), inplace=True)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, 'relu', [], '')


def linear_add(x: Tensor, layer: nn.Linear, other: Tensor) -> Tensor:
    """``other (..., D)`` plus ``layer``, from ``(..., C)``."""
    fits = other.is_contiguous() and other.shape == (*x.shape[:-1], layer.out_features)
    if not (_fuses(x, layer) and fits and other.dtype == x.dtype):
        return other + layer(x)
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, 'add')


# PyTorch's own op for its compiler, on processors that oneDNN is made for.
AVAILABLE = (
    platform.machine().lower() in ('x86_64', 'amd64')
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, '_linear_pointwise')
)


def _fuses(x: Tensor, layer: nn.Linear) -> bool:
    """Whether oneDNN can take the step after a layer along, and should."""
    return bool(
        AVAILABLE
        and on_cpu_without_gradients(x)
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled('cpu')
        and x.dtype == layer.weight.dtype == torch.float32
        and x.numel()
        and math.prod(x.shape[:-1]) % _ROWS == 0
    )


def on_cpu_without_gradients(x: Tensor) -> bool:
    """Whether a CPU computes with ``x`` right now, without gradients, compiler or tracer."""
    watched = torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.jit.is_tracing()
    return x.device.type == 'cpu' and not watched


def by_rows(function: Callable[..., Tensor], *rows: Tensor, width: int | None = None) -> Tensor:
    """What ``function`` makes of tensors whose rows do not depend on each other.

    On a CPU without gradients it is called for a block of rows at a time, all but the last of a
    multiple of 256 rows; elsewhere once.

    Args:
        function: takes blocks of ``rows``; returns a tensor with equally many rows.
        rows: tensors ``(T, ...)``.
        width: how many numbers of a row its layers take; those of the first tensor by default.
    """
    if not on_cpu_without_gradients(rows[0]):
        return function(*rows)
    sizes = _block_sizes(rows[0], width)
    if len(sizes) == 1:
        return function(*rows)
    out: Tensor | None = None
    begin = 0
    for size in sizes:
        part = function(*(tensor[begin : begin + size] for tensor in rows))
        if out is None:
            out = part.new_empty((sum(sizes), *part.shape[1:]))
        out[begin : begin + size] = part
        begin += size
    assert out is not None
    return out


def _block_sizes(x: Tensor, width: int | None) -> list[int]:
    """Rows of every block of a tensor."""
    width = width or math.prod(x.shape[1:])
    step = max(_NUMBERS // max(width, 1) // _ROWS, 1) * _ROWS * torch.get_num_threads()
    whole, rest = len(x) // _ROWS * _ROWS, len(x) % _ROWS
    # Below, calls for the rest would take as long as is won.
    if whole < _LEAST_BLOCKS * _ROWS:
        return [len(x)]
    step = step if whole >= _LEAST_BLOCKS * step else whole
    sizes = [step] * (whole // step) + [whole % step, rest]
    return [size for size in sizes if size]
