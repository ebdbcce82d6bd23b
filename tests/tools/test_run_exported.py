"""What the script that segments with exported files makes of other files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'run_exported.py'
# The script must run where OpenMMLab is not installed.
CODE = """
import runpy, sys
sys.modules.update(dict.fromkeys(('mmseg', 'mmengine', 'mmcv', 'mmseg_arta')))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
ANOTHER = 'is no file of tools/export.py, or damaged'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ('garbage.onnx', 'garbage.pt2'):
        (tmp_path / name).write_bytes(b'garbage\n')
    (tmp_path / 'empty.pt2').touch()
    (tmp_path / 'folder.png').mkdir()
    torch.save({'a': 1}, tmp_path / 'weights.pt2')
    whole = (tmp_path / 'weights.pt2').read_bytes()
    (tmp_path / 'cut.pt2').write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / 'other.pt2', 'w') as archive:
        archive.writestr('some.txt', 'text')
    Image.new('RGB', (8, 8)).save(tmp_path / 'image.png')
    return tmp_path


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('none.onnx', [], 'none.onnx: no such file'),
        ('none.pt2', [], 'none.pt2: no such file'),
        ('garbage.onnx', [], ANOTHER),
        ('garbage.pt2', [], ANOTHER),
        ('empty.pt2', [], ANOTHER),
        ('cut.pt2', [], ANOTHER),
        ('weights.pt2', [], ANOTHER),
        ('other.pt2', [], ANOTHER),
        ('other.pt2', ['--opacity', 'nan'], 'must be from 0 to 1, found nan'),
        ('other.pt2', ['--opacity', '9'], 'must be from 0 to 1, found 9'),
        ('other.pt2', ['--opacity', 'a'], 'must be from 0 to 1, found a'),
        # Before the file is looked at.
        ('none.pt2', ['--out', 'out.xyz'], '--out out.xyz: expected a name that ends in one of'),
        ('none.pt2', ['--out', 'out'], "found ''"),
        ('none.pt2', ['--out', 'folder.png'], '--out folder.png is a folder'),
        ('none.pt2', ['--out', 'none/out.png'], '--out none/out.png: the folder'),
    ],
)
def test_other_files_are_one_line(files: Path, name: str, options: list[str], message: str) -> None:
    if name.endswith('.onnx'):
        pytest.importorskip('onnxruntime')
    command = [sys.executable, '-c', CODE, TOOL, name, 'image.png', '--out', 'out.png', *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=files)
    lines = [line for line in done.stderr.splitlines() if not line.startswith('usage:')]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert message in lines[0] and 'error: ' in lines[0]
    assert not (files / 'out.png').exists()


@pytest.mark.parametrize('name', ['out.png', 'out.JPG', 'out.tiff'])
def test_pictures_are_written_whole(load_tool, tmp_path: Path, monkeypatch, name: str) -> None:
    tool, path = load_tool('run_exported.py'), tmp_path / name
    picture = Image.new('RGB', (8, 6), (200, 10, 10))
    path.write_bytes(b'before')

    def broken(*_: object, **__: object) -> None:
        raise OSError('the disk is full')

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, 'save', broken)
        with pytest.raises(OSError, match='full'):
            tool.write(picture, path, tool.format_of(path))
    assert path.read_bytes() == b'before'
    tool.write(picture, path, tool.format_of(path))
    with Image.open(path) as written:
        assert written.size == (8, 6)
    assert [one.name for one in tmp_path.iterdir()] == [name]
