from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_arta.datasets.toy import write_toy_dataset

CONFIG = """
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
    backbone=dict(
        type='ARTA',
        arch=dict(dims=(64, 32, 32, 16), num_heads=(2, 2, 2, 1), allocation_depths=(1, 1, 1),
                  refinement_depths=(1, 1, 1, 1), mlp_ratio=2.0),
        ALLOCATION),
    neck=dict(type='TokensToMaps', in_channels=(64, 32, 32, 16)),
    decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=11, in_index=0),
    auxiliary_head=dict(type='BoundaryScoreHead'),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32)))
folders = dict(img_path='images/train', seg_map_path='annotations/train')
dataset = dict(
    type='CamVidDataset', data_root='ROOT', data_prefix=folders,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')])
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_toy_dataset(
        tmp_path_factory.mktemp('toy') / 'data', 'camvid', train=3, val=1, size=(96, 128)
    )


@pytest.fixture
def write_config(data, tmp_path):
    def write(allocation=''):
        text = CONFIG.replace('ROOT', str(data)).replace('ALLOCATION', allocation)
        path = tmp_path / 'config.py'
        path.write_text(text)
        return path

    return write


def test_caps(load_tool, write_config, tmp_path, capsys):
    config = write_config("allocation=dict(type='BatchRatioAllocation', floor=0.2)")
    out = tmp_path / 'calibrated.py'
    tool = load_tool('calibrate_allocation.py')
    assert tool.main([str(config), '--out', str(out), '--margin', '0.01']) == 0
    allocation = Config.fromfile(out).model.backbone.allocation
    assert allocation.type == 'BatchRatioAllocation'
    assert allocation.floor == 0.2
    assert all(0.01 < cap <= 1 for cap in allocation.caps)
    assert f'caps of 3 label maps: {list(allocation.caps)}' in capsys.readouterr().out
    assert tool.main([str(config), '--out', str(out)]) == 2
    assert 'calibrated.py exists (option --overwrite)' in capsys.readouterr().err


def test_thresholds_for_tokens(load_tool, write_config, tmp_path, capsys):
    config = write_config()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for allocator in model.backbone.allocators:
        torch.nn.init.normal_(allocator.score.layers[-1].weight, std=0.1)
        torch.nn.init.constant_(allocator.score.layers[-1].bias, 1.0)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    tool, out = load_tool('calibrate_allocation.py'), tmp_path / 'calibrated.py'
    args = [str(config), '--checkpoint', str(tmp_path / 'model.pth'), '--images', '2']
    assert tool.main([*args, '--tokens', '100', '--out', str(out)]) == 0
    allocation = Config.fromfile(out).model.backbone.allocation
    # The ratios of the policy's own thresholds, .005, .01, .02.
    assert allocation.thresholds[2] / allocation.thresholds[0] == pytest.approx(4, rel=1e-4)
    assert 'budget 100 (without finer tokens 4, with all 340)' in capsys.readouterr().out
    assert tool.main([*args, '--tokens', '3']) == 2
    assert 'the budget of 3 is below' in capsys.readouterr().err


def test_errors_come_before_the_work(load_tool, write_config, tmp_path, capsys):
    tool = load_tool('calibrate_allocation.py')
    assert tool.main(['no_such_config']) == 2
    assert "config 'no_such_config' is neither a file" in capsys.readouterr().err
    assert tool.main([str(write_config()), '--out', str(tmp_path / 'x.py')]) == 2
    assert 'ThresholdAllocation has no caps' in capsys.readouterr().err
    budget = ('--tokens', '50', '--checkpoint', 'x.pth')
    for option, message in {
        ('--percentile', '101'): '--percentile must be in [0, 100], found 101',
        ('--tokens', '-1'): '--tokens must be positive and finite, found -1',
        ('--tokens', 'inf'): '--tokens must be positive and finite, found inf',
        ('--tokens', '50'): 'a budget needs --checkpoint',
        ('--margin', '0.1', *budget): '--margin is of caps, not of thresholds for a budget',
        ('--margin', 'nan'): '--margin must be in [0, 1], found nan',
        ('--margin', '-5'): '--margin must be in [0, 1], found -5',
        ('--checkpoint', 'x.pth'): '--checkpoint needs a budget, --tokens or --gflops',
        ('--published',): '--published needs --gflops',
        ('--published', *budget): '--published needs --gflops',
        ('--overwrite',): '--overwrite needs --out',
    }.items():
        with pytest.raises(SystemExit):
            tool.main([str(write_config()), *option])
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob('x.py'))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('x', 'expected a name that ends in .py'),
        ('none/x.py', 'does not exist'),
        ('folder.py', 'is a folder'),
    ],
)
def test_files_that_cannot_be_written(
    load_tool, write_config, tmp_path, monkeypatch, capsys, name, message
):
    tool = load_tool('calibrate_allocation.py')
    (tmp_path / 'folder.py').mkdir()
    monkeypatch.setattr(tool, 'find_caps', lambda *_: pytest.fail('this is the work'))
    config = write_config("allocation=dict(type='BatchRatioAllocation', floor=0.2)")
    assert tool.main([str(config), '--out', str(tmp_path / name), '--overwrite']) == 2
    error = capsys.readouterr().err
    assert f'--out {tmp_path / name}' in error and message in error


CAPS = "allocation=dict(type='BatchRatioAllocation', floor=0.2)"


@pytest.mark.parametrize(
    ('setting', 'message', 'budget'),
    [
        ('model=[1,2]', 'has a model of another framework', False),
        ('model=None', 'has no model', False),
        ('model=a', 'has a model of another framework', False),
        ('model.backbone=None', 'model.backbone must be a dict with type', False),
        ('model.backbone.type=ResNet', 'ResNet does not allocate tokens', False),
        ('model.backbone.allocation=3', 'model.backbone.allocation must be', False),
        ('model.backbone.allocation.no_such_option=1', 'no_such_option', False),
        ('model.decode_head=[]', 'model.decode_head must be a dict or a list', False),
        ('train_dataloader=None', 'has no train_dataloader.dataset', False),
        ('val_dataloader=5', 'has no val_dataloader.dataset', False),
        ('val_dataloader.dataset.pipeline.0.type=RandomResize', 'a step RandomResize', False),
        ('val_dataloader=None', 'has no val_dataloader.dataset', True),
        ('val_dataloader.dataset=None', 'has no val_dataloader.dataset', True),
    ],
)
def test_configs_that_do_not_fit_are_one_line(
    load_tool, write_config, capsys, setting, message, budget
):
    more = ['--tokens', '50', '--checkpoint', 'none.pth'] if budget else []
    config = str(write_config(CAPS))
    tool = load_tool('calibrate_allocation.py')
    assert tool.main([config, *more, '--cfg-options', setting]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


@pytest.mark.parametrize('kind', ['DUPS', 'ARTA'])
def test_no_policy_is_the_policy_of_the_class(load_tool, write_config, tmp_path, capsys, kind):
    out = tmp_path / 'calibrated.py'
    config = write_config(CAPS)
    options = [f'model.backbone.type={kind}', 'model.backbone.allocation=None']
    tool = load_tool('calibrate_allocation.py')
    status = tool.main([str(config), '--out', str(out), '--cfg-options', *options])
    error = capsys.readouterr().err
    if kind == 'ARTA':
        assert status == 2 and 'ThresholdAllocation has no caps' in error
        return
    assert status == 0
    allocation = Config.fromfile(out).model.backbone.allocation
    assert set(allocation) == {'type', 'caps'} and allocation.type == 'BatchRatioAllocation'
    # What the file does not hold is said.
    assert 'set of the model: model.backbone.type; train' in error


def test_mark_of_deletion_is_of_the_inherited_file(load_tool, write_config, tmp_path):
    out = tmp_path / 'calibrated.py'
    options = ['model.backbone.allocation.type=BatchRatioAllocation']
    tool = load_tool('calibrate_allocation.py')
    assert tool.main([str(write_config()), '--out', str(out), '--cfg-options', *options]) == 0
    assert '_delete_' not in Config.fromfile(out).model.backbone.allocation


def test_interrupted(load_tool, write_config, monkeypatch, capsys):
    tool = load_tool('calibrate_allocation.py')

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, 'find_caps', interrupt)
    assert tool.main([str(write_config(CAPS))]) == 130
    assert not capsys.readouterr().err
