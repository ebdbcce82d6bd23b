from __future__ import annotations

import json
from pathlib import Path

import pytest

NANO = 'arta-nano_mask2former_1xb4-2k_camvid-256x256'
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(load_tool):
    return load_tool('get_flops.py')


def test_prints_and_writes_both_conventions(tool, tmp_path, capsys):
    path = tmp_path / 'count.json'
    config = ROOT / 'configs' / 'arta' / f'{NANO}.py'
    arguments = ['--shape', '64', '96', '--allocation', 'full', '--json', str(path)]
    assert tool.main([str(config), *arguments]) == 0
    printed = capsys.readouterr().out
    assert '504 tokens' not in printed and '510 tokens (6 of 32 px' in printed
    assert 'stage 6' in printed and 'GMACs as published' in printed
    assert 'factorised, as executed' in printed and 'by dense matrix products' in printed
    assert '\nas executed: ' in printed and '\nas published: ' in printed
    result = json.loads(path.read_text())
    assert result['config'] == f'{NANO}.py' and result['shape'] == [64, 96]
    assert result['flops'] == 2 * result['macs'] and result['allocation'] == 'full'
    for name in ('params', 'macs', 'flops', 'macs_published'):
        assert result[name] == sum(part[name] for part in result['components'].values())
    assert list(result['components']) == [
        'backbone',
        'pixel_decoder',
        'transformer_decoder',
        'post_processing',
    ]
    assert result['tokens'] == {'32': 6, '16': 24, '8': 96, '4': 384}
    assert [file.name for file in tmp_path.iterdir()] == ['count.json']


def test_takes_stock_configs_by_name_and_options(tool, capsys):
    name = 'segformer_mit-b0_8xb2-160k_ade20k-512x512'
    assert (
        tool.main([name, '--shape', '64', '--cfg-options', 'model.decode_head.num_classes=7']) == 0
    )
    printed = capsys.readouterr().out
    assert '64x64 px; whole image' in printed and 'decode_head' in printed


def test_statistics_over_images(tool, load_tool, tmp_path, capsys):
    data, path = tmp_path / 'toy', tmp_path / 'count.json'
    toy = ['--layout', 'camvid', '--train', '1', '--val', '3', '--size', '64', '96']
    assert load_tool('make_toy_dataset.py').main([str(data), *toy]) == 0
    options = [
        f'val_dataloader.dataset.data_root={data}',
        'val_dataloader.dataset.pipeline.1.scale=(96,64)',
    ]
    arguments = ['--dataset-samples', '2', '--json', str(path)]
    shapes = dict(fixed=[32, 64], pipeline=[64, 96])
    for size, shape in shapes.items():
        sized = ['--shape', '32', '64', '--sample-size', size, '--cfg-options', *options]
        assert tool.main([NANO, *arguments, *sized]) == 0
        assert 'mean of 2 images' in capsys.readouterr().out
        result = json.loads(path.read_text())
        assert result['shape'] == shape and result['samples']['images'] == 2
        assert result['samples']['macs']['mean'] == pytest.approx(result['macs'], rel=1e-6)
        assert result['samples']['tokens']['std'] >= 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no-such-config'], "config 'no-such-config' is neither a file nor the name of one"),
        ([str(ROOT / 'setup.cfg.missing')], 'is neither a file'),
        ([str(ROOT / 'configs/_base_/default_runtime.py')], 'has no model'),
        (['segformer_mit-b0_8xb2-160k_ade20k-512x512', '--allocation', 'caps'], 'found none in'),
        ([NANO, '--json', '/no/such/folder/x.json'], 'folder /no/such/folder does not exist'),
        ([NANO, '--checkpoint', 'missing.pth'], "checkpoint 'missing.pth' does not exist"),
        ([NANO, '--dataset-samples', '0'], 'number of images must be at least 1, found 0'),
        (
            [NANO, '--dataset-samples', '2', '--cfg-options', 'val_dataloader.dataset.data_root=x'],
            'validation set not found',
        ),
        ([NANO, '--cfg-options', 'model.backbone.arch=huge'], "cannot be built: arch='huge'"),
        (['segformer_mit-b0_8xb2-160k_ade20k-512x512', '--shape', '1'], 'image of 1x1 px'),
    ],
    ids=[
        'name',
        'path',
        'no model',
        'dense model',
        'folder',
        'checkpoint',
        'no images',
        'no data',
        'bad option',
        'tiny image',
    ],
)
def test_errors_are_one_line(tool, capsys, arguments, message):
    assert tool.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith('get_flops: error: ') and '\n' not in error
    assert message in error


@pytest.mark.parametrize(
    'arguments',
    [
        ['--shape', '0'],
        ['--shape', '1', '2', '3'],
        ['--shape', '1000000', '1000000'],
        ['--sample-size', 'pipeline'],
        ['--allocation', 'some'],
        ['--allocation', '1.2'],
    ],
)
def test_bad_usage(tool, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        tool.main([NANO, *arguments])
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
