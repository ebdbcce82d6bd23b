"""How long a league still takes, from what has been measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from .plan import Run
from .records import DONE, Store


@dataclass(frozen=True)
class Clock:
    """Seconds of stages.

    Attributes:
        known: by key of the config and stage.
    """

    known: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, runs: Sequence[Run], store: Store) -> Clock:
        """From the records of runs."""
        found: dict[tuple[str, str], list[float]] = {}
        for run in runs:
            for stage, record in store.every(run).items():
                if record.result == DONE:
                    found.setdefault((run.entry.key, stage), []).append(record.seconds)
        return cls({key: mean(values) for key, values in found.items()})

    def expected(self, run: Run, stage: str) -> float | None:
        """Of a stage: as of the same config, or else as of the others on average."""
        own = self.known.get((run.entry.key, stage))
        if own is not None:
            return own
        others = [seconds for (_, name), seconds in self.known.items() if name == stage]
        return mean(others) if others else None

    def left(
        self,
        runs: Sequence[Run],
        store: Store,
        now: Mapping[str, tuple[str, float]],
        jobs: int,
    ) -> float | None:
        """Seconds until all runs have ended; None if a stage is left that nobody has measured.

        Args:
            runs, store: which.
            now: stage and seconds since its start, by name of the runs that run.
            jobs: at once.
        """
        each = []
        for run in runs:
            if store.failure(run) is not None:
                continue
            stages = [stage for stage in store.stages if store.find(run, stage) is None]
            expected = [self.expected(run, stage) for stage in stages]
            if None in expected:
                return None
            seconds = sum(value for value in expected if value is not None)
            stage, spent = now.get(run.name, ('', 0.0))
            if stage in stages:
                known = self.expected(run, stage) or 0.0
                seconds -= min(spent, known)
            each.append(seconds)
        longest = max(each, default=0.0)
        # The last runs do not share their time.
        return max(sum(each) / jobs, longest)


def in_words(seconds: float) -> str:
    """'45 s', '12 min' or '3 h 10 min'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    if minutes < 90:
        return f'{minutes} min'
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min'
