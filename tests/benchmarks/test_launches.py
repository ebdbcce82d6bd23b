"""The command that counts launches: a prediction and a training step of a small model."""

from __future__ import annotations

import json

import pytest

from benchmarks import launches

CONFIG = 'arta-nano_segformer_1xb4-2k_camvid-256x256'


@pytest.mark.parametrize('train', [False, True], ids=['predict', 'train'])
def test_counts_by_component(train, tmp_path, capsys):
    out = tmp_path / 'launches.json'
    shape = ['--shape', '64', '64', '--allocation', '0.3', '--operators', '5', '--json', str(out)]
    assert launches.main([CONFIG, *shape, *(['--train'] if train else [])]) == 0
    (found,) = json.loads(out.read_text())['models'].values()
    parts, whole = found['parts'], found['all']
    assert {'backbone/allocators', 'decode_head'} <= set(parts)
    assert ('backward' in parts) == ('optimizer' in parts) == train
    for name, total in whole.items():
        assert total == sum(part[name] for part in parts.values())
    assert whole['dispatched'] > whole['launched'] > 100
    assert whole['macs'] > 0 and whole['bytes'] > 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ['all', str(whole['dispatched'])] for line in printed)
    # A share of the tokens is known on the host, so a prediction reads nothing there.
    if not train:
        assert not found['waits']
        return
    # Parameters with equal settings are stepped together. MMEngine reads the gradient's norm.
    assert parts['optimizer']['launched'] < 150 and parts['optimizer']['synced'] == 1


def test_compiled_models_start_fewer(tmp_path, capsys):
    config, out = 'segvit-v2_vit-ti16_1xb4-2k_camvid-256x256', tmp_path / 'launches.json'
    # Compiling takes seconds a block.
    short = ['model.backbone.arch.num_layers=3', 'model.backbone.out_indices=(0,1,2)']
    shape = ['--shape', '64', '64', '--operators', '3', '--json', str(out)]
    assert launches.main([config, *short, '--compile', *shape]) == 0
    (found,) = json.loads(out.read_text())['models'].values()
    compiled, eager = found['compiled'], found['operators']
    total = sum(compiled.values())
    assert total < found['all']['launched']
    # Products stay, but for those that nothing needs; norms and activations are no operators.
    assert 0.9 * eager['addmm'] < compiled['addmm'] <= eager['addmm']
    assert eager['native_layer_norm'] and not {'native_layer_norm', 'gelu'} & set(compiled)
    line = f'compiled: {total} kernels, {compiled["generated"]} of them'
    assert line in capsys.readouterr().out


# What a prediction may ask of a GPU. Kernels may only become fewer; a wait is one read of the
# tokens of a round, where the scores decide how many there are; nothing is copied from the host.
BUDGETS = {
    'arta-tiny_mask2former_4xb8-80k_ade20k-512x512': ('0.3', 1250, 0),
    'dups-tiny_mask2former_4xb8-80k_ade20k-512x512': ('model', 1250, 3),
    'aff-tiny-1-5_mask2former_4xb8-80k_ade20k-512x512': ('model', 1190, 0),
    'lrformer-s_lrhead_4xb4-160k_ade20k-512x512': ('model', 770, 0),
    'segvit-v2_vit-b16_1xb4-160k_ade20k-512x512': ('model', 360, 0),
}


@pytest.mark.parametrize('config', BUDGETS)
def test_a_prediction_stays_within_its_budget(config):
    allocation, kernels, waits = BUDGETS[config]
    args = launches.parse_args([config, '--allocation', allocation, '--shape', '64', '64'])
    (found,) = launches.measure(args).values()
    whole = found['all']
    assert whole['launched'] <= kernels
    assert (whole['synced'], whole['copied']) == (waits, 0)
