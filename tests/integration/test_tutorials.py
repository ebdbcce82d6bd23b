"""The tutorials do what they say: their blocks run in order, from the wheel alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, fences
from tests.wheels import environment

TUTORIALS = sorted((ROOT / 'docs' / 'tutorials').glob('*.md'))
# The first line of a block that is a file.
FILE = re.compile(r'# (\w+\.py)\n')


def run_blocks(page: Path, folder: Path, site: Path) -> str:
    """Run the blocks of a page in ``folder``: shell, Python, and files named in their first line.

    Returns:
        What was printed. The first block that fails is an error with all of it.
    """
    printed = []
    for kind, content in fences(page.read_text(encoding='utf-8')):
        named = FILE.match(content)
        if kind == 'python' and named:
            (folder / named[1]).write_text(content, encoding='utf-8')
            continue
        if kind not in ('shell', 'python'):
            continue
        program = ['bash', '-euo', 'pipefail', '-c', content]
        done = subprocess.run(
            program if kind == 'shell' else [sys.executable, '-c', content],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            env=environment(site),
        )
        printed.append(done.stdout + done.stderr)
        assert done.returncode == 0, f'{content}\n{done.stdout[-3000:]}{done.stderr[-6000:]}'
    return '\n'.join(printed)


@pytest.mark.parametrize('page', TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_written(page, site, tmp_path):
    assert '```shell' in page.read_text(encoding='utf-8')
    output = run_blocks(page, tmp_path, site)
    # The environment itself may stand in the checkout.
    output = output.replace(sys.prefix, '')
    assert str(ROOT) not in output, 'something came from the checkout'
