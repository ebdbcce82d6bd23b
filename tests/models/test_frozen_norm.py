"""Frozen layers compute what they did in eval mode, and are left alone by what replaces norms."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from torch import nn

from mmseg_arta.models import GroupPolicyNet, StepViT
from mmseg_arta.models.layers import FrozenBatchNorm, freeze


def trained(*layers: nn.Module) -> nn.Sequential:
    """Layers with statistics and weights of their own."""
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    model(torch.randn(4, 3, 6, 6))
    return model


@pytest.mark.parametrize(
    'options',
    [{}, dict(affine=False), dict(track_running_stats=False), dict(eps=0.1, momentum=None)],
    ids=str,
)
def test_outputs_and_keys_are_those_of_eval_mode(options):
    model = trained(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, **options))
    expected = copy.deepcopy(model).eval()
    freeze(model)
    assert isinstance(model[1], FrozenBatchNorm) and not list(model.parameters())
    assert sorted(model.state_dict()) == sorted(expected.state_dict())
    image = torch.randn(2, 3, 4, 4)
    for mode in (False, True):
        model.train(mode)
        assert torch.equal(model(image), expected(image))
    assert torch.equal(model.double()(image.double()), expected.double()(image.double()))
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key])
    other = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, **options))
    freeze(other)
    other.float().load_state_dict(expected.float().state_dict())
    assert torch.equal(other(image), expected(image))


def test_states_of_before_there_were_counters_fit():
    model = trained(nn.BatchNorm2d(3))
    weights = {k: v for k, v in model.state_dict().items() if 'num_batches' not in k}
    freeze(model)
    model.load_state_dict(weights)


def test_a_layer_in_two_places_stays_one():
    norm = nn.BatchNorm2d(3)
    model = trained(norm, nn.Sequential(norm))
    freeze(model)
    assert model[0] is model[1][0]


def test_layers_that_compute_something_else_are_kept():
    class WithActivation(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    model = trained(WithActivation(3))
    freeze(model)
    assert type(model[0]) is WithActivation and not list(model.parameters())


@pytest.mark.parametrize('convert', [convert_sync_batchnorm, revert_sync_batchnorm])
def test_synchronised_norms_leave_a_policy_network_alone(convert):
    backbone = StepViT(
        dict(embed_dims=32, num_layers=1, num_heads=2),
        merging=dict(type='TopGroupMerging', share=0.5),
        policy_net={'type': 'GroupPolicyNet'},
        img_size=64,
        out_indices=(0,),
    )
    model = nn.ModuleDict(dict(backbone=backbone, norm=nn.BatchNorm2d(3)))
    image = torch.randn(1, 3, 64, 64)
    keys = list(model.state_dict())
    expected = backbone.policy_net.scores(image, (4, 4), 16)
    model = convert(model)
    assert isinstance(model.norm, nn.SyncBatchNorm) == (convert is convert_sync_batchnorm)
    policy = model.backbone.policy_net
    assert isinstance(policy, GroupPolicyNet)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in policy.modules())
    assert list(model.state_dict()) == keys and not list(policy.parameters())
    found = model.train().backbone.policy_net.scores(image, (4, 4), 16)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[size], expected[size]) for size in expected)
