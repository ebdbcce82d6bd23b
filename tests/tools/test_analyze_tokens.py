"""Token statistics, cost and pictures from the command line."""

from __future__ import annotations

import json

import cv2
import pytest
import torch

from mmseg_arta.analysis.tokens import Spread, TokenUse, halting_table, merging_table
from mmseg_arta.datasets.toy import write_toy_dataset

CONFIG = """
custom_imports = dict(imports=['mmseg_arta'], allow_failed_imports=False)
default_scope = 'mmseg'
head = dict(in_channels=16, channels=8, num_classes=11, num_layers=1, num_heads=2,
            self_attention=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3,
                           bgr_to_rgb=True, size=(64, 64), seg_pad_val=255),
    backbone=dict(
        type='StepViT', arch=dict(embed_dims=16, num_layers=3, num_heads=2), img_size=64,
        out_indices=(2,),
        merging=dict(type='ThresholdMerging', thresholds={'2': 0.5, '4': 0.5}),
        policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2, 4))),
        halting=dict(after=(1,), head=dict(type='ATMTokenClassifier', **head),
                     policy=dict(type='ConfidenceHalting', threshold=0.0, keep_per_class=1)),
    ),
    decode_head=dict(type='HaltingATMHead', **head),
    test_cfg=dict(mode='whole'),
)
test_dataloader = dict(dataset=dict(
    type='CamVidDataset', data_root='{root}',
    data_prefix=dict(img_path='{image}', seg_map_path='{label}'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')]))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
"""


@pytest.fixture
def config(tmp_path):
    from mmseg_arta.datasets.toy import LAYOUTS

    root = tmp_path / 'camvid'
    write_toy_dataset(str(root), 'camvid', train=1, val=2, size=(64, 96), seed=0)
    image, label = LAYOUTS['camvid'].folders['val']
    text = CONFIG.replace('{root}', str(root)).replace('{image}', image)
    path = tmp_path / 'tiny.py'
    path.write_text(text.replace('{label}', label))
    return path


@pytest.fixture
def tool(load_tool):
    return load_tool('analyze_tokens.py')


def test_tables_of_merging_and_halting(tool, config, tmp_path, capsys):
    out = tmp_path / 'result.json'
    pictures = tmp_path / 'pictures'
    assert tool.main(
        [str(config), '--evaluate', '--json', str(out), '--pictures', str(pictures),
         '--thresholds', '0.0,0.0', '--thresholds', '1,1', '--thresholds', '2:0']
    ) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert 'halted after block 1' in printed and 'mIoU' in printed
    all_merge, none_merge, small = json.loads(out.read_text()).values()
    # 4x6 patches: one group of 4x4 and two of 2x2 beside it, or all patches.
    assert [row['mean'] for row in all_merge['superpatches'].values()] == [0, 2, 1]
    assert [row['max'] for row in none_merge['superpatches'].values()] == [24, 0, 0]
    assert [row['mean'] for row in small['superpatches'].values()] == [0, 6]
    assert none_merge['halted'][0]['min'] >= 24 - 11
    assert all_merge['gmacs'] < small['gmacs'] < none_merge['gmacs']
    files = sorted(pictures.glob('*.png'))
    assert len(files) == 6
    # Image, superpatches, one head, segmentation side by side.
    assert cv2.imread(str(files[0])).shape == (64, 4 * 96, 3)


def test_cost_of_every_layer(tool, config, tmp_path, capsys):
    out = tmp_path / 'layers.json'
    arguments = [str(config), '--per-layer', '--repeat', '1', '--images', '1', '--json', str(out)]
    assert tool.main([*arguments, '--thresholds', '1,1']) == 0
    layers = next(iter(json.loads(out.read_text()).values()))['layers']
    cost = {row['name']: row['gmacs'] for row in layers}
    names = [row['name'] for row in layers]
    assert names.index('backbone.layers.0') < names.index('backbone.halting.heads.0')
    assert names.index('backbone.halting.heads.0') < names.index('backbone.layers.1')
    # Halted tokens cost nothing any more.
    assert cost['backbone.layers.1'] == cost['backbone.layers.2'] < cost['backbone.layers.0']
    assert all(row['ms'] > 0 for row in layers if row['name'].startswith('backbone.layers'))


def test_heads_in_other_places(tool, config, tmp_path):
    out = tmp_path / 'heads.json'
    arguments = [str(config), '--halt-after', '1,2', '--halt-after', '2', '--images', '1']
    assert tool.main([*arguments, '--json', str(out)]) == 0
    both, late = json.loads(out.read_text()).values()
    assert len(both['halted']) == 2 and len(late['halted']) == 1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--thresholds', '16:0.5'], 'group_sizes'),
        (['--checkpoint', 'nowhere.pth'], 'nowhere.pth'),
        (['--cfg-options', 'model.backbone.halting=None', '--halt-after', '2'], 'halting'),
    ],
)
def test_bad_requests(tool, config, arguments, message, capsys):
    assert tool.main([str(config), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_statistics():
    uses = [TokenUse(64, {1: 40, 2: 6}, (5,)), TokenUse(64, {1: 64, 2: 0}, (1,))]
    assert merging_table(uses) == {1: Spread(52, 64, 40), 2: Spread(3, 6, 0)}
    assert halting_table(uses) == (Spread(3, 5, 1),) and uses[0].tokens == 46
    with pytest.raises(ValueError, match='no images'):
        Spread.of([])


def test_flops_follow_the_tokens_of_every_image(tool, config):
    """The cost of a block is that of the tokens it really got."""
    from mmseg_arta.analysis.flops.counter import OperatorCounter
    from mmseg_arta.analysis.flops.load import build_model, load_config

    model = build_model(load_config(str(config)))
    image = torch.randn(1, 3, 64, 64)
    found = []
    for value in (0.0, 1.0):
        scores = {s: torch.full((1, 4 // s, 4 // s), value) for s in (2, 4)}
        with torch.no_grad(), OperatorCounter(model) as counter:
            tokens = model.backbone(image, group_scores=scores)
        block = sum(
            macs for caller, macs in counter.operators.items()
            if caller.path.startswith('backbone.layers.0')
        )  # fmt: skip
        count = tokens.layout.lengths[0]
        # Linear layers 12 C^2, attention 2 N C, two norms of 5 C, per token.
        assert block == count * (12 * 16**2 + 2 * count * 16 + 2 * 5 * 16)
        found.append(count)
    assert found == [16, 1]
