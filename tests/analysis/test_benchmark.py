from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_arta.analysis.benchmark import Conditions, Model, Result, Row, read_models, train
from mmseg_arta.analysis.benchmark.accuracy import published_miou
from mmseg_arta.analysis.benchmark.memory import PeakMemory
from mmseg_arta.analysis.benchmark.pictures import store_pictures
from mmseg_arta.analysis.benchmark.plot import PANELS, draw, points
from mmseg_arta.analysis.benchmark.report import markdown, plain, terminal
from mmseg_arta.analysis.benchmark.runner import Runner
from mmseg_arta.analysis.benchmark.subjects import parse_thresholds
from mmseg_arta.analysis.benchmark.timing import (
    Timing,
    disagreement,
    speed_ratio,
    split_turns,
)
from mmseg_arta.analysis.benchmark.worker import ModelFailed, OutOfMemory, Worker
from mmseg_arta.analysis.flops import count_operations
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.config_files import find_config
from mmseg_arta.datasets.toy import write_toy_dataset
from mmseg_arta.files import check_folder, check_writable, replaced, write_json

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'
B3 = 'mmseg::segformer/segformer_mit-b3_8xb2-160k_ade20k-512x512.py'
STEP = 'step-8-t6899_vit-b16_1xb4-160k_ade20k-512x512'
SHAPE = (64, 96)
MACHINE = dict(processor='a processor', threads=1, cores=2, torch='2')


def timing(*turns: float) -> Timing:
    return Timing(2, tuple((seconds, seconds) for seconds in turns))


def test_figures_of_a_timing():
    found = Timing(2, ((1.0, 3.0), (2.0, 2.0)))
    assert found.images_per_second == pytest.approx(1.0)
    assert found.latency == 2.0 and found.latency_95 == pytest.approx(2.85)


def test_a_ratio_survives_drift_and_a_disturbed_turn():
    first, other = timing(1, 2, 4, 8, 16), timing(0.5, 1, 2, 40, 8)
    assert speed_ratio(first, other) == pytest.approx(2.0)
    assert speed_ratio(first, first) == 1.0


def test_halves_that_disagree_are_told():
    steady, slower = timing(1, 1, 1, 1), timing(1, 1, 1.2, 1.2)
    assert disagreement(steady, slower) == pytest.approx(0.2)
    assert disagreement(slower, slower) == pytest.approx(0.2)
    assert disagreement(slower, replace(slower)) == 0.0  # what hits both is no disagreement
    assert disagreement(timing(1, 2), timing(1, 2)) is None


@pytest.mark.parametrize('steps', [1, 7, 16, 128, 130])
def test_turns_are_all_steps_in_order(steps):
    turns = split_turns(steps)
    assert [number for turn in turns for number in turn] == list(range(steps))
    assert len(turns) == min(steps, 16) and max(map(len, turns)) - min(map(len, turns)) <= 1


def test_settings_after_a_config_change_it_alone():
    words = [NANO, B3, 'model.decode_head.channels=768', B3]
    nano, wide, plain_b3 = read_models(words, allocations=['caps'], mious=['1.5', '-', '-'])
    assert (nano.allocation, wide.allocation) == ('caps', 'model') and nano.miou == 1.5
    assert wide.options == {'model.decode_head.channels': 768} and plain_b3.options == {}
    assert wide.miou is None and plain_b3.miou == 47.82  # the latter in its metafile
    assert nano.label == 'arta-nano_segformer, caps' and plain_b3.label == 'segformer_mit-b3'
    assert wide.label == 'segformer_mit-b3, channels=768'


def test_models_that_look_alike_get_labels_of_their_own():
    other = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
    models = read_models([B0, other, NANO, NANO])
    assert len({model.label for model in models}) == 4
    assert models[0].label == B0 and models[1].label == Path(other).stem
    assert read_models([B0], labels=['mine'])[0].label == 'mine'


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('0.6', {2: 0.6}),
        ('0.6,0.8,0.9,1', {2: 0.6, 4: 0.8, 8: 0.9, 16: 1.0}),
        ('8:0.9,2:inf', {8: 0.9, 2: math.inf}),
        ('0.6,8:0.9', {2: 0.6, 8: 0.9}),
        ('0.6,0.8,0.9,0.9,0.9', None),
        ('2:0.1,2:0.2', None),
        ('0.1,2:0.2', None),
        ('0.1,', None),
        ('nan', None),
        ('', None),
    ],
)
def test_thresholds_of_a_command_line(text, found):
    if found is not None:
        assert parse_thresholds(text) == found
        return
    with pytest.raises(ValueError):
        parse_thresholds(text)


