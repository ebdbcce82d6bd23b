"""Options of stock heads on heads of this package work, or say what to do instead."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmseg_arta import models
from tests.option_table import CASES

HEADS = {
    name: CASES[name]
    for name in (
        'SparseMask2FormerHead',
        'ATMHead',
        'ShrunkATMHead',
        'HaltingATMHead',
        'BoundaryScoreHead',
        'GroupPolicyHead',
        'LRHead',
    )
}
STOCK: dict[str, Any] = dict(
    in_channels=16,
    channels=16,
    num_classes=5,
    out_channels=5,
    dropout_ratio=0.1,
    conv_cfg=None,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    act_cfg=dict(type='ReLU'),
    in_index=-1,
    input_transform='resize_concat',
    loss_decode=dict(type='CrossEntropyLoss'),
    ignore_index=255,
    sampler=None,
    align_corners=False,
    init_cfg=None,
    threshold=None,
)


def test_all_options_of_stock_heads_are_tried():
    known = set(inspect.signature(BaseDecodeHead).parameters)
    assert known == set(STOCK)


@pytest.mark.parametrize('option', STOCK)
@pytest.mark.parametrize('name', HEADS)
def test_options_of_stock_heads(name, option):
    make, options = HEADS[name].make, HEADS[name].options
    if option in inspect.signature(make).parameters:
        return
    if issubclass(make, BaseDecodeHead):
        if option == 'input_transform':
            with pytest.raises(ValueError, match=r"input_transform must be 'multiple_select'"):
                make(**options, input_transform='resize_concat')
        else:
            make(**options, **{option: STOCK[option]})
        return
    said = rf"{name} has no option '{option}' of stock heads: .*(set |leave it out|choose with)"
    with pytest.raises(TypeError, match=said) as caught:
        make(**options, **{option: STOCK[option]})
    assert '_delete_=True' in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'option', 'instead'),
    [
        ('SparseMask2FormerHead', 'channels', 'set dim'),
        ('SparseMask2FormerHead', 'feat_channels', 'set dim'),
        ('SparseMask2FormerHead', 'strides', 'set patch_sizes'),
        ('SparseMask2FormerHead', 'loss_mask', r'set criterion=dict\('),
        ('ATMHead', 'dropout_ratio', 'set dropout'),
        ('ATMHead', 'loss_decode', r'set loss=dict\('),
        ('BoundaryScoreHead', 'loss_decode', 'set loss and loss_weight'),
        ('BoundaryScoreHead', 'num_convs', 'leave it out'),
    ],
)
def test_what_to_do_instead(name, option, instead):
    with pytest.raises(TypeError, match=rf'{option}.*{instead}'):
        HEADS[name].make(**HEADS[name].options, **{option: 1})


@pytest.mark.parametrize('name', [name for name in HEADS if name != 'LRHead'])
def test_what_no_head_has_is_unexpected(name):
    with pytest.raises(TypeError, match=re.escape("unexpected keyword argument 'ham_channels'")):
        HEADS[name].make(**HEADS[name].options, ham_channels=1)


def test_no_head_is_left_out():
    ours = {
        name
        for name in models.__all__
        if name.endswith('Head') or hasattr(getattr(models, name), 'loss')
    }
    assert {name for name in ours if name.endswith('Head')} <= set(HEADS)
