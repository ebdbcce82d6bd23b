"""MMSegmentation's own tools for analysis on one config of every family, on toy data.

They run in this process, one after the other, as ``mim run mmsegmentation`` runs them in its own.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend
from PIL import Image

from mmseg_arta import config_path
from mmseg_arta._stock_tools import stock_tool
from mmseg_arta.analysis.reduced import reduced_model
from mmseg_arta.datasets.toy import write_toy_dataset
from tests.builders import family_segmentor, samples

pytestmark = [
    pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning'),
    # The stock benchmark takes the mean of no speeds where a data set has fewer than 200 images.
    pytest.mark.filterwarnings('ignore::RuntimeWarning'),
]
CONFIGS = [
    'arta-tiny_mask2former_4xb8-80k_ade20k-512x512',
    'dups-tiny_mask2former_4xb8-80k_ade20k-512x512',
    'aff-mini_mask2former_4xb8-80k_ade20k-512x512',
    'lrformer-t_lrhead_4xb4-160k_ade20k-512x512',
    'segvit_vit-b16_8xb2-160k_ade20k-512x512',
    'dtop_vit-b16_8xb2-40k_ade20k-512x512',
    'cts_vit-b16_1xb4-160k_ade20k-512x512',
    'step-8-t6899_vit-b16_1xb4-160k_ade20k-512x512',
    'cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512',
]
SIZE = (64, 96)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('toy') / 'ade20k'
    write_toy_dataset(str(root), 'ade20k', train=1, val=2, size=SIZE, seed=0)
    return root


def small(name: str, data: Path, folder: Path) -> Path:
    """A bundled config at the least depth, for toy data."""
    config = Config.fromfile(config_path(name))
    config.model = reduced_model(config.model)
    config.model.data_preprocessor.size = SIZE
    for loader in ('train_dataloader', 'test_dataloader'):
        config[loader].dataset.data_root = str(data)
        config[loader].num_workers, config[loader].persistent_workers = 0, False
        for step in config[loader].dataset.pipeline:
            if step.type in ('Resize', 'RandomResize'):
                step.scale = SIZE[::-1]
            elif step.type == 'RandomCrop':
                step.crop_size = SIZE
    path = folder / f'{name}.py'
    config.dump(path)
    return path


def run(tool: str, *arguments: object) -> None:
    """A stock tool as the main program."""
    before = sys.argv
    sys.argv = [tool, *map(str, arguments)]
    try:
        runpy.run_path(str(stock_tool(tool)), run_name='__main__')
    finally:
        sys.argv = before


@pytest.mark.parametrize('name', CONFIGS)
def test_tools_run(
    name: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # print_config leaves a file where it runs.
    monkeypatch.chdir(tmp_path)
    config = small(name, data, tmp_path)

    run('misc/print_config.py', config)
    assert f"type='{Config.fromfile(config).model.type}'" in capsys.readouterr().out

    run('analysis_tools/get_flops.py', config, '--shape', *SIZE)
    out = capsys.readouterr().out
    assert re.search(r'Flops: [\d.]+[MG]', out) and re.search(r'Params: [\d.]+M', out), out

    run('analysis_tools/browse_dataset.py', config, '--not-show', '--output-dir', tmp_path / 'seen')
    (picture,) = (tmp_path / 'seen').iterdir()
    width, height = Image.open(picture).size
    assert 0 < width <= SIZE[1] and 0 < height <= SIZE[0]

    # A checkpoint that is not there is passed over: weights at random.
    run('analysis_tools/benchmark.py', config, 'none.pth', '--work-dir', tmp_path / 'speed')
    (found,) = (tmp_path / 'speed').glob('fps_*.json')
    assert json.loads(found.read_text())['unit'] == 'img / s'


def test_logs_are_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec('seaborn') is None:
        # All that the tool asks of it is a style of the plot.
        stand_in = ModuleType('seaborn')
        stand_in.set_style = lambda style: None
        monkeypatch.setitem(sys.modules, 'seaborn', stand_in)
    torch.manual_seed(0)
    model = family_segmentor('ARTA')
    backend = LocalVisBackend(str(tmp_path))
    for step in (1, 2):
        losses = model.loss(torch.randn(2, 3, *SIZE), samples(SIZE))
        numbers = {key: float(value.detach()) for key, value in losses.items()}
        backend.add_scalars(numbers, step=step)
    backend.add_scalars(dict(mIoU=50.0), step=2)
    picture = tmp_path / 'curve.png'
    keys = ['mIoU', 'decode.d0.loss_mask', 'aux.loss_boundary_1']
    log = tmp_path / 'scalars.json'
    arguments = ('--keys', *keys, '--backend', 'agg', '--out', picture)
    run('analysis_tools/analyze_logs.py', log, *arguments)
    assert Image.open(picture).size[0] > 100
