"""Pictures of what models make of images: tokens, scores, predictions and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model
from mmseg.registry import DATASETS
from PIL import Image

from ..engine.coverage import ignore_index_of
from ..engine.drawing import Panel, class_legend, render, save
from ..engine.token_panels import ImageResult, finest_chosen, token_rows, view_of_windows
from ..files import replaced
from .benchmark.pictures import image_files
from .benchmark.subjects import check_codebase
from .class_names import classes_of
from .flops.count import forced_allocation
from .flops.load import build_model, load_config
from .flops.samples import spread_numbers, validation_set
from .paper_panels import compared, merging_panel
from .passes import Pass, PassWatch, window_by_window, windows_of_passes

#: What a panel can show; several of a kind are told apart by number, as 'scores:1'.
PANELS = {
    'image': 'the image',
    'truth': 'ground truth',
    'prediction': 'prediction',
    'errors': 'wrong pixels',
    'scores': 'scores of every round, importance, or P(one class) of groups of patches',
    'boundary': 'class boundary that the finest tokens cover (blue) and miss (orange)',
    'tokens': 'tokens of every round, kept in every stage, or halted at every head',
    'cells': 'tokens of all sizes at once',
    'merging': "what AutoFocusFormer's tokens were merged from",
    'other': "the second config's prediction",
    'other-errors': 'its wrong pixels',
    'difference': 'where only the first is right (blue) or only the second (orange)',
}
#: Of a sheet with a row per image, as far as there are these; points have tokens by stage alone.
SHEET = ('image', 'truth', 'scores:1', 'cells', 'other', 'prediction', 'errors')
_SHEET_OF_POINTS = tuple('tokens:2' if name == 'cells' else name for name in SHEET)

#: Name of the source that is the config's test set.
DATASET = 'dataset'

_SHEET_WIDTH = 320
_ON_A_SHEET = 12


class Item(NamedTuple):
    """An image: a name for its files, its path, and its number in the data set, if it is of one."""

    name: str
    path: str
    number: int | None = None


class Subject:
    """A model with what it takes to show it images.

    Args:
        name: of a config.
        checkpoint: its weights; random ones without.
        options: settings changed in it.
        device: of PyTorch.
        mode: of inference: 'config', 'whole' or 'slide'.
        allocation: see :func:`~mmseg_arta.analysis.flops.count.forced_allocation`.

    Raises:
        OSError: if there is no such file.
        ValueError: if the config, the checkpoint or an option does not fit.
    """

    def __init__(
        self,
        name: str,
        checkpoint: str | None = None,
        options: Mapping[str, Any] | None = None,
        device: str = 'cpu',
        mode: str = 'config',
        allocation: str = 'model',
    ) -> None:
        # What PyTorch and OpenMMLab tell while building has no place between results.
        MMLogger.get_current_instance().setLevel('ERROR')
        self.config = load_config(name, options)
        check_codebase(name, self.config)
        self.label = ' '.join(Path(name.rpartition('::')[2]).stem.split('_')[:2])
        init_default_scope(self.config.get('default_scope') or 'mmseg')
        loader = self.config.get('test_dataloader')
        if not loader:
            raise ValueError(f'config {self.config.filename} has no test_dataloader')
        meta = _metainfo(loader.dataset)
        self.classes: Sequence[str] = classes_of(meta)
        self.palette: Sequence[Sequence[int]] = meta['palette']
        self.model: Any = build_model(self.config, checkpoint).to(device)
        self.model.cfg = Config(dict(test_pipeline=_without_labels(self.config)))
        self.mode, self.allocation = mode, allocation
        self._dataset: Any = None

    @property
    def dataset(self) -> Any:
        """The config's test set."""
        if self._dataset is None:
            self._dataset = validation_set(self.config, 'test_dataloader')
        return self._dataset

    @torch.no_grad()
    def show(self, item: Item) -> tuple[Any, list[Pass]]:
        """The result for an image, with ground truth if it is of the data set, and the passes.

        Raises:
            OSError: if an image of the data set cannot be read.
        """
        watch = PassWatch(scores=True)
        with (
            window_by_window(self.model, self.mode),
            forced_allocation(self.model, self.allocation),
            watch.on(self.model),
        ):
            if item.number is None:
                return inference_model(self.model, item.path), watch.take()
            sample = sample_of(self.dataset, item.number)
            return self.model.test_step(pseudo_collate([sample]))[0], watch.take()

    def predict(self, item: Item) -> np.ndarray:
        """``(H, W)`` class indices for an image file, in its own size."""
        with (
            torch.no_grad(),
            window_by_window(self.model, self.mode),
            forced_allocation(self.model, self.allocation),
        ):
            result = inference_model(self.model, item.path)
        return result.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.int32)


