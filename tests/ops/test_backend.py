"""Which back end runs an op, and why not another."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import mmseg_arta.ops.__main__ as command
from mmseg_arta.ops import __all__ as public_ops
from mmseg_arta.ops import available_backends, forced_backend, uses_reference
from mmseg_arta.ops.backend import OPS, chosen_backend, explain, register_op
from mmseg_arta.ops.library import cpu, cuda

FLOAT = torch.zeros(1)


@pytest.fixture
def no_library(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, 'path', tmp_path / 'missing.so')
    monkeypatch.delenv('MMSEG_ARTA_OPS', raising=False)


@pytest.mark.usefixtures('cpu_kernels')
class TestBuilt:
    def test_available(self):
        found = available_backends()
        assert list(found) == ['reference', 'cpu', 'cuda', 'triton']
        assert not found['reference'] and not found['cpu']

    @pytest.mark.parametrize(
        'dtype, expected',
        [
            (torch.float32, 'cpu'),
            (torch.bfloat16, 'cpu'),
            (torch.float16, 'cpu'),
            (torch.float64, 'reference'),
        ],
        ids=str,
    )
    def test_best_back_end(self, dtype, expected):
        assert chosen_backend('cluster_attention', FLOAT.to(dtype)) == expected
        assert uses_reference('cluster_attention', FLOAT.to(dtype)) == (expected == 'reference')

    def test_another_device(self):
        assert chosen_backend('cluster_attention', FLOAT.to('meta')) == 'reference'

    @pytest.mark.parametrize('forced', ['reference', 'cpu'])
    def test_forced(self, monkeypatch, forced):
        monkeypatch.setenv('MMSEG_ARTA_OPS', forced)
        for dtype in (torch.float32, torch.float64):
            assert chosen_backend('nearest_clusters', FLOAT.to(dtype)) == forced
        assert chosen_backend('finest_token_map', FLOAT) == 'reference'

    def test_forced_on_another_device(self, monkeypatch):
        monkeypatch.setenv('MMSEG_ARTA_OPS', 'cpu')
        with pytest.raises(
            RuntimeError, match='works on cpu tensors, cluster_attention was given meta tensors'
        ):
            uses_reference('cluster_attention', FLOAT.to('meta'))

    def test_reasons(self):
        assert explain('finest_token_map', 'cpu', torch.float32) == (
            'reference',
            dict.fromkeys(('cpu', 'cuda', 'triton'), 'does not have this op'),
        )
        assert explain('cluster_attention', 'meta', torch.float32) == (
            'reference',
            {'cpu': 'for cpu tensors', 'cuda': 'for cuda tensors', 'triton': 'for cuda tensors'},
        )
        why = explain('cluster_attention', 'cpu', torch.float32, {'cpu': 'too wide'})[1]
        assert why['cpu'] == 'too wide'

    def test_table(self, capsys):
        command.main([])
        shown = capsys.readouterr().out
        assert all(op in shown for op in OPS)
        assert 'cpu: available (' in shown
        assert re.search('cluster_attention +cpu ', shown)
        command.main(['--device', 'meta'])
        shown = capsys.readouterr().out
        assert re.search('cluster_attention +reference  cpu: for cpu tensors', shown)
        with pytest.raises(SystemExit) as stopped:
            command.main(['--device', 'nosuch'])
        assert stopped.value.code == 2
        assert "must be a device type of PyTorch, found 'nosuch'" in capsys.readouterr().err

    def test_another_interface_version(self, built_library, tmp_path, monkeypatch):
        # Every path is loaded once.
        copy = shutil.copy(built_library, tmp_path)
        monkeypatch.setattr(cpu, 'path', Path(copy))
        monkeypatch.setitem(cpu.versions, 'cluster_attention', 0)
        found, reason = cpu.load()
        assert found is None
        assert 'of cluster_attention, this package needs 0: build it again' in reason

    def test_an_op_that_the_library_lacks(self, built_library, tmp_path, monkeypatch):
        monkeypatch.setattr(cpu, 'path', Path(shutil.copy(built_library, tmp_path)))
        monkeypatch.setitem(cpu.versions, 'new_op', 1)
        assert 'has interface version none of new_op' in cpu.unusable()

    def test_unknown_instructions(self):
        assert not cpu.use('abacus')


@pytest.mark.usefixtures('no_library')
class TestNotBuilt:
    def test_falls_back(self):
        assert 'are not built' in available_backends()['cpu']
        assert uses_reference('cluster_attention', FLOAT)
        assert 'are not built' in explain('cluster_attention', 'cpu', torch.float32)[1]['cpu']

    def test_forced(self, monkeypatch):
        monkeypatch.setenv('MMSEG_ARTA_OPS', 'cpu')
        with pytest.raises(RuntimeError, match=r"'cpu': .* cannot be used: .* not built"):
            forced_backend()

    def test_table(self, capsys):
        command.main([])
        assert 'cpu: the C++ kernels are not built' in capsys.readouterr().out

    def test_broken_file(self, tmp_path, monkeypatch):
        path = tmp_path / 'broken.so'
        path.write_text('no library')
        monkeypatch.setattr(cpu, 'path', path)
        assert 'cannot be loaded' in cpu.unusable()

    def test_calling_it_anyway(self):
        with pytest.raises(RuntimeError, match='are not built'):
            cpu.loaded()


def test_unknown_back_end(monkeypatch):
    monkeypatch.setenv('MMSEG_ARTA_OPS', 'gpu')
    with pytest.raises(RuntimeError, match="'gpu': expected one of reference, cpu"):
        forced_backend()


def test_ops_register_themselves(monkeypatch):
    assert {'cluster_attention', 'finest_token_map'} <= set(OPS) <= set(public_ops)
    monkeypatch.setitem(OPS, 'new_op', ())
    register_op('new_op', {'triton': None, 'reference': None, 'cpu': None})
    assert OPS['new_op'] == ('cpu', 'triton')
    assert explain('new_op', 'cpu', torch.float32)[1]['cuda'] == 'does not have this op'


def test_why_cuda_is_not_available(tmp_path, monkeypatch):
    missing = tmp_path / 'missing.so'
    monkeypatch.setattr(cuda, 'path', missing)
    assert 'are not built' in cuda.unusable()
    with pytest.raises(RuntimeError, match='are not built'):
        cuda.loaded()
    broken = tmp_path / 'broken.so'
    broken.write_text('no library')
    monkeypatch.setattr(cuda, 'path', broken)
    assert 'cannot be loaded' in cuda.unusable()
    monkeypatch.setattr(cuda, 'load', lambda: (object(), ''))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert cuda.unusable() == 'PyTorch finds no CUDA device'
