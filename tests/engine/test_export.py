"""Exported segmentors: the same scores as the model, without this package; and what cannot be."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmseg_arta.engine.export import (
    ExportError,
    ImageToScores,
    describe,
    export_segmentor,
    fix_allocation,
    load_exported,
    obstacle,
)
from mmseg_arta.engine.export import run as export_run
from mmseg_arta.engine.export.formats import FORMATS
from mmseg_arta.engine.export.plain_operators import SEARCHES, plain_ops
from mmseg_arta.ops import balanced_clusters, nearest_clusters, nearest_tokens
from tests.builders import FAMILIES, NANO, family_segmentor
from tests.helpers import some_tokens

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'run_exported.py'
PREPROCESSOR = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
#: No multiple of a patch: whatever pads and cuts has something to do.
SIZE = (40, 61)
#: Tracing takes seconds per model: one of tokens, without the refinement stage, one of maps.
SHORT = dict(FAMILIES['ARTA']['backbone'], arch=dict(NANO, refinement_depths=(1,)))
TRACED = {'LRFormer': {}, 'ARTA': dict(backbone=SHORT)}

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ('onnxscript', 'onnxruntime')),
    reason='needs onnx, onnxscript and onnxruntime (requirements/export.txt)',
)


def module(name: str, shape: tuple[int, int] = SIZE, **options) -> ImageToScores:
    torch.manual_seed(0)
    options.setdefault('data_preprocessor', PREPROCESSOR)
    model = family_segmentor(name, **options).eval()
    for parameter in model.parameters():
        # Initial weights make all pixels alike.
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return ImageToScores(model, shape)


@pytest.mark.parametrize('name', TRACED)
def test_torch_file_gives_the_scores_of_the_model(name, tmp_path):
    scores = module(name, **TRACED[name])
    done = export_segmentor(scores, tmp_path / 'file.pt2', 'torch', name='some-config')
    assert done.difference <= 1e-4 and done.same_labels > 0.999
    assert done.bytes == done.path.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ['file.pt2']
    predict, about = load_exported(tmp_path / 'file.pt2')
    assert about['model'] == 'some-config' and about['input']['shape'] == [1, 3, *SIZE]
    # Other images than it was made with.
    for seed in range(3):
        noise = torch.Generator().manual_seed(seed)
        image = torch.randint(0, 256, (1, 3, *SIZE), generator=noise).float()
        expected = scores.as_tested(image).numpy()
        assert export_run.difference(predict(image.numpy()), expected) <= 1e-4


@needs_onnx
def test_onnx_file_gives_the_scores_of_the_model(tmp_path):
    done = export_segmentor(module('LRFormer'), tmp_path / 'file.onnx', 'onnx')
    assert done.difference <= 1e-4 and done.same_labels > 0.999
    assert [path.name for path in tmp_path.iterdir()] == ['file.onnx']


class OneGroup(torch.nn.Module):
    """Norms over more values than float32 adds up well."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.norm = torch.nn.GroupNorm(1, 8, affine=affine)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(image)


@needs_onnx
@pytest.mark.parametrize('affine', [True, False])
def test_norms_of_large_maps_are_as_exact_in_onnx(affine, tmp_path):
    torch.manual_seed(0)
    norm, image = OneGroup(affine).eval(), 2 * torch.randn(1, 8, 500, 400) + 3
    program = torch.export.export(norm, (image,))
    FORMATS['onnx'][1](program, tmp_path / 'file.onnx', {})
    predict, _ = load_exported(tmp_path / 'file.onnx')
    exact = norm.double()(image.double()).detach().numpy()
    assert export_run.difference(predict(image.numpy()), exact) <= 2e-6


class Inverse(torch.nn.Module):
    """Weights of distances, some of which are 0."""

    def forward(self, distance: Tensor) -> Tensor:
        return 1 / (distance**3 + 1e-11)


@needs_onnx
def test_bounds_of_divisors_are_kept_in_onnx(tmp_path):
    distance = torch.tensor([[0.0, 1e-4, 2.0]])
    program = torch.export.export(Inverse(), (distance,))
    FORMATS['onnx'][1](program, tmp_path / 'file.onnx', {})
    predict, _ = load_exported(tmp_path / 'file.onnx')
    expected = Inverse()(distance)
    assert expected.isfinite().all()
    torch.testing.assert_close(torch.from_numpy(predict(distance.numpy())), expected)


BUDGET = dict(type='BudgetAllocation', tokens=40)


