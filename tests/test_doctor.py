"""The doctor's table, its judgements and its exit code."""

from __future__ import annotations

import json
import types

import pytest

from mmseg_arta import _environment, doctor
from mmseg_arta._environment import NOTE, OK, PROBLEM, Row
from mmseg_arta._requirements import Finding, Part

FINE = Row('torch', '2.13.0', '2.4 or newer')
ABSENT = Row('triton', 'not found', 'optional', NOTE, 'only for kernels')
BAD = Row('mmseg', 'not found', '1.2 or newer', PROBLEM, 'pip install it')


def finding(module: str, version: str | None) -> Finding:
    return Finding(Part(module, '0.10', 'pip install newer'), version)


@pytest.mark.parametrize(
    ('rows', 'code', 'last'),
    [
        ([FINE], 0, 'no problems found'),
        ([FINE, ABSENT], 0, 'no problems found'),
        ([FINE, ABSENT, BAD], 1, '1 problem found'),
        ([BAD, BAD], 1, '2 problems found'),
    ],
    ids=['fine', 'only-notes', 'one-problem', 'two-problems'],
)
def test_exit_code_and_summary(monkeypatch, capsys, rows, code, last):
    monkeypatch.setattr(doctor, 'examine', lambda: rows)
    assert doctor.main([]) == code
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_json_holds_the_same(monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'examine', lambda: [FINE, BAD])
    assert doctor.main(['--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert report['problems'] == 1
    assert report['components'][1] == {
        'component': 'mmseg',
        'found': 'not found',
        'needed': '1.2 or newer',
        'status': PROBLEM,
        'advice': 'pip install it',
    }


def test_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        doctor.main(['--jsno'])
    assert caught.value.code == 2
    assert '--jsno' in capsys.readouterr().err


def test_columns_are_aligned_and_long_cells_wrapped():
    long = Row('mmcv', 'its import fails (' + 'word ' * 30 + ')', '', PROBLEM, 'do this ' * 20)
    lines = doctor.table([FINE, BAD, long], width=120).splitlines()
    assert max(map(len, lines)) <= 120
    status = lines[0].index('status')
    assert lines[2][status:].startswith(OK)
    assert lines[3][status:].startswith(PROBLEM)
    everything = ' '.join(' '.join(lines).split())
    assert everything.count('word') == 30
    assert everything.count('this') == 20


def test_real_environment_reports_every_component():
    rows = {row.component: row for row in _environment.examine()}
    expected = (
        'Python system torch mmengine mmcv mmseg mim device threads NumPy SciPy Pillow OpenCV '
        'mmpretrain torchvision triton nvcc mmseg_arta configs registration'
    )
    assert set(expected.split()) <= set(rows)
    assert rows['ops: reference'].status == OK
    assert [row for row in rows.values() if row.status == PROBLEM] == []


def test_a_failing_check_is_a_row_and_the_others_still_run(monkeypatch):
    def libraries():
        raise OSError('half-broken')

    monkeypatch.setattr(_environment, 'libraries', libraries)
    rows = {row.component: row for row in _environment.examine()}
    assert rows['libraries'].status == PROBLEM
    assert 'OSError: half-broken' in rows['libraries'].found
    assert 'mmseg_arta' in rows


@pytest.mark.parametrize(
    ('torch', 'mmengine', 'forced', 'problem'),
    [
        ('2.6.0', '0.10.7', '', True),
        ('2.6.0', '0.10.7', '1', False),
        ('2.6.0', '0.10.8', '', False),
        ('2.5.1', '0.10.7', '', False),
        (None, '0.10.7', '', False),
    ],
)
def test_mmengine_that_cannot_load_its_checkpoints(monkeypatch, torch, mmengine, forced, problem):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', forced)
    finds = finding('torch', torch), finding('mmengine', mmengine)
    rows = _environment.weights_only(*finds)
    assert [row.status for row in rows] == [PROBLEM] * problem


def test_two_distributions_of_one_module_are_a_problem(monkeypatch):
    monkeypatch.setattr(
        _environment, 'providers', lambda name: ['mmcv', 'onedl-mmcv'] if name == 'mmcv' else []
    )
    rows = {row.component: row for row in _environment.frameworks()}
    assert rows['mmcv owners'].status == PROBLEM
    assert rows['mmcv owners'].advice.startswith('pip uninstall -y mmcv onedl-mmcv; pip install')
    assert 'mmseg owners' not in rows


def fake_torch(cuda: str | None, available: bool) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: 2,
            get_device_name=lambda i: 'NVIDIA X',
        ),
        backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False)),
    )


@pytest.mark.parametrize(
    ('cuda', 'available', 'driver', 'found', 'status'),
    [
        ('13.0', True, '580.1', '2 x NVIDIA X (CUDA 13.0, driver 580.1)', OK),
        (None, False, '', 'CPU (no CUDA)', OK),
        (None, False, '580.1', 'CPU (no CUDA, driver 580.1)', NOTE),
        ('13.0', False, '470.1', 'CPU (CUDA 13.0, driver 470.1)', NOTE),
    ],
    ids=['gpu', 'cpu', 'cpu-build-beside-a-gpu', 'driver-too-old'],
)
def test_device(cuda, available, driver, found, status):
    row = _environment.device(fake_torch(cuda, available), driver)
    assert (row.found, row.status) == (found, status)
    assert bool(row.advice) == (status == NOTE)


def test_more_threads_than_cores_is_noted(monkeypatch):
    monkeypatch.setattr('torch.get_num_threads', lambda: 9)
    monkeypatch.setattr(_environment.os, 'sched_getaffinity', lambda pid: {0, 1}, raising=False)
    row = _environment.threads()
    assert (row.found, row.status) == ('9 on 2 cores', NOTE)
    assert 'OMP_NUM_THREADS=2' in row.advice


def test_ops_back_ends(monkeypatch):
    backends = {'reference': '', 'cpu': 'was not built'}
    monkeypatch.setattr('mmseg_arta.ops.available_backends', lambda: backends)
    assert _environment.ops() == [
        Row('ops: reference', 'available', 'required'),
        Row('ops: cpu', 'not available', 'optional', NOTE, 'was not built'),
    ]


def test_configs_that_are_nowhere_are_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(_environment, 'PACKAGE', tmp_path / 'mmseg_arta')
    rows = {row.component: row for row in _environment.package()}
    assert rows['configs'].status == PROBLEM


def test_a_model_that_does_not_register_is_a_problem(monkeypatch):
    def register():
        raise KeyError('registered twice')

    monkeypatch.setattr('mmseg_arta.register', register)
    row = _environment.registration()
    assert row.status == PROBLEM
    assert 'registered twice' in row.found


def test_opencv_without_system_libraries_gets_its_own_advice(monkeypatch):
    error = ImportError('libGL.so.1: cannot open shared object file')
    look_at = _environment.look_at
    monkeypatch.setattr(
        _environment,
        'look_at',
        lambda part: Finding(part, error=error) if part.module == 'cv2' else look_at(part),
    )
    row = _environment.libraries()[-1]
    assert row.status == PROBLEM
    assert 'opencv-python-headless' in row.advice
