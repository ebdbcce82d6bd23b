"""Pictures from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'


@pytest.fixture
def tool(load_tool):
    return load_tool('visualize.py')


@pytest.fixture
def options(toy_camvid):
    root, size = 'test_dataloader.dataset.data_root', 'test_dataloader.dataset.pipeline.1.scale'
    return ['--cfg-options', f'{root}={toy_camvid}', f'{size}=(96,64)']


@pytest.fixture
def image(toy_camvid):
    return sorted(toy_camvid.glob('images/val/*'))[0]


@pytest.fixture
def titles(tool, monkeypatch):
    """Rows of (key, title) of every file written, by its name."""
    seen = {}

    def watched(rows, legend, path, *rest, write=tool.write):
        seen[path.name] = [[(panel.key, panel.title) for panel in row] for row in rows]
        write(rows, legend, path, *rest)

    monkeypatch.setattr(tool, 'write', watched)
    return seen


def keys(rows):
    return [[key for key, _ in row] for row in rows]


def test_a_file_per_image_and_a_sheet(tool, options, titles, tmp_path, capsys):
    out = tmp_path / 'out'
    arguments = [NANO, 'dataset', '--allocation', '0.5', '--images', '2', '--out', str(out)]
    assert tool.main([*arguments, *options]) == 0
    printed = capsys.readouterr()
    files = sorted(out.iterdir())
    assert sorted(printed.out.split()) == [str(path) for path in files]
    assert len(files) == 3 and files[0].name == 'sheet.png'
    assert 'random weights' in printed.err
    assert len(titles) == 2
    for rows in titles.values():
        assert keys(rows) == [
            ['image', 'truth', 'prediction', 'errors'],
            ['scores', 'scores', 'scores', 'boundary'],
            ['tokens', 'tokens', 'tokens', 'cells'],
        ]
        assert rows[2][0][1] == 'round 1: 12 tokens of 16 px'
        assert rows[2][2][1] == 'round 3: 48 tokens of 4 px'
    with Image.open(files[0]) as sheet:
        # A row per image: image, truth, scores, tokens, prediction, errors.
        assert 6 * 320 < sheet.width < 6 * 340 and 2 * 210 < sheet.height < 2 * 300


def test_images_of_folders_without_ground_truth(tool, options, titles, toy_camvid, image, tmp_path):
    out = tmp_path / 'out'
    # An image by itself, and again in its folder.
    sources = [str(image), str(toy_camvid / 'images'), str(image.parent)]
    arguments = [NANO, *sources, '--allocation', 'full', '--images', '6', '--out', str(out)]
    assert tool.main([*arguments, *options]) == 0
    assert len(titles) == 6 and len(list(out.iterdir())) == 7
    assert {'toy_val_000000.png', 'val_toy_val_000000.png', 'toy_val_000001.png'} <= set(titles)
    for rows in titles.values():
        assert keys(rows)[0] == ['image', 'prediction'] and 'boundary' not in keys(rows)[1]


def test_chosen_panels_in_one_small_file(tool, options, toy_camvid, tmp_path):
    images = [str(path) for path in sorted(toy_camvid.glob('images/val/*'))[:2]]
    row = tmp_path / 'row.png'
    chosen = ['--panels', 'image', 'scores:3', 'prediction', '--panel-width', '100']
    arguments = [NANO, *images, *chosen, '--colors', '16', '--out', str(row), *options]
    assert tool.main(arguments) == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == '.png'] == ['row.png']
    with Image.open(row) as drawn:
        assert drawn.mode == 'P' and len(np.unique(np.asarray(drawn))) <= 16
        assert 300 < drawn.width < 330


def test_help_says_how_many_sheets_there_are(tool, image, options, tmp_path, capsys):
    arguments = [B0, *[str(image)] * 13, '--out', str(tmp_path / 'FILE.png'), '--panels', 'image']
    assert tool.main([*arguments, *options]) == 0
    written = [Path(line).name for line in capsys.readouterr().out.split()]
    with pytest.raises(SystemExit):
        tool.parse_args(['--help'])
    shown = capsys.readouterr().out
    assert all(name in shown for name in written)
    assert written == ['FILE_1.png', 'FILE_2.png']


def test_autofocusformer(tool, aff_config, titles, image, tmp_path):
    out = tmp_path / 'aff.png'
    assert tool.main([str(aff_config), str(image), '--out', str(out)]) == 0
    (rows,) = titles.values()
    assert keys(rows) == [
        ['image', 'prediction'],
        ['scores'] * 3,
        ['tokens'] * 3 + ['merging'],
    ]
    assert rows[2][3][1].startswith('merging into ') and rows[2][3][1].endswith('of 6 tokens')
    assert rows[1][0][1].startswith('importance in stage 1: ')
    assert out.is_file()


def test_step(tool, step_config, titles, tmp_path):
    out = tmp_path / 'step.png'
    chosen = ['--cfg-options', 'model.backbone.merging.thresholds.4=0']
    assert (
        tool.main([str(step_config), 'dataset', '--images', '1', '--out', str(out), *chosen]) == 0
    )
    (rows,) = titles.values()
    assert keys(rows) == [
        ['image', 'truth', 'prediction', 'errors'],
        ['scores', 'scores', 'boundary'],
        ['tokens', 'cells'],
    ]
    assert rows[1][0][1].startswith('P(one class), 2x2 patches')
    assert 'tokens halted' in rows[2][0][1] and 'tokens for 24 patches' in rows[2][1][1]


def test_halting_alone(tool, step_config, titles, image, tmp_path):
    out = tmp_path / 'dtop.png'
    alone = ['--cfg-options', 'model.backbone.merging=None', 'model.backbone.policy_net=None']
    assert tool.main([str(step_config), str(image), '--out', str(out), *alone]) == 0
    (rows,) = titles.values()
    assert keys(rows) == [['image', 'prediction'], ['tokens', 'cells']]
    assert rows[1][1][1] == '24 tokens for 24 patches'


def test_two_models_side_by_side(tool, options, titles, tmp_path):
    out = tmp_path / 'both.png'
    arguments = [B0, 'dataset', '--against', NANO, '--images', '1', '--out', str(out)]
    assert tool.main([*arguments, *options]) == 0
    (rows,) = titles.values()
    assert keys(rows) == [
        ['image', 'truth', 'prediction', 'errors'],
        ['other', 'other-errors', 'difference'],
    ]
    assert rows[0][2][1] == 'segformer mit-b0' and rows[1][0][1] == 'arta-nano segformer'


def test_both_models_are_told_who_gets_tokens(tool, options, tmp_path, monkeypatch, capsys):
    used = []

    def watched(item, subject, other, draw=tool.panel_rows):
        predict = other.model.test_step

        def test_step(data):
            used.append(repr(getattr(other.model.backbone, 'policy', None)))
            return predict(data)

        other.model.test_step = test_step
        return draw(item, subject, other)

    monkeypatch.setattr(tool, 'panel_rows', watched)
    arguments = [NANO, 'dataset', '--images', '1', '--allocation', '0.3']
    for against in (NANO, B0):
        out = ['--out', str(tmp_path / 'both.png'), '--against', against]
        assert tool.main([*arguments, *out, *options]) == 0
        alone = f'{against} allocates no tokens: --allocation is of the first model alone'
        assert (alone in capsys.readouterr().err) == (against == B0)
    assert 'EvenAllocation' in used[0] and used[1] == 'None'


def test_windows_of_slide_inference(tool, options, titles, tmp_path):
    out = tmp_path / 'slide.png'
    slide = ['model.test_cfg.crop_size=(64,64)', 'model.test_cfg.stride=(32,32)']
    arguments = [NANO, 'dataset', '--images', '1', '--mode', 'slide', '--allocation', 'full']
    assert tool.main([*arguments, '--out', str(out), *options, *slide]) == 0
    (rows,) = titles.values()
    # Two windows, each with all of its tokens.
    assert rows[2][0][1] == 'round 1: 32 tokens of 16 px (2 windows)'


def test_bad_input_is_one_line_and_leaves_nothing(tool, options, nameless, image, tmp_path, capsys):
    empty, broken = tmp_path / 'empty', tmp_path / 'broken'
    empty.mkdir()
    broken.mkdir()
    (broken / 'image.png').write_text('no image')
    (broken / 'a.png').write_bytes(image.read_bytes())
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'backbone.strange': torch.zeros(1)}), other)
    missing = ['--cfg-options', 'test_dataloader.dataset.data_root=nowhere']
    ade = 'segformer_mit-b0_8xb2-160k_ade20k-512x512'
    cases = [
        (['no-such-config', str(image)], "config 'no-such-config' is neither a file nor the name"),
        (['arta-nano_1xb64-8e_cifar10-64x64', str(image)], 'is for mmpretrain'),
        ([NANO, str(empty)], f'SOURCE {empty}: no images there'),
        ([NANO, str(empty / 'none.png')], 'there is no such file or folder'),
        ([NANO, str(broken)], 'image.png cannot be read'),
        ([NANO, str(image), '--cfg-options', *nameless], 'the data set names no classes'),
        ([NANO, 'dataset', *missing], 'test set not found'),
        ([NANO, str(image), '--checkpoint', 'missing.pth'], "'missing.pth' does not exist"),
        ([NANO, str(image), '--checkpoint', str(other)], 'other.pth'),
        (
            [NANO, str(image), '--against', ade],
            'expected a model of the same 11 classes, found 150',
        ),
        ([NANO, str(image), '--against-checkpoint', str(other)], 'needs --against'),
        ([NANO, str(image), '--panels', 'picture'], 'expected names of image, truth, prediction'),
        ([NANO, str(image), '--panels', 'scores:0'], "found 'scores:0'"),
        ([NANO, str(image), '--panels', 'merging'], 'this image has no such panel, but image'),
        ([NANO, str(image), '--images', '0'], '--images must be at least 1, found 0'),
        ([NANO, str(image), '--colors', '300'], '--colors must be at most 256, found 300'),
        (
            [NANO, str(image), '--panel-width', '100000'],
            '--panel-width must be at most 4096, found',
        ),
        ([NANO, str(image), '--panel-width', '9'], '--panel-width must be at least 40, found 9'),
        ([NANO, str(image), '--allocation', 'most'], "found 'most'"),
        ([NANO, str(image), '--device', 'tpu'], "--device must be 'cpu', 'cuda' or 'cuda:N'"),
    ]
    if not torch.cuda.is_available():
        cases.append(
            ([NANO, str(image), '--device', 'cuda'], '--device cuda: PyTorch finds no CUDA device')
        )
    out = tmp_path / 'out'
    for arguments, message in cases:
        arguments = [*arguments, *(options if '--cfg-options' not in arguments else [])]
        try:
            status = tool.main([*arguments, '--out', str(out)])
        except SystemExit as stopped:
            status = stopped.code
        error = capsys.readouterr().err.strip()
        assert status == 2 and message in error, (arguments, error)
        lines = [line for line in error.splitlines() if 'random weights' not in line]
        assert len(lines) == 1 and lines[0].startswith('visualize: error: '), (arguments, error)
        assert not out.exists(), arguments
    for name in ('/proc/new', '/proc/new.png'):
        assert tool.main([NANO, str(image), '--out', name, *options]) == 2
        assert capsys.readouterr().err.startswith(f'visualize: error: --out {name[:5]}')
    assert tool.main([NANO, str(image), '--out', str(tmp_path / 'a.gif'), *options]) == 2
    assert 'a name that ends in .png' in capsys.readouterr().err
