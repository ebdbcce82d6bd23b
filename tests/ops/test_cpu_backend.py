from __future__ import annotations

import re
import shutil

import pytest
import torch

import mmseg_arta.ops.__main__ as command
from mmseg_arta.ops import available_backends, forced_backend, uses_reference
from mmseg_arta.ops.backend import OPS, chosen_backend, explain
from mmseg_arta.ops.cpu import build, interface, library

FLOAT = torch.zeros(1)


@pytest.fixture
def no_library(tmp_path, monkeypatch):
    monkeypatch.setattr(library, 'PATH', tmp_path / 'missing.so')
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

    def test_another_interface_version(self, built_library, monkeypatch):
        monkeypatch.setattr(interface, 'VERSION', 0)
        found, reason = library.load.__wrapped__(built_library)
        assert found is None and 'this package needs 0: build it again' in reason

    def test_unknown_instructions(self):
        assert library.library().arta_cpu_use(b'abacus') == 1


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

    def test_broken_file(self, tmp_path):
        path = tmp_path / 'broken.so'
        path.write_text('no library')
        assert 'cannot be loaded' in library.load(path)[1]

    def test_calling_it_anyway(self):
        with pytest.raises(RuntimeError, match='are not built'):
            library.library()


def test_unknown_back_end(monkeypatch):
    monkeypatch.setenv('MMSEG_ARTA_OPS', 'gpu')
    with pytest.raises(RuntimeError, match="'gpu': expected one of reference, cpu"):
        forced_backend()


class TestBuild:
    def test_named_compiler_is_missing(self, monkeypatch):
        monkeypatch.setenv('CXX', 'no-such-compiler -O2')
        with pytest.raises(build.BuildError, match="CXX='no-such-compiler' is not found"):
            build.find_compiler()

    def test_no_compiler(self, monkeypatch):
        monkeypatch.delenv('CXX', raising=False)
        monkeypatch.setattr(shutil, 'which', lambda name: None)
        with pytest.raises(build.BuildError, match=r'none of g\+\+, clang\+\+, c\+\+ is found'):
            build.find_compiler()

    def test_no_sources(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build, 'SOURCES', tmp_path / 'nowhere')
        with pytest.raises(build.BuildError, match='no sources'):
            build.build(tmp_path)

    def test_compiler_errors_are_shown(self, tmp_path, monkeypatch):
        if not build.SOURCES.is_dir() or not shutil.which('c++'):
            pytest.skip('needs the sources and a compiler named c++')
        sources = tmp_path / 'cpu'
        shutil.copytree(build.SOURCES, sources)
        for path in sources.glob('*.cpp'):
            path.write_text('#error broken on purpose\n')
        monkeypatch.setattr(build, 'SOURCES', sources)
        monkeypatch.setenv('CXX', 'c++')
        with pytest.raises(build.BuildError, match=r'compiler failed: c(?s:.*)broken on purpose'):
            build.build(tmp_path / 'out')
        assert not list((tmp_path / 'out').glob('*'))

    def test_any_machine_gets_plain_code(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build.platform, 'machine', lambda: 'riscv64')
        commands = [' '.join(c) for c in build.compile_commands(['c++'], tmp_path).values()]
        assert not any(word in c for c in commands for word in ('-mavx', '-march', 'ARTA_X86'))

    def test_no_installed_code_is_made_for_the_building_machine(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build.platform, 'machine', lambda: 'x86_64')
        commands = [' '.join(c) for c in build.compile_commands(['c++'], tmp_path).values()]
        assert not any('native' in c for c in commands)
        # Only the kernels, which are chosen at run time, may use more than every x86 has.
        assert all('-mavx' not in c or '_kernel.cpp' in c for c in commands)

    @pytest.mark.parametrize(
        'value, built',
        [('', True), ('auto', True), ('cpu', True), ('cuda', True), ('none', False)],
    )
    def test_installation(self, tmp_path, monkeypatch, value, built):
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', value)
        monkeypatch.setattr(build, 'build', lambda target: target / build.LIBRARY)
        expected = tmp_path / build.LIBRARY if built else None
        assert build.build_for_install(tmp_path) == expected

    def test_installation_without_compiler(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv('CXX', 'no-such-compiler')
        monkeypatch.setattr(build, 'SOURCES', tmp_path)
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'auto')
        assert build.build_for_install(tmp_path) is None
        assert 'will run on plain PyTorch' in capsys.readouterr().err
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'cpu')
        with pytest.raises(build.BuildError, match='is not found'):
            build.build_for_install(tmp_path)

    def test_installation_of_what_there_is_not(self, tmp_path, monkeypatch):
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'gpu')
        with pytest.raises(build.BuildError, match='expected auto, cpu, cuda or none'):
            build.build_for_install(tmp_path)
