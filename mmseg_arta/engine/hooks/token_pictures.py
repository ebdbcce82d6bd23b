"""Pictures of allocated tokens, written during validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...option_checks import check_text, check_whole
from ..coverage import ignore_index_of
from ..drawing import class_legend, render, save
from ..token_panels import ImageResult, finest_chosen, token_rows, view_of_windows
from .token_recorder import TokenRecorderHook


@HOOKS.register_module()
class TokenPictureHook(TokenRecorderHook):
    """Write what the tokens do to images: the pictures of ``tools/visualize.py``.

    The main process writes one PNG per picked image, in training runs to
    ``<work_dir>/<out_dir>/val/iter_<iteration>/``, in test runs to ``<work_dir>/<out_dir>/test/``.
    Windows of slide inference are drawn into one picture. With test-time augmentation, or where
    the file of an image is no picture (arrays, depth maps), none is written, and the log says why
    once.

    Args:
        interval: every how many images one is picked.
        max_images: at most so many pictures per epoch.
        out_dir: folder below the run's work directory.
    """

    def __init__(
        self, interval: int = 50, max_images: int = 4, out_dir: str = 'token_pictures'
    ) -> None:
        check_whole(self, interval=interval)
        check_whole(self, 0, max_images=max_images)
        check_text(self, out_dir=out_dir)
        super().__init__()
        self.interval = interval
        self.max_images = max_images
        self.out_dir = out_dir
        self._seen = self._written = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self.take()
        self._seen = self._written = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self.before_val_epoch(runner)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Write the pictures of a validation batch."""
        self._after_eval_iter(runner, 'val', outputs or [])

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Write the pictures of a test batch."""
        self._after_eval_iter(runner, 'test', outputs or [])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Let go of a training step's tokens."""
        self.take()

    def _after_eval_iter(self, runner: Runner, mode: str, samples: Sequence[Any]) -> None:
        windows = self.take_windows(runner, samples)
        if windows is None or not dist.is_main_process():
            return
        meta = runner.visualizer.dataset_meta
        folder = Path(runner.work_dir) / self.out_dir / mode
        if mode == 'val':
            # Not runner.iter: outside of training that would build the training loop.
            folder /= f'iter_{runner.message_hub.get_info("iter", 0)}'
        for index, sample in enumerate(samples):
            picked = self._seen % self.interval == 0
            self._seen += 1
            if picked and self._written < self.max_images:
                name = Path(str(sample.metainfo.get('img_path'))).stem
                try:
                    result = ImageResult.of(sample, name, ignore_index_of(runner.model))
                except ValueError as error:
                    # Pipelines may load what is no picture, such as arrays or depth maps.
                    self._say_once(runner, str(error))
                    continue
                path = folder / f'{name}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                view = view_of_windows(windows, index, result.size)
                chosen = finest_chosen(windows, index)
                rows = token_rows(result, view, meta['palette'], chosen)
                legend = class_legend(result.label_maps, meta['classes'], meta['palette'])
                save(render(rows, legend), path)
                runner.logger.info(f'Tokens drawn to {path}')
                self._written += 1
