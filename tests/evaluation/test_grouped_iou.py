"""Metrics of groups of classes."""

from __future__ import annotations

import pytest
import torch
from mmseg.datasets import ADE20KDataset
from mmseg.registry import METRICS

from mmseg_arta.evaluation import GroupedIoUMetric
from mmseg_arta.evaluation.ade20k_sizes import ADE20K_SIZES

GROUPS = dict(near=('cup', 'key'), far=('sky',))


def metric(groups=GROUPS, classes=('cup', 'sky ', 'key', 'unseen')):
    found = METRICS.build(dict(type='GroupedIoUMetric', groups=groups))
    found.dataset_meta = dict(classes=classes)
    return found


def evaluate(found, predicted, labels):
    sample = dict(
        pred_sem_seg=dict(data=torch.tensor([predicted])),
        gt_sem_seg=dict(data=torch.tensor([labels])),
    )
    found.process({}, [sample])
    return found.evaluate(1)


def test_means_over_groups():
    # cup: 1 of 2 found, union 2; key: 2 of 2, union 3; sky: 2 of 3, union 3; 255 is ignored
    found = evaluate(metric(), [[0, 2, 2, 2, 1, 1, 2, 0]], [[0, 0, 2, 2, 1, 1, 1, 255]])
    assert found['mIoU_near'] == pytest.approx(100 * (1 / 2 + 2 / 4) / 2, abs=0.01)
    assert found['mAcc_near'] == pytest.approx(100 * (1 / 2 + 2 / 2) / 2, abs=0.01)
    assert found['mIoU_far'] == pytest.approx(100 * 2 / 3, abs=0.01)
    assert found['mAcc_far'] == pytest.approx(100 * 2 / 3, abs=0.01)
    assert found['mIoU'] == pytest.approx(100 * (1 / 2 + 1 / 2 + 2 / 3) / 3, abs=0.01)


def test_classes_that_do_not_occur_do_not_count():
    found = evaluate(metric(dict(all=('cup', 'unseen'), none=('unseen',))), [[0]], [[0]])
    assert found['mIoU_all'] == 100 and found['mIoU_none'] != found['mIoU_none']


def test_bad_groups():
    with pytest.raises(ValueError, match=r"one of \['ade20k-size'\] or a dict, found 'size'"):
        GroupedIoUMetric(groups='size')
    with pytest.raises(ValueError, match=r"no classes in \['far'\]"):
        GroupedIoUMetric(groups=dict(near=('cup',), far=()))
    with pytest.raises(ValueError, match=r"'near' has classes \['cat'\].* none of the 4 classes"):
        evaluate(metric(dict(near=('cat',))), [[0]], [[0]])


def test_every_class_of_ade20k_has_one_size():
    named = [name for group in ADE20K_SIZES.values() for name in group]
    assert sorted(named) == sorted(name.strip() for name in ADE20KDataset.METAINFO['classes'])
