"""Token statistics, cost and pictures from the command line."""

from __future__ import annotations

import csv
import json
import re

import pytest
import torch
from PIL import Image

from mmseg_arta.analysis.tokens import Spread, TokenUse, halting_table, merging_table

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'


@pytest.fixture
def tool(load_tool):
    return load_tool('analyze_tokens.py')


@pytest.fixture
def options(toy_camvid):
    root, size = 'test_dataloader.dataset.data_root', 'test_dataloader.dataset.pipeline.1.scale'
    return ['--cfg-options', f'{root}={toy_camvid}', f'{size}=(96,64)']


def test_tables_of_merging_and_halting(tool, step_config, tmp_path, capsys):
    out = tmp_path / 'result.json'
    assert tool.main(
        [str(step_config), '--evaluate', '--json', str(out),
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
    # Where patches merged, boundary lies under fewer single ones.
    covered = [row['spending'][0]['covered'] for row in (all_merge, none_merge)]
    assert covered[0] < covered[1] == 100


def test_cost_of_every_layer(tool, step_config, tmp_path, capsys):
    out = tmp_path / 'layers.json'
    arguments = [
        str(step_config),
        '--per-layer',
        '--repeat',
        '1',
        '--images',
        '1',
        '--json',
        str(out),
    ]
    assert tool.main([*arguments, '--thresholds', '1,1']) == 0
    layers = next(iter(json.loads(out.read_text()).values()))['layers']
    cost = {row['name']: row['gmacs'] for row in layers}
    names = [row['name'] for row in layers]
    assert names.index('backbone.layers.0') < names.index('backbone.halting.heads.0')
    assert names.index('backbone.halting.heads.0') < names.index('backbone.layers.1')
    # Halted tokens cost nothing any more.
    assert cost['backbone.layers.1'] == cost['backbone.layers.2'] < cost['backbone.layers.0']
    assert all(row['ms'] > 0 for row in layers if row['name'].startswith('backbone.layers'))
    # What belongs to no layer is never timed.
    assert layers[-1]['name'] == 'rest' and layers[-1]['ms'] is None
    (rest,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith('rest'))
    assert rest.endswith('GMAC         -')


def test_heads_in_other_places(tool, step_config, tmp_path):
    out = tmp_path / 'heads.json'
    arguments = [str(step_config), '--halt-after', '1,2', '--halt-after', '2', '--images', '1']
    assert tool.main([*arguments, '--json', str(out)]) == 0
    both, late = json.loads(out.read_text()).values()
    assert len(both['halted']) == 2 and len(late['halted']) == 1


def rows_of(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_tokens_boundary_and_quality_of_every_image(tool, options, tmp_path, capsys):
    out, result = tmp_path / 'out', tmp_path / 'result.json'
    arguments = [NANO, '--allocation', '0.4', *options]
    assert tool.main([*arguments, '--out', str(out), '--json', str(result)]) == 0
    printed = capsys.readouterr().out
    assert 'round 3, 8 px' in printed and 'boundary IoU' in printed
    names = sorted(path.name for path in out.iterdir())
    tables = ['classes.csv', 'spending.csv', 'tokens.csv']
    plots = ['bands.png', 'classes.png', 'spending.png', 'tokens.png']
    assert names == sorted(tables + plots)
    for plot in plots:
        with Image.open(out / plot) as image:
            assert min(image.size) > 250
    (found,) = json.loads(result.read_text()).values()
    tokens = rows_of(out / 'tokens.csv')
    images = {row['image'] for row in tokens}
    assert len(images) == found['images'] == 3
    # 2x3 tokens of 32 px; 40 % of them get four each, and so on.
    counts = {row['kind']: int(row['tokens']) for row in tokens if row['image'] == min(images)}
    assert counts == {'32 px': 6, '16 px': 8, '8 px': 12, '4 px': 16}
    spent = rows_of(out / 'spending.csv')
    assert [row['name'] for row in spent] == ['round 1', 'round 2', 'round 3'] * 3
    for row in spent:
        assert float(row['covered']) <= float(row['covered_oracle']) <= int(row['boundary'])
        assert float(row['away_oracle']) <= float(row['away']) <= int(row['chosen'])
    classes = rows_of(out / 'classes.csv')
    assert len(classes) == 11 and classes[0]['class'] == 'Sky'
    seen = [float(row['boundary IoU']) for row in classes if row['boundary IoU']]
    assert sum(seen) / len(seen) == pytest.approx(found['boundaries']['boundary IoU'], abs=1e-3)


def test_every_token_covers_every_boundary(tool, options, tmp_path):
    result = tmp_path / 'result.json'
    slide = ['model.test_cfg.crop_size=(64,64)', 'model.test_cfg.stride=(32,32)']
    for mode, extra in (('whole', []), ('slide', slide)):
        arguments = [NANO, '--allocation', 'full', '--mode', mode, '--images', '1', *options]
        assert tool.main([*arguments, *extra, '--json', str(result)]) == 0
        (found,) = json.loads(result.read_text()).values()
        for row in found['spending']:
            assert row['covered'] == row['covered_random'] == row['covered_oracle'] == 100
            assert row['away'] == row['away_random'] == row['away_oracle'] < 100
        # Windows of 64x64 on 64x96: two of them.
        assert found['tokens']['4 px']['max'] == (384 if mode == 'whole' else 256)


def test_stages_of_autofocusformer(tool, aff_config, tmp_path):
    out = tmp_path / 'out'
    assert tool.main([str(aff_config), '--images', '2', '--out', str(out)]) == 0
    counts = [(row['kind'], row['tokens']) for row in rows_of(out / 'tokens.csv')]
    assert counts == [('32 px', '6'), ('16 px', '24'), ('8 px', '96'), ('4 px', '384')] * 2
    for row in rows_of(out / 'spending.csv'):
        stage = int(row['name'].removeprefix('stage '))
        assert row['patch_size'] == '4' and int(row['chosen']) == 384 // 4 ** (stage - 1)
        share = float(row['covered_random']) / int(row['boundary'])
        assert share == pytest.approx(0.25 ** (stage - 1))


def test_models_without_tokens_are_judged_near_boundaries(tool, options, tmp_path, capsys):
    name = 'segformer_mit-b0_1xb4-2k_camvid-256x256'
    out = tmp_path / 'out'
    assert tool.main([name, '--images', '1', '--out', str(out), *options]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ['bands.png', 'classes.csv', 'classes.png']
    assert 'IoU within 4 px' in capsys.readouterr().out


def test_bad_requests_are_one_line_and_leave_nothing(tool, step_config, nameless, tmp_path, capsys):
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'backbone.strange': torch.zeros(1)}), other)
    out = tmp_path / 'out'
    out.mkdir()
    missing = 'test_dataloader.dataset.data_root=nowhere'
    cases = [
        (['--thresholds', '16:0.5'], 'group_sizes'),
        (['--thresholds', 'low'], "expected numbers such as '0.6,0.8,0.9,0.9'"),
        (['--checkpoint', 'nowhere.pth'], "checkpoint 'nowhere.pth' does not exist"),
        (['--checkpoint', str(other)], 'other.pth'),
        (['--cfg-options', 'model.backbone.halting=None', '--halt-after', '2'], 'halting'),
        (['--cfg-options', missing], 'test set not found'),
        (['--cfg-options', *nameless], 'the data set names no classes: set metainfo=dict('),
        (['--per-layer', '--out', str(tmp_path / 'new')], '--out is not of --per-layer'),
        (['--per-layer', '--evaluate'], '--evaluate is not of --per-layer'),
        (['--per-layer', '--images', '2'], 'is of one image, found --images 2'),
        (['--images', '0'], '--images must be at least 1, found 0'),
        (['--allocation', 'full'], "allocation 'full' needs a model that allocates tokens"),
        (['--allocation', 'most'], "or a share from 0 to 1, found 'most'"),
        (['--boundary-ratio', '2'], '--boundary-ratio must be between 0 and 1, found 2'),
        (['--device', 'tpu'], "--device must be 'cpu', 'cuda' or 'cuda:N', found 'tpu'"),
        (['--mode', 'slide'], "mode 'slide' needs test_cfg with crop_size and stride"),
        (['--out', str(other)], 'is no folder'),
        (['--out', '/proc/new/out'], 'cannot be written to'),
    ]
    if not torch.cuda.is_available():
        cases.append((['--device', 'cuda'], '--device cuda: PyTorch finds no CUDA device'))
    commands = [([str(step_config), *arguments], message) for arguments, message in cases]
    commands.append((['no-such-config'], "config 'no-such-config' is neither a file nor the name"))
    for arguments, message in commands:
        try:
            status = tool.main([*arguments, '--json', str(out / 'result.json')])
        except SystemExit as stopped:
            status = stopped.code
        error = capsys.readouterr().err.strip()
        assert status == 2 and message in error, (arguments, error)
        error = error.splitlines()[-1] if 'random weights' in error else error
        assert error.startswith('analyze_tokens: error: ') and '\n' not in error, arguments
        assert not list(out.iterdir()), arguments


def test_statistics():
    uses = [TokenUse(64, {1: 40, 2: 6}, (5,)), TokenUse(64, {1: 64, 2: 0}, (1,))]
    assert merging_table(uses) == {1: Spread(52, 64, 40), 2: Spread(3, 6, 0)}
    assert halting_table(uses) == (Spread(3, 5, 1),) and uses[0].tokens == 46
    with pytest.raises(ValueError, match='no images'):
        Spread.of([])


def test_flops_follow_the_tokens_of_every_image(tool, step_config):
    """The cost of a block is that of the tokens it really got."""
    from mmseg_arta.analysis.flops.counter import OperatorCounter
    from mmseg_arta.analysis.flops.load import build_model, load_config

    model = build_model(load_config(str(step_config)))
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


@pytest.mark.parametrize(
    ('config', 'setting', 'message'),
    [
        (NANO, 'model.decode_head.num_classes=40', 'decode_head.num_classes is 40, .* 11 classes'),
        ('dcts-policy_efficientnet-lite0_1xb4-2k_camvid-256x256', 'randomness.seed=0', 'merges'),
    ],
)
def test_models_of_other_classes_are_refused(tool, options, config, setting, message, capsys):
    # The policy's pipeline resizes nothing.
    given = options if config == NANO else options[:2]
    assert tool.main([config, *given, setting, '--images', '1']) == 2
    assert re.search(f'analyze_tokens: error: .*{message}', capsys.readouterr().err)
