"""Results of a league: summed up over seeds, merged into files, as table, plot and pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg_arta.analysis.benchmark.protocols import Result, Row
from mmseg_arta.analysis.league import plot, report, timing
from mmseg_arta.analysis.league.pictures import draw_sheet
from mmseg_arta.analysis.league.plan import Entry, Run, digest_of
from mmseg_arta.analysis.league.records import DONE, FAILED, STAGES, Record, Store
from mmseg_arta.analysis.league.results import (
    check_results,
    collect,
    labels_of,
    read_results,
    row_of,
    summaries,
)
from mmseg_arta.datasets.toy import write_toy_dataset


def entry(key='a_b_c', settings=None, root='here', **more):
    config = Config(
        dict(
            model=dict(data_preprocessor=dict(size=(64, 64))),
            train_cfg=dict(max_iters=4),
            train_dataloader=dict(batch_size=2, dataset=dict(type='CamVidDataset', pipeline=[])),
            test_dataloader=dict(
                dataset=dict(
                    type='CamVidDataset',
                    data_root=root,
                    data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='LoadAnnotations'),
                        dict(type='PackSegInputs'),
                    ],
                )
            ),
            default_scope='mmseg',
            **more,
        )
    )
    return Entry(key, key.partition('+')[0], settings or {}, config, digest_of(config))


def modes(value):
    return dict(whole=value, windows=value)


def complete(store, run, miou, gmacs=2.0):
    """Records of a run that went well."""
    near = dict(mIoU=miou, bands={'2': miou - 3, '4': miou - 2, '8': miou - 1}, boundary_iou=9.0)
    cost = dict(params=3_000_000, gmacs=gmacs, gmacs_std=0.5, images=2, tokens=10.0)
    found = dict(
        train=dict(iteration_seconds=0.5, memory_bytes=2**30, loss=1.0),
        whole=dict(mIoU=miou),
        windows=dict(mIoU=miou + 1),
        measure=dict(boundaries=modes(near), operations=modes(cost)),
    )
    for stage in STAGES:
        store.write(run, Record(stage, DONE, run.entry.digest, 10.0, found[stage], '', 'a machine'))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / 'league')


@pytest.fixture
def league(store):
    """Two good seeds and a failed one of a config; another that never began; a third, failed."""
    good, lost = entry('a_b_c'), entry('d_e_f', other=1)
    complete(store, Run(good, 0), 40.0)
    complete(store, Run(good, 1), 43.0, gmacs=4.0)
    store.write(Run(good, 2), Record('train', FAILED, good.digest, 1.0, reason='diverged: nan'))
    store.write(Run(lost, 0), Record('train', FAILED, lost.digest, 1.0, reason='no luck'))
    return [*(Run(good, seed) for seed in range(3)), Run(lost, 0), Run(entry('never', x=2), 0)]


def test_seeds_are_averaged_and_failures_kept(league, store):
    best, lost = summaries(collect(league, store, {}))
    assert best.key == 'a_b_c' and best.seeds == [0, 1]
    assert best.means['miou_whole'] == 41.5 and best.means['miou_windows'] == 42.5
    assert best.spreads['miou_whole'] == pytest.approx(1.5 * 2**0.5)  # of a sample
    assert best.means['gmacs_whole'] == 3 and best.means['gmacs_std_whole'] == 0.5
    assert best.means['band_2_whole'] == 38.5 and best.means['boundary_iou_windows'] == 9
    assert best.failures == [(2, 'train', 'diverged: nan')]
    assert lost.seeds == [] and lost.means == {} and lost.failures == [(0, 'train', 'no luck')]


def test_a_run_that_failed_late_is_in_no_average(store):
    runs = [Run(entry('a_b_c'), seed) for seed in (0, 1)]
    for one, miou in zip(runs, (40.0, 90.0), strict=True):
        complete(store, one, miou)
    store.write(runs[1], Record('windows', FAILED, runs[1].entry.digest, 1.0, reason='no luck'))
    (summary,) = summaries(collect(runs, store, {}))
    assert summary.seeds == [0] and summary.means['miou_whole'] == 40
    assert summary.failures == [(1, 'windows', 'no luck')]


def test_a_run_that_goes_on_has_the_figures_that_there_are(store):
    one = Run(entry(), 0)
    assert row_of(one, store) is None
    store.write(one, Record('train', DONE, one.entry.digest, 1.0, dict(iteration_seconds=2.0)))
    row = row_of(one, store)
    assert not row['complete'] and row['failure'] is None and 'whole' not in row
    (found,) = summaries(collect([one], store, {}))
    assert found.means == {'iteration_seconds': 2.0} and found.seeds == []


def test_not_a_number_is_no_figure(store):
    one = Run(entry(), 0)
    complete(store, one, float('nan'))
    (found,) = summaries(collect([one], store, {}))
    assert 'miou_whole' not in found.means and found.means['params'] == 3_000_000


def test_files_add_up(league, store, tmp_path):
    path = tmp_path / 'league.json'
    assert read_results(path) == {}
    path.write_text(json.dumps(collect(league[:2], store, {})))
    before = read_results(path)
    after = collect(league[2:4], store, before)
    assert [(row['config'], row['seed']) for row in after['runs']] == [
        ('a_b_c', 0),
        ('a_b_c', 1),
        ('a_b_c', 2),
        ('d_e_f', 0),
    ]
    # What is done again takes the place of what was there.
    complete(store, league[0], 50.0)
    again = collect(league[:1], store, after)
    assert len(again['runs']) == 4 and again['runs'][0]['whole']['mIoU'] == 50


def test_files_of_something_else_are_refused(league, store, tmp_path):
    path = tmp_path / 'league.json'
    for content in ('[]', '{"runs": [1]}', '{"runs": [{"config": "x", "seed": 0}], "configs": {}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match='holds no results of a league'):
            read_results(path)
    before = collect(league, store, {})
    check_results(path, before, [one.entry for one in league])
    with pytest.raises(ValueError, match=r'config a_b_c is another one in --results'):
        check_results(path, before, [entry('a_b_c', changed=1)])
    other = entry('new')
    other.config.test_dataloader.dataset.data_prefix.img_path = 'images/test'
    with pytest.raises(ValueError, match='a league has one test set: config new'):
        check_results(path, before, [other])


def test_labels_are_short_where_they_tell_apart(store):
    runs = [Run(entry(key, settings), 0) for key, settings in (
        ('a_b_c', {}), ('a_c_c', {}), ('a_c_d', {}), ('a_b_c+x', {'model.lr': 1}),
    )]  # fmt: skip
    for one in runs:
        complete(store, one, 1.0)
    labels = labels_of(summaries(collect(runs, store, {})))
    assert labels == {'a_b_c': 'a b', 'a_c_c': 'a_c_c', 'a_c_d': 'a_c_d', 'a_b_c+x': 'a b, lr=1'}


def test_table(league, store):
    text = report.markdown(collect(league, store, {}))
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
    table = dict(zip(lines[0], lines[2], strict=True))
    assert table['model'] == 'a b' and table['params (M)'] == '3.00'
    assert table['GMACs / image'] == '3.00 ± 0.50' and table['as papers count'] == '–'
    assert table['mIoU'] == '41.50 ± 2.12' and table['within 2 px'] == '38.50 ± 2.12'
    assert table['boundary IoU'] == '9.00' and table['seeds'] == '2, 1 failed'
    assert table['training (GiB)'] == '1.00' and table['ms / image'] == '–'
    assert lines[3][0] == 'd e' and lines[3][-1] == '0, 1 failed'
    assert 'a b, seed 2 failed in stage train: diverged: nan' in text
    assert 'All: 4 iterations of 2 images in crops of 64x64.' in text
    assert 'Measured on a machine.' in text
    assert report.markdown({}) == 'No run has ended yet.\n'


def test_lines_of_runs(league, store):
    outcomes = [report.outcome(one, store) for one in league]
    assert outcomes[0] == 'a_b_c, seed 0: mIoU 40.00, in windows 41.00; took 40 s'
    assert outcomes[2] == 'a_b_c, seed 2: failed in stage train: diverged: nan'
    assert outcomes[4] == 'never, seed 0: interrupted; a later call goes on'
    assert report.state(league[2], store) == (
        'a_b_c, seed 2: train failed, whole left, windows left, measure left'
    )


def test_table_in_a_page(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# Title\n')
    with pytest.raises(ValueError, match=r'--docs .*page\.md: no lines <!-- league table -->'):
        report.check_page(page)
    page.write_text('# Title\n{}\nold\n{}\nrest\n'.format(*report.MARKERS))
    report.check_page(page)
    for text in ('new\n', 'newest\n'):
        report.replace_in_page(page, text)
    assert page.read_text() == '# Title\n{}\n\nnewest\n\n{}\nrest\n'.format(*report.MARKERS)


def test_plot(league, store, tmp_path):
    path = tmp_path / 'plot.png'
    assert not plot.draw({}, path) and not path.exists()
    assert plot.draw(collect(league, store, {}), path)
    with Image.open(path) as image:
        assert image.size[0] > 600
    assert [one.name for one in tmp_path.glob('*.png')] == ['plot.png']


def test_names_in_a_plot_hide_no_other(league, store, tmp_path, monkeypatch):
    found = []
    real = plot._name

    def name(axes, points, renderer):
        real(axes, points, renderer)
        found.extend(text.get_window_extent(renderer) for text in axes.texts)

    monkeypatch.setattr(plot, '_name', name)
    runs = [Run(entry(f'model-{n}_head-{n}_x'), 0) for n in range(6)]
    for number, one in enumerate(runs):
        complete(store, one, 40 + 0.4 * (number % 2), 2 + 0.02 * number)
    plot.draw(collect(runs, store, {}), tmp_path / 'plot.png')
    assert len(found) == 6
    assert not any(one.overlaps(other) for one in found for other in found if one is not other)


@pytest.mark.parametrize('most, scale', [(7.9, 'linear'), (8.1, 'log')])
def test_a_model_of_many_operations_does_not_press_others_together(
    store, tmp_path, monkeypatch, most, scale
):
    found = []

    def name(axes, points, renderer):
        found.append((axes.get_xscale(), [text.get_text() for text in axes.get_xticklabels()]))

    monkeypatch.setattr(plot, '_name', name)
    runs = [Run(entry(f'model-{n}_head-{n}_x'), 0) for n in range(2)]
    complete(store, runs[0], 40, 2)
    complete(store, runs[1], 41, most)
    plot.draw(collect(runs, store, {}), tmp_path / 'plot.png')
    ((used, ticks),) = found
    assert used == scale
    if scale == 'log':
        assert {'2', '3', '5'} <= set(ticks)


def test_sheet_of_pictures(store, tmp_path):
    data = write_toy_dataset(str(tmp_path / 'camvid'), 'camvid', train=1, val=3, size=(48, 64))
    runs = [Run(entry('a_b_c', root=str(data)), 1), Run(entry('d_e_f', root=str(data)), 0)]
    path = tmp_path / 'sheet.png'
    images = sorted((data / 'images' / 'val').iterdir())
    for number, one in enumerate(runs):
        complete(store, one, 50.0 - number)
        assert not draw_sheet(collect(runs[:1], store, {}), store.folder, path, 2) or number
        folder = store.of(one) / 'whole' / 'predictions'
        folder.mkdir(parents=True)
        for image in images:
            labels = np.full((48, 64), number, np.uint8)
            Image.fromarray(labels).save(folder / f'{image.stem}.png')
        one.entry.config.dump(str(store.of(one) / 'whole.py'))
    assert draw_sheet(collect(runs, store, {}), store.folder, path, 2)
    with Image.open(path) as sheet:
        width, height = sheet.size
        pixels = np.asarray(sheet.convert('RGB'))
    # Four columns and two rows of 280x210 px.
    assert 4 * 280 < width < 4 * 300 and 2 * 210 < height < 2 * 320
    sky, building = (128, 128, 128), (128, 0, 0)
    third, fourth = pixels[140, 2 * 284 + 150], pixels[140, 3 * 284 + 150]
    assert tuple(third) == sky and tuple(fourth) == building
    (store.of(runs[1]) / 'whole' / 'predictions' / f'{images[0].stem}.png').unlink()
    with pytest.raises(OSError, match=images[0].stem):
        draw_sheet(collect(runs, store, {}), store.folder, path, 2)


# --- Times


@pytest.fixture
def measured(monkeypatch):
    """In place of processes that measure."""
    calls = []

    def run_protocol(protocol, models, conditions, sizes, images, steps, warmup):
        calls.append((protocol, [m.label for m in models], conditions, images, steps, warmup))
        rows = [Row(m, 1, dict(latency_ms=7.0, turns_ms=[[7.0]])) for m in models[:-1]]
        rows.append(Row(models[-1], 1, {}, 'out of memory'))
        return Result('inference', conditions, steps, warmup, images, rows, ('a remark',))

    monkeypatch.setattr(timing, 'run_protocol', run_protocol)
    return calls


def test_times_of_all_models_in_one_go(store, tmp_path, measured):
    data = write_toy_dataset(str(tmp_path / 'camvid'), 'camvid', train=1, val=1, size=(48, 64))
    one, other = entry('a_b_c', root=str(data)), entry('d_e_f', root=str(data), other=1)
    runs = [Run(one, 0), Run(other, 1), Run(one, 1), Run(other, 2)]
    for run in (runs[0], runs[2], runs[3]):
        complete(store, run, 1.0)
        train = store.of(run) / 'train'
        train.mkdir()
        (train / 'iter_4.pth').write_bytes(b'')
        (train / 'last_checkpoint').write_text('iter_4.pth')
        run.entry.config.dump(str(store.of(run) / 'whole.py'))
    results = collect(runs, store, {})
    chosen = timing.subjects(results, store.folder)
    # The first complete one of each.
    assert [(found.key, found.seed) for found in chosen] == [('a_b_c', 0), ('d_e_f', 2)]
    assert timing.find_timing(chosen, store.folder, 'cpu', 8) == {}
    found = timing.time_models(chosen, store.folder, 'cpu', 8)
    ((protocol, labels, conditions, images, steps, warmup),) = measured
    assert (protocol, labels, images) == ('inference', ['a_b_c', 'd_e_f'], 'dataset:8')
    assert (steps, warmup, conditions.shape, conditions.mode) == (8, 4, (48, 64), 'whole')
    assert conditions.clock == 'processor'
    assert timing.find_timing(chosen, store.folder, 'cpu', 8) == found
    # Others, or timed otherwise: that is another measurement.
    assert timing.find_timing(chosen[:1], store.folder, 'cpu', 8) == {}
    assert timing.find_timing(chosen, store.folder, 'cpu', 9) == {}
    results = timing.add_timing(collect(runs, store, {}), found)
    first, second = summaries(results)
    assert first.timing['latency_ms'] == 7 and 'turns_ms' not in first.timing
    assert second.timing['failure'] == 'out of memory'
    text = report.markdown(results)
    assert '| 7.00 |' in text and '- a remark' in text and '48x64 px' in text
    # Results keep their times when runs are added.
    assert summaries(collect(runs, store, results))[0].timing == first.timing
    (store.of(runs[0]) / 'train' / 'iter_4.pth').unlink()
    # Where its checkpoint is gone, another seed stands for it.
    assert timing.subjects(results, store.folder)[0].seed == 1
