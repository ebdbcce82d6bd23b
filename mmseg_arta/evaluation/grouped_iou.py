"""IoU and accuracy of groups of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import MMLogger, print_log
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from ..option_checks import check_config, fail
from .ade20k_sizes import ADE20K_SIZES

#: Groups that a config can ask for by name.
GROUPS: dict[str, Mapping[str, Sequence[str]]] = {'ade20k-size': ADE20K_SIZES}


@METRICS.register_module()
class GroupedIoUMetric(IoUMetric):
    """The stock ``IoUMetric``, and its means over groups of classes (LRFormer table 8).

    Beside the stock values it reports ``mIoU_<group>`` and ``mAcc_<group>``, in percent. Classes
    that neither occur nor are predicted do not count, as in the stock means.

    Args:
        groups: ``'ade20k-size'``, or names of classes for every group. A class may be in several
            groups or in none.
        kwargs: options of the stock metric.

    Raises:
        ValueError: for an unknown or empty group, or, once the classes are known, for names
            that the data set does not have.
    """

    def __init__(
        self, groups: str | Mapping[str, Sequence[str]] = 'ade20k-size', **kwargs: Any
    ) -> None:
        if isinstance(groups, str):
            if groups not in GROUPS:
                raise ValueError(
                    f'GroupedIoUMetric.groups must be one of {sorted(GROUPS)} or a dict, '
                    f'found {groups!r}'
                )
            groups = GROUPS[groups]
        check_config(self, groups=groups)
        for name, classes in groups.items():
            if not isinstance(classes, (list, tuple)) or any(
                not isinstance(one, str) for one in classes
            ):
                raise fail(self, f'groups[{name}]', 'a list of names of classes', classes)
        empty = [name for name, classes in groups.items() if not classes]
        if empty or not groups:
            raise ValueError(f'GroupedIoUMetric.groups: no classes in {empty or "any group"}')
        super().__init__(**kwargs)
        self.groups = {name: tuple(classes) for name, classes in groups.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The stock metrics and those of the groups."""
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        # Some stock names end with a blank.
        classes = [name.strip() for name in self.dataset_meta['classes']]
        intersect, union, _, label = (sum(areas).numpy() for areas in zip(*results, strict=True))
        with np.errstate(invalid='ignore'):
            values = {'mIoU': intersect / union, 'mAcc': intersect / label}
        for group, names in self.groups.items():
            unknown = sorted(set(names) - set(classes))
            if unknown:
                raise ValueError(
                    f'GroupedIoUMetric.groups: group {group!r} has classes {unknown}, which '
                    f'are none of the {len(classes)} classes of the data set'
                )
            members = [classes.index(name) for name in names]
            for metric, per_class in values.items():
                found = per_class[members]
                found = found[~np.isnan(found)]
                mean = found.mean() * 100 if len(found) else np.nan
                metrics[f'{metric}_{group}'] = float(np.round(mean, 2))
        text = ', '.join(
            f'{name}: mIoU {metrics[f"mIoU_{name}"]}, mAcc {metrics[f"mAcc_{name}"]}'
            for name in self.groups
        )
        print_log(f'per group of classes: {text}', MMLogger.get_current_instance())
        return metrics
