"""The ways to measure, one function each."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from statistics import mean, pstdev
from typing import Any

from .crew import Crew, Progress, gather, take_turns, warm_up
from .pictures import PictureStore
from .runner import Runner
from .subjects import Conditions, Model
from .timing import TOLERANCE, Timing, disagreement, speed_ratio

PROTOCOLS = ('inference', 'train', 'flops')


@dataclass(frozen=True)
class Row:
    """What a protocol found of a model.

    Attributes:
        model: which.
        batch_size: images per step.
        figures: by name, in the units that the names say; ratios are to the first model.
        failure: why there are none.
    """

    model: Model
    batch_size: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ''


@dataclass(frozen=True)
class Result:
    """What a protocol found.

    Attributes:
        protocol: its name.
        conditions: of all models; the batch size is that of the rows.
        steps, warmup: measured, and before them; 0 where there are none.
        source: the images, in words.
        rows: of every model and batch size.
        remarks: what a reader must know.
    """

    protocol: str
    conditions: Conditions
    steps: int
    warmup: int
    source: str
    rows: Sequence[Row]
    remarks: Sequence[str] = ()


def inference(
    models: Sequence[Model],
    conditions: Conditions,
    pictures: PictureStore,
    steps: int = 128,
    warmup: int = 10,
    progress: Progress | None = None,
) -> Result:
    """Speed and memory of prediction (ARTA 4.2.4).

    The models take turns. Images per second are an average over all steps; memory is the most
    since the warm-up, weights included.
    """
    timings: dict[str, Timing] = {}
    peaks: dict[str, int] = {}
    with gather(models, conditions, pictures) as crew:
        if progress is not None:
            progress(0, steps)
        warm_up(crew, 'infer', warmup)
        crew.each('reset_peak')
        turns = take_turns(crew, 'infer', steps, progress)
        for label, peak in crew.each('peak').items():
            peaks[label] = peak
            timings[label] = Timing(conditions.batch_size, _seconds(turns[label]))
        eager = crew.each('without_graph')
    figures = {
        label: dict(
            images_per_second=timing.images_per_second,
            latency_ms=1000 * timing.latency,
            latency_95_ms=1000 * timing.latency_95,
            memory_bytes=peaks[label],
            by_chance=_arbitrary(crew.model(label), crew.about[label]),
            **crew.facts(label),
        )
        for label, timing in timings.items()
    }
    _compare_speed(figures, timings, models)
    _compare(figures, models, 'memory_bytes', 'memory_ratio')
    rows = _rows(crew, figures)
    remarks = [*_trust(timings, models), *_base(crew), *_random_weights(crew)]
    remarks += [
        f'{label}: no CUDA graph, {why}.' for label, found in eager.items() for why in found
    ]
    return Result('inference', conditions, steps, warmup, pictures.source, rows, remarks)


def train(
    models: Sequence[Model],
    conditions: Conditions,
    pictures: PictureStore,
    steps: int = 20,
    warmup: int = 20,
    progress: Progress | None = None,
) -> Result:
    """Memory and time of training steps (DUPS, table 6): mean and maximum of the steps' peaks."""
    timings: dict[str, Timing] = {}
    found: dict[str, dict[str, Any]] = {}
    with gather(models, conditions, pictures) as crew:
        if progress is not None:
            progress(0, steps)
        warm_up(crew, 'train', warmup)
        turns = take_turns(crew, 'train', steps, progress)
        for label in crew.working():
            timing = Timing(conditions.batch_size, _seconds(turns[label]))
            peaks = [step.memory for turn in turns[label] for step in turn]
            timings[label] = timing
            found[label] = dict(
                memory_max_bytes=max(peaks),
                memory_mean_bytes=mean(peaks),
                images_per_second=timing.images_per_second,
                step_ms=1000 * timing.latency,
                by_chance=_arbitrary(crew.model(label), crew.about[label]),
                **crew.facts(label),
            )
    _compare_speed(found, timings, models)
    _compare(found, models, 'memory_max_bytes', 'memory_ratio')
    rows = _rows(crew, found)
    remarks = [*_trust(timings, models), *_base(crew), *_random_weights(crew)]
    return Result('train', conditions, steps, warmup, pictures.source, rows, remarks)


