"""Budgets of tokens from the command line."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.samples import count_samples

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'


@pytest.fixture
def tool(load_tool):
    return load_tool('budget_curve.py')


@pytest.fixture
def options(toy_camvid):
    root, size = 'test_dataloader.dataset.data_root', 'test_dataloader.dataset.pipeline.1.scale'
    return ['--cfg-options', f'{root}={toy_camvid}', f'{size}=(96,64)']


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'nano.pth'
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(load_config(NANO)).state_dict()), path)
    return str(path)


def test_scores_and_chance_spend_the_same(tool, options, weights, tmp_path, capsys):
    files = [tmp_path / name for name in ('out.json', 'out.md', 'out.png')]
    written = [f'--{name}' for name in ('json', 'markdown', 'plot')]
    arguments = [NANO, '--checkpoint', weights, '--mode', 'whole', '--shares', '1', '0.02', '0.5']
    for option, file in zip(written, files, strict=True):
        arguments += [option, str(file)]
    assert tool.main([*arguments, '--timed', '1', *options]) == 0
    found = json.loads(files[0].read_text())
    own, *points = found['points']
    assert own['choice'] == 'model' and found['images'] == 3 and found['mode'] == 'whole'
    # 2x3 coarse tokens: 510 of all sizes.
    assert own['share'] == pytest.approx(own['tokens'] / 510)
    assert [point['choice'] for point in points] == ['scores'] * 3 + ['random'] * 3
    shares = [point['share'] for point in points]
    assert shares == [0.02, 0.5, 1.0] * 2
    by_scores, by_chance = points[:3], points[3:]
    for one, other in zip(by_scores, by_chance, strict=True):
        assert one['tokens'] == other['tokens'] and one['ms'] > 0
        # Patches hold pixels of the border in other numbers.
        assert one['gmacs'] == pytest.approx(other['gmacs'], rel=0.05)
    # A refined token brings four.
    assert [510 * one['share'] - one['tokens'] < 4 for one in by_scores] == [True] * 3
    assert by_scores[2]['tokens'] == 510 and by_scores[2]['miou'] == by_chance[2]['miou']
    assert by_scores[0]['gmacs'] < by_scores[1]['gmacs'] < by_scores[2]['gmacs']
    assert by_scores[1]['miou'] != by_chance[1]['miou']
    printed = capsys.readouterr().out.splitlines()[-8:]
    assert printed[0].startswith('chosen by') and printed[1].startswith("the model's own policy")
    assert files[1].read_text().count('\n') == 9
    with Image.open(files[2]) as image:
        assert min(image.size) > 500


def test_operations_are_those_of_the_tool_that_counts_them(tool, options, weights, tmp_path):
    out = tmp_path / 'out.json'
    arguments = [NANO, '--checkpoint', weights, '--mode', 'whole', '--shares', '1', '--timed', '0']
    assert tool.main([*arguments, '--choose', 'scores', '--json', str(out), *options]) == 0
    own, most = json.loads(out.read_text())['points']
    config = load_config(NANO, dict(option.split('=') for option in options[1:]))
    config.test_dataloader.dataset.pipeline[1].scale = (96, 64)
    config.val_dataloader = config.test_dataloader
    model = build_model(config, weights)
    for point, allocation in ((own, 'model'), (most, 'full')):
        counted = count_samples(model, config, 3, allocation, 'whole', shape=None)
        assert point['gmacs'] == pytest.approx(counted.spread('macs')[0] / 1e9)


def test_windows(tool, options, weights, tmp_path):
    slide = ['model.test_cfg.crop_size=(64,64)', 'model.test_cfg.stride=(32,32)']
    arguments = [NANO, '--checkpoint', weights, '--shares', '1', '--choose', 'random']
    arguments += ['--timed', '0', '--images', '1', '--json', str(tmp_path / 'out.json')]
    assert tool.main([*arguments, *options, *slide]) == 0
    _, point = json.loads((tmp_path / 'out.json').read_text())['points']
    assert point['tokens'] == 4 * 85 and point['ms'] is None


def test_data_sets_without_names_are_refused(tool, options, nameless, weights, capsys):
    assert tool.main([NANO, '--checkpoint', weights, *options, *nameless]) == 2
    assert 'the data set names no classes: set metainfo=dict(' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([NANO, '--shares', '0'], '--shares must be above 0 and at most 1, found 0'),
        ([NANO, '--shares', 'nan'], '--shares must be above 0 and at most 1, found nan'),
        ([NANO, '--images', '0'], '--images must be at least 1, found 0'),
        ([NANO, '--timed', '-1'], '--timed must be at least 0, found -1'),
        ([NANO, '--checkpoint', 'none.pth'], "checkpoint 'none.pth' does not exist"),
        ([NANO, '--plot', 'nowhere/out.png'], '--plot nowhere/out.png'),
        ([NANO, '--plot', 'out.foo'], '--plot out.foo: expected a name that ends in one of .png'),
        ([B0], 'budgets need a model that allocates tokens'),
        (['nothing'], "'nothing'"),
    ],
)
def test_bad_input_is_refused(tool, options, weights, tmp_path, capsys, arguments, message):
    if arguments == [B0]:
        path = tmp_path / 'b0.pth'
        torch.save(dict(state_dict=build_model(load_config(B0)).state_dict()), path)
        weights = str(path)
    given = [] if '--checkpoint' in arguments else ['--checkpoint', weights]
    assert tool.main([*arguments, *given, *options]) == 2
    assert message in capsys.readouterr().err
