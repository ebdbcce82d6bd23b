from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmseg_arta.ops.cuda import build, library
from mmseg_arta.ops.reverse_index import reverse_index


def test_named_compiler_is_missing(monkeypatch):
    monkeypatch.setenv('NVCC', 'no-such-nvcc')
    with pytest.raises(build.BuildError, match="NVCC='no-such-nvcc' is not found"):
        build.find_nvcc()


def test_no_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(build, 'SOURCES', tmp_path / 'nowhere')
    with pytest.raises(build.BuildError, match='no sources'):
        build.build(tmp_path)


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
    commands = build.compile_commands('nvcc', tmp_path, build.ARCHS)
    assert {target.stem for target in commands} == {p.stem for p in build.SOURCES.glob('*.cu')}
    for target, command in commands.items():
        for arch in build.ARCHS:
            assert f'-gencode=arch=compute_{arch},code=sm_{arch}' in command
        assert '-gencode=arch=compute_90,code=compute_90' in command
        # Keys and distances are compared for equality.
        assert ('-fmad=false' in command) == (target.stem == 'places')


@pytest.mark.parametrize(
    'value, driver, built',
    [
        *(('', True, True), ('auto', True, True), ('auto', False, False), ('cuda', False, True)),
        *(('cpu', True, False), ('none', True, False)),
    ],
)
def test_installation(tmp_path, monkeypatch, value, driver, built):
    monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', value)
    monkeypatch.setattr(build, 'has_driver', lambda: driver)
    monkeypatch.setattr(build, 'build', lambda target: target / build.LIBRARY)
    assert build.build_for_install(tmp_path) == (tmp_path / build.LIBRARY if built else None)


def test_installation_without_compiler(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('NVCC', 'no-such-nvcc')
    monkeypatch.setattr(build, 'SOURCES', tmp_path)
    monkeypatch.setattr(build, 'has_driver', lambda: True)
    monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'auto')
    assert build.build_for_install(tmp_path) is None
    assert 'the CUDA kernels are not built' in capsys.readouterr().err
    monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'cuda')
    with pytest.raises(build.BuildError, match='is not found'):
        build.build_for_install(tmp_path)


def test_why_it_is_not_available(tmp_path, monkeypatch):
    missing = tmp_path / 'missing.so'
    assert 'are not built' in library.available(missing)
    broken = tmp_path / 'broken.so'
    broken.write_text('no library')
    assert 'cannot be loaded' in library.available(broken)
    monkeypatch.setattr(library, 'load', lambda path: (object(), ''))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert library.available(missing) == 'PyTorch finds no CUDA device'
    monkeypatch.setattr(library, 'load', lambda path: (None, 'the CUDA kernels are not built'))
    monkeypatch.setattr(library, 'PATH', missing)
    with pytest.raises(RuntimeError, match='are not built'):
        library.library()


def test_reverse_index():
    numbers = torch.tensor([2, -1, 0, 2, 2, -1])
    first, places = reverse_index(numbers, 4)
    lists = [places[first[n] : first[n + 1]].tolist() for n in range(4)]
    assert lists == [[2], [], [0, 3, 4], []]
    assert Path(library.PATH).name == build.LIBRARY