def find_items(sources: Sequence[str], subject: Subject, images: int | None = None) -> list[Item]:
    """The images that are meant.

    Args:
        sources: files, folders, or :data:`DATASET`.
        subject: whose data set that is.
        images: at most so many, spread evenly.

    Raises:
        OSError: if there are none, or one cannot be read.
    """
    found: list[Item] = []
    for source in sources:
        if source == DATASET:
            for number in range(len(subject.dataset)):
                path = str(subject.dataset.get_data_info(number)['img_path'])
                found.append(Item(Path(path).stem, path, number))
        elif Path(source).is_file():
            found.append(Item(Path(source).stem, source))
        elif Path(source).is_dir():
            for file in image_files(source, 'SOURCE'):
                name = '_'.join(file.relative_to(source).with_suffix('').parts)
                found.append(Item(name, str(file)))
        else:
            raise FileNotFoundError(f'SOURCE {source}: there is no such file or folder')
    if images is not None:
        found = [found[number] for number in spread_numbers(images, len(found))]
    for item in found:
        if item.number is None:
            check_readable(item.path)
    return _apart(found)


def check_readable(path: str) -> None:
    """Look at an image's header.

    Raises:
        OSError: if it is no image.
    """
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception as error:
        raise OSError(f'image {path} cannot be read') from error


def sample_of(dataset: Any, number: int) -> Any:
    """An item of a data set.

    Raises:
        OSError: if its files cannot be read.
    """
    try:
        return dataset[number]
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise OSError(f'image {number} of the data set cannot be read: {reason}') from error


def panel_rows(
    item: Item, subject: Subject, other: Subject | None = None
) -> tuple[list[list[Panel]], list[tuple[str, Sequence[int]]]]:
    """All panels of an image in rows, and its classes with their colours.

    Args:
        item: the image.
        subject: the model.
        other: one that it is compared with.

    Raises:
        OSError: if the image cannot be read.
        ValueError: if the windows of the passes are not known.
    """
    if mmcv.imread(item.path) is None:
        raise OSError(f'image {item.path} cannot be read')
    sample, passes = subject.show(item)
    result = ImageResult.of(sample, item.name, ignore_index_of(subject.model))
    windows = windows_of_passes(passes, [sample], subject.model.test_cfg)
    if windows is None and any(one.tokens is not None for one in passes):
        raise ValueError(f'image {item.path}: the windows of {len(passes)} passes are not known')
    windows = windows or []
    chosen = finest_chosen(windows, 0)
    view = view_of_windows(windows, 0, result.size, (one.view() for one in passes))
    rows = token_rows(result, view, subject.palette, chosen)
    if len(passes) == 1 and passes[0].merges:
        rows[-1].append(merging_panel(result.image, passes[0].merges[-1]))
    shown = result.label_maps
    if other is not None:
        theirs = _sized(other.predict(item), result.size)
        shown = [*shown, theirs]
        rows = compared(rows, result, theirs, (subject.label, other.label), subject.palette)
    return rows, class_legend(shown, subject.classes, subject.palette)


