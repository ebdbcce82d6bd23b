"""Settings on the command line of every tool that takes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mmseg_arta.analysis.benchmark.subjects import read_models
from mmseg_arta.command_line import Settings, check_shape
from tests.pages import ROOT

# What has to stand before the settings.
TOOLS = {
    'tools/analyze_tokens.py': ['CONFIG'],
    'tools/benchmark.py': ['CONFIG'],
    'tools/budget_curve.py': ['CONFIG', '--checkpoint', 'FILE'],
    'tools/calibrate_allocation.py': ['CONFIG'],
    'tools/export.py': ['CONFIG', '--out', 'FILE'],
    'tools/get_flops.py': ['CONFIG'],
    'tools/model_converters/convert_checkpoint.py': ['arta', 'SRC', 'DST', '--config', 'CONFIG'],
    'tools/visualize.py': ['CONFIG', 'SOURCE'],
    'benchmarks/exported.py': ['CONFIG', 'FILE'],
    'benchmarks/league.py': ['CONFIG'],
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_tools_with_settings_are_known() -> None:
    files = [*ROOT.glob('tools/**/*.py'), *ROOT.glob('benchmarks/**/*.py')]
    takes = ('action=Settings', 'DictAction')
    found = {
        str(path.relative_to(ROOT))
        for path in files
        if any(word in path.read_text() for word in takes)
    }
    assert found == set(TOOLS)


@pytest.mark.parametrize('name', TOOLS)
def test_words_that_are_no_settings_are_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = load(ROOT / name)
    options = ['--cfg-options', '--options'] if 'convert' in name else ['--cfg-options']
    for option in options:
        args = tool.parse_args([*TOOLS[name], option, 'a.b=1,2', 'c=None'])
        assert vars(args)[option[2:].replace('-', '_')] == {'a.b': [1, 2], 'c': None}
        for word, message in (
            ('foo', "expected KEY=VALUE, found 'foo'"),
            ('=5', "expected KEY=VALUE, found '=5'"),
            ('a=(1,2', "'a=(1,2': Imbalanced brackets"),
        ):
            with pytest.raises(SystemExit) as stopped:
                tool.parse_args([*TOOLS[name], option, word])
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert stopped.value.code == 2 and f'error: {option}: {message}' in last


def test_settings_of_one_config() -> None:
    with pytest.raises(ValueError, match='Imbalanced brackets'):
        read_models(['segformer_mit-b0_1xb4-2k_camvid-256x256', 'a=(1,2'])
    assert Settings.parse(['a=b=c', 'd=(1,x)']) == {'a': 'b=c', 'd': (1, 'x')}


def test_shapes_that_no_machine_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    check_shape((1024, 2048), 8)
    with pytest.raises(ValueError, match='--shape 1024 2048: 1000000000 images of that size'):
        check_shape((1024, 2048), 10**9)
    with pytest.raises(SystemExit):
        load(ROOT / 'tools/export.py').parse_args(
            ['CONFIG', '--out', 'FILE', '--shape', '1000000', '1000000']
        )
    assert 'would take 11176 GiB' in capsys.readouterr().err