def test_placements_and_thresholds_of_step_are_models():
    models = read_models([STEP, B0], halt_after=[(8,), (6, 8)], thresholds=[{2: 0.4}, {2: 0.6}])
    assert len(models) == 5 and len({model.label for model in models}) == 5
    config = load_config(models[3].config, models[3].options)
    assert tuple(config.model.backbone.halting.after) == (6, 8)
    assert dict(config.model.backbone.merging.thresholds) == {'2': 0.6}
    assert models[4].options == {}


@pytest.mark.parametrize(
    ('words', 'options', 'message'),
    [
        (['a=1', NANO], {}, 'a=1 stands before any config'),
        ([NANO, B0], dict(checkpoints=['a.pth']), '--checkpoint takes one per config, 2, found 1'),
        ([NANO], dict(allocations=['most']), 'allocation must be one of full, caps, model or'),
        ([B0], dict(allocations=['caps']), '--allocation caps needs a model that allocates'),
        (
            [NANO],
            dict(mious=['good']),
            "--miou takes numbers, or '-' for the metafile's, found 'good'",
        ),
        ([NANO], dict(halt_after=[(8,)]), '--halt-after needs a config with backbone.halting'),
        ([NANO], dict(thresholds=[{2: 0.4}]), '--thresholds needs a config with ThresholdMerging'),
        (['arta-nano_1xb64-8e_cifar10-64x64'], {}, 'is for mmpretrain'),
    ],
)
def test_what_does_not_fit_is_refused(words, options, message):
    with pytest.raises(ValueError, match=message):
        read_models(words, **options)


def test_the_metafile_states_the_miou(tmp_path):
    assert published_miou(find_config('mmseg::segformer_mit-b0_8xb2-160k_ade20k-512x512')) == 37.41
    (model,) = read_models(['mmseg::segformer_mit-b0_8xb2-160k_ade20k-512x512'])
    assert model.miou == 37.41
    name = 'mmseg::segformer_mit-b0_8xb2-160k_ade20k-512x512'
    assert read_models([name, 'model.decode_head.channels=768'])[0].miou is None
    (tmp_path / 'metafile.yml').write_text('Models: [{Name: a, Results: [{Metrics: {mIoU: 7}}]}]')
    assert published_miou(tmp_path / 'a.py') == 7.0 and published_miou(tmp_path / 'b.py') is None


def test_configs_are_found_by_whose_they_are():
    assert find_config(B3).is_file()
    ours = find_config(f'mmseg_arta::arta/{NANO}')
    assert ours == find_config(f'mmseg_arta::{NANO}.py') == find_config(NANO)
    with pytest.raises(FileNotFoundError, match='neither a file nor the name'):
        find_config(f'mmseg::{NANO}')
    with pytest.raises(FileNotFoundError, match='not mmdet::'):
        find_config('mmdet::a')


def test_the_published_count_of_segformer_b3():
    config = load_config(B3, {'model.decode_head.channels': 768})
    count = count_operations(build_model(config), (512, 512), dry=True)
    assert count.macs_published / 1e9 == pytest.approx(79, rel=0.02)


def test_pictures_start_over_and_have_one_size(tmp_path):
    import mmcv

    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        mmcv.imwrite(pixels, str(tmp_path / 'in' / f'{number}.png'))
    (tmp_path / 'out').mkdir()
    store = store_pictures(str(tmp_path / 'in'), (8, 12), tmp_path / 'out', 10)
    assert store.count == 3 and store.source == '3 images of in'
    pixels, labels = store.batch(1, 2)
    assert pixels.shape == (2, 8, 12, 3) and labels is None
    assert (pixels[1] == store.batch(0, 1)[0][0]).all()
    expected = mmcv.imresize(mmcv.imread(str(tmp_path / 'in' / '2.png')), (12, 8))
    assert (pixels[0] == expected).all()


def test_peak_memory_is_forgotten_and_read():
    memory = PeakMemory(torch.device('cpu'))
    memory.trim()
    if memory.held() is None or not memory.reset():
        pytest.skip('this system does not reset the peak')
    before = memory.read()
    torch.ones(1 << 25)  # 128 MiB
    assert memory.read() - before > 100 << 20
    memory.trim()
    memory.reset()
    assert memory.read() - before < 64 << 20


