"""The papers' tables: their rows, and a run of a small one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from benchmarks import paper_tables, published
from mmseg_arta.analysis.benchmark import worker
from mmseg_arta.analysis.flops.load import find_config
from tests.forked import ForkedWorker

ROOT = Path(__file__).resolve().parents[2]
NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
STOCK = 'segformer_mit-b0_1xb4-2k_camvid-256x256'

SMALL = f"""
paper: A paper, table 1
parts:
  - title: small images
    protocols: [flops, inference]
    shape: [64, 96]
    columns: [params, gmacs, fps, memory, miou]
    rows:
      - [nobody's, 1.0, ~, 2.0, 3, 40.0]
      - [stock, 3.72, 0.5, 10, 4, 39.0, {{config: {STOCK}}}]
      - [nano, 2.09, 0.2 ± 0.1, 20, 2, 46.0, {{config: {NANO}, allocation: caps}}]
      - [by scores, ~, ~, ~, ~, ~, {{config: {NANO}}}]
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / 'tables').mkdir()
    (tmp_path / 'tables' / 'one.yml').write_text(SMALL, encoding='utf-8')
    monkeypatch.setattr(published, 'TABLES', tmp_path / 'tables')
    monkeypatch.setattr(worker, 'Popen', ForkedWorker)
    return tmp_path


def run(folder: Path, *more: str) -> int:
    short = ['--steps', '2', '--warmup', '0', '--batch-size', '1']
    paths = ['--results', str(folder / 'kept.json'), '--markdown', str(folder / 'one.md')]
    return paper_tables.main(['one', *short, *paths, *more])


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')]
    return {line[0]: line[1:] for line in lines}


@pytest.mark.parametrize('name', published.names())
def test_tables_name_configs_and_columns_that_exist(name: str) -> None:
    _, parts = published.read_table(name)
    for part in parts:
        assert set(part.columns) <= set(published.COLUMNS)
        measured = {published.COLUMNS[column].protocol for column in part.columns} - {''}
        assert measured == set(part.protocols)
        assert len({row.label for row in part.rows}) == len(part.rows)
        assert any(row.config for row in part.rows)
        for row in part.rows:
            assert not row.config or find_config(row.config).is_file()
            assert row.allocation in ('model', 'caps', 'full')


def test_published_and_measured_stand_side_by_side(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small) == 0
    text = (small / 'one.md').read_text(encoding='utf-8')
    assert text.strip() in capsys.readouterr().out
    rows = rows_of(text)
    assert rows["nobody's"][:3] == ['no config', '1.0', '–']
    assert rows['nano'][0] == 'caps' and rows['nano'][1:3] == ['2.09', '2.1']
    head = rows['model']
    assert rows['by scores'][head.index('GFLOPs as papers count: paper') + 1] == 'needs weights'
    ratio = head.index('ratio: paper')
    assert rows['nano'][ratio] == '2.00' and rows['stock'][ratio + 1] == '1.00'
    kept = json.loads((small / 'kept.json').read_text(encoding='utf-8'))
    measured = next(
        row for row in kept['rows'].values() if row['label'] == 'nano' and 'speed_ratio' in row
    )
    assert rows['nano'][ratio + 1] == f'{measured["speed_ratio"]:.2f}'
    assert measured['speed_ratio'] > 0 and kept['machine']['torch'] == torch.__version__


def test_what_is_known_is_not_measured_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paper_tables.run_protocol
    ran: list[str] = []

    def interrupted(protocol, models, *args, **kwargs):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(f'{models[-1].label} {protocol}')
        return whole(protocol, models, *args, **kwargs)

    monkeypatch.setattr(paper_tables, 'run_protocol', interrupted)
    assert run(small) == 130
    assert ran == ['stock flops', 'stock inference'] and not (small / 'one.md').exists()

    def goes_on(protocol, models, *args, **kwargs):
        ran.append(f'{models[-1].label} {protocol}')
        return whole(protocol, models, *args, **kwargs)

    monkeypatch.setattr(paper_tables, 'run_protocol', goes_on)
    assert run(small) == 0
    assert ran[2:] == ['nano flops', 'nano inference', 'by scores flops']


def test_weights_and_accuracy_come_from_training_runs(small: Path) -> None:
    folder = small / 'runs' / NANO
    (folder / 'first' / 'vis_data').mkdir(parents=True)
    config = Config.fromfile(find_config(NANO))
    model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'iter_10.pth')
    # Written where the runs were before they were moved.
    (folder / 'last_checkpoint').write_text('/elsewhere/iter_10.pth')
    log = '{"loss": 1.0}\n{"mIoU": 12.5, "step": 5}\n{"mIoU": 34.25, "step": 10}\n'
    (folder / 'first' / 'vis_data' / 'scalars.json').write_text(log)
    only = ['--only', 'nano', 'scores', '--protocol', 'flops']
    assert run(small, '--work-dirs', str(small / 'runs'), *only) == 0
    rows = rows_of((small / 'one.md').read_text(encoding='utf-8'))
    assert rows['nano'][0] == rows['by scores'][0] == 'trained'
    head = rows['model']
    gmacs = head.index('GFLOPs as papers count: paper') + 1
    assert float(rows['by scores'][gmacs]) > 0
    assert rows['nano'][-1] == '34.25'


@pytest.mark.parametrize(
    ('arguments', 'what'),
    [
        (['arta-99'], 'arta-99'),
        ([], 'which table'),
        (['one', '--work-dirs', 'missing'], 'missing'),
        (['one', '--steps', '0'], '--steps'),
        (['one', '--warmup', '-1'], '--warmup must be at least 0, found -1'),
        (['one', '--batch-size', '0'], '--batch-size must be at least 1, found 0'),
        (['one', '--device', 'foo'], "--device must be 'cpu', 'cuda' or 'cuda:N', found 'foo'"),
        (['one', '--only', 'nano', 'zzzz'], '--only zzzz: no row has that in its name; rows are s'),
        (['one', '--only', "nobody's"], "--only nobody's: no row has that"),
        (['one', '--protocol', 'train'], '--protocol train: the tables that were named are'),
        (['one', '--results', 'no/such/folder.json'], 'no/such'),
    ],
)
def test_bad_options_end_in_one_line(
    small: Path, arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paper_tables.main(arguments) == 2
    error = capsys.readouterr().err
    assert what in error and len(error.splitlines()) == 1


def test_rows_and_protocols_that_do_not_meet(small: Path) -> None:
    one = published.Part('a', ('flops',), (), (published.TableRow('x', {}, NANO),))
    two = published.Part('b', ('train',), (), (published.TableRow('y', {}, NANO),))
    paper_tables.check_rows([one, two], ['train'], ['y'])
    with pytest.raises(ValueError, match='--only x and --protocol train leave no row'):
        paper_tables.check_rows([one, two], ['train'], ['x'])


def test_a_list_that_is_not_read_to_its_end() -> None:
    # The pipe is closed after the imports, during which other libraries may print.
    script = """
import os, sys
from benchmarks import paper_tables
read, write = os.pipe()
os.dup2(write, 1)
os.close(write)
os.close(read)
sys.exit(paper_tables.main(['--list']))
"""
    command = [sys.executable, '-W', 'ignore', '-c', script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert 'Traceback' not in done.stderr and 'BrokenPipe' not in done.stderr


def test_another_programs_file_is_not_overwritten(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / 'kept.json').write_text('{"mine": 1}')
    assert run(small) == 2
    assert 'kept.json' in capsys.readouterr().err
    assert (small / 'kept.json').read_text() == '{"mine": 1}'
