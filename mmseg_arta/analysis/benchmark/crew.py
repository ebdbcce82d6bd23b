"""The processes of all models of a run, and the turns that they take."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .pictures import PictureStore
from .subjects import Conditions, Model
from .timing import split_turns
from .worker import ModelFailed, OutOfMemory, Worker

#: Told when the models are built, and of every step: how many are done, of how many.
Progress = Callable[[int, int], None]


class Crew:
    """The models' processes, less those that fell out."""

    def __init__(self, models: Sequence[Model], conditions: Conditions) -> None:
        self.models, self.conditions = models, conditions
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, str] = {}
        self.about: dict[str, dict[str, Any]] = {}

    def working(self) -> list[str]:
        """Labels of the models that have not failed, in order."""
        return [label for label in self.workers if label not in self.failures]

    def each(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Call a method of every model that still works."""
        found = {}
        for label in self.working():
            value = self.ask(label, method, *arguments)
            if label not in self.failures:
                found[label] = value
        return found

    def ask(self, label: str, method: str, *arguments: Any) -> Any:
        """Call a method of one model; None if it fails, which is noted."""
        try:
            return self.workers[label](method, *arguments)
        except OutOfMemory:
            self.failures[label] = 'out of memory'
        except (ModelFailed, ValueError) as error:
            self.failures[label] = f'failed: {error}'
        # What it holds is needed by the others.
        self.workers[label].close()
        return None

    def model(self, label: str) -> Model:
        """The model of a label."""
        return next(model for model in self.models if model.label == label)

    def facts(self, label: str) -> dict[str, Any]:
        """Figures of a model that no measurement is needed for."""
        about = self.about[label]
        return dict(params=about['params'], memory_base_bytes=about['base_bytes'])


@contextmanager
def gather(
    models: Sequence[Model], conditions: Conditions, pictures: PictureStore
) -> Generator[Crew]:
    """Start a process for every model; they end with the context.

    Raises:
        ValueError: if a model refuses its settings.
    """
    crew = Crew(models, conditions)
    with ExitStack() as stack:
        # All processes import at the same time; models are built one by one.
        workers = [stack.enter_context(Worker()) for _ in models]
        for model, worker in zip(models, workers, strict=True):
            try:
                crew.about[model.label] = worker.build(model, conditions, pictures)
            except OutOfMemory:
                crew.failures[model.label] = 'out of memory'
                worker.close()
            except ModelFailed as error:
                crew.failures[model.label] = f'failed: {error}'
                worker.close()
            except ValueError as error:
                raise ValueError(f'{model.label}: {error}') from error
            else:
                crew.workers[model.label] = worker
        yield crew


def warm_up(crew: Crew, method: str, steps: int) -> None:
    """Steps that nobody measures, one model after the other."""
    for label in crew.working():
        crew.ask(label, method, 0, steps)
        if label not in crew.failures:
            crew.ask(label, 'rest')


def take_turns(
    crew: Crew,
    method: str,
    steps: int,
    progress: Progress | None = None,
) -> dict[str, list[Any]]:
    """Steps of all models, turn by turn, every second turn in the opposite order."""
    turns: dict[str, list[Any]] = {label: [] for label in crew.working()}
    for number, numbers in enumerate(split_turns(steps)):
        for label in crew.working()[:: -1 if number % 2 else 1]:
            # A GPU's memory was handed to the others: the first step takes it back.
            extra = int(crew.conditions.device.startswith('cuda'))
            first = max(numbers.start - extra, 0)
            found = crew.ask(label, method, first, len(numbers) + extra)
            if found is not None:
                turns[label].append(found[extra:])
                crew.ask(label, 'rest')
        if progress is not None:
            progress(numbers.stop, steps)
    return turns
