from __future__ import annotations

import re

import pytest
import torch

from tests.helpers import load_fixture

CONFIG = """
custom_imports = dict(imports=['mmseg_arta'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='ARTA',
        image_hidden='pixels',
        arch=dict(
            dims=(64, 32, 16, 8),
            num_heads=(8, 4, 2, 1),
            allocation_depths=(1, 1, 1),
            refinement_depths=(2, 2, 2, 2),
            mlp_ratio=3.0,
        ),
    ),
    decode_head=dict(
        type='SegformerHead', in_channels=[64], in_index=[0], channels=8, num_classes=19
    ),
    auxiliary_head=dict(type='BoundaryScoreHead'),
)
test_dataloader = dict(dataset=dict(type='CityscapesDataset'))
"""


@pytest.fixture
def run(tmp_path, load_tool, monkeypatch, capsys):
    """Run the command in a folder with a published backbone, ``in.pth``, and ``config.py``."""
    monkeypatch.chdir(tmp_path)
    state = load_fixture('arta/backbone_local.pt')['state_dict']
    torch.save({'model': state}, 'in.pth')
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'bad.py').write_text('model = (')

    def call(*args):
        capsys.readouterr()
        status = load_tool('model_converters/convert_checkpoint.py').main(list(args))
        out, error = capsys.readouterr()
        assert status == (2 if error else 0)
        return out + error

    return call


def test_converts_and_checks(run, tmp_path):
    assert '312 weights' in run('arta', 'in.pth', 'out.pth')
    assert torch.load('out.pth', weights_only=True)['meta'].keys() == {'family', 'mmseg_arta'}
    run('dups', 'in.pth', 'out.pth', '--config', 'config.py', '--allow-missing', '^decode_head')
    found = torch.load('out.pth', weights_only=True)
    assert len(found['meta']['dataset_meta']['classes']) == 19
    assert all(key.startswith('backbone.') for key in found['state_dict'])


@pytest.mark.parametrize(
    'args, message',
    [
        (['arta', 'none.pth', 'out.pth'], 'error: none.pth: no such file'),
        (['aff', 'in.pth', 'out.pth'], 'keys without a rule'),
        (['arta', 'in.pth', 'out.pth', '--config', 'config.py'], 'keys missing: decode_head'),
        (['arta', 'in.pth', 'out.pth', '--config', 'no.py'], 'no.py. is neither a file'),
        (['arta', 'in.pth', 'out.pth', '--config', 'bad.py'], r'bad\.py cannot be read: .*never'),
        (['arta', 'in.pth', 'none/out.pth'], 'there is no folder none'),
        (['arta', 'in.pth', 'out.pth', '--options', 'a=1'], r"unknown options \['a'\]"),
        (
            ['arta', 'in.pth', 'out.pth', '--config', 'config.py', '--cfg-options',
             'model.backbone.arch.dims=(64,32,16,16)', '--allow-missing', 'decode_head'],
            r'instead of \[64\]|instead of \[16',
        ),
        (
            ['arta', 'in.pth', 'out.pth', '--config', 'config.py', '--cfg-options',
             'model.backbone.type=ATRA'],
            'config.py: its model cannot be built',
        ),
    ],
    ids=['source', 'layout', 'missing', 'config', 'bad-config', 'target', 'option', 'shape',
         'type'],
)  # fmt: skip
def test_errors_are_one_line_and_write_nothing(run, tmp_path, args, message):
    text = run(*args)
    assert text.startswith('convert_checkpoint: error: ') and re.search(message, text)
    assert text.count('\n') == 1
    assert not (tmp_path / 'out.pth').exists()


def test_a_config_by_name(run):
    # It is found: what is wrong is the model.
    text = run(
        'arta', 'in.pth', 'out.pth', '--config', 'dups-tiny_mask2former_4xb8-80k_ade20k-512x512'
    )
    assert 'keys missing' in text or 'instead of' in text


@pytest.mark.parametrize('pattern', ['(', '*', '[a'])
def test_what_is_no_regular_expression(load_tool, pattern, capsys):
    tool = load_tool('model_converters/convert_checkpoint.py')
    with pytest.raises(SystemExit) as stopped:
        tool.main(['arta', 'a', 'b', '--config', 'x', '--allow-missing', 'fine', pattern])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count('\n') == 1
    assert f'--allow-missing: expected regular expressions, found {pattern!r}' in error


def test_a_config_without_test_data(run):
    options = ['--cfg-options', 'test_dataloader=None', '--allow-missing', '^decode_head']
    assert '312 weights' in run('dups', 'in.pth', 'out.pth', '--config', 'config.py', *options)
    assert 'dataset_meta' not in torch.load('out.pth', weights_only=True)['meta']
