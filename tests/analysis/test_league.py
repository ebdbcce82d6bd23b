"""The league's plan, records, schedule and what stages leave behind, without training anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg_arta.analysis.league import measure, stages
from mmseg_arta.analysis.league.plan import (
    Entry,
    Run,
    crop_of,
    digest_of,
    parse_seeds,
    read_entries,
    runs_in_order,
)
from mmseg_arta.analysis.league.records import DONE, FAILED, Record, Store
from mmseg_arta.analysis.league.run import retry
from mmseg_arta.analysis.league.stages import (
    Place,
    StageFailed,
    checkpoint_of,
    newest_metrics,
    number_of,
    reason_of,
    train_figures,
)
from mmseg_arta.analysis.league.stages import (
    test_config as config_of_test,
)
from mmseg_arta.datasets.toy import write_toy_dataset

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'


def content(**more):
    dataset = dict(type='CamVidDataset', data_root='here', data_prefix=dict(img_path='a'))
    steps = [dict(type='RandomCrop', crop_size=(96, 64)), dict(type='PackSegInputs')]
    return dict(
        model=dict(data_preprocessor=dict(size=(32, 32))),
        train_cfg=dict(max_iters=4),
        train_dataloader=dict(batch_size=2, dataset=dict(dataset, pipeline=steps)),
        test_dataloader=dict(dataset=dict(dataset, pipeline=[])),
        **more,
    )


def entry(key='a', **more):
    config = Config(content(**more))
    return Entry(key, key, {}, config, digest_of(config))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / 'league')


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'camvid'
    return write_toy_dataset(str(root), 'camvid', train=1, val=1, size=(64, 96), seed=0)


# --- Plan


def test_every_config_with_the_first_seed_comes_first():
    found = [(r.entry.key, r.seed) for r in runs_in_order([entry('a'), entry('b')], [3, 1])]
    assert found == [('a', 3), ('b', 3), ('a', 1), ('b', 1)]


def test_seeds():
    assert parse_seeds(['2', '0', '2']) == [2, 0]
    for text in ('-1', '1.5', 'one', str(2**32)):
        with pytest.raises(ValueError, match=f"--seeds takes integers .*{text}'"):
            parse_seeds(['0', text])


def test_the_digest_knows_neither_seed_nor_folders():
    before = digest_of(Config(content()))
    moved = content(randomness=dict(), work_dir='x', data_root='y')
    moved['train_dataloader']['dataset']['data_root'] = 'elsewhere'
    seeded = content(randomness=dict(seed=4))
    assert digest_of(Config(moved)) == digest_of(Config(seeded))
    changed = content()
    changed['train_dataloader']['batch_size'] = 4
    assert digest_of(Config(changed)) != before == digest_of(Config(content()))


def test_the_crop_is_that_of_training():
    config = Config(content())
    assert crop_of(config) == (96, 64)
    config.train_dataloader.dataset.pipeline = [dict(type='PackSegInputs')]
    assert crop_of(config) == (32, 32)
    config.model.data_preprocessor = None
    with pytest.raises(ValueError, match='the size of the windows to test with is not known'):
        crop_of(config)
    wrapped = dict(type='RepeatDataset', dataset=content()['train_dataloader']['dataset'])
    config.train_dataloader.dataset = wrapped
    assert crop_of(config) == (96, 64)


def test_reads_configs_with_settings(camvid):
    found = read_entries([NANO, B0, B0, 'model.decode_head.channels=128'], data=str(camvid))
    assert [one.key for one in found] == [NANO, B0, f'{B0}+model.decode_head.channels=128']
    assert found[2].config.model.decode_head.channels == 128
    assert found[1].config.model.decode_head.channels == 256
    assert found[0].config.test_dataloader.dataset.data_root == str(camvid)
    assert found[0].crop == (256, 256) and found[0].iterations == found[0].length == 2000
    assert len({one.digest for one in found}) == 3
    # Nothing about this machine is in what is published.
    assert str(camvid) not in json.dumps([one.about() for one in found])
    # Settings of all are no part of the name.
    (short,) = read_entries([B0], {'train_cfg.max_iters': 7}, str(camvid))
    assert short.key == B0 and short.length == 7 and short.digest != found[1].digest


def test_a_file_for_all_comes_before_settings(camvid, tmp_path):
    common = tmp_path / 'common.py'
    common.write_text(
        'train_cfg = dict(max_iters=5)\n'
        'optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=1.0))\n'
        'train_dataloader = dict(batch_size=7)\n'
    )
    words = [B0, 'train_dataloader.batch_size=9', NANO]
    options = {'train_dataloader.batch_size': 8, 'optim_wrapper.optimizer.momentum': 0.9}
    first, second = read_entries(words, options, str(camvid), common)
    assert first.length == second.length == 5
    assert first.config.optim_wrapper.optimizer == dict(type='SGD', lr=1.0, momentum=0.9)
    assert second.config.optim_wrapper.optimizer == first.config.optim_wrapper.optimizer
    sizes = [one.config.train_dataloader.batch_size for one in (first, second)]
    assert sizes == [9, 8]
    common.write_text('x = 1 / 0')
    with pytest.raises(ValueError, match=r'--common .*common\.py cannot be read: division'):
        read_entries([B0], {}, str(camvid), common)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = [1, 2]', 'model of another framework'),
        ('model = dict(_delete_=True, channels=3)', 'model of another framework'),
        ('model = None', 'has no model'),
        ('train_dataloader = [1]', 'train_dataloader must be a dict'),
        ('test_dataloader = None', 'has no test_dataloader'),
        ('test_dataloader = dict(dataset=5)', 'test_dataloader.dataset must be a dict, found 5'),
        ('train_cfg = 5', 'train_cfg must be a dict, found 5'),
    ],
)
def test_a_file_for_all_that_does_not_fit(camvid, tmp_path, text, message):
    common = tmp_path / 'common.py'
    common.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_entries([B0], {}, str(camvid), common)


def test_settings_for_all_that_do_not_fit(camvid):
    for key in ('model.1.x', 'train_dataloader.dataset.pipeline.99.type'):
        with pytest.raises(ValueError, match=r'with the settings of all configs \(--common'):
            read_entries([B0], {key: 1, 'model': [1, 2]}, str(camvid))


@pytest.mark.parametrize(('name', 'length'), [('league', 2000), ('search', 300)])
def test_settings_for_camvid(camvid, name, length):
    common = Path(__file__).parents[2] / 'benchmarks' / f'camvid_{name}.py'
    (found,) = read_entries([NANO], {}, str(camvid), common)
    assert found.length == length
    # The rate falls to nothing at the last iteration, and nothing is tested on the way.
    assert found.config.param_scheduler[-1].end == length
    assert found.config.train_cfg.val_interval > length
    assert length % found.config.default_hooks.checkpoint.interval == 0


def test_long_settings_make_folders_that_differ(camvid):
    names = [f'model.test_cfg.x=[{",".join("1" * n)}]' for n in (40, 41)]
    found = read_entries([B0, names[0], B0, names[1]], data=str(camvid))
    keys = [one.key for one in found]
    assert len(set(keys)) == 2 and all(len(key) < 120 and ',' not in key for key in keys)


def test_what_does_not_fit_is_said(camvid, tmp_path):
    data = str(camvid)
    with pytest.raises(FileNotFoundError, match="config 'no-such' is neither"):
        read_entries(['no-such'], data=data)
    with pytest.raises(ValueError, match='is named twice'):
        read_entries([B0, B0], data=data)
    with pytest.raises(FileNotFoundError, match=r'train set is not there: nothing in .*--data DIR'):
        read_entries([B0], data=str(tmp_path))
    with pytest.raises(ValueError, match='a league has one test set'):
        other = 'test_dataloader.dataset.data_prefix.img_path=images/train'
        read_entries([B0, NANO, other], data=data)
    with pytest.raises(ValueError, match='a league has one test set'):
        read_entries([B0, NANO, 'test_dataloader.dataset.indices=[1]'], data=data)
    twin = tmp_path / f'{B0}.py'
    twin.write_text(f"_base_ = [__import__('mmseg_arta').config_path('{B0}')]\nrandom = 1\n")
    with pytest.raises(ValueError, match=f'two configs have the name {B0}'):
        read_entries([B0, str(twin)], data=data)
    headless = tmp_path / 'headless.py'
    headless.write_text("model = dict(type='EncoderDecoder')\n")
    with pytest.raises(ValueError, match='has no train_dataloader: it cannot be trained'):
        read_entries([str(headless)], data=data)


# --- Records


def test_a_changed_config_is_refused(store):
    before, changed = entry('a'), entry('a', other=1)
    store.open(before)
    store.check([before, entry('b')])
    with pytest.raises(ValueError, match=f'{before.digest}, now {changed.digest}'):
        store.check([changed])
    (store.folder / 'a' / 'config.json').write_text('{"dig')
    with pytest.raises(ValueError, match='unreadable'):
        store.check([before])


def test_stages_come_in_order_and_stop_at_a_failure(store):
    one = Run(entry(), 0)
    assert store.next_stage(one) == 'train'
    store.write(one, Record('train', DONE, 'x', 1.0, dict(loss=2.0)))
    assert store.next_stage(one) == 'whole'
    assert store.next_stage(Run(entry(), 1)) == 'train'
    store.write(one, Record('whole', FAILED, 'x', reason='no luck'))
    assert store.next_stage(one) is None and store.failure(one).reason == 'no luck'
    assert retry([one, Run(entry(), 1)], store) == [one]
    assert store.next_stage(one) == 'whole' and store.failure(one) is None
    # A record that a full disk has cut is none.
    (store.of(one) / 'train.json').write_text('{"stage": ')
    assert store.next_stage(one) == 'train'


# --- What stages leave behind


def log_losses(work_dir, attempt, losses):
    place = work_dir / attempt / 'vis_data' / 'scalars.json'
    place.parent.mkdir(parents=True)
    lines = [dict(loss=loss, time=time_, step=step) for step, (loss, time_) in losses.items()]
    place.write_text('\n'.join([*map(json.dumps, lines), '{"loss": 1']))


def write_checkpoint(work_dir, number):
    work_dir.mkdir(exist_ok=True, parents=True)
    (work_dir / f'iter_{number}.pth').write_bytes(b'')
    # As written before the folder was moved.
    (work_dir / 'last_checkpoint').write_text(f'/elsewhere/iter_{number}.pth')


def test_figures_of_a_training(tmp_path):
    with pytest.raises(StageFailed, match='wrote no checkpoint'):
        train_figures(tmp_path, 4, None)
    write_checkpoint(tmp_path, 2)
    assert number_of(checkpoint_of(tmp_path)) == 2
    with pytest.raises(StageFailed, match=r'the last checkpoint is iter_2\.pth, expected 4'):
        train_figures(tmp_path, 4, None)
    write_checkpoint(tmp_path, 4)
    # Of the first attempt steps 3 and 4 were lost: they were done again.
    log_losses(tmp_path, '1', {1: (9.0, 1.0), 2: (8.0, 2.0), 3: (float('nan'), 50.0)})
    log_losses(tmp_path, '2', {3: (7.0, 3.0), 4: (6.0, 40.0)})
    found = train_figures(tmp_path, 4, 1000)
    assert found['iteration_seconds'] == 2.5 and found['loss'] == 6.0
    assert found['memory_bytes'] == 1000 and found['checkpoint'] == 'iter_4.pth'
    log_losses(tmp_path, '3', {4: (float('inf'), 1.0)})
    with pytest.raises(StageFailed, match='diverged: the loss is inf at step 4'):
        train_figures(tmp_path, 4, None)


def test_memory_on_a_gpu_is_what_pytorch_says(tmp_path):
    write_checkpoint(tmp_path, 4)
    place = tmp_path / '1' / 'vis_data' / 'scalars.json'
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(dict(loss=1.0, memory=3, step=1)))
    assert train_figures(tmp_path, 4, 9)['memory_bytes'] == 3 * 2**20


def test_metrics_are_those_of_the_last_test(tmp_path, store):
    one = Run(entry(), 0)
    folder = store.of(one) / 'whole'
    for day, miou in ((1, 10.0), (2, 20.0)):
        (folder / f'{day}').mkdir(parents=True)
        (folder / f'{day}' / f'{day}.json').write_text(json.dumps(dict(mIoU=miou, time=1.0)))
    assert newest_metrics(folder) == dict(mIoU=20.0, time=1.0)
    assert stages.figures(one, 'whole', store, None) == dict(mIoU=20.0)
    with pytest.raises(StageFailed, match='the test found no mIoU'):
        stages.figures(one, 'windows', store, None)
    with pytest.raises(StageFailed, match='no figures were written'):
        stages.figures(one, 'measure', store, None)


MIM = """  File "train.py", line 1, in main
ValueError: crop_size must be positive, found 0
Traceback (most recent call last):
subprocess.CalledProcessError: Command '['python', 'train.py']' {how}
"""


@pytest.mark.parametrize(
    ('text', 'code', 'reason'),
    [
        (MIM.format(how='returned non-zero exit status 1.'), 1, 'ValueError: crop_size must'),
        (MIM.format(how='died with <Signals.SIGKILL: 9>.'), 1, 'killed by signal 9'),
        (MIM.format(how='died with <Signals.SIGTERM: 15>.'), 1, 'ended by signal 15'),
        ('anything', -9, 'killed by signal 9'),
        ('first\nlast words\n', 3, 'last words'),
        ('', 3, 'exit code 3'),
        ('mmengine.x.SomeError: ' + 'x' * 999, 1, 'mmengine.x.SomeError: xx'),
    ],
)
def test_reasons_are_what_the_inner_command_said(text, code, reason):
    found = reason_of(text, code)
    assert found.startswith(reason) and len(found) < 320


def test_tests_look_at_the_test_set_in_windows_of_the_crop(tmp_path):
    one = entry(test_evaluator=dict(type='Other'))
    config = config_of_test(one, 'windows', tmp_path)
    assert config.model.test_cfg == dict(mode='slide', crop_size=(96, 64), stride=(64, 43))
    assert config_of_test(one, 'whole', tmp_path).model.test_cfg.mode == 'whole'
    assert config.test_evaluator.type == 'IoUMetric'
    assert config.test_evaluator.output_dir == str(tmp_path / 'predictions')
    assert config.val_dataloader == one.config.test_dataloader
    assert one.config.test_evaluator == dict(type='Other')


def test_the_seed_is_the_runs(tmp_path):
    one = entry(randomness=dict(seed=5, deterministic=True))
    assert stages.train_config(Run(one, 2)).randomness == dict(seed=2, deterministic=True)
    assert one.config.randomness.seed == 5


def test_commands(store):
    one = Run(entry(), 2)
    work_dir = store.of(one) / 'train'
    first = stages.command(one, 'train', store, Place())
    assert first[1:4] == ['train', 'mmsegmentation', str(store.of(one) / 'train.py')]
    assert first[4:] == ['--gpus', '0', '--work-dir', str(work_dir)]
    assert Config.fromfile(store.of(one) / 'train.py').randomness.seed == 2
    write_checkpoint(work_dir, 2)
    resumed = stages.command(one, 'train', store, Place('cuda'))
    assert resumed[-3:] == ['--resume', '--cfg-options', 'load_from=None']
    assert resumed[5] == '1' and checkpoint_of(work_dir) is not None
    (work_dir / 'last_checkpoint').write_text('/before/it/was/moved/iter_2.pth')
    stages.command(one, 'train', store, Place())
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_2.pth')
    tested = stages.command(one, 'whole', store, Place())
    assert tested[1] == 'test' and tested[tested.index('--checkpoint') + 1].endswith('iter_2.pth')
    (work_dir / 'iter_2.pth').unlink()
    with pytest.raises(StageFailed, match='the checkpoint of a, seed 2 is gone'):
        stages.command(one, 'measure', store, Place())


def test_what_a_test_left_is_removed(store):
    one = Run(entry(), 0)
    write_checkpoint(store.of(one) / 'train', 4)
    old = store.of(one) / 'whole' / 'predictions' / 'old.png'
    old.parent.mkdir(parents=True)
    old.write_bytes(b'')
    stages.command(one, 'whole', store, Place())
    assert not old.exists()


def test_one_thread_on_a_cpu_and_the_gpu_that_was_asked_for():
    found = Place().environment(dict(HOME='x', OMP_NUM_THREADS='8'))
    assert found['OMP_NUM_THREADS'] == '1' and found['CUDA_VISIBLE_DEVICES'] == ''
    assert found['HOME'] == 'x'
    assert 'OMP_NUM_THREADS' not in Place('cuda').environment({})
    assert Place('cuda:1').environment({})['CUDA_VISIBLE_DEVICES'] == '1'
    listed = dict(CUDA_VISIBLE_DEVICES='4,6')
    assert Place('cuda:1').environment(listed)['CUDA_VISIBLE_DEVICES'] == '6'


def test_boundaries_of_perfect_predictions(tmp_path):
    truth = np.zeros((32, 32), np.int64)
    truth[:, 16:] = 1
    found = measure.boundary_figures(iter([(truth, truth)]), ('left', 'right', 'none'))
    assert found['mIoU'] == 100 and found['bands'] == {'2': 100, '4': 100, '8': 100}
    assert found['boundary_iou'] == 100 and found['classes']['none'] is None
    shifted = np.roll(truth, 1, axis=1)
    found = measure.boundary_figures(iter([(shifted, truth)]), ('left', 'right', 'none'))
    assert found['bands']['2'] < found['bands']['4'] < found['bands']['8'] < 100
    # Without any boundary nothing is known near it.
    found = measure.boundary_figures(iter([(0 * truth, 0 * truth)]), ('left', 'right'))
    assert found['bands']['2'] is None and found['mIoU'] == 100


def test_predictions_are_read_as_they_were_written(tmp_path):
    path = measure.prediction_of(tmp_path, '/data/images/one.jpg')
    Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8)).save(path)
    assert measure.read_prediction(path).tolist() == [[1, 2], [3, 4]]
    # Data sets that leave out label 0 have them one higher in files.
    assert measure.read_prediction(path, reduced=True).tolist() == [[0, 1], [2, 3]]
