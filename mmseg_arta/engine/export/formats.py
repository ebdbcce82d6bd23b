"""Files of exported programs: PyTorch's own, compiled by AOTInductor, and ONNX."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from .describe import KEY
from .images import ExportError
from .plain_operators import for_onnx, keep_small_summands

#: A loaded file: ``(B, C, H, W)`` float32 pixels to scores.
Predict = Callable[[np.ndarray], np.ndarray]

_INSTALL = 'pip install "mmseg_arta[export]"'


def _needs(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f'{what} needs {name}, which is not installed: {_INSTALL}') from error


@contextmanager
def _quiet() -> Generator[None]:
    """Without what compilers and exporters tell of their work."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _write_torch(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    torch.export.save(program, path, extra_files={KEY: json.dumps(about)})


def _write_aoti(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    from torch._inductor import aoti_compile_and_package

    settings = {'aot_inductor.metadata': {KEY: json.dumps(about)}}
    with _quiet():
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)


def _write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    for name in ('onnx', 'onnxscript'):
        _needs(name, '--format onnx')
    with _quiet():
        onnx_program = torch.onnx.export(
            keep_small_summands(program.run_decompositions(for_onnx())),
            input_names=['image'],
            output_names=['scores'],
            dynamo=True,
            verbose=False,
        )
    assert onnx_program is not None
    onnx_program.model.metadata_props[KEY] = json.dumps(about)
    onnx_program.save(str(path), external_data=False)


def _load_torch(path: Path) -> tuple[Predict, dict[str, Any]]:
    files = {KEY: ''}
    module = torch.export.load(path, extra_files=files).module()
    return _of_tensors(module), json.loads(files[KEY])


def _load_aoti(path: Path) -> tuple[Predict, dict[str, Any]]:
    from torch._inductor import aoti_load_package

    module = aoti_load_package(str(path))
    return _of_tensors(module), json.loads(module.get_metadata()[KEY])


def _load_onnx(path: Path) -> tuple[Predict, dict[str, Any]]:
    runtime = _needs('onnxruntime', 'running an ONNX file')
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    about = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    return lambda image: session.run(None, {'image': image})[0], about


def _of_tensors(module: Any) -> Predict:
    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            scores = module(torch.from_numpy(image))
        return (scores if isinstance(scores, torch.Tensor) else scores[0]).numpy()

    return predict


#: By name: the ending of its files and how one is written.
FORMATS: dict[str, tuple[str, Callable[[ExportedProgram, Path, Mapping[str, Any]], None]]] = {
    'torch': ('.pt2', _write_torch),
    'aoti': ('.pt2', _write_aoti),
    'onnx': ('.onnx', _write_onnx),
}


def load_exported(path: str | Path) -> tuple[Predict, dict[str, Any]]:
    """Load a file of any of :data:`FORMATS` on the CPU.

    Returns:
        a function of ``(B, C, H, W)`` float32 pixels that returns scores, and the file's
        description, see :func:`describe`.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: for ONNX without onnxruntime, for another file, and for a part of one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file')
    try:
        if path.suffix == '.onnx':
            return _load_onnx(path)
        with zipfile.ZipFile(path) as archive:
            compiled = any('/aotinductor/' in name for name in archive.namelist())
        return (_load_aoti if compiled else _load_torch)(path)
    except ExportError:
        raise
    # Runtimes have errors of their own, and stumble over other files in any way there is.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [''])[0] or type(error).__name__
        raise ExportError(f'{path} is no file of tools/export.py, or damaged: {reason}') from error
