"""The script that builds both libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmseg_arta.ops import build, library


class TestCpu:
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
            build.build('cpu', tmp_path)

    def test_compiler_errors_are_shown(self, tmp_path, monkeypatch):
        if not build.SOURCES.is_dir() or not shutil.which('c++'):
            pytest.skip('needs the sources and a compiler named c++')
        sources = tmp_path / 'csrc'
        shutil.copytree(build.SOURCES, sources)
        for path in sources.glob('cpu/*.cpp'):
            path.write_text('#error broken on purpose\n')
        monkeypatch.setattr(build, 'SOURCES', sources)
        monkeypatch.setenv('CXX', 'c++')
        with pytest.raises(build.BuildError, match=r'compiler failed: c(?s:.*)broken on purpose'):
            build.build('cpu', tmp_path / 'out')
        assert not list((tmp_path / 'out').glob('*'))

    def test_any_machine_gets_plain_code(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build.platform, 'machine', lambda: 'riscv64')
        commands = [' '.join(c) for c in build.cpu_commands(['c++'], tmp_path).values()]
        assert not any(word in c for c in commands for word in ('-mavx', '-march', 'ARTA_X86'))

    def test_no_installed_code_is_made_for_the_building_machine(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build.platform, 'machine', lambda: 'x86_64')
        commands = [' '.join(c) for c in build.cpu_commands(['c++'], tmp_path).values()]
        assert not any('native' in c for c in commands)
        # Only the kernels, which are chosen at run time, may use more than every x86 has.
        assert all('-mavx' not in c or '_kernel.cpp' in c for c in commands)


class TestInstallation:
    @pytest.mark.parametrize(
        'value, driver, built',
        [
            *(('', False, ['cpu']), ('auto', False, ['cpu']), ('cpu', False, ['cpu'])),
            *(('cuda', False, ['cpu', 'cuda']), ('none', False, []), ('', True, ['cpu', 'cuda'])),
            *(('auto', True, ['cpu', 'cuda']), ('cpu', True, ['cpu']), ('none', True, [])),
        ],
    )
    def test_what_is_built(self, tmp_path, monkeypatch, value, driver, built):
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', value)
        monkeypatch.setattr(build, 'has_driver', lambda: driver)
        monkeypatch.setattr(build, 'build', lambda name, target: target / build.LIBRARIES[name])
        expected = [tmp_path / build.LIBRARIES[name] for name in built]
        assert build.build_for_install(tmp_path) == expected

    @pytest.mark.parametrize('name, variable', [('cpu', 'CXX'), ('cuda', 'NVCC')])
    def test_without_compiler(self, tmp_path, monkeypatch, capsys, name, variable):
        for each in ('CXX', 'NVCC'):
            monkeypatch.setenv(each, 'no-such-compiler')
        sources = tmp_path / 'csrc'
        (sources / 'cpu').mkdir(parents=True)
        (sources / 'cuda').mkdir()
        monkeypatch.setattr(build, 'SOURCES', sources)
        monkeypatch.setattr(build, 'has_driver', lambda: True)
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'auto')
        assert build.build_for_install(tmp_path) == []
        shown = capsys.readouterr().err
        assert 'the C++ kernels are not built' in shown and 'runs without them' in shown
        assert 'the CUDA kernels are not built' in shown
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', name)
        with pytest.raises(build.BuildError, match=f"{variable}='no-such-compiler' is not found"):
            build.build_for_install(tmp_path)

    def test_of_what_there_is_not(self, tmp_path, monkeypatch):
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'gpu')
        with pytest.raises(build.BuildError, match='expected auto, cpu, cuda or none'):
            build.build_for_install(tmp_path)

    @pytest.mark.parametrize('name', build.LIBRARIES)
    def test_libraries_lie_where_they_are_looked_for(self, name):
        expected = Path(build.__file__).parent / build.LIBRARIES[name]
        assert getattr(library, name).path == expected


def test_named_compiler_is_missing(monkeypatch):
    monkeypatch.setenv('NVCC', 'no-such-nvcc')
    with pytest.raises(build.BuildError, match="NVCC='no-such-nvcc' is not found"):
        build.find_nvcc()


def test_no_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(build, 'SOURCES', tmp_path / 'nowhere')
    with pytest.raises(build.BuildError, match='no sources'):
        build.build('cuda', tmp_path)


@pytest.mark.parametrize(
    'value, archs', [('', build.ARCHS), ('90', ('90',)), ('8.0;9.0', ('80', '90'))]
)
def test_architectures(monkeypatch, value, archs):
    monkeypatch.setenv('MMSEG_ARTA_CUDA_ARCHS', value)
    assert build.chosen_archs() == archs


def test_unknown_architecture(monkeypatch):
    monkeypatch.setenv('MMSEG_ARTA_CUDA_ARCHS', 'hopper')
    with pytest.raises(build.BuildError, match="'hopper': expected numbers like 80,90"):
        build.chosen_archs()


def command(folder: Path, name: str, *lines: str) -> str:
    """A program that prints some lines."""
    path = folder / name
    path.write_text('#!/bin/sh\n' + ''.join(f'echo {line}\n' for line in lines))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    'found, archs',
    [(['9.0'], ('90',)), (['8.0', '8.9', '8.0'], ('80', '89')), (['12.1'], ('120',))],
)
def test_architectures_of_this_machine(tmp_path, monkeypatch, found, archs):
    nvcc = command(tmp_path, 'nvcc', *(f'compute_{n}' for n in (75, 80, 89, 90, 120)))
    command(tmp_path, 'nvidia-smi', *found)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    monkeypatch.setenv('MMSEG_ARTA_CUDA_ARCHS', 'native')
    assert build.chosen_archs(nvcc) == archs


def test_no_architecture_of_this_machine(tmp_path, monkeypatch):
    nvcc = command(tmp_path, 'nvcc', 'compute_80')
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setenv('MMSEG_ARTA_CUDA_ARCHS', 'native')
    with pytest.raises(build.BuildError, match='native: nvidia-smi cannot be run'):
        build.chosen_archs(nvcc)
    command(tmp_path, 'nvidia-smi', '5.0')
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    with pytest.raises(
        build.BuildError, match=r'knows none of the GPUs of compute capability 5\.0'
    ):
        build.chosen_archs(nvcc)


@pytest.mark.skipif(not build.SOURCES.is_dir(), reason='needs the sources')
def test_every_source_is_compiled_for_all_and_for_newer_gpus(tmp_path):
    commands = build.cuda_commands('nvcc', tmp_path, build.ARCHS)
    assert {target.stem for target in commands} == {
        p.stem for p in (build.SOURCES / 'cuda').glob('*.cu')
    }
    for target, command in commands.items():
        for arch in build.ARCHS:
            assert f'-gencode=arch=compute_{arch},code=sm_{arch}' in command
        assert '-gencode=arch=compute_90,code=compute_90' in command
        # Keys and distances are compared for equality.
        assert ('-fmad=false' in command) == (target.stem == 'places')
