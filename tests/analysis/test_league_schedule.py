"""The league's schedule: time left, stages in processes, failures, interruptions and locks."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_arta.analysis.league import run, stages
from mmseg_arta.analysis.league.plan import Entry, runs_in_order
from mmseg_arta.analysis.league.processes import Process, locked, on_core
from mmseg_arta.analysis.league.records import DONE, FAILED, STAGES, Record, Store
from mmseg_arta.analysis.league.report import outcome, state
from mmseg_arta.analysis.league.run import League, Slot, make_slots, play, retry
from mmseg_arta.analysis.league.stages import Place
from mmseg_arta.analysis.league.time_left import Clock, in_words

FIGURES = stages.figures
POSIX = pytest.mark.skipif(not hasattr(os, 'wait4'), reason='needs wait4')


def entry(key):
    loader = dict(dataset=dict(type='CamVidDataset', pipeline=[]))
    config = Config(
        dict(
            model=dict(data_preprocessor=dict(size=(64, 64))),
            train_cfg=dict(max_iters=4),
            train_dataloader=loader,
            test_dataloader=loader,
        )
    )
    return Entry(key, key, {}, config, 'digest')


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / 'league')


# --- Time left


def test_time_left_is_estimated_from_what_was_measured(store):
    runs = runs_in_order([entry('a'), entry('b')], [0, 1])
    assert Clock.of(runs, store).left(runs, store, {}, 1) is None
    for stage in STAGES:
        store.write(runs[0], Record(stage, DONE, '', 100.0 if stage == 'train' else 10.0))
    # 130 s a run, of b as of a; three are left.
    assert Clock.of(runs, store).left(runs, store, {}, 1) == 390
    assert Clock.of(runs, store).left(runs, store, {}, 2) == 195
    now = {runs[1].name: ('train', 60.0)}
    assert Clock.of(runs, store).left(runs, store, now, 1) == 330
    # Longer than expected is no credit for others.
    now = {runs[1].name: ('train', 500.0)}
    assert Clock.of(runs, store).left(runs, store, now, 1) == 290
    store.write(runs[1], Record('train', DONE, '', 300.0))
    assert Clock.of(runs, store).left(runs, store, {}, 1) == 30 + 130 + 330
    # Two at once are not done before the longest.
    assert Clock.of(runs, store).left(runs, store, {}, 8) == 330
    store.write(runs[3], Record('train', FAILED, ''))
    assert Clock.of(runs, store).left(runs, store, {}, 1) == 30 + 130


def test_words_for_times():
    words = [in_words(seconds) for seconds in (5.2, 600, 5400, 90061)]
    assert words == ['5 s', '10 min', '1 h 30 min', '25 h 01 min']


# --- Schedule


@pytest.fixture
def fake(monkeypatch):
    """Stages that write what they did; by name of the run and stage what a command shall be."""
    done: list[tuple[str, str]] = []
    scripts: dict[tuple[str, str], str] = {}

    def command(one, stage, store, place):
        done.append((one.name, stage))
        return [sys.executable, '-c', scripts.get((one.name, stage), 'pass')]

    monkeypatch.setattr(stages, 'command', command)
    monkeypatch.setattr(stages, 'figures', lambda one, stage, store, peak: dict(mIoU=1.0))
    return done, scripts


@POSIX
def test_runs_go_through_their_stages_once(fake, store):
    done, _ = fake
    runs = runs_in_order([entry('a'), entry('b')], [0])
    told = []
    league = League(runs, store, Place(), 'here')
    play(league, lambda one, left: told.append((one.name, left)))
    assert done == [(one.name, stage) for one in runs for stage in STAGES]
    assert [name for name, _ in told] == ['a, seed 0', 'b, seed 0'] and told[-1][1] == 0
    assert told[0][1] > 0
    assert store.find(runs[0], 'train').machine == 'here'
    play(League(runs, store, Place()))
    assert len(done) == 8


@POSIX
def test_runs_end_early_and_go_on_later(fake, store):
    done, _ = fake
    runs = runs_in_order([entry('a')], [0])
    early = Store(store.folder, until='whole')
    play(League(runs, early, Place()))
    assert done == [('a, seed 0', 'train'), ('a, seed 0', 'whole')]
    assert early.complete(runs[0]) and not store.complete(runs[0])
    assert outcome(runs[0], early).startswith('a, seed 0: mIoU 1.00; took')
    assert 'interrupted' in outcome(runs[0], store) and 'measure left' in state(runs[0], store)
    assert Clock.of(runs, early).left(runs, early, {}, 1) == 0
    play(League(runs, store, Place()))
    assert done[2:] == [('a, seed 0', 'windows'), ('a, seed 0', 'measure')]
    assert outcome(runs[0], store).startswith('a, seed 0: mIoU 1.00, in windows 1.00; took')


@POSIX
def test_a_failed_run_stays_and_the_others_go_on(fake, store):
    done, scripts = fake
    runs = runs_in_order([entry('a'), entry('b')], [0])
    scripts['a, seed 0', 'whole'] = "raise ValueError('no luck')"
    play(League(runs, store, Place()))
    assert store.failure(runs[0]).reason == 'ValueError: no luck'
    assert store.next_stage(runs[1]) is None and store.failure(runs[1]) is None
    assert ('a, seed 0', 'windows') not in done
    count = len(done)
    play(League(runs, store, Place()))
    assert len(done) == count
    del scripts['a, seed 0', 'whole']
    retry(runs, store)
    play(League(runs, store, Place()))
    assert done[count:] == [('a, seed 0', stage) for stage in STAGES[1:]]


@POSIX
def test_a_command_ended_from_outside_is_no_failure(fake, store):
    _, scripts = fake
    (one,) = runs_in_order([entry('a')], [0])
    scripts[one.name, 'train'] = 'import os; os.kill(os.getpid(), 15)'
    league = League([one], store, Place())
    play(league)
    assert league.interrupted == [one] and store.every(one) == {}
    scripts[one.name, 'train'] = 'import os; os.kill(os.getpid(), 9)'
    play(League([one], store, Place()))
    assert store.failure(one).reason.startswith('killed by signal 9')


@POSIX
def test_memory_of_a_training_is_that_of_all_its_attempts(fake, store):
    _, scripts = fake
    (one,) = runs_in_order([entry('a')], [0])
    work_dir = store.of(one) / 'train'
    work_dir.mkdir(parents=True)
    scripts[one.name, 'train'] = 'import os; x = bytes(300 * 2**20); os.kill(os.getpid(), 15)'
    play(League([one], store, Place()))
    assert stages.keep_peak(work_dir, 2**20) > 300 * 2**20
    assert stages.keep_peak(work_dir, None) > 300 * 2**20
    assert stages.keep_peak(work_dir, 2**40) == 2**40
    (work_dir / 'iter_4.pth').write_bytes(b'')
    (work_dir / 'last_checkpoint').write_text('iter_4.pth')
    assert FIGURES(one, 'train', store, 2**20)['memory_bytes'] == 2**40
    # A training that starts anew does not know them.
    assert stages.keep_peak(store.of(one) / 'none', 2**20) == 2**20
    assert stages.keep_peak(store.of(one) / 'none', None) is None


@POSIX
def test_two_at_once(fake, store, tmp_path):
    _, scripts = fake
    runs = runs_in_order([entry('a'), entry('b')], [0])
    # Each waits for the other one.
    for one, other in (runs, runs[::-1]):
        scripts[one.name, 'train'] = (
            'import pathlib, time\n'
            f'pathlib.Path({str(tmp_path / one.entry.key)!r}).touch()\n'
            f'while not pathlib.Path({str(tmp_path / other.entry.key)!r}).exists():\n'
            '    time.sleep(0.01)'
        )
    play(League(runs, store, Place(), '', [Slot(), Slot()]))
    assert all(len(store.every(one)) == len(STAGES) for one in runs)


@POSIX
def test_what_is_resumed_counts_as_a_whole(fake, store):
    (one,) = runs_in_order([entry('a')], [0])
    work_dir = store.of(one) / 'train'
    work_dir.mkdir(parents=True)
    (work_dir / 'iter_3.pth').write_bytes(b'')  # of four iterations
    (work_dir / 'last_checkpoint').write_text('iter_3.pth')
    fake[1][one.name, 'train'] = 'import time; time.sleep(0.1)'
    play(League([one], store, Place()))
    assert store.find(one, 'train').seconds > 0.4


@POSIX
def test_a_process_that_found_all_iterations_done_measures_no_training(fake, store, monkeypatch):
    (one,) = runs_in_order([entry('a')], [0])
    work_dir = store.of(one) / 'train'
    work_dir.mkdir(parents=True)
    (work_dir / 'iter_4.pth').write_bytes(b'')  # of four iterations
    (work_dir / 'last_checkpoint').write_text('iter_4.pth')

    def figures(one, stage, store, peak):
        return dict(iteration_seconds=50.0, memory_bytes=peak)

    monkeypatch.setattr(stages, 'figures', figures)
    play(League([one], store, Place()))
    trained = store.find(one, 'train')
    assert trained.seconds == 200 and trained.figures['memory_bytes'] is None
    assert store.find(one, 'whole').figures['memory_bytes'] is not None


@POSIX
def test_an_interrupted_league_ends_what_it_started(fake, store, monkeypatch, tmp_path):
    (one,) = runs_in_order([entry('a')], [0])
    (store.of(one) / 'train').mkdir(parents=True)
    pid = tmp_path / 'pid'
    inner = f'import os, time; open({str(pid)!r}, "w").write(str(os.getpid())); time.sleep(60)'
    fake[1][one.name, 'train'] = (
        f'import subprocess, sys; subprocess.run([sys.executable, "-c", {inner!r}])'
    )

    def interrupt(seconds):
        real(seconds)
        if pid.exists() and pid.read_text():
            monkeypatch.undo()
            raise KeyboardInterrupt

    real = time.sleep
    monkeypatch.setattr(run.time, 'sleep', interrupt)
    with pytest.raises(KeyboardInterrupt):
        play(League([one], store, Place()))
    assert store.every(one) == {}
    assert stages.keep_peak(store.of(one) / 'train', None) > 2**20
    assert not _runs(int(pid.read_text()))


def _runs(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'


@POSIX
def test_memory_is_that_of_the_largest_process(tmp_path):
    inner = 'x = bytes(300 * 2**20)'
    outer = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {inner!r}])'
    process = Process([sys.executable, '-c', outer], tmp_path / 'log', os.environ)
    while process.poll() is None:
        time.sleep(0.01)
    assert process.poll() == 0 and process.peak > 300 * 2**20


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='needs affinity')
def test_a_core_of_its_own(tmp_path):
    core = sorted(os.sched_getaffinity(0))[-1]
    before = os.sched_getaffinity(0)
    code = 'import os; print(sorted(os.sched_getaffinity(0)))'
    process = Process([sys.executable, '-c', code], tmp_path / 'log', os.environ, core)
    while process.poll() is None:
        time.sleep(0.01)
    assert (tmp_path / 'log').read_text().strip() == str([core])
    assert os.sched_getaffinity(0) == before
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
        assert [slot.core for slot in make_slots(1, 'cpu')] == [core]
        with pytest.raises(ValueError, match=r'--jobs 2: .* may use 1'):
            make_slots(2, 'cpu')
        assert [slot.core for slot in make_slots(2, 'cuda')] == [None, None]
    with pytest.raises(ValueError, match='--jobs must be at least 1'):
        make_slots(0, 'cpu')


@POSIX
def test_a_folder_has_one_league_and_what_it_left_running(tmp_path):
    with locked(tmp_path) as kept_open:
        refused = pytest.raises(BlockingIOError, match=f'the league of process {os.getpid()}')
        with refused, locked(tmp_path):
            pass
        code = [sys.executable, '-c', 'import time; time.sleep(60)']
        process = Process(code, tmp_path / 'log', os.environ, None, kept_open)
    # As after a league that was killed: its command still runs.
    refused = pytest.raises(BlockingIOError, match='a training that it has left behind')
    with refused, locked(tmp_path):
        pass
    process.end()
    assert process.poll() == -signal.SIGTERM
    with locked(tmp_path):
        pass
