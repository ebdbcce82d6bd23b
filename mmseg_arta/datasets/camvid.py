"""CamVid road scenes in their common 11-class form."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, ClassVar

from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..image_files import IMAGE_SUFFIXES, is_image
from ..option_checks import check_text


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid with 11 classes, label 255 ignored.

    .. code-block:: none

        data/camvid
        ├── images/{train,val,test}/*.png          or .jpg, .tif, ...
        └── annotations/{train,val,test}/*.png     label indices 0..10 and 255

    ``tools/dataset_converters/camvid.py`` makes this layout from the SegNet distribution.

    Args:
        img_suffix: Ending of the image files. None takes the one that the image folder holds.
        seg_map_suffix: Ending of the label files.
        kwargs: Everything else goes to :class:`mmseg.datasets.BaseSegDataset`. An ``ann_file``
            names an image per line, with or without its ending.

    Raises:
        FileNotFoundError: The image or label folder or ``ann_file`` is missing, or names no image.
        ValueError: ``img_suffix`` is None and the image folder mixes several endings.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=(
            'Sky',
            'Building',
            'Pole',
            'Road',
            'Pavement',
            'Tree',
            'SignSymbol',
            'Fence',
            'Car',
            'Pedestrian',
            'Bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self, img_suffix: str | None = None, seg_map_suffix: str = '.png', **kwargs: Any
    ) -> None:
        check_text(self, optional=True, img_suffix=img_suffix)
        check_text(self, seg_map_suffix=seg_map_suffix)
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the image and label files; see the class for the errors raised."""
        img_dir = self.data_prefix['img_path']
        for option in ('img_path', 'seg_map_path'):
            folder = self.data_prefix.get(option)
            if folder and not fileio.isdir(folder, backend_args=self.backend_args):
                raise FileNotFoundError(
                    f'CamVidDataset: folder {folder!r} not found. It is data_root='
                    f'{self.data_root!r} joined with data_prefix.{option}; set data_root to '
                    'the folder that holds images/ and annotations/.'
                )
        if self.img_suffix is None:
            self.img_suffix = self._find_suffix(img_dir)
        data_list = self._listed() if self.ann_file else super().load_data_list()
        if not data_list:
            raise FileNotFoundError(
                f'CamVidDataset: no file ending in {self.img_suffix!r} in {img_dir!r}; expected '
                'images there (options data_root, data_prefix.img_path, img_suffix).'
            )
        return data_list

    def _listed(self) -> list[dict]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'CamVidDataset: ann_file {self.ann_file!r} not found')
        img_dir, ann_dir = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        text = fileio.get_text(self.ann_file, backend_args=self.backend_args)
        data_list = []
        if not text.strip():
            raise FileNotFoundError(f'CamVidDataset: ann_file {self.ann_file!r} names no image')
        for line in filter(None, map(str.strip, text.splitlines())):
            stem = line.removesuffix(self.img_suffix)
            info = dict(img_path=fileio.join_path(img_dir, stem + self.img_suffix))
            if ann_dir is not None:
                info['seg_map_path'] = fileio.join_path(ann_dir, stem + self.seg_map_suffix)
            data_list.append(
                dict(
                    info,
                    label_map=self.label_map,
                    reduce_zero_label=self.reduce_zero_label,
                    seg_fields=[],
                )
            )
        return data_list

    def _find_suffix(self, img_dir: str) -> str:
        names = fileio.list_dir_or_file(
            img_dir, list_dir=False, recursive=True, backend_args=self.backend_args
        )
        names = list(names)
        found = {PurePath(name).suffix for name in names if is_image(name)}
        found = sorted(found, key=lambda suffix: (IMAGE_SUFFIXES.index(suffix.lower()), suffix))
        if not found:
            raise FileNotFoundError(
                f'CamVidDataset: no image in {img_dir!r}; expected files ending in '
                f'{", ".join(IMAGE_SUFFIXES)} (or capital letters), found {len(names)} other '
                'files.'
            )
        if len(found) > 1:
            raise ValueError(
                f'CamVidDataset: {img_dir!r} mixes images ending in {" and ".join(found)}; say '
                'which to read with the option img_suffix.'
            )
        return found[0]
