"""Every pre-training config: names, recipes, models, and the segmentation models they start."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from tests.configs.resolved import CONFIGS as EVERY_CONFIG
from tests.configs.resolved import ROOT

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)

from mmpretrain.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

from mmseg_arta.analysis.reduced import build_on_meta

FOLDER = ROOT / 'configs' / 'imagenet'
CONFIGS = {n: path for n, path in EVERY_CONFIG.items() if path.is_relative_to(FOLDER)}
NAME = re.compile(
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<epochs>\d+)e_'
    r'(?P<data>in1k|in22k|cifar10)-(?P<h>\d+)x(?P<w>\d+)$'
)
DATA = dict(in1k='ImageNet', in22k='ImageNet21k', cifar10='CustomDataset')


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


@cache
def load(name: str) -> Config:
    return Config.fromfile(CONFIGS[name])


def model_of(name: str) -> torch.nn.Module:
    model = load(name).model.to_dict()
    model.pop('train_cfg', None)  # building mixup logs a line
    return build_on_meta(model)


def test_decaying_parameters_are_one_group_and_all_others_another():
    config = load('arta-tiny_16xb64-300e_in1k-224x224')
    model = model_of('arta-tiny_16xb64-300e_in1k-224x224')
    wrapper = {**config.optim_wrapper, 'optimizer': {**config.optim_wrapper.optimizer}}
    wrapper['optimizer']['foreach'] = False  # parameters here are without data
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    assert [group['weight_decay'] for group in groups] == [0.05, 0.0]
    for group in groups:
        # Biases and norms are vectors; they do not decay.
        assert all((param.ndim > 1) == (group['weight_decay'] > 0) for param in group['params'])
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))


def test_every_family_is_there():
    wanted = {
        *(f'{family}-{size}' for family in ('arta', 'dups') for size in ('tiny', 'small', 'base')),
        *(f'lrformer-{size}' for size in ('t', 's', 'b', 'l', 'xl', 'l-in22k', 'xl-in22k')),
        *(f'aff-{size}{rate}' for size in ('mini', 'tiny', 'small') for rate in ('', '-1-5')),
        *('arta-tiny-full', 'dups-tiny-full', 'swin-mini', 'arta-nano'),
        *(f'lrformer-s-{part}' for part in ('no-position-conv', 'no-mlp-conv', 'no-convs')),
    }
    assert wanted <= {name.split('_')[0] for name in CONFIGS}


@pytest.mark.parametrize('name', CONFIGS)
def test_config_says_what_it_is(name):
    assert CONFIGS[name].read_text().startswith('# ')
    config = load(name)
    found = NAME.search(name)
    assert found, 'names end in _<gpus>xb<batch>-<epochs>e_<data>-<height>x<width>'
    assert config.train_dataloader.batch_size == int(found['batch'])
    total = int(found['gpus']) * int(found['batch'])
    assert config.auto_scale_lr.base_batch_size == total
    assert config.train_cfg.max_epochs == int(found['epochs'])
    # Schedules follow each other without a gap, up to the end.
    ends = [0]
    for step in config.param_scheduler:
        assert step.begin == ends[-1] and step.by_epoch
        ends.append(step.end)
    assert ends[-1] == config.train_cfg.max_epochs
    assert config.train_dataloader.dataset.type == DATA[found['data']]
    assert tuple(config.image_size) == (int(found['h']), int(found['w']))
    assert config.optim_wrapper.type == 'OptimWrapper'  # mixed precision is the --amp switch
    assert config.custom_imports['imports'] == ['mmseg_arta.pretrain']
    assert config.default_scope == 'mmpretrain'


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name):
    config = load(name)
    model = model_of(name)
    classes = config.model.head.num_classes
    assert model.head.fc.out_features == classes == config.data_preprocessor.num_classes
    # The classifier pools what the backbone hands out last.
    assert config.model.head.in_channels == model.head.fc.in_features
    for loader in ('train', 'val', 'test'):
        dataset = (config[f'{loader}_dataloader'] or {}).get('dataset')
        if dataset is None:
            assert loader == 'val' and config.val_cfg is None
            continue
        assert DATASETS.get(dataset.type) is not None
        for step in dataset.pipeline:
            TRANSFORMS.build(step)
    hooks = [HOOKS.build(one) for one in (config.default_hooks.checkpoint, *config.custom_hooks)]
    names = {type(hook).__name__ for hook in hooks}
    assert 'IterationSeedHook' in names
    scheduled = getattr(getattr(model.backbone, 'policy', None), 'scheduled', False)
    assert ('AllocationProgressHook' in names) == scheduled
    # What the hook can seed: workers that start anew and take the seeds that PyTorch gives them.
    assert config.train_dataloader.persistent_workers is False
    assert config.train_dataloader.worker_init_fn.type == 'keep_worker_seeds'
    assert config.randomness.seed is not None


@pytest.mark.parametrize('name', CONFIGS)
def test_crops_have_the_size_of_the_name(name):
    config = load(name)
    size = config.image_size[0]
    last = {}
    for loader in ('train', 'test'):
        for step in config[f'{loader}_dataloader'].dataset.pipeline:
            if step.type in ('RandomResizedCrop', 'Resize'):
                last[loader] = step.scale
            elif step.type in ('RandomCrop', 'CenterCrop'):
                last[loader] = step.crop_size
    assert [x if isinstance(x, int) else x[0] for x in last.values()] == [size, size]


@pytest.mark.parametrize('name', [name for name in CONFIGS if name.startswith(('arta', 'dups'))])
def test_schedules_of_the_papers(name):
    policy = model_of(name).backbone.policy
    assert policy.schedule == ((1.0, 1.0) if '-full_' in name else (1.0, 0.5))
    assert policy.inference == policy.schedule[1]


def test_the_nano_model_is_the_backbone_of_camvid():
    (name,) = [name for name in CONFIGS if name.startswith('arta-nano')]
    ours = model_of(name).backbone.state_dict()
    camvid = Config.fromfile(EVERY_CONFIG['arta-nano_mask2former_1xb4-2k_camvid-256x256'])
    init_default_scope('mmseg')
    theirs = build_on_meta(camvid.model.backbone.to_dict()).state_dict()
    scores = {key for key in theirs if '.score.' in key}
    assert scores and ours.keys() == theirs.keys() - scores
    assert all(ours[key].shape == theirs[key].shape for key in ours)


#: A classifier's config, a segmentation config that starts from it, and parts that are new there.
STARTS = {
    'arta-tiny': ('arta-tiny_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'arta-small': ('arta-small_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'arta-base': ('arta-base_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'dups-tiny': ('dups-tiny_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'dups-small': ('dups-small_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'dups-base': ('dups-base_mask2former_4xb8-80k_ade20k-512x512', r'\.score\.'),
    'lrformer-t': ('lrformer-t_lrhead_4xb4-160k_ade20k-512x512', None),
    'lrformer-l-in22k': ('lrformer-l-in22k_lrhead_4xb4-160k_ade20k-640x640', None),
    'lrformer-s-no-convs': ('lrformer-s_no-convs_4xb4-80k_ade20k-512x512', None),
    'aff-mini': ('aff-mini_mask2former_4xb8-80k_ade20k-512x512', r'stages\.[012]\.norm\.'),
    'aff-small-1-5': ('aff-small-1-5_mask2former_4xb8-80k_ade20k-512x512', r'stages\.[012]\.norm'),
    'swin-mini': ('mask2former_swin-mini_4xb8-80k_ade20k-512x512', r'norms\.[012]\.'),
}


@pytest.mark.parametrize('start', STARTS)
def test_weights_start_the_segmentation_model(start):
    other, new = STARTS[start]
    name = next(name for name in CONFIGS if name.startswith(f'{start}_'))
    ours = model_of(name).backbone.state_dict()
    config = Config.fromfile(EVERY_CONFIG[other])
    init_default_scope('mmseg')
    theirs = build_on_meta(config.model.backbone.to_dict()).state_dict()
    assert not [key for key in ours if key not in theirs]
    assert not [key for key in ours if ours[key].shape != theirs[key].shape]
    missing = theirs.keys() - ours.keys()
    assert bool(missing) == (new is not None)
    assert not [key for key in missing if not re.search(new, key)]


@pytest.mark.parametrize(
    'name, millions',
    [
        ('lrformer-t', 11.65),
        ('lrformer-l', 99.95),
        ('aff-mini', 6.754),
        ('aff-tiny', 27.020),
        ('aff-small', 42.613),
        ('aff-small-1-5', 42.613),
    ],
)
def test_parameters_of_the_published_classifiers(name, millions):
    name = next(one for one in CONFIGS if one.startswith(f'{name}_'))
    found = sum(p.numel() for p in model_of(name).parameters()) / 1e6
    assert found == pytest.approx(millions, rel=2e-3)


def test_two_allocation_schedules_and_no_more_are_registered():
    assert MODELS.get('RandomAllocation') is not None
    assert MODELS.get('ThresholdAllocation') is None
