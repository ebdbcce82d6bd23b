"""Commands in processes of their own: one core each, ended with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# Seconds between asking a process to end and ending it.
_PATIENCE = 3.0


def cores() -> list[int]:
    """Cores that this process may use; none where the system does not say."""
    affinity = getattr(os, 'sched_getaffinity', None)
    return sorted(affinity(0)) if affinity is not None else []


@contextmanager
def on_core(core: int | None) -> Generator[None]:
    """What is started within this context stays on a core; None for anywhere."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A command that runs.

    Args:
        command: with its arguments.
        log: its output is added to that file.
        environment: all of it.
        core: where it runs; None for anywhere.
        kept_open: descriptors that it inherits.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        core: int | None = None,
        kept_open: Sequence[int] = (),
    ) -> None:
        self.started = time.monotonic()
        #: Bytes at most resident in the command or one of those it has started.
        self.peak: int | None = None
        self._code: int | None = None
        with log.open('ab') as out, on_core(core):
            self.begin = out.tell()
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                pass_fds=tuple(kept_open),
            )

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is not None or not hasattr(os, 'wait4'):
            return self._code if self._code is not None else self._process.poll()
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.peak = usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
        return self._code

    def end(self) -> None:
        """End it and all that it has started."""
        for number in (signal.SIGTERM, getattr(signal, 'SIGKILL', signal.SIGTERM)):
            with suppress(OSError):
                os.killpg(self._process.pid, number)
            if number != signal.SIGTERM:
                break
            limit = time.monotonic() + _PATIENCE
            while self._alive() and time.monotonic() < limit:
                time.sleep(0.05)
        while self.poll() is None:
            time.sleep(0.05)

    def _alive(self) -> bool:
        self.poll()
        try:
            os.killpg(self._process.pid, 0)
        except OSError:
            return False
        return True


@contextmanager
def locked(folder: Path) -> Generator[Sequence[int]]:
    """A folder that no other league uses; yields what its commands have to inherit.

    The commands keep the lock as well: what a killed league has left running is noticed.

    Raises:
        BlockingIOError: if another one does.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield ()
        return
    folder.mkdir(parents=True, exist_ok=True)
    file: IO[Any]
    with (folder / 'lock').open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            who = file.read().strip() or 'unknown'
            raise BlockingIOError(
                f'--work-dir {folder} is in use: the league of process {who}, or a training that '
                'it has left behind, still runs'
            ) from None
        file.truncate(0)
        file.write(f'{os.getpid()}\n')
        file.flush()
        yield (file.fileno(),)
