"""Checkpoints are read without running what is in them."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import load_checkpoint
from torch import nn

from mmseg_arta.analysis.flops.load import build_model
from mmseg_arta.models.backbones.pretrained import load_pretrained
from mmseg_arta.safe_load import CheckpointError, load_from_anywhere, load_safely


class Planted:
    """Makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """As training writes it: with log histories and NumPy's numbers."""
    hub = MessageHub('safe')
    hub.update_scalar('train/loss', torch.tensor(0.5))
    hub.update_scalar('train/time', np.float64(1.5))
    hub.update_info('seed', np.int64(3))
    path = tmp_path / 'own.pth'
    content = dict(state_dict=nn.Linear(2, 3).state_dict(), message_hub=hub.state_dict())
    torch.save(content | dict(meta=dict(places=np.arange(3))), path)
    return path


@pytest.fixture(params=['alone', 'beside weights', 'old format'])
def planted(request: Any, tmp_path: Path) -> Path:
    what: Any = Planted(tmp_path / 'ran')
    if request.param != 'alone':
        what = dict(state_dict=nn.Linear(2, 3).state_dict(), meta=what)
    path = tmp_path / 'planted.pth'
    torch.save(what, path, _use_new_zipfile_serialization=request.param != 'old format')
    return path


def test_what_training_writes_is_read(own: Path) -> None:
    found = load_safely(own)
    history = found['message_hub']['log_scalars']['train/loss']
    assert history.current() == 0.5 and found['message_hub']['runtime_info']['seed'] == 3


@pytest.mark.parametrize('module', ['core', '_core'])
def test_numbers_of_other_releases_of_numpy(own: Path, tmp_path: Path, module: str) -> None:
    path = tmp_path / 'other.pth'
    with zipfile.ZipFile(own) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            content = source.read(name)
            for written in (b'numpy._core.multiarray', b'numpy.core.multiarray'):
                content = content.replace(written, f'numpy.{module}.multiarray'.encode())
            target.writestr(name, content)
    assert load_safely(path)['meta']['places'].tolist() == [0, 1, 2]


def test_planted_code_does_not_run(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f'{planted.name}.*more than tensors.*mkdir'):
        load_safely(planted)
    assert not (tmp_path / 'ran').exists()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Where the files in the folder are offered."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('no_proxy', '*')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_downloads_are_read_as_safely(
    own: Path, planted: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    found = load_from_anywhere(f'{address}/{own.name}')
    assert torch.equal(found['state_dict']['weight'], load_safely(own)['state_dict']['weight'])
    with pytest.raises(CheckpointError, match=r'planted\.pth: holds more than tensors.*mkdir'):
        load_from_anywhere(f'{address}/{planted.name}')
    with pytest.raises(CheckpointError, match=r'none\.pth: cannot be read .*404'):
        load_from_anywhere(f'{address}/none.pth')
    assert not (tmp_path / 'ran').exists()
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_pre_trained_weights_are_read_as_safely(
    planted: Path, address: str, tmp_path: Path
) -> None:
    for name in (str(planted), f'{address}/{planted.name}'):
        with pytest.raises(ValueError, match=r'planted\.pth: holds more than .* for Linear'):
            load_pretrained(nn.Linear(2, 2), dict(type='Pretrained', checkpoint=name))
    assert not (tmp_path / 'ran').exists()


MODEL = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor'),
    backbone=dict(type='MobileNetV2', widen_factor=0.1, out_indices=(0,)),
    decode_head=dict(type='FCNHead', in_channels=8, channels=4, num_classes=2, in_index=0),
    test_cfg=dict(mode='whole'),
)


def test_tools_refuse_planted_code(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'checkpoint .*planted\.pth: holds more than.*mkdir'):
        build_model(Config(dict(model=MODEL)), str(planted))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('wrapped', [True, False])
def test_tools_read_what_training_writes(
    own: Path, tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    config = Config(dict(model=MODEL))
    weights = build_model(config).state_dict()
    named = {prefix + key: value for key, value in weights.items()}
    path = tmp_path / 'trained.pth'
    torch.save(load_safely(own) | dict(state_dict=named) if wrapped else named, path)
    found = build_model(config, str(path)).state_dict()
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    for content, message in (
        ({}, 'trained.pth.* does not fit config: .*missing keys'),
        ({**weights, 'more': torch.zeros(1)}, 'does not fit config: .*unexpected key.*more'),
        ([1], 'expected weights by key, found list'),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            build_model(config, str(path))


def test_stock_loading_forced_to_be_safe(
    own: Path, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    model = nn.Linear(2, 3)
    load_checkpoint(model, str(own))
    assert torch.equal(model.weight, load_safely(own)['state_dict']['weight'])
    with pytest.raises(Exception, match='mkdir'):
        load_checkpoint(model, str(planted))
    assert not (tmp_path / 'ran').exists()
    # The file would have run.
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    torch.load(planted, weights_only=False)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'no PyTorch checkpoint'),
        (b'PK', 'no PyTorch checkpoint|no checkpoint'),
        (b'just text\n', 'no checkpoint|no PyTorch checkpoint'),
        (None, 'no such file'),
    ],
)
def test_what_is_no_checkpoint_is_named(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / 'some.pth'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'some.pth: .*({message})') as info:
        load_safely(path)
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.95])
def test_a_file_that_was_cut_off(own: Path, share: float) -> None:
    own.write_bytes(own.read_bytes()[: int(own.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r'own\.pth: is no PyTorch checkpoint'):
        load_safely(own)


@pytest.mark.parametrize('archive', [True, False])
def test_mapped_weights_are_the_same(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / 'weights.pth'
    torch.save({'a': torch.arange(5.0)}, path, _use_new_zipfile_serialization=archive)
    assert torch.equal(load_safely(path, mapped=True)['a'], torch.arange(5.0))
