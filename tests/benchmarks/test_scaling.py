from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'


@pytest.fixture(scope='module')
def scaling():
    spec = importlib.util.spec_from_file_location('scaling', BENCHMARKS / 'scaling.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exponent_of_a_power_is_that_power(scaling):
    tokens = [100, 300, 1000, 5000]
    assert scaling.exponent(tokens, [3e-4 * n for n in tokens]) == pytest.approx(1.0)
    assert scaling.exponent(tokens, [2e-9 * n**2 for n in tokens]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match='at least two different numbers of tokens'):
        scaling.exponent([5, 5], [1.0, 2.0])


def test_record_has_results_fits_and_machine(scaling, tmp_path, capsys):
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
    assert record['environment']['torch'] and record['environment']['mmseg_arta']
    printed = capsys.readouterr().out
    assert 'aff-mini, backbone: time ~ tokens^' in printed and str(out) in printed


def test_quick_and_unknown_models(scaling):
    args = scaling.parse_args(['--quick', '--device', 'cpu'])
    assert tuple(args.sizes) == scaling.QUICK_SIZES and args.repeats == 1
    assert tuple(scaling.parse_args(['--device', 'cpu']).sizes) == scaling.SIZES
    with pytest.raises(FileNotFoundError, match='no config swin-nano_mask2former'):
        scaling.build('swin-nano')
