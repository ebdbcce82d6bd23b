"""Write the page on what was tried to break the package, and what happened.

    python tests/reliability.py --out build/reliability.md

`make reliability` calls it. Counts come from the run: of test cases, of examples that property
tests made up, of kills, of calls of the kernels; so do the words of refusals. A row fails if one
of its tests does, and a skipped one says why.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
#: Words of so many refusals a row, at most.
WORDS = 2


@dataclass
class Row:
    """What was tried, what happens if all is well, and the tests or the command that tell."""

    section: str
    tried: str
    happens: str
    tests: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    times: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, str, str]:
        """The row of the table: tried, how often, outcome."""
        if self.failures:
            return self.tried, str(self.times), f'**failed**: {"; ".join(self.failures)}'
        outcome = self.happens if self.times else 'not tried'
        if self.skipped:
            outcome += f'; skipped: {"; ".join(dict.fromkeys(self.skipped))}'
        return self.tried, f'{self.times:,}'.replace(',', ' '), outcome


def rows() -> list[Row]:
    """All rows, in the page's order, as `tests/reliability.yml` describes them."""
    described = yaml.safe_load((ROOT / 'tests/reliability.yml').read_text(encoding='utf-8'))
    return [
        Row(
            section,
            entry['tried'],
            entry['happens'],
            tuple(entry.get('tests', ())),
            tuple(entry.get('run', '').split()),
        )
        for section, entries in described.items()
        for entry in entries
    ]


class Recorder:
    """A plugin of pytest that fills rows from the outcomes of their tests."""

    def __init__(self, found: list[Row]) -> None:
        self.found = found

    def _of(self, node: str) -> list[Row]:
        name = node.partition('[')[0]
        return [row for row in self.found if any(name == test for test in row.tests)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        """Keep the words of every error that the test expects."""
        expected, words = pytest.raises, []

        @contextlib.contextmanager
        def raises(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with expected(*args, **kwargs) as info:
                yield info
            said = str(info.value).strip().partition('\n')[0]
            if said:
                words.append(f'{info.type.__name__}: {said}')

        pytest.raises = raises  # type: ignore[assignment]
        try:
            yield
        finally:
            pytest.raises = expected
            for row in self._of(item.nodeid):
                row.words += words

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Count what tests say, or examples of property tests, whose plugin describes them."""
        if call.when != 'call' or call.excinfo is not None:
            return
        described = str(getattr(item, 'hypothesis_statistics', ''))
        examples = sum(map(int, re.findall(r'(\d+) passing(?: examples)?,', described)))
        times = dict(item.user_properties).get('times', examples or 1)
        for row in self._of(item.nodeid):
            row.times += times

    def pytest_runtest_logreport(self, report: Any) -> None:
        for row in self._of(report.nodeid):
            row.seconds += report.duration
            if report.failed:
                row.failures.append(report.nodeid)
            elif report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ''
                row.skipped.append(reason.removeprefix('Skipped: '))


def run_tests(found: list[Row]) -> None:
    """Run the tests of all rows in this process."""
    recorder = Recorder(found)
    names = list(dict.fromkeys(test for row in found for test in row.tests))
    code = pytest.main(['-q', '-p', 'no:cacheprovider', *names], plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f'pytest ended with {code!r}')
    for row in found:
        if row.tests and not (row.times or row.failures or row.skipped):
            row.failures.append('no such test')


def run_commands(left: list[Row], end: int) -> None:
    """Run commands from one end of a list until none is left."""
    while left:
        with contextlib.suppress(IndexError):  # the other thread took it
            run_command(left.pop(end))


def run_command(row: Row) -> None:
    """The command of a row, in a process of its own, with a folder to write to for ``FOLDER``.

    What it prints last says how often something was tried.
    """
    command = [
        tempfile.mkdtemp() if part == 'FOLDER' else part.replace('PYTHON', sys.executable)
        for part in row.command
    ]
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    row.seconds = time.monotonic() - begin
    lines = (done.stdout + done.stderr).strip().splitlines() or ['']
    if done.returncode:
        row.failures.append(f'exit status {done.returncode}: {lines[-1]}')
    counted = re.search(r'"kills": (\d+)|(\d+) cases', done.stdout)
    row.times = int(counted[1] or counted[2]) if counted else 0
    if not counted and not done.returncode:
        row.failures.append(f'no count in {lines[-1]!r}')


HEAD = (
    '# Reliability\n\n'
    'What was done to break the package, how often, and what happened. `make reliability` does it\n'
    'again and writes this page; most of it is in the tests. Refusals are errors of one line, or\n'
    'of one for every thing that is wrong.\n\n'
)


def page(found: list[Row], seconds: float) -> str:
    """The page as Markdown."""
    lines = [
        HEAD + f'Last run: {datetime.date.today()}, {seconds / 60:.0f} minutes, on '
        f'{platform.system()} {platform.machine()} with {os.cpu_count()} cores, '
        f'Python {platform.python_version()}, PyTorch {torch.__version__.partition("+")[0]}.'
    ]
    for section in dict.fromkeys(row.section for row in found):
        own = [row for row in found if row.section == section]
        lines += [
            '',
            f'## {section}',
            '',
            '| tried | times | what happened |',
            '| --- | ---: | --- |',
        ]
        lines += [
            '| ' + ' | '.join(cell.replace('|', r'\|') for cell in row.cells()) + ' |'
            for row in own
        ]
        words = [word for row in own for word in chosen(row.words)]
        if words:
            lines += ['', 'Words of refusals:', '', '```text', *words, '```']
    return '\n'.join(lines) + '\n'


def chosen(words: list[str]) -> list[str]:
    """Some that differ, the shortest ones, without paths of this run."""
    plain = dict.fromkeys(re.sub(r'/\S*/(?=[\w.-]+)', '', word) for word in words)
    return sorted(plain, key=lambda word: (len(word), word))[:WORDS]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='the page')
    parser.add_argument('--only', default='', help='rows whose text has this (writes no page)')
    args = parser.parse_args(arguments)
    os.chdir(ROOT)
    begin = time.monotonic()
    found = [row for row in rows() if args.only in f'{row.section}: {row.tried}']
    # Two cores: commands one after another beside the tests, and the last ones after them.
    left = [row for row in found if row.command]
    beside = threading.Thread(target=run_commands, args=(left, 0))
    beside.start()
    if any(row.tests for row in found):
        run_tests(found)
    run_commands(left, -1)
    beside.join()
    text = page(found, time.monotonic() - begin)
    print(text)
    for row in sorted(found, key=lambda row: -row.seconds)[:10]:
        print(f'{row.seconds:6.0f} s  {row.tried}', file=sys.stderr)
    failed = [row for row in found if row.failures]
    if failed or args.only:
        return bool(failed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
