"""Reading, converting, checking and writing checkpoints."""

from __future__ import annotations

import json
import os
import random
import re
import stat

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmseg_arta.checkpoints import (
    CONVERTERS,
    CheckpointError,
    check_weights,
    convert_state_dict,
    converts,
    read_state_dict,
    write_checkpoint,
)
from mmseg_arta.models import ARTA
from mmseg_arta.safe_load import load_safely
from tests.helpers import DATA


def published(name, prefix=''):
    keys = json.loads((DATA / f'keys/{name}.json').read_text())
    return {prefix + key: torch.empty(shape, device='meta') for key, shape in keys.items()}


def backbone(**options):
    model = torch.nn.Module()
    with torch.device('meta'):
        model.backbone = ARTA('tiny', **dict(image_hidden='pixels') | options)
    return model


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'model': state, 'iteration': 3, 'optimizer': {'state': {}}},
        lambda state: {'state_dict': state, 'meta': {'epoch': 3}},
        lambda state: {'model': {'state_dict': state}},
        lambda state: {'model': {f'module.{key}': value for key, value in state.items()}},
    ],
    ids=['bare', 'model', 'state_dict', 'nested', 'distributed'],
)
def test_wrappers_are_taken_off(tmp_path, wrap):
    torch.save(wrap({'a.weight': torch.ones(2)}), tmp_path / 'a.pth')
    found = read_state_dict(tmp_path / 'a.pth')
    assert list(found) == ['a.weight'] and found['a.weight'].tolist() == [1, 1]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ('never',))


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'no such file'),
        (b'no zip file', 'no checkpoint|no PyTorch checkpoint'),
        (b'', 'no PyTorch checkpoint'),
        ({'model': Evil()}, 'holds more than tensors'),
        ({'lr': 0.1}, r"values that are no tensors: \['lr'\]"),
        ([torch.ones(1)], 'found list'),
        ({}, 'found dict'),
    ],
    ids=['missing', 'text', 'empty-file', 'code', 'numbers', 'list', 'empty'],
)
def test_other_files_are_refused(tmp_path, content, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'a.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'never').exists()


def test_segmentation_weights_fill_the_published_backbone():
    # The published key list of the whole model is checked with its head in test_mask2former.
    state = published('arta_tiny_backbone_published')
    check_weights(convert_state_dict('arta', state), backbone())
    check_weights(convert_state_dict('dups', state), backbone())


def test_imagenet_weights_fill_the_backbone_with_their_image_mlp():
    state = published('arta_tiny_imagenet_published')
    converted = convert_state_dict('arta', state)
    assert converted.pop('head.fc.weight').shape == (1000, 512)
    del converted['head.fc.bias']
    without = [r'allocators\.\d\.score\.']
    check_weights(converted, backbone(image_hidden='deep'), without)
    with pytest.raises(CheckpointError, match=r'30 keys missing: .*score'):
        check_weights(converted, backbone(image_hidden='deep'))
    with pytest.raises(CheckpointError, match=r'does not have.*image_mlp\.3\.0'):
        check_weights(converted, backbone(), without)
    fewer = convert_state_dict('arta', state, {'image_mlp': 'drop'})
    assert not any('image_mlp' in key for key in fewer)
    del fewer['head.fc.weight'], fewer['head.fc.bias']
    check_weights(fewer, backbone(), [*without, 'image_mlp'])


def test_all_unmatched_keys_are_named():
    state = {f'backbones.0.other{number}': torch.zeros(1) for number in range(40)}
    with pytest.raises(CheckpointError, match='40 keys without a rule') as error:
        convert_state_dict('arta', state)
    assert all(key in str(error.value) for key in state)


@pytest.mark.parametrize(
    'family, options, message',
    [
        ('other', {}, "unknown family 'other', expected one of"),
        ('arta', {'image_mpl': 'drop'}, r"unknown options \['image_mpl'\].*image_mlp"),
        ('arta', {'image_mlp': 'no'}, "must be 'keep' or 'drop', found 'no'"),
    ],
)
def test_bad_requests_are_named(family, options, message):
    with pytest.raises(CheckpointError, match=message):
        convert_state_dict(family, {}, options)


def test_shapes_are_compared():
    model = torch.nn.Linear(3, 2)
    with pytest.raises(CheckpointError) as error:
        check_weights({'weight': torch.ones(3, 3), 'gain': torch.ones(1)}, model)
    for part in (
        '1 keys that the model does not have: gain',
        '1 keys missing: bias',
        'weight [3, 3] instead of [2, 3]',
    ):
        assert part in str(error.value)


def test_converters_are_found_and_have_names_of_their_own():
    assert {'aff', 'arta', 'cts', 'dtop', 'dups', 'lrformer', 'segvit'} <= set(CONVERTERS)
    with pytest.raises(ValueError, match=r'arta has a converter in mmseg_arta\.checkpoints\.arta'):
        converts('arta')(dict)


def test_written_files_are_whole_or_not_there(tmp_path, monkeypatch):
    target = tmp_path / 'out.pth'
    write_checkpoint({'a': torch.ones(2)}, target, {'family': 'arta'})
    found = torch.load(target, weights_only=True)
    assert found['state_dict']['a'].tolist() == [1, 1] and found['meta']['family'] == 'arta'
    # Others may read it as they may read any new file here.
    (tmp_path / 'other').write_text('')
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / 'other').stat().st_mode)

    before = target.read_bytes()

    def interrupted(content, file):
        file.write_bytes(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint({'a': torch.zeros(2)}, target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other', 'out.pth']


@pytest.mark.parametrize('name', ['', 'none/out.pth'], ids=['folder', 'no-folder'])
def test_bad_targets_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match='folder'):
        write_checkpoint({'a': torch.ones(1)}, tmp_path / name)


def own_classifier():
    return {
        'backbone.stem.weight': torch.ones(2),
        'head.fc.weight': torch.ones(1, 2),
        'head.fc.bias': torch.ones(1),
    }


def test_own_pre_training_has_the_layout_already():
    weights = own_classifier()
    for family in ('arta', 'dups', 'aff', 'lrformer'):
        assert convert_state_dict(family, weights) == weights
    with pytest.raises(CheckpointError, match=r"takes no options, found \['image_mlp'\]"):
        convert_state_dict('arta', weights, dict(image_mlp='drop'))
    # A backbone by itself, or with another head, is someone else's.
    for other in ('head.fc.weight', 'backbone.stem.weight'):
        rest = {key: value for key, value in weights.items() if key != other}
        with pytest.raises(CheckpointError, match='does not have the expected layout'):
            convert_state_dict('arta', rest)


def test_checkpoints_of_own_runs_are_read_with_their_logs(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        meta=dict(epoch=1, seed=3),
        state_dict=own_classifier(),
        message_hub=dict(log_scalars={'train/loss': buffer}, runtime_info=dict(iter=np.int64(2))),
        optimizer=dict(state={}, param_groups=[dict(lr=np.float64(0.1))]),
    )
    torch.save(content, tmp_path / 'epoch_1.pth')
    assert read_state_dict(tmp_path / 'epoch_1.pth').keys() == own_classifier().keys()
    loaded = load_safely(tmp_path / 'epoch_1.pth')
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == 1.5


def test_whatever_bytes_there_are_the_error_names_the_file(tmp_path):
    path = tmp_path / 'a.pth'
    chance = random.Random(0)
    texts = [b'root:x:0:0:root:/root:/bin/bash', b'}q.', b'<html></html>', b'PK\x03\x04']
    for content in [*texts, *(chance.randbytes(chance.randint(1, 40)) for _ in range(300))]:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_state_dict(path)


class Reaching:
    """Reaches for an attribute of something else while it is read."""

    def __init__(self, owner, name):
        self.target = owner, name

    def __reduce__(self):
        return getattr, self.target


@pytest.mark.parametrize(
    'target', [(np.ndarray, 'tofile'), (HistoryBuffer, '__init__')], ids=['array', 'private']
)
def test_no_other_attribute_is_reached(tmp_path, target):
    torch.save({'state_dict': Reaching(*target)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds more than tensors'):
        load_safely(tmp_path / 'a.pth')