def flops(
    models: Sequence[Model],
    conditions: Conditions,
    pictures: PictureStore,
    progress: Progress | None = None,
) -> Result:
    """Operations of one image: mean and standard deviation over the images, all of one size.

    A model after the other; random images are one image, since all cost alike or are all noise.
    """
    conditions = replace(conditions, batch_size=1)
    counts: dict[str, list[dict[str, Any]]] = {}
    failures: dict[str, str] = {}
    by_chance = []
    for position, model in enumerate(models):
        try:
            # No memory is measured, so this process will do. Loading checkpoints prints.
            with redirect_stdout(io.StringIO()):
                runner = Runner(model, conditions, pictures)
        except (OSError, ValueError) as error:
            raise ValueError(f'{model.label}: {error}') from error
        if _arbitrary(model, runner.describe()):
            by_chance.append(model.label)
        found = counts[model.label] = []
        try:
            for number in range(pictures.count):
                found.append(runner.count(number))
                if progress is not None:
                    done = position * pictures.count + number + 1
                    progress(done, len(models) * pictures.count)
        except (MemoryError, RuntimeError, AssertionError) as error:
            reason = ' '.join(str(error).split())
            failures[model.label] = f'failed: {type(error).__name__}: {reason}'
        finally:
            runner.close()
    figures = {}
    for label, found in counts.items():
        if label in failures:
            continue
        published = [count['macs_published'] for count in found]
        figures[label] = dict(
            params=found[0]['params'],
            gmacs_published=mean(published) / 1e9,
            gmacs_published_std=pstdev(published) / 1e9,
            gmacs=mean(count['macs'] for count in found) / 1e9,
            tokens=mean(sum(count['tokens'].values()) for count in found),
            images=len(found),
            by_chance=label in by_chance,
        )
    _compare(figures, models, 'gmacs_published', 'gmacs_ratio')
    rows = [
        Row(model, 1, figures.get(model.label, {}), failures.get(model.label, ''))
        for model in models
    ]
    remarks = _by_chance(by_chance)
    return Result('flops', conditions, 0, 0, pictures.source, rows, remarks)


def _rows(crew: Crew, figures: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """In the order of the models."""
    return [
        Row(m, crew.conditions.batch_size, figures.get(m.label, {}), crew.failures.get(m.label, ''))
        for m in crew.models
    ]


def _seconds(turns: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(step.seconds for step in turn) for turn in turns)


def _compare(
    figures: Mapping[str, dict[str, Any]], models: Sequence[Model], name: str, ratio: str
) -> None:
    first = figures.get(models[0].label)
    for found in figures.values():
        found[ratio] = found[name] / first[name] if first and first[name] else None


def _compare_speed(
    figures: Mapping[str, dict[str, Any]], timings: Mapping[str, Timing], models: Sequence[Model]
) -> None:
    first = timings.get(models[0].label)
    for label, found in figures.items():
        found['speed_ratio'] = None if first is None else speed_ratio(first, timings[label])
        found['disagreement'] = None if first is None else disagreement(first, timings[label])
        found['turns_ms'] = [[1000 * s for s in turn] for turn in timings[label].turns]


def _trust(timings: Mapping[str, Timing], models: Sequence[Model]) -> list[str]:
    """What the halves of the samples say about the figures."""
    first = timings.get(models[0].label)
    if first is None:
        return []
    remarks = []
    for label, timing in timings.items():
        apart = disagreement(first, timing)
        if apart is None:
            return [
                'Too few steps to tell by their halves whether the ratios would come out again.'
            ]
        if apart > TOLERANCE:
            what = f'the ratio of {label} to {models[0].label}'
            if timing is first:
                what = f'the time of a step of {label}'
            remarks.append(
                f'The two halves of the samples disagree by {apart:.0%} in {what}: more than '
                f'{TOLERANCE:.0%}. Measure longer, or on a machine that does less else.'
            )
    return remarks


def _arbitrary(model: Model, about: Mapping[str, Any]) -> bool:
    return model.checkpoint is None and bool(about['adaptive'])


def _base(crew: Crew) -> list[str]:
    """On a CPU: how much of the memory is no model's."""
    found = [about['base_bytes'] for about in crew.about.values() if about['base_bytes']]
    if not found:
        return []
    return [f'Of the memory {max(found) / 2**30:.2f} GiB are Python and its libraries.']


def _random_weights(crew: Crew) -> list[str]:
    known = [m for m in crew.models if m.label in crew.about]
    return _by_chance([m.label for m in known if _arbitrary(m, crew.about[m.label])])


def _by_chance(labels: Sequence[str]) -> list[str]:
    if not labels:
        return []
    return [
        f'{", ".join(labels)}: scores of random weights decide on the tokens, which says nothing '
        'of a trained model; give --checkpoint, or --allocation where tokens are allocated.'
    ]


def every_row(results: Sequence[Result]) -> Iterator[tuple[str, Row]]:
    """All rows with the names of their protocols."""
    return ((result.protocol, row) for result in results for row in result.rows)