@pytest.mark.parametrize(
    ('options', 'order'),
    [
        (dict(bgr_to_rgb=True), [0, 1, 2]),
        (dict(bgr_to_rgb=False), [2, 1, 0]),
        (dict(rgb_to_bgr=True), [2, 1, 0]),
        (dict(bgr_to_rgb=True, test_cfg=dict(size_divisor=32)), [0, 1, 2]),
    ],
)
def test_images_go_in_as_the_data_preprocessor_has_them(options, order):
    preprocessor = {**PREPROCESSOR, 'bgr_to_rgb': False, **options}
    scores = module('LRFormer', data_preprocessor=preprocessor)
    scores = ImageToScores(scores.segmentor, SIZE, loads_bgr='rgb_to_bgr' not in options).eval()
    image = torch.randint(0, 256, (1, 3, *SIZE)).float()
    with torch.no_grad():
        found = scores(image)
    torch.testing.assert_close(found, scores.as_tested(image))
    mean, std = (torch.tensor(preprocessor[key])[:, None, None] for key in ('mean', 'std'))
    seen = []
    scores.segmentor.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        scores(image)
    height, width = SIZE
    expected = (image[:, order] - mean) / std
    torch.testing.assert_close(seen[0][:, :, :height, :width], expected)
    assert seen[0].shape[2:] == ((64, 64) if 'test_cfg' in options else SIZE)


@torch.no_grad()
def test_one_channel_is_from_zero_to_one():
    head = dict(FAMILIES['ARTA, stock head']['decode_head'], num_classes=2, out_channels=1)
    scores = module('ARTA, stock head', decode_head={**head, 'threshold': 0.4}).eval()
    image = torch.randint(0, 256, (2, 3, *SIZE)).float()
    found = scores(image)
    torch.testing.assert_close(found, scores.as_tested(image))
    assert found.shape == (2, 1, *SIZE) and 0 < found.min() < found.max() < 1
    output = describe(scores, 2, 'config')['output']
    assert output['threshold'] == 0.4 and output['labels'] == 'threshold'


def test_file_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    path = tmp_path / 'file.pt2'
    path.write_bytes(b'as it was')
    scores = module('LRFormer')
    wrong = scores.as_tested(export_run.check_image(scores, 1)) + 1
    monkeypatch.setattr(ImageToScores, 'as_tested', lambda self, image: wrong)
    with pytest.raises(ExportError, match='differ from those of the model by'):
        export_segmentor(scores, path, 'torch')
    assert path.read_bytes() == b'as it was' and len(list(tmp_path.iterdir())) == 1
    done = export_segmentor(scores, path, 'torch', compare=False)
    assert done.difference is None and path.stat().st_size > 1000


REFUSED = [
    ('ARTA', dict(allocation=dict(type='ThresholdAllocation')), 'ThresholdAllocation .*0.3'),
    (
        'DUPS',
        dict(allocation=dict(train=BUDGET, test=dict(type='BatchRatioAllocation'))),
        'BatchRatioAllocation lets the image decide .*--allocation 0.3',
    ),
    (
        'ARTA',
        dict(allocation=dict(type='ReconsideringAllocation', policy=BUDGET)),
        'ReconsideringAllocation .*--allocation',
    ),
    ('ARTA', dict(max_tokens=50), 'max_tokens=50 .*model.backbone.max_tokens=None'),
    ('ARTA', dict(tie_order='published'), 'model.backbone.tie_order=raster'),
    ('DToP', {}, 'halts tokens'),
    ('STEP', dict(halting=None), 'TopGroupMerging'),
]


@pytest.mark.parametrize(('name', 'options', 'reason'), REFUSED)
def test_what_the_image_decides_is_refused_in_one_line(name, options, reason, tmp_path):
    backbone = {**FAMILIES[name]['backbone'], **options}
    scores = module(name, backbone=backbone)
    with pytest.raises(ExportError, match=reason) as error:
        export_segmentor(scores, tmp_path / 'file.pt2', 'torch')
    assert '\n' not in str(error.value) and '{' not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['full', 'caps', '0.3'])
def test_allocation_by_name_can_be_exported(name):
    caps = dict(type='BatchRatioAllocation', caps=(0.5, 0.4, 0.3))
    backbone = dict(FAMILIES['ARTA']['backbone'], allocation=dict(train=caps, test=caps))
    model = family_segmentor('ARTA', backbone=backbone)
    assert obstacle(model) is not None
    fix_allocation(model, 'model')
    assert obstacle(model) is not None
    fix_allocation(model, name)
    assert obstacle(model) is None
    ratios = {'caps': (0.5, 0.4, 0.3), '0.3': (0.3,) * 3}
    assert getattr(model.backbone.policy, 'ratios', None) == ratios.get(name)
    with pytest.raises(ExportError, match='--allocation full needs a model that allocates'):
        fix_allocation(family_segmentor('SegViT'), 'full')


