"""The run on a GPU, tried out on a CPU: no command of it shall be new there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import profile_model, run, smoke_test
from benchmarks.gpu.stages import Job, Settings, Stage, stages
from mmseg_arta.datasets.toy import write_toy_dataset
from mmseg_arta.ops.library import cpu
from tools import benchmark

ROOT = Path(__file__).parents[2]


def settings(tmp_path, device='cuda', tiny=False):
    return Settings(device, tmp_path, tiny, tmp_path)


def test_all_commands_are_understood(tmp_path):
    parsers = {
        'tools/benchmark.py': benchmark.parse_args,
        'benchmarks/gpu/profile_model.py': profile_model.parse_args,
    }
    known = set()
    for stage in stages(settings(tmp_path)):
        for job in stage.jobs:
            script = job.command[1]
            if script in parsers:
                args = parsers[script](job.command[2:])
                known.add((stage.name, args.dtype, getattr(args, 'compile', None)))
            elif script.endswith('.py'):
                assert (ROOT / script).is_file()
    assert ('models', 'fp32', True) in known and ('profile', 'bf16', None) in known


def test_compared_models_have_a_label_and_an_allocation_each(tmp_path):
    (models,) = [stage for stage in stages(settings(tmp_path)) if stage.name == 'models']
    args = benchmark.parse_args(models.jobs[0].command[2:])
    found = benchmark.read_models(args.configs, allocations=args.allocation, labels=args.label)
    assert len(found) == 8
    assert {model.allocation for model in found} == {'model', 'caps', 'full', '0.3'}


def test_stages_are_ended_in_time_and_leave_room(tmp_path):
    found = stages(settings(tmp_path))
    assert [stage.name for stage in found[:4]] == ['build', 'smoke', 'tests', 'models']
    for stage in found:
        assert all(job.seconds <= stage.seconds for job in stage.jobs)
    names = [job.name for stage in found for job in stage.jobs]
    assert len(names) == len(set(names))


def fake(monkeypatch, *jobs, seconds=60.0):
    monkeypatch.setattr(run, 'stages', lambda _: [Stage('one', 'something', seconds, jobs)])


def python(name, code, seconds=30.0):
    return Job(name, ('PYTHON', '-c', code), seconds)


def test_the_first_failure_is_printed_whole_and_others_go_on(tmp_path, monkeypatch, capsys):
    long = 'for i in range(100): print("line", i)\n'
    fake(
        monkeypatch,
        python('first', long + 'raise SystemExit(3)'),
        python('second', long.replace('line', 'other') + 'raise SystemExit(3)'),
        python('third', 'print("well")'),
    )
    assert run.main(['--out', str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert 'line 0\n' in printed and 'other 0\n' not in printed and 'other 99\n' in printed
    assert 'well' in printed
    assert (tmp_path / 'second.txt').read_text().startswith('other 0\n')
    progress = json.loads((tmp_path / 'progress.json').read_text())
    assert {name: entry['state'] for name, entry in progress.items()} == {
        'first': 'failed',
        'second': 'failed',
        'third': 'done',
    }


def test_a_second_call_goes_on(tmp_path, monkeypatch, capsys):
    count = f'open({str(tmp_path / "count")!r}, "a").write("x")'
    broken = python('broken', f'{count}; raise SystemExit(1)')
    fake(monkeypatch, python('good', count), broken)
    assert run.main(['--out', str(tmp_path)]) == 1
    assert (tmp_path / 'count').read_text() == 'xx'
    assert run.main(['--out', str(tmp_path)]) == 1  # the broken one alone
    assert 'good: done before' in capsys.readouterr().out
    assert (tmp_path / 'count').read_text() == 'xxx'
    fake(monkeypatch, python('good', f'{count} '), python('broken', count))
    assert run.main(['--out', str(tmp_path)]) == 0  # another command of that name runs
    assert (tmp_path / 'count').read_text() == 'xxxxx'
    assert run.main(['--out', str(tmp_path), '--again']) == 0
    assert (tmp_path / 'count').read_text() == 'xxxxxxx'


def test_what_takes_too_long_is_ended_with_what_it_started(tmp_path, monkeypatch, capsys):
    child = 'import subprocess, sys; subprocess.run([sys.executable, "-c", "{}"])'
    sleeper = f'import os, time; open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid())); '
    sleeper = (sleeper + 'time.sleep(600)').replace('"', "'")
    monkeypatch.setattr(run, 'LEAST', 0.1)
    slow = python('slow', child.replace('{}', sleeper), 6.0)
    fake(monkeypatch, slow, python('next', 'pass'))
    assert run.main(['--out', str(tmp_path)]) == 1
    assert 'slow: timed out after 6 s' in capsys.readouterr().out
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int((tmp_path / 'pid').read_text()), 0)
            subprocess.run(['sleep', '0.05'], check=True)
    assert json.loads((tmp_path / 'progress.json').read_text())['next']['state'] == 'done'


def test_an_interrupt_ends_what_runs(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen.wait

    def wait(process, timeout=None):
        if timeout == 50:
            started.append(process)
            raise KeyboardInterrupt
        return real(process, timeout)

    monkeypatch.setattr(subprocess.Popen, 'wait', wait)
    job = python('sleeps', 'import time; time.sleep(60)', 50.0)
    with pytest.raises(KeyboardInterrupt):
        run.run_job(job, 50, tmp_path / 'log.txt')
    assert started[0].returncode == -9


def test_no_command_begins_without_time(tmp_path, monkeypatch, capsys):
    fake(monkeypatch, python('late', 'pass'), seconds=1.0)
    assert run.main(['--out', str(tmp_path)]) == 0
    assert 'late: no time left' in capsys.readouterr().out
    fake(monkeypatch, python('late', 'pass'))
    assert run.main(['--out', str(tmp_path), '--budget', '2']) == 0
    assert 'late: no time left' in capsys.readouterr().out


def test_wrong_arguments(tmp_path, capsys):
    assert run.main(['--out', str(tmp_path), '--stages', 'everything']) == 2
    assert 'expected some of build, smoke, tests' in capsys.readouterr().err
    file = tmp_path / 'file'
    file.touch()
    assert run.main(['--out', str(file / 'folder')]) == 2
    for bad in (['--budget', '0'], ['--camvid', str(tmp_path / 'none')], ['--device', 'tpu']):
        with pytest.raises(SystemExit) as error:
            run.main(bad)
        assert error.value.code == 2


def test_gaps_and_kernels_are_summed():
    found = [('a', 0.0, 10.0), ('b', 8.0, 12.0), ('a', 12.0, 13.0), ('c', 30.0, 31.0)]
    summary = profile_model.summarize(found)
    assert summary['kernels'] == {'a': [2, 11.0], 'b': [1, 4.0], 'c': [1, 1.0]}
    assert (summary['busy'], summary['idle'], summary['gaps']) == (14.0, 17.0, 1)
    assert '4 kernels busy for 0.01 ms of 0.03 ms; 1 gaps' in profile_model.report(summary)
    assert profile_model.summarize([])['span'] == 0


def test_a_wrong_kernel_is_found(monkeypatch):
    if cpu.unusable():
        pytest.skip('the C++ kernels are not built')
    some = smoke_test.cases((64, 64), 1.0, 1, 'cpu', torch.float32)
    case = next(case for case in some if case.op == 'cluster_attention')
    smoke_test.compare(case, 'cpu', torch.float32)
    both = smoke_test.both_passes

    def wrong(case):
        out = both(case)
        if os.environ['MMSEG_ARTA_OPS'] == 'cpu':
            out[1] = out[1] + 1e-2 * out[1].abs().max()
        return out

    monkeypatch.setattr(smoke_test, 'both_passes', wrong)
    with pytest.raises(AssertionError):
        smoke_test.compare(case, 'cpu', torch.float32)


def test_every_stage_but_the_compiler_runs_on_a_cpu(tmp_path):
    if cpu.unusable():
        pytest.skip('the C++ kernels are not built')
    write_toy_dataset(tmp_path / 'data', 'camvid', train=2, val=1)
    names = ['smoke', 'tests', 'models', 'ops', 'profile', 'train', 'camvid']
    script = str(ROOT / 'benchmarks/gpu.sh')
    command = ['bash', script, '--device', 'cpu', '--tiny', '--camvid', 'data']
    command += ['--out', 'out', '--budget', '1000', '--stages', *names]
    found = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    progress = json.loads((tmp_path / 'out/progress.json').read_text())
    assert {entry['state'] for entry in progress.values()} == {'done'}
    assert len(progress) == 7
    models = json.loads((tmp_path / 'out/models-fp32.json').read_text())
    assert models
    assert 'kernels busy' in (tmp_path / 'out/profile-fp32.txt').read_text()
    assert list((tmp_path / 'out/runs').glob('*/iter_2.pth'))
