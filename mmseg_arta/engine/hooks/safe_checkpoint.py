"""Checkpoints that no end of the process can spoil or lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...files import write_bytes, write_text

_BACKEND = 'mmseg_arta.whole_files'


@register_backend(_BACKEND, force=True)
class WholeFilesBackend(LocalBackend):
    """Files of this machine, which appear under their names when all of them is written."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; the folder is made if there is none."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(filepath, obj)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """The stock hook, with the old checkpoint kept until the new one is whole.

    The stock hook deletes what ``max_keep_ckpts`` no longer allows, or what is no longer the best,
    before it writes, and writes in place: a process that ends meanwhile leaves half a file, with
    ``max_keep_ckpts=1`` and nothing else. On the disk of this machine, checkpoints and
    ``last_checkpoint`` are written beside and renamed; elsewhere (``backend_args``) only the order
    is another one. Takes the arguments of ``CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose how files are written."""
        super().before_train(runner)
        if self.backend_args is None and type(self.file_backend) is LocalBackend:
            self.backend_args = dict(backend=_BACKEND)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """In the place of the stock one: save, say which is the last, and only then remove."""
        outdated = None
        if self.max_keep_ckpts > 0 and list(self.keep_ckpt_ids)[-1:] != [step]:
            kept = self.keep_ckpt_ids
            if len(kept) == self.max_keep_ckpts:
                outdated = kept.popleft()
            kept.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_text(Path(runner.work_dir) / 'last_checkpoint', str(self.last_ckpt))
        if outdated is not None:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # of DeepSpeed
                self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = postponed = _Postponed(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = {getattr(self, 'best_ckpt_path', None)}
        best |= set(getattr(self, 'best_ckpt_path_dict', {}).values())
        for remove, path in postponed.removals:
            if path not in best:
                remove(path)


class _Postponed:
    """A storage backend that only notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.removals: list[tuple[Any, str]] = []

    def remove(self, path: str) -> None:
        self.removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self._backend.rmtree, path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
