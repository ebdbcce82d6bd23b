"""Every segmentation config builds, its name says what it does, and its whole model learns."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    TRANSFORMS,
)
from mmseg.structures import SegDataSample

from mmseg_arta.analysis.reduced import build_on_meta, reduced_model
from mmseg_arta.analysis.sweep import Subject
from mmseg_arta.analysis.sweep.plan import missing_need
from mmseg_arta.models import ARTA

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / 'configs').rglob('*.py')
    # Those of mmpretrain are checked in test_imagenet_configs.py.
    if not {'_base_', 'imagenet'} & set(path.relative_to(ROOT).parts)
)
NAME = re.compile(r'_(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<iters>\d+)k_.*-(?P<h>\d+)x(?P<w>\d+)$')


@cache
def load(path):
    return Config.fromfile(ROOT / path)


def skip_without_needs(path):
    reason = missing_need(Subject(path, load(path)))
    if reason is not None:
        pytest.skip(reason)


def heads(model):
    """Configs of all decode heads."""
    head = model['decode_head']
    return list(head) if isinstance(head, (list, tuple)) else [head]


def walk(value):
    """All dicts in a config."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list, tuple)):
            yield from walk(item)


def key_of(model, without=()):
    """Equal for configs of the same model, whatever it is fed and tested with."""

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in without}
        return [strip(item) for item in value] if isinstance(value, (list, tuple)) else value

    kept = {key: value for key, value in model.items() if key != 'data_preprocessor'}
    return json.dumps(strip(kept), sort_keys=True, default=str)


def build_whole(model, built={}):  # noqa: B006  shared by all configs of a model
    key = key_of(model)
    if key not in built:
        built[key] = build_on_meta(model)
    return built[key]


def test_there_are_configs_and_their_names_are_unique():
    assert len(CONFIGS) > 5
    assert len({path.name for path in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_says_what_it_is(path):
    assert (ROOT / path).read_text().startswith('# ')
    config = load(path)
    name = NAME.search(path.stem)
    assert name, 'names end in _<gpus>xb<batch>-<iterations>k_<dataset>-<crop>'
    assert config.train_dataloader.batch_size == int(name['batch'])
    assert config.train_cfg.max_iters == int(name['iters']) * 1000
    assert config.param_scheduler[-1]['end'] == config.train_cfg.max_iters
    crop = (int(name['h']), int(name['w']))
    assert tuple(config.crop_size) == crop == tuple(config.model.data_preprocessor['size'])
    crops = [step['crop_size'] for step in walk(config.train_pipeline) if 'crop_size' in step]
    assert all(tuple(found) == crop for found in crops)
    assert config.optim_wrapper.type == 'OptimWrapper'  # mixed precision is the --amp switch
    assert 'mmseg_arta' in config.custom_imports['imports']
    # A resumed run shuffles by the seed of its config.
    assert config.randomness.seed is not None


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds(path):
    config = load(path)
    skip_without_needs(path)
    model = build_whole(config.model.to_dict())
    if isinstance(model.backbone, ARTA):
        assert model.with_auxiliary_head or config.model.backbone.get('straight_through')
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        kind = DATASETS.get(dataset.type)
        assert kind is not None
        for head in heads(config.model):
            # A head of two outcomes decides something else than the class.
            if head.get('num_classes', 0) > 2:
                assert head['num_classes'] == len(kind.METAINFO['classes'])
        for step in dataset.pipeline:
            TRANSFORMS.build(step)
    for step in config.tta_pipeline:
        TRANSFORMS.build(step)
    constructor = config.optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(constructor) is not None
    # The other default hooks need a runner's visualizer.
    for hook in [config.default_hooks.checkpoint, *config.get('custom_hooks', [])]:
        HOOKS.build(hook)


@pytest.mark.parametrize(
    'path', [path for path in CONFIGS if '-policy_' in path.stem], ids=lambda path: path.stem
)
def test_metrics_of_policy_networks_count_the_groups_of_their_heads(path):
    config = load(path)
    (head,) = heads(config.model)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        metric = METRICS.build(evaluator)
        assert metric.patch_size == head.get('patch_size', 16)


def samples(num_classes, size):
    cells = torch.randint(0, num_classes, (2, 1, size // 8, size // 8))
    labels = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
    meta = dict(img_shape=(size, size), pad_shape=(size, size), ori_shape=(size, size))
    return [SegDataSample(gt_sem_seg=PixelData(data=x), metainfo=meta) for x in labels]


def without_numbers(value):
    """Equal for models of one structure in different sizes."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        kept = [without_numbers(item) for item in value]
        return [item for item in kept if item != 0]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return 0 if number else value


def reduced_models():
    """Reduced model of everything that differs in more than data, testing and sizes."""
    found = {}
    for path in CONFIGS:
        try:
            model = reduced_model(load(path).model.to_dict()) | dict(data_preprocessor=None)
        except Exception:
            continue  # test_config_says_what_it_is shows what is wrong
        found.setdefault(key_of(without_numbers(model), ('test_cfg',)), (path, model))
    return [pytest.param(path, model, id=path.stem) for path, model in found.values()]


@pytest.mark.parametrize('path, config', reduced_models())
def test_every_parameter_gets_a_gradient(path, config):
    skip_without_needs(path)
    classes = max(head.get('num_classes', 2) for head in heads(config))
    model = MODELS.build(config)
    model.init_weights()
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(classes, 64))
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite()
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
