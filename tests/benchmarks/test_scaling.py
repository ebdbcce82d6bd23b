from __future__ import annotations

import json
import re
import signal

import pytest
import torch

from benchmarks import scaling


def test_exponent_of_a_power_is_that_power():
    tokens = [100, 300, 1000, 5000]
    assert scaling.exponent(tokens, [3e-4 * n for n in tokens]) == pytest.approx(1.0)
    assert scaling.exponent(tokens, [2e-9 * n**2 for n in tokens]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match='at least two different numbers of tokens'):
        scaling.exponent([5, 5], [1.0, 2.0])


def test_record_has_results_fits_and_machine(tmp_path, capsys):
    out = tmp_path / 'scaling.json'
    arguments = ['--sizes', '64', '96', '--repeats', '1', '--parts', 'backbone', '--device', 'cpu']
    assert scaling.main([*arguments, '--same-process', '--out', str(out)]) == 0
    record = json.loads(out.read_text())
    assert [(row['model'], row['size']) for row in record['results']] == [
        ('aff-mini', 64),
        ('aff-mini', 96),
        ('arta-tiny', 64),
        ('arta-tiny', 96),
    ]
    # 4 px tokens everywhere, then a quarter each time; at least the reserved ones.
    assert [row['tokens'] for row in record['results'][:2]] == [256 + 64 + 16 + 4, 765]
    for row in record['results']:
        assert row['seconds'] > 0 and row['cpu_seconds'] > 0
    assert [fit['model'] for fit in record['fits']] == ['aff-mini', 'arta-tiny']
    assert all(isinstance(fit['seconds_exponent'], float) for fit in record['fits'])
    assert record['machine']['torch'] == torch.__version__ and record['machine']['mmseg_arta']
    assert not {name for name, why in record['machine']['back ends'].items() if '/' in why}
    printed = capsys.readouterr().out
    assert 'aff-mini, backbone: time ~ tokens^' in printed and str(out) in printed


def test_quick_and_unknown_models():
    args = scaling.parse_args(['--quick', '--device', 'cpu'])
    assert tuple(args.sizes) == scaling.QUICK_SIZES and args.repeats == 1
    assert tuple(scaling.parse_args(['--device', 'cpu']).sizes) == scaling.SIZES


def test_every_measurement_of_a_cpu_has_a_process_of_its_own(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(scaling, 'ProcessPoolExecutor', InThisProcess)
    options = ['--sizes', '64', '96', '--models', 'aff-mini', '--parts', 'backbone']
    try:
        scaling.main([*options, '--repeats', '2', '--device', 'cpu', '--threads', '1'])
    finally:
        torch.set_num_threads(before)
    assert InThisProcess.jobs == [('aff-mini', 'backbone', size, 2, 'cpu', 1) for size in (64, 96)]


class InThisProcess:
    """Stands in for a pool of one process."""

    jobs = []

    def __init__(self, workers, mp_context, initializer, initargs):
        assert workers == 1 and mp_context.get_start_method() == 'spawn'
        assert initializer is signal.signal and initargs == (signal.SIGINT, signal.SIG_DFL)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *job):
        self.jobs.append(job)
        self.row = function(*job)
        return self

    def result(self):
        return self.row


@pytest.mark.parametrize(
    'options, message',
    [
        (['--models', 'swin-nano'], "--models: expected some of aff-mini, .*found 'swin-nano'"),
        (['--sizes', '64', '0'], "--sizes: expected an integer from 1 to 65536, found '0'"),
        (['--repeats', '-2'], "--repeats: expected an integer from 1 to .*, found '-2'"),
        (['--threads', 'all'], "--threads: expected an integer from 1 to .*, found 'all'"),
        (['--device', 'tpu'], "--device: invalid choice: 'tpu'"),
        (['--parts', 'neck'], "--parts: invalid choice: 'neck'"),
        (['--sizes', '65536'], '--sizes 65536 65536: an image of that size would take'),
        (
            ['--out', 'no/such/folder/x.json'],
            '--out no/such/folder/x.json: the folder .* not exist',
        ),
        (['--out', '/tmp'], '--out /tmp is a folder'),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else '',
)
def test_wrong_options_are_named(options, message, capsys):
    with pytest.raises(SystemExit):
        scaling.parse_args(['--device', 'cpu', *options])
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count('\n') == 1
