"""Inference of segmentors by CUDA graphs: all kernels of an image started by one call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn

from ..models.allocation import AllocationPolicy

#: Images to class scores.
Function = Callable[[Tensor], Tensor]
#: Makes of a function, and images to begin with, one that does the same faster.
Capture = Callable[[Function, Tensor], Function]


#: Attributes of modules that say how many tokens there are, and may be set anew between images.
_SETTINGS = ('policy', 'merging', 'max_tokens')


class CannotCapture(RuntimeError):
    """A function that cannot become a graph; the message says why."""


class GraphedInference:
    """Lets a segmentor predict by CUDA graphs, one for each shape of its images and each budget.

    Within this context ``encode_decode``, through which every prediction of the segmentor and
    every window of slide mode goes, replays a graph that was captured when images of that shape
    came first. Each graph is compared once with eager mode, on other images than it was captured
    with, so that one that holds numbers of its first images is found out. Where no graph can be
    made, eager mode goes on, and why is logged once and kept in :attr:`reasons`::

        with GraphedInference(model) as graphs:
            runner.test()
        print(graphs.reasons)

    For models whose token counts the host knows beforehand: dense ones, and ARTA with
    ``FixedRatioAllocation``, ``BudgetAllocation`` or ``FullAllocation``. One that has to read
    counts cannot be captured, and says so. Meanwhile weights may change in place, and what
    policies are set to, such as a budget: that is a graph of its own. After any other change, such
    as a move of the model to another device or number type, make a new object.

    It was tested with a replacement for the capture on a CPU. Nobody has run the capture itself,
    :func:`capture_on_cuda`, on a GPU yet.

    Args:
        segmentor: in eval mode when it predicts.
        tolerance: how far scores may be from those of eager mode, of the largest.
        most: graphs at a time; each keeps the memory of a forward pass.
        capture: how a graph is made.
    """

    def __init__(
        self,
        segmentor: BaseSegmentor,
        tolerance: float = 1e-3,
        most: int = 4,
        capture: Capture | None = None,
    ) -> None:
        if not hasattr(segmentor, 'encode_decode'):
            raise ValueError(f'{type(segmentor).__name__} has no encode_decode to replay')
        self.segmentor: Any = segmentor
        self.tolerance, self.most = tolerance, most
        self.capture: Capture = capture_on_cuda if capture is None else capture
        self.graphs: dict[Hashable, Function] = {}
        #: Why there is no graph, by what identifies it: shape, number type, device, budget, ...
        self.reasons: dict[Hashable, str] = {}
        self._told: set[str] = set()
        self._set: list[tuple[nn.Module, str]] = []

    def __enter__(self) -> GraphedInference:
        self._set = [
            (module, name)
            for module in self.segmentor.modules()
            for name in _SETTINGS
            if name in vars(module)
        ]
        # The instance's own attribute comes before the method of its class.
        self.segmentor.encode_decode = self._predict
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self.segmentor.encode_decode
        self.graphs.clear()

    def _predict(self, inputs: Tensor, batch_img_metas: Sequence[Mapping[str, Any]]) -> Tensor:
        """In the place of ``encode_decode``."""
        eager = type(self.segmentor).encode_decode
        metas = [dict(meta) for meta in batch_img_metas]

        def run(images: Tensor) -> Tensor:
            return eager(self.segmentor, images, metas)

        if self.segmentor.training or torch.is_grad_enabled():
            # Of training a graph of the forward pass alone would hold nothing to go back by.
            return run(inputs)
        settings = tuple(_settings(vars(module)[name]) for module, name in self._set)
        key = (*_identity(inputs, metas), settings)
        if key not in self.graphs and key not in self.reasons:
            try:
                self.graphs[key] = self._make(run, inputs)
            except CannotCapture as error:
                self._fall_back(key, str(error))
        graph = self.graphs.get(key)
        return run(inputs) if graph is None else graph(inputs)

    def _make(self, run: Function, images: Tensor) -> Function:
        """A graph that gives what eager mode gives, for images that it has not seen."""
        if len(self.graphs) >= self.most:
            raise CannotCapture(
                f'there are {self.most} graphs already, for images of other shapes or other budgets'
            )
        with _no_kept_casts():
            graph = self.capture(run, images)
        others = images.flip(-1)
        expected, found = run(others), graph(others)
        if found.shape != expected.shape:
            raise CannotCapture(
                f'the graph gives {tuple(found.shape)}, eager mode {tuple(expected.shape)}'
            )
        scale = float(expected.abs().max()) or 1.0
        difference = float((found - expected).abs().max()) / scale
        # Not a number is no agreement either.
        if not difference <= self.tolerance:
            raise CannotCapture(
                f'the graph differs from eager mode by {difference:.1e} of the largest score'
            )
        return graph

    def _fall_back(self, key: Hashable, reason: str) -> None:
        self.reasons[key] = reason
        if reason not in self._told:
            self._told.add(reason)
            print_log(
                f'No CUDA graph, eager mode goes on: {reason}',
                logger='current',
                level=logging.WARNING,
            )


def _identity(inputs: Tensor, metas: Sequence[Mapping[str, Any]]) -> tuple[Hashable, ...]:
    """What a graph depends on besides the pixels and the model."""
    kind = inputs.device.type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    # By these heads know how large images are.
    sizes = tuple(
        (type(size).__name__, tuple(size))
        for meta in metas
        for size in (meta.get('img_shape', ()), meta.get('pad_shape', ()))
    )
    return tuple(inputs.shape), inputs.dtype, inputs.device, autocast, sizes


@contextmanager
def _no_kept_casts() -> Generator[None]:
    """Within this context autocast casts weights anew at every use.

    A graph would go on to read the copies that autocast keeps, which are those of the weights at
    that time, and whose memory is freed when the caller's autocast ends.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _settings(value: Any) -> tuple[Hashable, ...]:
    """What a policy and its parts, or some number, are set to."""
    parts = value.walk() if isinstance(value, AllocationPolicy) else (value,)
    return tuple((type(part), repr(getattr(part, '__dict__', part))) for part in parts)


def capture_on_cuda(function: Function, images: Tensor) -> Function:
    """A function as a CUDA graph.

    Nobody has run this on a GPU yet.

    Args:
        function: from images to scores, without a read of the host.
        images: on the device, of the shape that the graph will be for.

    Raises:
        CannotCapture: where there is no CUDA device, the function makes the host wait for a value,
            or an operator refuses to be captured.
    """
    if not images.is_cuda:
        raise CannotCapture(f'images are on {images.device}, not on a CUDA device')
    inputs = images.clone()
    mode = torch.cuda.get_sync_debug_mode()
    try:
        # What is made once and kept must be made before; a read on the host is named here.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function(inputs)
            torch.cuda.set_sync_debug_mode('error')
            function(inputs)
        torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scores = function(inputs)
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotCapture(f'the model cannot be captured: {lines[0]}') from error
    finally:
        torch.cuda.set_sync_debug_mode(mode)

    def replay(images: Tensor) -> Tensor:
        inputs.copy_(images)
        graph.replay()
        # The next replay writes to the same memory.
        return scores.clone()

    return replay
