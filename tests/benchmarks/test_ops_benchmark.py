from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import measure, models, step
from benchmarks import ops as benchmark
from benchmarks.cases import cases, levels_of
from mmseg_arta.ops.backend import OPS
from mmseg_arta.ops.library import cpu

ROOT = Path(__file__).parents[2]


def test_levels_are_nested_and_have_the_share_of_tokens():
    levels = levels_of((128, 256), 0.5, 2, 'cpu')
    assert [level.lengths for level in levels] == [(32, 32), (64, 64), (128, 128), (256, 256)]
    for coarse, fine in pairwise(levels):
        parents = {tuple(place) for place in coarse.xy.tolist()}
        unit = coarse.unit
        assert all((x // unit * unit, y // unit * unit) in parents for x, y in fine.xy.tolist())


def test_every_op_with_kernels_has_a_case():
    found = {case.op for case in cases((64, 64), 1.0, 1, 'cpu', torch.float32)}
    assert found >= {op for op, backends in OPS.items() if backends}


def test_results_are_complete(tmp_path, monkeypatch, capsys):
    if cpu.unusable():
        pytest.skip('the C++ kernels are not built')
    monkeypatch.setattr(measure, 'copy_bandwidth', lambda device: 1e9)
    monkeypatch.setattr(measure, 'matrix_rate', lambda device, dtype: 1e9)
    monkeypatch.setattr(benchmark, 'QUICK_SIZES', ((64, 64),))
    benchmark.main(['--device', 'cpu', '--quick', '--rounds', '1', '--out', str(tmp_path)])
    assert 'cluster_attention' in capsys.readouterr().out
    (path,) = tmp_path.glob('ops-quick_torch-*_cpu_float32.json')
    saved = json.loads(path.read_text())
    assert saved['machine']['torch'] == torch.__version__
    for result in saved['results']:
        bound = max(result['bytes'], result['macs']) / 1e9
        assert result['bound seconds'] == pytest.approx(bound)
        assert result['share of bound'] == pytest.approx(bound / result['forward seconds'])
    backends = {r['back end'] for r in saved['results'] if r['op'] == 'cluster_attention'}
    assert backends == {'cpu', 'reference'}


def test_the_reference_is_left_out_where_it_needs_too_much_memory(monkeypatch):
    case = next(c for c in cases((64, 64), 1.0, 1, 'cpu', torch.float32) if c.reference_bytes)
    reasons = {'reference': '', 'cpu': '', 'cuda': 'not here', 'triton': 'not here'}
    monkeypatch.setattr(benchmark, 'available_backends', lambda: reasons)
    assert benchmark.backends_of(case, 'cpu') == ['cpu', 'reference']
    monkeypatch.setattr(benchmark, 'MEMORY', 0)
    assert benchmark.backends_of(case, 'cpu') == ['cpu']


def test_freed_memory_is_kept():
    # In a process of its own: the setting is for good.
    script = """
import resource
import torch
from benchmarks import measure
measure.keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(30)))
"""
    found = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(found.stdout) < 100


def test_nothing_wider_than_avx2():
    if torch.backends.cpu.get_cpu_capability() not in ('AVX2', 'AVX512'):
        pytest.skip('this processor does not have AVX2')
    script = """
import torch
from benchmarks import measure
from mmseg_arta.ops.library import cpu
measure.hold_to_avx2()
x = torch.randn(64, 64)
assert torch.allclose(x @ x, (x.double() @ x.double()).float(), atol=1e-4)
ours = 'avx2' if cpu.unusable() else cpu.describe().partition(',')[0]
print(measure.machine('cpu')['instructions'], ours)
"""
    found = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.splitlines()[-1] == 'AVX2 avx2'
    late = script.replace('measure.hold', 'torch.backends.cpu.get_cpu_capability(); measure.hold')
    found = subprocess.run([sys.executable, '-c', late], capture_output=True, text=True, cwd=ROOT)
    if torch.backends.cpu.get_cpu_capability() == 'AVX512':
        assert '--avx2: ' in found.stderr and 'AVX512' in found.stderr


def test_a_slow_function_is_called_once(monkeypatch):
    monkeypatch.setattr(measure, 'PATIENCE', -1.0)
    calls = []
    assert measure.interleaved({'slow': lambda: calls.append(1)}, 'cpu', 5)['slow'] >= 0
    assert len(calls) == 1


def test_shares_of_a_model_add_up(tmp_path):
    models.main(['--device', 'cpu', '--shares', '--quick', '--out', str(tmp_path)])
    (path,) = tmp_path.glob('shares-quick_torch-*_cpu_float32.json')
    for result in json.loads(path.read_text())['shares']:
        assert result['custom ops'] >= 0  # of the time of another pass: maybe above 1
        assert result['custom ops'] == pytest.approx(sum(result['each op'].values()))
        assert result['macs of linear layers'] > 0


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
COUNT = 'expected an integer from 1 to'
# What comes after the checks.
WORK = {benchmark: 'run', models: 'compare', step: 'measure'}


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        (benchmark, ['--device', 'foo'], "--device: invalid choice: 'foo'"),
        pytest.param(benchmark, ['--device', 'cuda'], 'finds no CUDA device', marks=NO_CUDA),
        (benchmark, ['--rounds', '0'], f'--rounds: {COUNT}'),
        (benchmark, ['--batch', '0'], f'--batch: {COUNT}'),
        (benchmark, ['--batch', 'a'], f'--batch: {COUNT}'),
        (benchmark, ['--batch', '100000000'], '--batch 100000000, size 512 512: 100000000 images'),
        (benchmark, ['--out', 'text.txt'], '--out text.txt: '),
        (benchmark, ['--out', 'text.txt/below'], '--out text.txt/below: '),
        (models, ['--device', 'foo'], "--device: invalid choice: 'foo'"),
        pytest.param(models, ['--device', 'cuda'], 'finds no CUDA device', marks=NO_CUDA),
        (models, ['--batch', '0'], f'--batch: {COUNT}'),
        (models, ['--size', '-5', '0'], f'--size: {COUNT}'),
        (models, ['--size', '65536', '65536'], '--batch 2 --size 65536 65536: 2 images'),
        (models, ['--shares', '--device', 'cuda'], '--shares is of the CPU, found --device cuda'),
        (models, ['--out', 'text.txt'], '--out text.txt: '),
        (step, ['--size', '0'], '--size: expected an integer from 256 to'),
        (step, ['--size', '300'], '--size must be a multiple of 256, found 300'),
        (step, ['--size', '65536'], '--batch 1 --size 65536 65536: an image'),
        (step, ['--repeat', '0'], f'--repeat: {COUNT}'),
        (step, ['--batch', '0'], f'--batch: {COUNT}'),
        (step, ['--classes', '0'], f'--classes: {COUNT}'),
        (step, ['--reduction', '0'], '--reduction: expected a number from 1 to 256'),
        (step, ['--halted', 'nan'], '--halted: expected a number from 0 to 1'),
        (step, ['--least', 'nan'], '--least: expected a number'),
        (step, ['--after', '0'], f'--after: {COUNT}'),
        (step, ['--after', '24'], '--after must be below the 24 blocks of --arch large, found 24'),
        (step, ['--device', 'foo'], "--device must be 'cpu', 'cuda' or 'cuda:N', found 'foo'"),
        (step, ['--out', 'none/x.json'], '--out none/x.json: the folder'),
        (step, ['--out', '.'], '--out . is a folder'),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    tool: ModuleType, arguments: list[str], message: str, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.txt').write_text('text')
    monkeypatch.setattr(tool, WORK[tool], lambda *_, **__: pytest.fail('this is the work'))
    try:
        status = tool.main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['text.txt']


@pytest.mark.parametrize('tool', [benchmark, models, step], ids=['ops', 'models', 'step'])
def test_interrupted(tool: ModuleType, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, WORK[tool], interrupt)
    assert tool.main([]) == 130
    assert not capsys.readouterr().err
