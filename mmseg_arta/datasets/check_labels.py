"""Check of label maps as they are loaded."""

from __future__ import annotations

import math

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ..option_checks import MOST_CHANNELS, MOST_WHOLE, check_whole


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """Stop at a label map that does not fit its image or the classes.

    Place it right after ``LoadAnnotations``: there the label map still has the size of the
    image file, in training (before resizing) as in testing (after it, where ``LoadAnnotations``
    stands behind ``Resize``). Without a label map, as in inference, it does nothing.

    A wrong label would otherwise end in an out-of-range index far from its cause, or in a class
    that silently never matches.

    Required keys: ``gt_seg_map`` (H, W), ``ori_shape``, ``img_path``, ``seg_map_path``;
    ``label_map`` and ``reduce_zero_label`` as stock data sets set them. Changes nothing but label
    maps of one row or column, whose shape ``LoadAnnotations`` spoils: it is restored.

    Args:
        num_classes: Number of classes; labels are 0 to ``num_classes - 1``. If the data set
            selects classes (``metainfo=dict(classes=...)``), the number selected counts instead.
        ignore_index: The label of pixels that are left out.

    Raises:
        ValueError: On use: the label map is not of the image's size, has several channels, or
            holds another label.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        check_whole(self, most=MOST_CHANNELS, num_classes=num_classes)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        if 'gt_seg_map' not in results:
            return results
        label = results['gt_seg_map']
        files = f'label file {results.get("seg_map_path")!r} of {results.get("img_path")!r}'
        image_shape = tuple(results['ori_shape'][:2])
        if 1 in image_shape and label.size == image_shape[0] * image_shape[1]:
            # LoadAnnotations drops the sides that are one pixel long.
            label = results['gt_seg_map'] = label.reshape(image_shape)
        if label.ndim > 2 or (1 in image_shape and label.size == 3 * math.prod(image_shape)):
            raise ValueError(
                f'{files} has shape {label.shape}; expected one channel that holds class indices, '
                'not colours'
            )
        label = np.atleast_2d(label)
        if label.shape != image_shape:
            raise ValueError(
                f'{files} is {label.shape[0]}x{label.shape[1]}, the image is '
                f'{image_shape[0]}x{image_shape[1]} (height x width); expected the same size'
            )
        num_classes = self._num_classes(results)
        # label maps of stock LoadAnnotations are unsigned: there is nothing below 0
        wrong = (label >= num_classes) & (label != self.ignore_index)
        if wrong.any():
            self._raise_wrong_labels(files, label[wrong], num_classes, results)
        return results

    def _num_classes(self, results: dict) -> int:
        label_map = results.get('label_map')
        if label_map is None:
            return self.num_classes
        return len(set(label_map.values()) - {self.ignore_index})

    def _raise_wrong_labels(
        self, files: str, wrong: np.ndarray, num_classes: int, results: dict
    ) -> None:
        found = ', '.join(map(str, np.unique(wrong)[:8]))
        message = (
            f'{files} holds label {found} ({wrong.size} pixels); expected 0 to {num_classes - 1}, '
            f'or {self.ignore_index} for ignored pixels'
        )
        if results.get('reduce_zero_label'):
            message += (
                '. These are counted after reduce_zero_label: the file holds values one higher, '
                'and 0 for ignored pixels'
            )
        raise ValueError(message)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f'{name}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'
