"""How commands end: quietly with 130 after Ctrl-C, with one line and 2 after bad input."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import exported, launches
from mmseg_arta.command_line import (
    Parser,
    check_shape,
    check_windows,
    real,
    run_command,
    whole,
)

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
TOY = ['toy', '--layout', 'camvid']
IN_OUT = ['arta', 'in.pth', 'out.pth']

# A command, its arguments, and what does its work.
COMMANDS = {
    'make_toy_dataset.py': (TOY, 'write_toy_dataset'),
    'get_flops.py': ([NANO], 'build_model'),
    'export.py': ([NANO, '--out', 'x.pt2'], 'exportable'),
    'fidelity.py': (['--output', 'x.md'], 'measure'),
    'sweep.py': (['--configs', NANO, '--list'], '_intent'),
    'dataset_converters/camvid.py': (['.'], 'convert'),
    'model_converters/convert_checkpoint.py': (IN_OUT, 'read_state_dict'),
}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def status_of(tool: ModuleType, arguments: list[str]) -> object:
    try:
        return tool.main(arguments)
    except SystemExit as stopped:
        return stopped.code


@pytest.mark.parametrize('name', COMMANDS)
def test_interrupted_tools(name, load_tool, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    tool = load_tool(name)
    arguments, work = COMMANDS[name]
    monkeypatch.setattr(tool, work, interrupt)
    assert tool.main(arguments) == 130
    assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('tool', 'arguments', 'work'),
    [(exported, [NANO, 'x.pt2'], 'ways'), (launches, [NANO], 'measure')],
    ids=['exported', 'launches'],
)
def test_interrupted_benchmarks(tool, arguments, work, monkeypatch, capsys) -> None:
    monkeypatch.setattr(tool, work, interrupt)
    assert tool.main(arguments) == 130
    assert not capsys.readouterr().err


@pytest.mark.parametrize(('name', 'work'), [('demo.py', 'run'), ('run_exported.py', 'segment')])
def test_interrupted_scripts(name, work, load_tool, tmp_path, monkeypatch) -> None:
    tool = load_tool(name)
    monkeypatch.setattr(tool, work, interrupt)
    arguments = ['x.onnx', 'x.png', '--out', 'y.png'] if 'exported' in name else ['--out', 'demo']
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    assert tool.main() == 130


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('make_toy_dataset.py', [*TOY, '--size', '1000000', '1000000'], '--size: expected an int'),
        ('make_toy_dataset.py', ['text.txt/x', *TOY[1:]], 'ROOT text.txt/x: '),
        ('make_toy_dataset.py', ['text.txt', *TOY[1:]], 'text.txt is a file; expected a folder'),
        ('fidelity.py', ['--output', 'text.txt/x.md'], '--output text.txt'),
        ('fidelity.py', ['--output', '.'], 'empty name'),
        ('fidelity.py', ['--output', 'x.json'], '--output x.json: the numbers'),
        ('sweep.py', ['--configs', 'zzzz'], "--configs 'zzzz' names none of"),
        ('sweep.py', ['--work-dir', 'text.txt'], '--work-dir text.txt: '),
        ('get_flops.py', [NANO, '--shape', '1000000'], '--shape 1000000 1000000: an image'),
        ('export.py', [NANO, '--out', '.'], '--out . is a folder'),
    ],
)
def test_bad_input_is_one_line(
    name, arguments, message, load_tool, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('text.txt').write_text('text')
    assert status_of(load_tool(name), arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and '--overwrite' not in error
    assert [path.name for path in tmp_path.iterdir()] == ['text.txt']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--shape', '9999999', '9999999'], '--shape 9999999 9999999: an image of that size'),
        (['--shape', '0', '64'], '--shape: expected an integer from 1 to'),
        (['--batch-size', '0'], '--batch-size: expected an integer from 1 to'),
        (['--operators', '-1'], '--operators: expected an integer from 0 to'),
        (['--json', 'none/x.json'], '--json none/x.json: the folder'),
    ],
)
def test_launches_that_cannot_be_counted(arguments, message, monkeypatch, capsys) -> None:
    monkeypatch.setattr(launches, 'measure', lambda _: pytest.fail('this is the work'))
    assert status_of(launches, [NANO, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


@pytest.mark.parametrize('value', ['(0,0)', '(64,0)', '5', '(1,2,3)', 'a'])
def test_windows_that_are_none(load_tool, value, capsys) -> None:
    tool = load_tool('get_flops.py')
    options = ['model.test_cfg.crop_size=(64,64)', f'model.test_cfg.stride={value}']
    mode = ['--mode', 'slide', '--shape', '128']
    assert tool.main([NANO, *mode, '--cfg-options', *options]) == 2
    error = capsys.readouterr().err
    assert 'model.test_cfg.stride must be 2 integers from 1' in error and error.count('\n') == 1


def test_windows_count_where_they_are_used() -> None:
    config = dict(model=dict(test_cfg=dict(mode='whole', stride=(0, 0))))
    for mode in ('whole', 'config'):
        check_windows(config, mode)
    config['model']['test_cfg']['mode'] = 'slide'
    with pytest.raises(ValueError, match='stride'):
        check_windows(config, 'config')
    check_windows(dict(model=None), 'slide')


@pytest.mark.parametrize(
    ('command', 'status', 'text'),
    [
        (lambda: None, 0, ''),
        (lambda: 1, 1, ''),
        (lambda: int('a\nb'), 2, "tool: error: invalid literal for int() with base 10: 'a\\nb'\n"),
        (lambda: Path('no/such\nfile').stat(), 2, 'tool: error: [Errno 2] No such file'),
        (lambda: bytearray(1 << 60), 2, 'tool: error: the memory does not suffice'),
        (interrupt, 130, ''),
    ],
)
def test_status_of_a_command(command, status, text, capsys) -> None:
    assert run_command('tool', command) == status
    error = capsys.readouterr().err
    assert error.startswith(text) and error.count('\n') == bool(text)


@pytest.mark.parametrize(
    ('kind', 'good', 'bad'),
    [
        (whole(), ['1', '7'], ['0', '-1', '1.5', 'a', '', '9999999999']),
        (whole(0, 5), ['0', '5'], ['6']),
        (real(0, 1), ['0', '0.5', '1'], ['nan', 'inf', '-0.1', 'a']),
    ],
)
def test_numbers_of_options(kind, good, bad) -> None:
    assert [kind(text) for text in good] == [float(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r'expected a.* from .* found'):
            kind(text)


def test_a_parser_says_what_is_wrong_in_one_line(capsys) -> None:
    parser = Parser('tool', description='one\ntwo')
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(['--nothing'])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'tool: error: unrecognized arguments: --nothing\n'
    assert 'one\ntwo' in parser.format_help()


def test_the_option_of_a_shape_is_named() -> None:
    with pytest.raises(ValueError, match='--size 1000000 1000000: 2 images'):
        check_shape((10**6, 10**6), 2, '--size')


@pytest.mark.parametrize('value', ['foo', 'cuda'])
def test_a_back_end_that_is_none(value) -> None:
    environment = {**os.environ, 'MMSEG_ARTA_OPS': value}
    command = [sys.executable, '-W', 'ignore', '-m', 'mmseg_arta.ops', '--device', 'cpu']
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith('ops: error'))
    assert f"error: MMSEG_ARTA_OPS='{value}': " in line and 'Traceback' not in done.stderr


def test_a_policy_network_is_not_exported(load_tool, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    config = 'cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512'
    options = ['--shape', '64', '64', '--out', 'x.pt2', '--cfg-options']
    tool = load_tool('export.py')
    assert tool.main([config, *options, 'model.backbone.init_cfg=None']) == 2
    error = capsys.readouterr().err
    assert 'GroupPolicySegmentor does not predict class scores of pixels' in error
    assert not list(tmp_path.iterdir())
