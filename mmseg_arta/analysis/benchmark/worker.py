"""Runs a model in a process of its own: what one leaves behind is no burden on another.

The two processes speak over pipes: pickled ``(method, arguments)`` one way, ``(status, value)`` the
other.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from subprocess import PIPE, Popen
from types import TracebackType
from typing import IO, Any

from .pictures import PictureStore
from .subjects import Conditions, Model

_DONE, _MEMORY, _REFUSED, _FAILED = 'done', 'out of memory', 'refused', 'failed'

# Characters of an error.
_REASON = 300

# What models and libraries print, on import already, goes to the log, not among the answers.
COMMAND = f"""
import os, sys
answers = os.fdopen(os.dup(1), 'wb')
os.dup2(2, 1)
from {__name__} import serve
serve(answers, int(sys.argv[1]))
"""


class OutOfMemory(RuntimeError):
    """The model needs more memory than there is."""


class ModelFailed(RuntimeError):
    """The model's process ended, or a step raised."""


class Worker:
    """A :class:`~mmseg_arta.analysis.benchmark.runner.Runner` in another process.

    The process starts at once, and imports what it needs; :meth:`build` makes the model.
    """

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
        places = os.pathsep.join(path for path in sys.path if path)
        self._process = Popen(
            [sys.executable, '-c', COMMAND, str(os.getpid())],
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._log,
            env={**os.environ, 'PYTHONPATH': places},
        )

    def build(self, model: Model, conditions: Conditions, pictures: PictureStore) -> dict[str, Any]:
        """Build the model; returns what the runner says about it.

        Raises:
            ValueError: if the model does not fit its settings or its checkpoint.
            OutOfMemory: if it does not even fit the memory.
            ModelFailed: if it cannot be built for another reason.
        """
        return self('build', model, conditions, pictures)

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Call a method of the runner and wait for what it returns.

        Raises:
            ValueError: if it refuses what it was given.
            OutOfMemory, ModelFailed: as they say.
        """
        assert self._process.stdout is not None
        try:
            _send(self._process.stdin, (method, arguments))
            status, value = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise self._died() from None
        if status == _DONE:
            return value
        kind = {_MEMORY: OutOfMemory, _REFUSED: ValueError}.get(status, ModelFailed)
        raise kind(value)

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be sent
                    pipe.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _died(self) -> RuntimeError:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors='replace').split('\n')
        last = next((line for line in reversed(lines) if line.strip()), '')
        if code == -9:
            return OutOfMemory('the system ended the process, as it does when memory runs out')
        return ModelFailed(f'its process ended with exit code {code}: {last[:_REASON]}')


def serve(answers: IO[bytes], asking: int) -> None:
    """Answer requests on the standard input until it is closed, or process ``asking`` is gone."""
    if os.name == 'posix':  # elsewhere a parent's number says nothing of whether it runs
        threading.Thread(target=_end_with, args=(asking,), daemon=True).start()
    warnings.simplefilter('ignore')
    # Here, as the process that asks needs neither.
    import mmseg_arta.models  # noqa: F401  registers the models

    from .runner import Runner

    runner: Any = None
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if method == 'build':
                runner = Runner(*arguments)
                value = runner.describe()
            else:
                value = getattr(runner, method)(*arguments)
            answer = _DONE, value
        except Exception as error:
            answer = _status(error, method), _reason(error)
        _send(answers, answer)


def _end_with(asking: int) -> None:
    """End this process, amid a step too, when the one that asks is gone.

    Whoever is killed closes no worker, and a step on a CPU can take minutes.
    """
    while os.getppid() == asking:
        time.sleep(1)
    os._exit(1)


def _status(error: Exception, method: str) -> str:
    import torch

    text = str(error)
    if (
        isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
        or "can't allocate memory" in text
    ):
        return _MEMORY
    if isinstance(error, (OSError, ValueError)) and method == 'build':
        return _REFUSED
    return _FAILED


def _reason(error: Exception) -> str:
    text = ' '.join(str(error).split())
    if not isinstance(error, (OSError, ValueError)):
        text = f'{type(error).__name__}: {text}'
    return text[:_REASON]


def _send(pipe: IO[bytes] | None, message: Any) -> None:
    assert pipe is not None
    pickle.dump(message, pipe)
    pipe.flush()
