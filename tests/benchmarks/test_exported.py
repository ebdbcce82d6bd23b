"""Exported files beside their model: labels that agree, files that are other models', bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import exported
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.engine.export import ImageToScores, export_segmentor

CONFIG = 'lrformer-nano_lrhead_1xb4-2k_camvid-256x256'


def scattered(seed: int, path: Path) -> torch.nn.Module:
    """A model whose labels differ from pixel to pixel, and its checkpoint."""
    torch.manual_seed(seed)
    model = build_model(load_config(CONFIG))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    torch.save(dict(state_dict=model.state_dict()), path)
    return model


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('exported')
    model = scattered(0, folder / 'model.pth')
    export_segmentor(ImageToScores(model, (64, 96)), folder / 'file.pt2', 'torch', name=CONFIG)
    scattered(1, folder / 'other.pth')
    return folder


@pytest.mark.parametrize('weights', ['model', 'other'])
def test_labels_are_compared_with_the_models(files, weights, tmp_path, capsys):
    out = tmp_path / 'out.json'
    options = ['--checkpoint', str(files / f'{weights}.pth'), '--number', '4', '--json', str(out)]
    assert exported.main([CONFIG, str(files / 'file.pt2'), *options]) == 0
    found = json.loads(out.read_text())
    eager, file = found['rows']
    assert found['shape'] == [64, 96] and found['images'] == 4
    assert eager['way'] == 'eager' and eager['same_labels'] == eager['speed_ratio'] == 1.0
    assert file['way'] == 'file.pt2' and file['classes_seen'] > 1 and file['ms'] > 0
    assert (file['same_labels_worst'] > 0.999) == (weights == 'model')
    assert '4 images of 64x96 px' in capsys.readouterr().out


def test_bad_input_is_refused(files, tmp_path, capsys, monkeypatch):
    file, folder = str(files / 'file.pt2'), str(tmp_path)
    for name in ('garbage.pt2', 'garbage.onnx'):
        (files / name).write_bytes(b'garbage')
    for arguments, message in (
        ([CONFIG, str(files / 'none.pt2')], 'none.pt2: no such file'),
        ([CONFIG, str(files / 'garbage.pt2')], 'garbage.pt2 is no file of tools/export.py'),
        ([CONFIG, str(files / 'garbage.onnx')], 'garbage.onnx'),
        ([CONFIG, file, '--images', folder], 'no images there'),
        (['nothing', file], "'nothing'"),
        ([CONFIG, file, '--json', 'nowhere/out.json'], '--json nowhere/out.json'),
    ):
        assert exported.main(arguments) == 2
        assert message in capsys.readouterr().err
    sizes = iter(((1, 3, 64, 96), (1, 3, 96, 96)))
    monkeypatch.setattr(
        exported, 'load_exported', lambda path: (None, dict(input=dict(shape=next(sizes))))
    )
    assert exported.main([CONFIG, file, str(files / 'model.pth')]) == 2
    assert 'files must take one image of three channels and one size' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        exported.main([CONFIG, file, '--number', '0'])
    assert '--number must be at least 1, found 0' in capsys.readouterr().err