def test_labels_of_a_data_set_are_resized_with_its_images(tmp_path):
    write_toy_dataset(tmp_path / 'toy', 'camvid', train=1, val=2, size=(64, 96), seed=0)
    config = (NANO, {'val_dataloader.dataset.data_root': str(tmp_path / 'toy')})
    store = store_pictures('dataset:5', (32, 48), tmp_path, 9, config, labels=True)
    assert store.count == 2 and store.source == '2 images of CamVidDataset'
    pixels, labels = store.batch(0, 2)
    assert pixels.shape == (2, 32, 48, 3) and labels.shape == (2, 32, 48)
    assert labels.max() < 11 or set(np.unique(labels)) <= {*range(11), 255}
    (one,) = Runner(Model(B0), Conditions((32, 48)), store).train(0, 1)
    assert one.seconds > 0


def test_a_gpu_s_memory_is_that_of_pytorch_s_statistics(noise):
    if not torch.cuda.is_available():
        pytest.skip('PyTorch finds no CUDA device')
    runner = Runner(Model(B0), Conditions(SHAPE, 2, device='cuda'), noise)
    runner.reset_peak()
    runner.infer(0, 2)
    assert runner.peak() == torch.cuda.max_memory_allocated() > 4 * runner.describe()['params']


@pytest.fixture
def noise(tmp_path):
    return store_pictures(None, SHAPE, tmp_path, 2)


def test_a_runner_predicts_trains_and_counts(noise):
    model = Model(NANO, {'model.decode_head.num_classes': 5}, allocation='caps', label='nano')
    runner = Runner(model, Conditions(SHAPE, 2), noise)
    steps = runner.infer(0, 2)
    assert len(steps) == 2 and all(step.seconds > 0 and not step.memory for step in steps)
    count = runner.count(0)
    assert runner.describe()['params'] == count['params'] and not runner.describe()['adaptive']
    assert sum(count['tokens'].values()) == 6 + 20 + 56 + 132
    before = {name: p.clone() for name, p in runner._model.named_parameters()}
    (step,) = runner.train(0, 1)
    assert step.memory > count['params'] * 4
    assert any((p != before[name]).any() for name, p in runner._model.named_parameters())
    assert all(p.isfinite().all() for p in runner._model.parameters())


def test_number_types(noise):
    model = Model(B0, label='b0')
    seen = []
    runner = Runner(model, Conditions(SHAPE, 1, dtype='bf16'), noise)
    hook = runner._model.decode_head.conv_seg.register_forward_hook
    with hook(lambda module, args, out: seen.append(out.dtype)):
        runner.infer(0, 1)
    assert seen == [torch.bfloat16]


def test_cuda_graphs(noise, monkeypatch):
    for options, message in (
        ({}, '--cuda-graph needs a CUDA device, found --device cpu'),
        (dict(device='cuda', compile=True), 'give it or --compile, not both'),
    ):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
            patch.setattr('mmseg_arta.analysis.benchmark.subjects.check_device', lambda name: name)
            Conditions(SHAPE, cuda_graph=True, **options)
    conditions = Conditions(SHAPE, 1)
    assert Runner(Model(B0, label='b0'), conditions, noise).without_graph() == []
    # As on a GPU, where this image's shape cannot be captured.
    object.__setattr__(conditions, 'cuda_graph', True)
    runner = Runner(Model(B0, label='b0'), conditions, noise)
    runner.infer(0, 2)
    assert runner.without_graph() == ['images are on cpu, not on a CUDA device']
    monkeypatch.setattr(
        'mmseg_arta.engine.cuda_graph.capture_on_cuda', lambda function, images: function
    )
    runner = Runner(Model(B0, label='b0'), conditions, noise)
    runner.infer(0, 2)
    assert runner.without_graph() == [] and len(runner._graphs.graphs) == 1


GREEDY = """
import os
import torch
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS


@MODELS.register_module()
class Greedy(EncoderDecoder):
    appetite = None

    def __init__(self, appetite, **options):
        super().__init__(**options)
        self.appetite = appetite

    def loss(self, inputs, data_samples):
        if self.appetite == 'large':
            raise torch.cuda.OutOfMemoryError('too much')
        if self.appetite == 'odd':
            self.appetite = 'killed'
            raise RuntimeError('no such luck')
        if self.appetite == 'killed':
            os.kill(os.getpid(), 9)
        return super().loss(inputs, data_samples)
"""


@pytest.fixture
def greedy(tmp_path, monkeypatch):
    """Models of these appetites."""
    (tmp_path / 'greedy_segmentor.py').write_text(GREEDY)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tmp_path / 'greedy.py'
    config.write_text(
        f"_base_ = ['{find_config(B0)}']\n"
        "custom_imports = dict(imports=['greedy_segmentor'])\n"
        "model = dict(type='Greedy', appetite='none')\n"
    )

    def make(*appetites: str) -> list[Model]:
        words = ((str(config), f'model.appetite={appetite}') for appetite in appetites)
        return read_models([word for pair in words for word in pair])

    return make