def choose(
    rows: Iterable[Iterable[Panel]], names: Sequence[str], strict: bool = True
) -> list[Panel]:
    """The panels of some names, in the order of the names.

    Args:
        rows: of an image.
        names: of :data:`PANELS`; with a number, 1 for the first, one of that kind alone.
        strict: whether all must be there.

    Raises:
        ValueError: if one is not.
    """
    panels = [panel for row in rows for panel in row]
    found: list[Panel] = []
    for name in names:
        key, _, number = name.partition(':')
        fitting = [panel for panel in panels if panel.key == key]
        if number:
            fitting = fitting[int(number) - 1 : int(number)]
        if not fitting and strict:
            known = ', '.join(dict.fromkeys(panel.key for panel in panels))
            raise ValueError(f'--panels {name}: this image has no such panel, but {known}')
        found += fitting
    return found


def write(
    rows: Sequence[Sequence[Panel]],
    legend: Sequence[tuple[str, Sequence[int]]],
    path: Path,
    panel_width: int | None = None,
    colours: int | None = None,
) -> None:
    """Draw panels into a PNG file; see :func:`~mmseg_arta.engine.drawing.render`.

    Args:
        rows, legend, panel_width: see there.
        path: whole or not at all; its folder is made.
        colours: reduce the file to so many colours, which makes it smaller.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as part:
        save(render(rows, legend, panel_width), part)
        if colours is not None:
            with Image.open(part) as full:
                # Few pixels have the bright colours of scores; all others would replace them.
                fewer = full.convert('RGB').quantize(
                    colours, Image.Quantize.MAXCOVERAGE, kmeans=5, dither=Image.Dither.NONE
                )
            fewer.save(part, format='PNG', optimize=True)


class Sheets:
    """Collects a row per image and writes a contact sheet for every dozen.

    Args:
        path: of the sheet; of several, numbers are added to its name.
        total: images to come.
        names: panels of a row; by default those of :data:`SHEET` that there are.
        panel_width, colours: see :func:`write`.
    """

    def __init__(
        self,
        path: Path,
        total: int,
        names: Sequence[str] | None = None,
        panel_width: int | None = None,
        colours: int | None = None,
    ) -> None:
        self.path, self.total, self.names = path, total, names
        self.panel_width, self.colours = panel_width or _SHEET_WIDTH, colours
        self._rows: list[list[Panel]] = []
        self._legend: dict[str, Sequence[int]] = {}
        self._seen = 0
        self.written: list[Path] = []

    def add(
        self, rows: Sequence[Sequence[Panel]], legend: Sequence[tuple[str, Sequence[int]]]
    ) -> None:
        """The panels of the next image."""
        has_cells = any(panel.key == 'cells' for row in rows for panel in row)
        names = self.names or (SHEET if has_cells else _SHEET_OF_POINTS)
        self._rows.append(choose(rows, names, strict=self.names is not None))
        self._legend.update(legend)
        self._seen += 1
        if len(self._rows) == _ON_A_SHEET or self._seen == self.total:
            number = len(self.written) + 1
            many = self.total > _ON_A_SHEET
            path = self.path.with_stem(f'{self.path.stem}_{number}') if many else self.path
            write(self._rows, list(self._legend.items()), path, self.panel_width, self.colours)
            self.written.append(path)
            self._rows, self._legend = [], {}


def _metainfo(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """Classes and palette of a data set, without looking for its files."""
    while 'dataset' in dataset and 'pipeline' not in dataset:
        dataset = dataset['dataset']
    try:
        return DATASETS.build({**dataset, 'lazy_init': True}).metainfo
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'the data set of test_dataloader cannot be built: {reason}') from error


def _without_labels(config: Config) -> list[Any]:
    """The steps of the test pipeline that an image without ground truth goes through."""
    steps = config.test_dataloader.dataset.get('pipeline') or config.get('test_pipeline') or []
    return [step for step in steps if step['type'] not in ('LoadAnnotations', 'CheckLabels')]


def _apart(items: Sequence[Item]) -> list[Item]:
    """The same with names that differ."""
    taken: set[str] = set()
    found = []
    for item in items:
        name, often = item.name, 1
        while name in taken:
            often += 1
            name = f'{item.name}-{often}'
        taken.add(name)
        found.append(item._replace(name=name))
    return found


def _sized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(labels.astype(np.int32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))
