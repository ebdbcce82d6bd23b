"""The demo refuses what it cannot do before it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--iters', '0'], '--iters must be at least 1, found 0'),
        (['--out', '/proc/self'], '--out /proc/self: '),
        (['--out', 'README.md'], '--out README.md: '),
        (['--out', 'README.md/below'], '--out README.md/below: '),
    ],
)
def test_wrong_options_end_with_one_line(arguments: list[str], message: str) -> None:
    command = [sys.executable, 'tools/demo.py', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and not done.stdout
    assert message in done.stderr.splitlines()[-1] and 'Traceback' not in done.stderr


def test_a_config_is_written_whole(load_tool, tmp_path: Path, monkeypatch) -> None:
    tool, path = load_tool('demo.py'), tmp_path / 'demo.py'
    tool.write_config(path, Path('base.py'), Path('data'), 50)
    before = path.read_text()
    compile(before, 'demo.py', 'exec')
    monkeypatch.setattr(tool.os, 'replace', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tool.write_config(path, Path('base.py'), Path('data'), 99)
    assert path.read_text() == before and [one.name for one in tmp_path.iterdir()] == ['demo.py']