def test_models_that_fall_out_leave_the_others_running(greedy, noise):
    done = []
    models = greedy('none', 'large')
    result = train(models, Conditions(SHAPE, 2), noise, 2, 1, lambda *step: done.append(step))
    well, failed = result.rows
    assert failed.failure == 'out of memory' and not failed.figures
    assert not well.failure and well.figures['speed_ratio'] == 1.0
    assert well.figures['memory_max_bytes'] >= well.figures['memory_mean_bytes'] > 100 << 20
    assert [len(turn) for turn in well.figures['turns_ms']] == [1, 1]
    assert done == [(0, 2), (1, 2), (2, 2)]
    assert any('Too few steps' in remark for remark in result.remarks)
    assert 'out of memory' in terminal([result])


def test_a_process_tells_how_it_failed(greedy, noise):
    (model,) = greedy('odd')
    with Worker() as worker:
        assert worker.build(model, Conditions(SHAPE, 2), noise)['params'] > 0
        with pytest.raises(ModelFailed, match=r'^RuntimeError: no such luck$'):
            worker('train', 0, 1)
        with pytest.raises(OutOfMemory, match='the system ended the process'):
            worker('train', 0, 1)


def results() -> list[Result]:
    a, b, c = (
        Model('x.py', miou=miou, label=name)
        for name, miou in zip('abc', (40.0, 50.0, None), strict=True)
    )
    figures = dict(images_per_second=2.0, latency_ms=1.0, latency_95_ms=2.0, memory_bytes=2**30)
    figures |= dict(params=10**6, speed_ratio=1.0, memory_ratio=None)
    rows = [Row(a, 1, figures), Row(b, 1, {}, 'out of memory'), Row(c, 1, figures)]
    return [Result('inference', Conditions((8, 8)), 4, 1, 'random images', rows, ('Beware.',))]


def test_tables_and_plain_numbers():
    text = terminal(results())
    assert 'inference: cpu; 8x8 px; random images; fp32; 4 steps after 1' in text
    assert 'resident set' in text and text.endswith('Beware.')
    row = next(line for line in text.splitlines() if line.startswith('a '))
    assert row.split() == ['a', '1', '1.0', '2.00', '1.00', '1.0', '2.0', '1.00', '–']
    page = markdown(results(), MACHINE)
    assert '| b | 1 | out of memory |  |' in page and '- Beware.' in page
    lines = [line for line in page.splitlines() if line.startswith('|')]
    assert len({line.count('|') for line in lines}) == 1
    numbers = json.loads(json.dumps(plain(results(), MACHINE)))
    rows = numbers['results'][0]['rows']
    assert rows[0]['images_per_second'] == 2.0 and rows[1]['failure'] == 'out of memory'


def test_only_measured_models_with_an_miou_are_points(tmp_path):
    found = [points(results(), panel) for panel in PANELS]
    assert [[(m.label, value) for m, _, value in some] for some in found] == [
        [],
        [('a', 2.0)],
        [('a', 1.0)],
        [],
    ]
    draw(results(), tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').read_bytes()[:4] == b'\x89PNG'
    (only,) = results()
    with pytest.raises(ValueError, match='nothing to plot'):
        draw([replace(only, rows=only.rows[2:])], tmp_path / 'none.png')
    assert [path.name for path in tmp_path.iterdir()] == ['plot.png']


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, dict(a=1))
    with pytest.raises(RuntimeError), replaced(path) as part:
        part.write_text('half')
        raise RuntimeError
    assert json.loads(path.read_text()) == dict(a=1)
    assert [file.name for file in tmp_path.iterdir()] == ['a.json']
    with pytest.raises(FileNotFoundError, match=r'--json .* does not exist'):
        check_writable('--json', tmp_path / 'no' / 'a.json')
    with pytest.raises(IsADirectoryError, match='is a folder'):
        check_writable('--json', tmp_path)
    with pytest.raises(NotADirectoryError, match=r'--out .* is no folder'):
        check_folder('--out', path / 'new')
    check_folder('--out', tmp_path / 'new' / 'one')
    assert [file.name for file in tmp_path.iterdir()] == ['a.json']
    for check in (check_writable, check_folder):
        # Permissions alone let root write there.
        with pytest.raises(PermissionError, match=r'--out /proc/new: .* cannot be written to'):
            check('--out', '/proc/new')
