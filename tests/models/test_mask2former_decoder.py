"""Pixel and transformer decoder on tokens of any number and place."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.models.decode_heads.mask2former import (
    MaskedTransformerDecoder,
    PixelDecoderOutput,
    PointPixelDecoder,
)
from mmseg_arta.models.decode_heads.mask2former.mask_features import (
    CellTokens,
    Factor,
    MaskFeatures,
    central_cells,
)
from mmseg_arta.models.decode_heads.mask2former.positions import (
    LearnedCellPosition,
    SineCellPosition,
    token_positions,
)
from mmseg_arta.models.decode_heads.mask2former.transformer_decoder import Memory, attention_mask
from mmseg_arta.models.layers import sine_position
from mmseg_arta.structures import MixedTokens, TokenSet
from tests.helpers import grid_tokens, some_tokens

CANVAS = (64, 96)
SIZES = (32, 16, 8, 4)
DIMS = (12, 8, 6, 4)


def tokens(counts=((9, 4), (20, 3), (40, 0)), images=2, seed=0, dims=DIMS):
    """All 32 px tokens, and the given counts of 16, 8 and 4 px tokens per image."""
    torch.manual_seed(seed)
    levels = [grid_tokens(images, (2, 3), 32, dims[0])]
    for count, size, dim in zip(counts, SIZES[1:], dims[1:], strict=True):
        grid = (CANVAS[0] // size, CANVAS[1] // size)
        levels.append(some_tokens(count, grid, size, dim))
    return MixedTokens(tuple(levels), (61, 90), CANVAS)


def image_of(mixed: MixedTokens, index: int) -> MixedTokens:
    """One image of a batch by itself."""
    levels = []
    for level in mixed.levels:
        rows = slice(int(level.offsets[index]), int(level.offsets[index + 1]))
        levels.append(
            TokenSet(
                level.feats[rows],
                level.xy[rows],
                level.offsets[index : index + 2] - level.offsets[index],
                level.lengths[index : index + 1],
                level.patch_size,
                level.grid,
            )
        )
    return MixedTokens(tuple(levels), mixed.image_size, mixed.canvas)


def pixel_decoder(**options):
    decoder = PointPixelDecoder(DIMS, 8, 8, 2, 2, hidden=16, **options)
    # Samples start where a rounding decides between cells.
    for layer in decoder.layers:
        torch.nn.init.normal_(layer.attn.offsets.weight, std=0.3)
    return decoder


def transformer_decoder(**options):
    return MaskedTransformerDecoder(5, 8, 8, 6, 4, 2, 16, **options)


MEMORIES = pytest.mark.parametrize('memory', ['coarse', 'all'])


@pytest.mark.parametrize('position', ['learned', 'sine'])
@torch.no_grad()
def test_factorised_logits_are_those_of_the_dense_features(position):
    levels = tokens(dims=(8,) * 4).levels
    cells = CellTokens.of(levels)
    module = LearnedCellPosition(8, SIZES) if position == 'learned' else SineCellPosition(8)
    feats = torch.cat([level.feats for level in levels])
    found = MaskFeatures((cells.factor(feats), *module(cells)), cells.grid)
    dense = feats[cells.rows].permute(0, 3, 1, 2)
    for factor in module(cells):
        place = factor.rows.expand(2, -1, -1).gather(
            1, factor.index.expand(2, -1)[..., None].expand(-1, -1, factor.rows.shape[2])
        )
        dense[:, factor.channels] += place.transpose(1, 2).unflatten(2, cells.grid)
    torch.testing.assert_close(found.dense(8), dense)
    embed = torch.randn(2, 6, 8)
    expected = torch.einsum('bqc,bchw->bqhw', embed, dense)
    torch.testing.assert_close(found.logits(embed), expected)
    some = torch.randint(0, 16 * 24, (2, 7, 4))
    looked_up = expected.flatten(2).gather(2, some.flatten(1)[:, None].expand(-1, 6, -1))
    torch.testing.assert_close(
        embed @ found.means(some, 8).transpose(1, 2), looked_up.unflatten(2, (7, 4)).mean(-1)
    )


def test_only_visible_tokens_are_multiplied():
    # Every 32 px token is covered by 16 px tokens in the first image, none in the second.
    levels = [grid_tokens(2, (2, 3), 32), some_tokens((24, 0), (4, 6), 16)]
    factor = CellTokens.of(levels).factor(torch.randn(12 + 24, 4))
    assert factor.rows.shape == (2, 24, 4)
    assert factor.index[0].max() == 23 and factor.index[1].max() == 5


def test_learned_positions_tell_places_inside_a_patch_apart():
    levels = tokens().levels
    module = LearnedCellPosition(8, SIZES)
    assert module.embed.num_embeddings == 64 + 16 + 4 + 1
    (factor,) = module(CellTokens.of(levels))
    index = factor.index.view(2, 16, 24)
    rows = CellTokens.of(levels).rows
    for y, x in ((0, 0), (5, 17), (15, 23)):
        number = int(rows[1, y, x])
        for level in levels:
            if number < len(level):
                break
            number -= len(level)
        inside = torch.tensor([x, y]) - level.xy[number]
        first = {4: 0, 8: 1, 16: 5, 32: 21}[level.patch_size]
        assert index[1, y, x] == first + inside[1] * level.unit + inside[0]
    with pytest.raises(ValueError, match=r'patch_sizes names \[4, 8\].*levels of \[32, 16\]'):
        LearnedCellPosition(8, (4, 8))(CellTokens.of(levels))


@pytest.mark.parametrize(
    'size, cells', [(16, [125, 126, 149, 150]), (8, [50, 51, 74, 75]), (4, [25] * 4)]
)
def test_central_cells(size, cells):
    # The patch in the second row and column of patches, on a grid of 24 columns.
    level = grid_tokens(1, (64 // size, 96 // size), size)
    second = 96 // size + 1
    finest = CellTokens.of([grid_tokens(1, (16, 24), 4)])
    assert central_cells(level, finest)[second].tolist() == cells


@pytest.mark.parametrize(
    'counts',
    [
        ((9, 4), (20, 3), (40, 0)),
        ((0, 0), (0, 0), (0, 0)),
        ((24, 0), (96, 0), (384, 0)),
        ((1, 2), (1, 1), (0, 0)),
    ],
    ids=['mixed', 'coarse-only', 'full-and-coarse', 'few'],
)
@MEMORIES
@torch.no_grad()
def test_an_image_does_not_depend_on_the_batch(counts, memory):
    mixed = tokens(counts)
    pixels, queries = pixel_decoder(), transformer_decoder(memory=memory)
    together = queries(pixels(mixed))
    for index in range(2):
        alone = queries(pixels(image_of(mixed, index)))
        for number in range(5):
            torch.testing.assert_close(
                together.class_logits[number][index], alone.class_logits[number][0],
                atol=1e-4, rtol=1e-4,
            )  # fmt: skip
            torch.testing.assert_close(
                together.mask_logits(number)[index], alone.mask_logits(number)[0],
                atol=1e-4, rtol=1e-4,
            )  # fmt: skip


@pytest.mark.parametrize('counts', [((0, 0),) * 3, ((9, 4), (20, 3), (40, 0))], ids=str)
@MEMORIES
def test_every_parameter_gets_a_gradient(counts, memory):
    pixels, queries = pixel_decoder(), transformer_decoder(memory=memory)
    out = queries(pixels(tokens(counts)))
    loss = sum(out.mask_logits(n).square().mean() for n in range(5))
    (loss + sum(x.square().mean() for x in out.class_logits)).backward()
    for module in (pixels, queries):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_masked_attention_is_attention_to_the_tokens_inside_the_mask():
    """The first layer of an image alone, token by token."""
    mixed = tokens(((9,), (20,), (40,)), images=1, dims=(8,) * 4)
    decoder = transformer_decoder()
    feats = torch.cat([level.feats for level in mixed.levels])
    out = decoder(PixelDecoderOutput(mixed.levels[:3], mixed.levels, feats, CANVAS, CANVAS))
    layer, level = decoder.layers[0], mixed.levels[0]
    logits = out.mask_logits(0)[0].detach()
    weight, bias = layer.cross_attn.in_proj.weight, layer.cross_attn.in_proj.bias
    value = level.feats + decoder.level_embed.weight[0]
    key = value + token_positions([level], 8, CANVAS, 'canvas')
    k, v = key @ weight[8:16].T + bias[8:16], value @ weight[16:].T + bias[16:]
    x = []
    for query in range(6):
        feat = decoder.query_feat.weight[query]
        q = (feat + decoder.query_embed.weight[query]) @ weight[:8].T + bias[:8]
        inside = []
        for column, row in level.xy.tolist():
            patch = logits[query, row + 3 : row + 5, column + 3 : column + 5]
            inside.append(float(patch.mean()) >= 0)
        rows = torch.tensor(inside) if any(inside) else torch.ones(len(level), dtype=torch.bool)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            share = (k[rows][:, head] @ q[head] / 2).softmax(0)
            heads.append(share @ v[rows][:, head])
        x.append(layer.cross_attn_norm(feat + layer.cross_attn.out_proj(torch.cat(heads))))
    x = torch.stack(x)[None]
    x = layer.self_attn_norm(x + layer.self_attn(x + decoder.query_embed.weight, None, x))
    x = layer.ffn_norm(x + layer.fc2(layer.fc1(x).relu()))
    torch.testing.assert_close(
        decoder.class_embed(decoder.norm(x)), out.class_logits[1], atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_queries_attend_to_every_cell_of_the_densified_map():
    """The layer after the coarse levels: its memory is the dense mask features."""
    mixed = tokens(((9,), (20,), (40,)), images=1, dims=(8,) * 4)
    decoder = transformer_decoder(memory='all')
    feats = torch.cat([level.feats for level in mixed.levels])
    memories, inputs = [], []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda _, args: memories.append(args[2]))
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[3]))
    out = decoder(PixelDecoderOutput(mixed.levels[:3], mixed.levels, feats, CANVAS, CANVAS))
    assert [len(memory.key) for memory in memories] == [6, 9, 20, 16 * 24]
    dense = out.mask_feats.dense(8)[0].flatten(1).T
    torch.testing.assert_close(memories[3].value, dense + decoder.level_embed.weight[3])
    # A cell's own logit decides who may attend to it.
    inside = out.mask_logits(3)[0].flatten(1) >= 0
    assert inside.any(1).all() and not inside.all()
    assert torch.equal(inputs[3][0] == 0, inside)


def test_positions_are_those_of_centres_on_the_canvas():
    level = grid_tokens(1, (2, 3), 32)
    expected = sine_position(level.centers(), 8, (24, 16))
    assert torch.equal(token_positions([level], 8, CANVAS, 'canvas'), expected)
    expected = sine_position(level.centers(), 8, (19.5, 11.5))
    assert torch.equal(token_positions([level], 8, CANVAS, 'max'), expected)


def test_queries_always_have_something_to_look_at():
    # The second image has no token on this level: its padding stands in.
    level = some_tokens((3, 0), (8, 12), 8)
    embed = torch.tensor([[[1.0], [-1.0]]] * 2)
    feats = MaskFeatures(
        (Factor(torch.tensor([[[2.0], [-2.0]]]), slice(0, 1), torch.zeros(2, 384).long()),),
        (16, 24),
    )
    memory = Memory.of(level, torch.randn(3, 8), torch.randn(3, 8))
    cells = central_cells(level, CellTokens.of([grid_tokens(2, (16, 24), 4)]))
    found = attention_mask(embed, memory, feats.means(memory.laid_out(cells), 1))
    assert (found == 0).all() and found.shape == (2, 2, 3)
    feats.factors[0].index[0, cells[1]] = 1
    found = attention_mask(embed, memory, feats.means(memory.laid_out(cells), 1))
    assert (found[0] == 0).tolist() == [[True, False, True], [False, True, False]]


def test_canvas_positions_do_not_depend_on_the_tokens():
    few, many = some_tokens((3,), (8, 12), 8), grid_tokens(1, (8, 12), 8)
    row = int((many.xy == few.xy[0]).all(1).nonzero()[0, 0])
    for normalize, same in (('canvas', True), ('max', False)):
        a, b = (token_positions([level], 8, CANVAS, normalize) for level in (few, many))
        assert torch.allclose(a[0], b[row]) is same


def test_half_precision():
    pixels, queries = pixel_decoder(), transformer_decoder()
    exact = queries(pixels(tokens()))
    with torch.autocast('cpu', torch.bfloat16):
        out = queries(pixels(tokens()))
        masks = out.mask_logits(0)
    assert masks.dtype == out.class_logits[-1].dtype == torch.float32
    # Before the first layer nothing runs in half precision.
    torch.testing.assert_close(masks, exact.mask_logits(0))
    torch.testing.assert_close(out.class_logits[-1], exact.class_logits[-1], atol=0.2, rtol=0.1)


def test_offsets_in_a_levels_own_patches():
    """Layers whose offsets are as many times larger sample the same places."""
    plain, units = pixel_decoder(), pixel_decoder(offset_units=(8, 4, 2))
    units.load_state_dict(plain.state_dict())
    scale = torch.tensor([8.0, 4.0, 2.0]).view(1, 3, 1, 1)
    mixed = tokens()
    assert not torch.equal(units(mixed).mask_feats, plain(mixed).mask_feats)
    with torch.no_grad():
        for layer in plain.layers:
            for tensor in (layer.attn.offsets.weight, layer.attn.offsets.bias):
                shape = tensor.shape
                rows = tensor.view(layer.attn.num_heads, 3, layer.attn.num_points, -1)
                tensor.copy_((rows * scale).view(shape))
    torch.testing.assert_close(units(mixed).mask_feats, plain(mixed).mask_feats)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r'offset_units must be 3 finite numbers.*found \(8, 4\)'):
        PointPixelDecoder(DIMS, offset_units=(8, 4))
    with pytest.raises(ValueError, match='at least two levels'):
        PointPixelDecoder((8,))
    with pytest.raises(ValueError, match="mask_tokens must be 'all' or 'finest', found 'some'"):
        PointPixelDecoder(DIMS, mask_tokens='some')
    with pytest.raises(ValueError, match="normalize must be 'canvas' or 'max', found 'min'"):
        PointPixelDecoder(DIMS, normalize='min')
    with pytest.raises(ValueError, match="cell_position must be 'learned', 'sine' or 'none'"):
        transformer_decoder(cell_position='some')
    with pytest.raises(ValueError, match="memory must be 'coarse' or 'all', found 'dense'"):
        transformer_decoder(memory='dense')
    with pytest.raises(ValueError, match=r"memory='all' needs .* found mask_dim=4, dim=8"):
        MaskedTransformerDecoder(5, 8, 4, memory='all')
    with pytest.raises(ValueError, match=r'in_channels is \(12, 8, 6, 4\), but .* \(8, 8, 8, 8\)'):
        pixel_decoder()(tokens(dims=(8,) * 4))
    with pytest.raises(ValueError, match='attends to 2 coarse levels, the pixel decoder gives 3'):
        transformer_decoder(num_levels=2)(pixel_decoder()(tokens()))
    with pytest.raises(ValueError, match='num_heads must divide the 8 channels, found 3'):
        PointPixelDecoder(DIMS, 8, num_heads=3)
