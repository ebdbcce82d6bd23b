from __future__ import annotations

import json

import pytest
import torch

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'
QUICK = ['--shape', '64', '96', '--batch-size', '1', '--steps', '4', '--warmup', '1']


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmark.py')


def test_measures_prints_writes_and_draws(tool, tmp_path, capsys):
    files = {name: tmp_path / f'result.{name}' for name in ('json', 'md', 'png')}
    outputs = ['--json', str(files['json']), '--markdown', str(files['md'])]
    outputs += ['--plot', str(files['png']), '--miou', '34.81', '39.35']
    assert tool.main([NANO, B0, '--allocation', 'full', *QUICK, *outputs]) == 0
    printed, said = capsys.readouterr()
    # Without a terminal too: a run at a size that nobody meant can take hours.
    assert 'inference: cpu, 64x96 px, batch 1, 4 steps after 1\n' in said
    assert 'inference: cpu; 64x96 px; random images; fp32; 4 steps after 1' in printed
    assert 'arta-nano_segformer, full' in printed and 'flops: 64x96 px' in printed
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        file.name for file in files.values()
    )
    result = json.loads(files['json'].read_text())
    assert result['machine']['torch'] == torch.__version__
    inference, flops = result['results']
    first, second = inference['rows']
    assert first['speed_ratio'] == first['memory_ratio'] == 1.0
    assert second['images_per_second'] > 0 and second['latency_95_ms'] >= second['latency_ms'] > 0
    assert sum(map(len, second['turns_ms'])) == 4
    assert first['memory_bytes'] > first['memory_base_bytes'] > 0
    assert [row['config'] for row in flops['rows']] == [NANO, B0]
    assert flops['rows'][0]['tokens'] == 510 and flops['rows'][1]['gmacs_ratio'] > 0
    page = files['md'].read_text()
    assert page.count('### ') == 2 and 'PyTorch' in page


def test_images_of_a_data_set(tool, load_tool, tmp_path, capsys):
    data = tmp_path / 'toy'
    toy = ['--layout', 'camvid', '--train', '1', '--val', '3', '--size', '64', '96']
    assert load_tool('make_toy_dataset.py').main([str(data), *toy]) == 0
    arguments = ['--protocol', 'flops', '--images', 'dataset:2', '--shape', '32', '64']
    options = ['--cfg-options', f'val_dataloader.dataset.data_root={data}']
    path = tmp_path / 'count.json'
    assert tool.main([NANO, *arguments, *options, '--json', str(path)]) == 0
    printed = capsys.readouterr().out
    assert 'flops: 32x64 px; 2 images of CamVidDataset' in printed and ' ± ' in printed
    assert 'scores of random weights decide on the tokens' in printed
    (row,) = json.loads(path.read_text())['results'][0]['rows']
    assert row['images'] == 2 and row['options'] == {}


def test_bad_input_is_one_line_and_leaves_nothing(tool, tmp_path, capsys):
    empty, broken = tmp_path / 'empty', tmp_path / 'broken'
    empty.mkdir()
    broken.mkdir()
    (broken / 'image.png').write_text('no image')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'backbone.strange': torch.zeros(1)}), other)
    out = tmp_path / 'out'
    out.mkdir()
    cases = [
        (['no-such-config'], "config 'no-such-config' is neither a file nor the name of one"),
        (['arta-nano_1xb64-8e_cifar10-64x64'], 'is for mmpretrain'),
        ([NANO, '--images', str(empty)], 'no images there'),
        ([NANO, '--images', str(empty / 'none')], 'there is no such folder'),
        ([NANO, '--images', str(broken)], 'image.png cannot be read'),
        ([NANO, '--images', 'dataset:none'], "takes a folder or 'dataset:K'"),
        (
            [NANO, '--images', 'dataset:2', '--cfg-options', 'val_dataloader.dataset.data_root=x'],
            'validation set not found',
        ),
        ([NANO, '--shape', '64'], '--shape takes two positive numbers, found [64]'),
        ([NANO, '--shape', '1000000', '1000000'], 'an image of that size would take 11176 GiB'),
        ([NANO, '--shape', 'a', 'b'], 'argument --shape: invalid int value'),
        ([NANO, '--batch-size', '0'], '--batch-size must be at least 1, found 0'),
        ([NANO, '--steps', '0'], '--steps must be at least 1, found 0'),
        ([NANO, '--device', 'tpu'], "--device must be 'cpu', 'cuda' or 'cuda:N', found 'tpu'"),
        ([NANO, '--dtype', 'tf32'], '--dtype tf32 needs a CUDA device'),
        ([NANO, '--checkpoint', 'missing.pth'], "checkpoint 'missing.pth' does not exist"),
        ([NANO, '--checkpoint', str(other)], 'other.pth'),
        ([NANO, '--plot', str(out / 'a.txt')], 'expected a name that ends in one of .png'),
        ([NANO, '--plot', str(out / 'a.png')], 'the mIoU of no model is known'),
        ([NANO, '--json', str(tmp_path / 'no' / 'a.json')], 'does not exist'),
        ([NANO, '--halt-after', 'late'], "expected blocks such as '8,16', found 'late'"),
    ]
    if not torch.cuda.is_available():
        cases.append(([NANO, '--device', 'cuda'], '--device cuda: PyTorch finds no CUDA device'))
    for arguments, message in cases:
        arguments = [*QUICK, *arguments] if '--shape' not in arguments else arguments
        if '--json' not in arguments:
            arguments = [*arguments, '--json', str(out / 'result.json')]
        try:
            status = tool.main(arguments)
        except SystemExit as stopped:
            status = stopped.code
        error = capsys.readouterr().err.strip()
        assert status == 2, (arguments, error)
        assert error.startswith('benchmark: error: ') and '\n' not in error, (arguments, error)
        assert message in error, (arguments, error)
        assert not list(out.iterdir()), arguments
