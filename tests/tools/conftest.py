from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mmseg_arta.datasets.toy import LAYOUTS, write_toy_dataset

TOOLS = Path(__file__).parents[2] / 'tools'

STEP_CONFIG = """
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

AFF_CONFIG = """
custom_imports = dict(imports=['mmseg_arta'], allow_failed_imports=False)
default_scope = 'mmseg'
dims = (8, 8, 16, 16)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3,
                           bgr_to_rgb=True, size=(64, 64), seg_pad_val=255),
    backbone=dict(type='AutoFocusFormer',
                  arch=dict(dims=dims, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
    decode_head=dict(type='SparseMask2FormerHead', in_channels=dims[::-1], num_classes=11,
                     dim=16, num_queries=8,
                     pixel_decoder=dict(num_layers=1, num_heads=2, hidden=32),
                     transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32)),
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
def load_tool() -> Callable[[str], ModuleType]:
    """Import a file under tools/, which is no package."""

    def load(name: str) -> ModuleType:
        path = TOOLS / name
        spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def toy_camvid(tmp_path: Path) -> Path:
    """CamVid in toy scenes: a training image and three to validate and test on."""
    root = tmp_path / 'camvid'
    write_toy_dataset(str(root), 'camvid', train=1, val=3, size=(64, 96), seed=0)
    return root


def _config(text: str, root: Path, path: Path) -> Path:
    image, label = LAYOUTS['camvid'].folders['val']
    text = text.replace('{root}', str(root)).replace('{image}', image)
    path.write_text(text.replace('{label}', label))
    return path


@pytest.fixture
def step_config(toy_camvid: Path, tmp_path: Path) -> Path:
    """The smallest STEP, with toy data to test on."""
    return _config(STEP_CONFIG, toy_camvid, tmp_path / 'step-tiny_halting.py')


@pytest.fixture
def nameless() -> list[str]:
    """Settings after which the toy data to test on have no classes."""
    dataset = 'test_dataloader.dataset'
    settings = ('type=BaseSegDataset', 'img_suffix=.png', 'seg_map_suffix=.png')
    return [f'{dataset}.{setting}' for setting in settings]


@pytest.fixture
def aff_config(toy_camvid: Path, tmp_path: Path) -> Path:
    """The smallest AutoFocusFormer, with toy data to test on."""
    return _config(AFF_CONFIG, toy_camvid, tmp_path / 'aff-tiny_mask2former.py')