def test_names_and_endings_are_checked(tmp_path):
    scores = module('LRFormer')
    with pytest.raises(ValueError, match=r'--format must be one of torch, aoti, onnx'):
        export_segmentor(scores, tmp_path / 'file.pt2', 'tflite')
    with pytest.raises(ValueError, match=r'--format onnx writes files that end in \.onnx'):
        export_segmentor(scores, tmp_path / 'file.pt2', 'onnx')
    with pytest.raises(ExportError, match='Linear does not predict class scores'):
        ImageToScores(torch.nn.Linear(1, 1), SIZE)


@pytest.mark.parametrize('lengths', [(37, 70), (0, 9), (3,), (200, 1, 64)], ids=str)
def test_searches_without_reading_are_those_of_the_ops(lengths):
    level = some_tokens(lengths, (16, 24), 4)
    forward = {kernels.__name__.split('.')[-2]: found for kernels, found in SEARCHES.items()}
    counts, batch = torch.tensor(lengths), level.batch_index()
    given = (level.xy, batch, counts, (16, 24), 8)
    order, start = forward['balanced_clusters'](*given[:3], 16, 24, 8, 'reference')
    expected = balanced_clusters(*given)
    assert torch.equal(order, expected[0]) and torch.equal(start, expected[1])
    xy = level.xy[order]
    found = forward['nearest_clusters'](xy, start, lengths, 8, 6, 'reference')
    assert torch.equal(found, nearest_clusters(xy, start, lengths, 8, 6))
    places = torch.randint(0, 48, (5 * len(lengths), 2)) / 2
    found = forward['nearest_tokens'](
        places, level.centers(), (5,) * len(lengths), lengths, 4, 'reference'
    )
    assert torch.equal(found, nearest_tokens(places, (5,) * len(lengths), level, 4).rows)


def test_back_end_is_as_before_afterwards(monkeypatch):
    monkeypatch.delenv('MMSEG_ARTA_OPS', raising=False)
    with plain_ops():
        assert os.environ['MMSEG_ARTA_OPS'] == 'reference'
    assert 'MMSEG_ARTA_OPS' not in os.environ


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / 'street.png'
    noise = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.mark.parametrize('kind', [pytest.param('onnx', marks=needs_onnx)])
def test_script_segments_an_image_without_the_package(kind, picture, tmp_path):
    path = tmp_path / ('file.onnx' if kind == 'onnx' else 'file.pt2')
    names = ['road', 'sky', 'tree', 'car', 'pole']
    palette = [[index, 10 * index, 255 - index] for index in range(5)]
    scores = module('SegViT')
    export_segmentor(scores, path, kind, name='arta', classes=names, palette=palette)
    out = tmp_path / 'segmented.png'
    # Imports of what it must do without are errors.
    code = (
        'import runpy, sys\n'
        "for name in ('mmseg', 'mmengine', 'mmcv', 'mmseg_arta'): sys.modules[name] = None\n"
        'sys.argv = sys.argv[1:]\n'
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, '-c', code, TOOL, path, picture, '--out', out, '--opacity', '1']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(name in done.stdout for name in names)
    height, width = SIZE
    with Image.open(picture) as image:
        small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    image = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float()
    labels = scores.as_tested(image)[0].argmax(0).to(torch.uint8).numpy()
    labels = np.asarray(Image.fromarray(labels).resize((80, 50), Image.Resampling.NEAREST))
    with Image.open(out) as painted:
        assert (np.asarray(painted) == np.array(palette, np.uint8)[labels]).mean() > 0.999


CONFIG = 'segformer_mit-b0_1xb4-2k_camvid-256x256'
# Training of it starts from a file that is not there; exporting random weights does without.
ARTA = 'arta-tiny_mask2former_4xb8-80k_ade20k-512x512'


def export(*arguments, cwd):
    command = [sys.executable, ROOT / 'tools' / 'export.py', *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_tool_writes_and_says_what_it_compared(tmp_path):
    arguments = ['--shape', '64', '96', '--out', 'file.pt2']
    done = export(CONFIG, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'file.pt2: ' in done.stdout and '% of the labels are the same' in done.stdout
    _, about = load_exported(tmp_path / 'file.pt2')
    assert about['model'] == CONFIG and about['input']['shape'] == [1, 3, 64, 96]
    assert about['classes'][0] == 'Sky' and len(about['palette']) == 11
    assert json.dumps(about['input']['normalized_inside']['mean']).startswith('[')


def test_tool_refuses_in_one_line(tmp_path):
    done = export(ARTA, '--shape', '64', '96', '--out', 'file.pt2', cwd=tmp_path)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    line = done.stderr.strip().splitlines()[-1]
    assert 'Traceback' not in done.stderr
    assert line.startswith('export: error: ') and '--allocation 0.3' in line
