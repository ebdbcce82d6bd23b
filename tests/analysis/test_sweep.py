"""The sweep: plan, options, records, tables and the command line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from mmengine.config import Config, DictAction

from mmseg_arta.analysis.sweep import Job, Record, Records, Subject, make_plan, run_plan
from mmseg_arta.analysis.sweep.jobs import as_arguments, overrides, run_step
from mmseg_arta.analysis.sweep.plan import missing_need
from mmseg_arta.analysis.sweep.records import as_markdown
from mmseg_arta.datasets.toy import write_toy_dataset

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / 'configs/arta/arta-nano_segformer_1xb4-2k_camvid-256x256.py'
CITY = ROOT / 'configs/mask2former/mask2former_swin-t_8xb2-90k_cityscapes-512x1024.py'


def write_config(folder, name, base=NANO, extra=''):
    path = folder / 'configs' / 'family' / f'{name}.py'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'_base_ = {str(base)!r}\n{extra}\n')
    return path


def how(plan):
    return {job.name: job.how for job in plan}


def small(subject):
    """A size that needs no model: the shorter the name, the smaller the model."""
    return len(subject.name)


def test_one_config_of_every_family_head_and_data_set_runs_by_mim(tmp_path):
    other_head = "model = dict(decode_head=dict(type='FCNHead', num_convs=1, in_index=0))"
    other_data = "train_dataloader = dict(dataset=dict(data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))"  # noqa: E501
    paths = [
        write_config(tmp_path, 'large'),
        write_config(tmp_path, 's'),
        write_config(tmp_path, 'fcn-head', extra=other_head),
        write_config(tmp_path, 'other-data', extra=other_data),
    ]
    plan = make_plan(paths, small)
    assert how(plan) == {
        'large': 'reduced step',
        's': 'mim',
        'fcn-head': 'mim',
        'other-data': 'mim',
    }
    assert [job.name for job in plan] == [path.stem for path in paths]


def test_the_model_with_fewest_parameters_is_the_small_one(tmp_path):
    wide = 'model = dict(decode_head=dict(channels=512))'
    paths = [write_config(tmp_path, 'a', extra=wide), write_config(tmp_path, 'b')]
    assert how(make_plan(paths)) == {'a': 'reduced step', 'b': 'mim'}


def test_a_config_that_cannot_be_read_or_run_is_said_so(tmp_path):
    broken = write_config(tmp_path, 'broken', extra='x = 1 / 0')
    needy = write_config(
        tmp_path, 'needy', extra="model = dict(decode_head=dict(type='Mask2FormerHead'))"
    )
    plan = {job.name: job for job in make_plan([broken, needy], small)}
    assert 'ZeroDivisionError' in plan['broken'].error
    assert plan['needy'].skip == 'Mask2FormerHead needs mmdet, which is not installed'
    records = run_plan(tuple(plan.values()), tmp_path / 'out', check=lambda *args: None)
    results = {record.config: record.result for record in records}
    assert results == {'broken': 'failed', 'needy': 'skipped'}
    assert 'ZeroDivisionError' in (tmp_path / 'out/logs/broken.log').read_text()


def test_scopes_are_needs(tmp_path):
    extra = "model = dict(backbone=dict(_delete_=True, type='no_such_package.Net'))"
    subject = Subject.load(write_config(tmp_path, 'scoped', extra=extra))
    assert missing_need(subject).startswith('no_such_package.Net needs no_such_package')
    assert missing_need(Subject.load(NANO)) is None


def test_options_make_every_size_small_by_one_factor(tmp_path):
    subject = Subject.load(CITY)
    found = overrides(subject, tmp_path)
    pipeline = 'train_dataloader.dataset.pipeline'
    assert found['model.data_preprocessor.size'] == (128, 256)
    assert found[f'{pipeline}.5.crop_size'] == (128, 256)
    assert found[f'{pipeline}.4.max_size'] == 1024 and found[f'{pipeline}.4.scales'][-1] == 512
    assert found['test_dataloader.dataset.pipeline.1.scale'] == (512, 256)
    assert found['model.backbone.init_cfg'] is None
    assert found['test_dataloader.dataset.data_root'] == str(tmp_path)

    class Given:
        cfg_options = None

    # What the stock command line makes of them is what was meant.
    DictAction(['--cfg-options'], 'cfg_options')(None, Given, as_arguments(found)[1:])
    config = Config.fromfile(CITY)
    config.merge_from_dict(Given.cfg_options)
    assert config.train_dataloader.dataset.pipeline[5].crop_size == (128, 256)
    assert config.model.backbone.init_cfg is None and config.train_cfg.max_iters == 2
    assert config.default_hooks.checkpoint.save_best is None


def test_the_side_is_chosen(tmp_path):
    subject = Subject.load(write_config(tmp_path, 'sized'))
    assert overrides(subject, tmp_path, side=64)['model.data_preprocessor.size'] == (64, 64)


def test_what_merges_and_halts_tokens_tells_variants_apart():
    steps = sorted((ROOT / 'configs/step').glob('*_vit-b16_1xb4-160k_ade20k-512x512.py'))
    groups = {Subject.load(path).group for path in steps}
    # SegViT, CTS, DToP, both, dynamic CTS and STEP, whatever the thresholds.
    assert len(groups) == 6 < len(steps)


def test_finds_the_data_set_inside_wrappers(tmp_path):
    extra = """train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2,
    dataset=dict(type='CamVidDataset', data_root='x', pipeline=[dict(type='Pad', size=(256, 256))],
    data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'))))"""
    subject = Subject.load(write_config(tmp_path, 'wrapped', extra=extra))
    found = overrides(subject, tmp_path)
    assert found['train_dataloader.dataset.dataset.pipeline.0.size'] == (128, 128)
    assert subject.layout == 'camvid'


@pytest.fixture
def plan(tmp_path):
    return make_plan([write_config(tmp_path, 'a'), write_config(tmp_path, 'bb')], small)


def test_goes_on_where_it_stopped(plan, tmp_path):
    ran = []

    def check(job, folder, log):
        ran.append(job.name)
        log.write_text('output\n')
        if job.name == 'bb' and len(ran) < 3:
            raise RuntimeError('no luck')

    first = run_plan(plan, tmp_path / 'out', check=check)
    assert [(r.config, r.result) for r in first] == [('a', 'passed'), ('bb', 'failed')]
    assert first[1].reason == 'RuntimeError: no luck'
    log = (tmp_path / 'out' / first[1].log).read_text()
    assert log.startswith('output\n') and 'Traceback' in log

    second = run_plan(plan, tmp_path / 'out', check=check)
    assert [r.result for r in second] == ['passed'] * 2 and ran == ['a', 'bb', 'bb']
    run_plan(plan, tmp_path / 'out', check=check)
    assert len(ran) == 3
    run_plan(plan, tmp_path / 'out', redo=True, check=check)
    assert ran[3:] == ['a', 'bb']


def test_what_has_changed_is_checked_again(plan, tmp_path):
    ran = []
    run_plan(plan, tmp_path, check=lambda job, *_: ran.append(job.name))
    changed = write_config(tmp_path, 'a', extra='train_cfg = dict(max_iters=3)')
    again = make_plan([changed, plan[1].subject.path], small)
    run_plan(again, tmp_path, check=lambda job, *_: ran.append(job.name))
    assert ran == ['a', 'bb', 'a']
    # Checked in another way is not checked in this way.
    other = [Job(job.name, 'reduced step', job.subject) for job in again]
    run_plan(other, tmp_path, check=lambda job, *_: ran.append(job.name))
    assert ran == ['a', 'bb', 'a', 'a']


def test_a_damaged_record_is_no_record(tmp_path):
    records = Records(tmp_path)
    records.write(Record('a', 'mim', 'passed', digest='1'))
    assert records.find('a', 'mim', '1') == Record('a', 'mim', 'passed', digest='1')
    assert records.find('a', 'mim', '2') is None
    (tmp_path / 'a.json').write_text('{"config": ')
    assert records.find('a', 'mim', '1') is None
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']


def test_table():
    text = as_markdown(
        [
            Record('one', 'mim', 'passed', 12.34),
            Record('two', '-', 'skipped', reason='it needs mmpretrain'),
        ]
    )
    assert '| one    | mim        | passed                       |    12.3 |' in text
    assert 'skipped: it needs mmpretrain' in text
    assert text.endswith('2 configs: 1 passed, 0 failed, 1 skipped\n')


def test_reduced_step(tmp_path):
    data = tmp_path / 'camvid'
    write_toy_dataset(data, 'camvid', train=2, val=1, size=(64, 96))
    good = Subject.load(write_config(tmp_path, 'good'))
    run_step(good, data, side=64)
    idle = 'model = dict(neck=dict(out_indices=(0, 1, 2, 3)), decode_head=dict(in_index=[1, 2, 3], in_channels=[96, 128, 160]))'  # noqa: E501
    with pytest.raises(AssertionError, match='parameters without a gradient, such as neck'):
        run_step(Subject.load(write_config(tmp_path, 'idle', extra=idle)), data, side=64)


@pytest.fixture
def command(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location('sweep_tool', ROOT / 'tools/sweep.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'CONFIGS', tmp_path / 'configs')
    monkeypatch.setattr('mmseg_arta.analysis.sweep.plan._parameters', small)
    write_config(tmp_path, 's')
    write_config(tmp_path, 'large')
    return module


def test_command_lists_what_it_would_do(command, capsys):
    assert command.main(['--list']) == 0
    assert capsys.readouterr().out == 'large: reduced step\ns: mim\n'
    # What runs by mim does not depend on what is asked for.
    assert command.main(['--list', '--configs', 'family/l*']) == 0
    assert capsys.readouterr().out == 'large: reduced step\n'
    assert command.main(['--configs', 'nothing-*']) == 2
    assert "'nothing-*' names none of 2 configs" in capsys.readouterr().err
    assert command.main(['--work-dir', '/proc/new']) == 2
    error = capsys.readouterr().err
    assert error.startswith('sweep: error: --work-dir /proc/new: ') and error.count('\n') == 1


def test_command_shows_failures(command, tmp_path, capsys, monkeypatch):
    def check(job, folder, log):
        log.write_text('first\nlast words\n')
        if job.name == 'large':
            raise RuntimeError('no luck')

    monkeypatch.setattr('mmseg_arta.analysis.sweep.run._check', check)
    out = tmp_path / 'out'
    assert command.main(['--work-dir', str(out)]) == 1
    shown = capsys.readouterr()
    assert f'large failed; the end of {out / "logs/large.log"}' in shown.err
    assert 'last words' in shown.err and '2 configs: 1 passed, 1 failed' in shown.out
    assert [row['result'] for row in json.loads((out / 'table.json').read_text())] == [
        'failed',
        'passed',
    ]
    assert '| failed: RuntimeError: no luck' in (out / 'table.md').read_text()
    assert command.main(['--work-dir', str(out), '--configs', 's']) == 0


def classifier(tmp_path, name, extra='', base='arta-nano_1xb64-8e_cifar10-64x64'):
    pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)
    return write_config(tmp_path, name, ROOT / f'configs/imagenet/{base}.py', extra)


def test_classifiers_train_one_epoch_of_toy_pictures(tmp_path):
    base = 'lrformer-l-in22k_8xb64-30e_in1k-384x384'
    subject = Subject.load(classifier(tmp_path, 'large', base=base))
    assert (subject.codebase, subject.layout, subject.head) == (
        'mmpretrain',
        'imagenet',
        'LinearClsHead',
    )
    found = overrides(subject, tmp_path)
    assert found['train_cfg.max_epochs'] == 1 and 'train_cfg.max_iters' not in found
    assert found['train_dataloader.dataset.pipeline.1.scale'] == 128
    assert found['test_dataloader.dataset.pipeline.1.scale'] == (128, 128)
    assert found['model.backbone.init_cfg'] is None
    # Small images stay as they are; a data set without validation has no loader to change.
    nano = overrides(Subject.load(classifier(tmp_path, 'nano')), tmp_path)
    assert nano['train_dataloader.dataset.pipeline.1.scale'] == (64, 64)
    base = 'lrformer-l_8xb128-90e_in22k-224x224'
    many = overrides(Subject.load(classifier(tmp_path, 'many', base=base)), tmp_path)
    assert not [key for key in many if key.startswith('val_dataloader')]


def test_classifiers_of_another_data_set_run_by_mim(tmp_path):
    base = 'lrformer-l_8xb128-90e_in22k-224x224'
    paths = [
        classifier(tmp_path, 'many-classes', base=base),
        classifier(tmp_path, 'xl', base=base.replace('-l_', '-xl_')),
        classifier(tmp_path, 'one-k', base='lrformer-t_8xb128-300e_in1k-224x224'),
        classifier(tmp_path, 'swin', base='swin-mini_16xb256-300e_in1k-224x224'),
    ]
    assert how(make_plan(paths, small)) == {
        'many-classes': 'reduced step',
        'xl': 'mim',
        'one-k': 'mim',
        'swin': 'mim',
    }


def test_reduced_step_of_a_classifier(tmp_path):
    data = tmp_path / 'toy'
    write_toy_dataset(data, 'imagenet', train=2, val=1, size=(40, 40))
    run_step(Subject.load(classifier(tmp_path, 'good')), data, side=64)
    wrong = "model = dict(head=dict(loss=dict(loss_weight=float('nan'))))"
    with pytest.raises(AssertionError, match='the loss is'):
        run_step(Subject.load(classifier(tmp_path, 'bad', wrong)), data, side=64)
