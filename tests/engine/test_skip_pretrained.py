"""Pre-trained files are looked for where a run starts, and only there."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner

from mmseg_arta.models import ARTA
from mmseg_arta.models.backbones.pretrained import drop_pretrained

ARCH = dict(
    dims=(32, 16, 8, 8),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
)


class Classifier(BaseModel):
    """A backbone that starts from a file."""

    def __init__(self, checkpoint):
        super().__init__()
        init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
        self.backbone = ARTA(ARCH, init_cfg=init_cfg)
        self.head = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='loss'):
        levels = self.backbone(inputs).levels
        head = self.head.weight.square().sum() + self.head.bias.square().sum()
        return dict(loss=sum(level.feats.square().mean() for level in levels) + head)


def run(work_dir, checkpoint, hook=True, iterations=2, **options):
    model = Classifier(checkpoint)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            batch_size=1,
            dataset=[torch.randn(3, 32, 32) for _ in range(2)],
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)),
        custom_hooks=[dict(type='SkipPretrainedHook')] if hook else [],
        default_scope='mmseg',
        **options,
    )
    # Collated images come as a dict's worth of keyword arguments in stock models; here as a list.
    model.data_preprocessor.forward = lambda data, training=False: dict(inputs=data)
    runner.train()
    return {key: value.clone() for key, value in model.backbone.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture
def pretrained(tmp_path):
    torch.save(ARTA(ARCH).state_dict(), tmp_path / 'pretrained.pth')
    return tmp_path / 'pretrained.pth'


def test_a_run_that_goes_on_does_not_need_the_file(pretrained, tmp_path):
    first = run(tmp_path / 'run', pretrained)
    assert same(first, torch.load(pretrained))
    gone = tmp_path / 'gone.pth'
    with pytest.raises(FileNotFoundError, match=r'gone.pth.*does not exist'):
        run(tmp_path / 'other', gone)
    last = tmp_path / 'run/iter_2.pth'
    assert same(run(tmp_path / 'tuned', gone, load_from=str(last)), first)
    assert same(run(tmp_path / 'run', gone, iterations=3, resume=True), first)
    with pytest.raises(FileNotFoundError, match=r'gone.pth.*does not exist'):
        run(tmp_path / 'without', gone, hook=False, load_from=str(last))


def test_nothing_to_resume_from_is_a_start(pretrained, tmp_path):
    assert same(run(tmp_path / 'new', pretrained, resume=True), torch.load(pretrained))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        run(tmp_path / 'newer', tmp_path / 'gone.pth', resume=True)


def test_what_a_loaded_checkpoint_lacks_comes_from_the_file(pretrained, tmp_path):
    whole = Classifier(pretrained).state_dict()
    head = {key: value for key, value in whole.items() if key.startswith('head.')}
    torch.save(head, tmp_path / 'head.pth')
    tuned = run(tmp_path / 'head', pretrained, load_from=str(tmp_path / 'head.pth'))
    assert same(tuned, torch.load(pretrained))
    with pytest.raises(FileNotFoundError, match=r'gone.pth.*does not exist'):
        run(tmp_path / 'gone', tmp_path / 'gone.pth', load_from=str(tmp_path / 'head.pth'))
    # As the model within a wrapper is saved.
    wrapped = {f'module.{key}': value for key, value in whole.items()}
    torch.save(dict(state_dict=wrapped), tmp_path / 'wrapped.pth')
    wrapped = run(
        tmp_path / 'wrapped', tmp_path / 'gone.pth', load_from=str(tmp_path / 'wrapped.pth')
    )
    assert all(torch.equal(value, whole[f'backbone.{key}']) for key, value in wrapped.items())


def test_a_missing_checkpoint_is_named_before_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'mistyped.pth, the checkpoint of load_from'):
        run(tmp_path / 'run', tmp_path / 'gone.pth', load_from=str(tmp_path / 'mistyped.pth'))


def test_a_checkpoint_that_cannot_be_read_safely_replaces_no_file(pretrained, tmp_path):
    weights = {key: value + 1 for key, value in Classifier(pretrained).state_dict().items()}
    path = tmp_path / 'stranger.pth'
    torch.save(dict(state_dict=weights, meta=run), path)
    tuned = run(tmp_path / 'run', pretrained, load_from=str(path))
    assert all(torch.equal(value, weights[f'backbone.{key}']) for key, value in tuned.items())
    with pytest.raises(FileNotFoundError, match=r'gone.pth.*does not exist'):
        run(tmp_path / 'gone', tmp_path / 'gone.pth', load_from=str(path))


def test_a_module_within_is_asked_for_by_itself():
    file = dict(type='Pretrained', checkpoint='gone.pth')

    def backbone():
        model = torch.nn.Module()
        model.backbone = BaseModule(dict(file))
        model.backbone.layer = torch.nn.Linear(1, 1)
        model.backbone.policy_net = BaseModule(dict(file))
        model.backbone.policy_net.norm = torch.nn.BatchNorm1d(1)
        return model

    layer = ['backbone.layer.weight', 'backbone.layer.bias']
    norm = [f'backbone.policy_net.norm.{name}' for name in ('weight', 'bias')]
    norm += [f'backbone.policy_net.norm.running_{name}' for name in ('mean', 'var')]
    assert drop_pretrained(backbone(), layer) == ['backbone']
    assert drop_pretrained(backbone(), norm) == ['backbone.policy_net']
    assert drop_pretrained(backbone(), layer[:1] + norm[1:]) == []
    assert drop_pretrained(backbone(), layer + norm) == ['backbone', 'backbone.policy_net']
    model = backbone()
    drop_pretrained(model, layer)
    assert model.backbone.init_cfg is None
    assert model.backbone.policy_net.init_cfg == file


def test_stock_modules_keep_the_initialisers_beside_the_file():
    normal = dict(type='Normal', layer='Linear')
    file = dict(type='Pretrained', checkpoint='gone.pth')
    parts = {
        'alone': BaseModule(file),
        'beside': BaseModule([normal, file]),
        'other': BaseModule(normal),
        'none': BaseModule(),
    }
    assert drop_pretrained(torch.nn.ModuleDict(parts)) == ['alone', 'beside']
    assert [part.init_cfg for part in parts.values()] == [None, [normal], normal, None]
