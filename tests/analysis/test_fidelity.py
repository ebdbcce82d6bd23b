from __future__ import annotations

from pathlib import Path

import pytest

from mmseg_arta.analysis.families import FAMILIES
from mmseg_arta.analysis.family import Chapter, Figures, Row
from mmseg_arta.analysis.fidelity import (
    CHAPTERS,
    Measurement,
    difference,
    measure,
    read_measurements,
    render,
    write_measurements,
)
from mmseg_arta.config_files import find_config

ROOT = Path(__file__).resolve().parents[2]
ROWS = [row for chapter in CHAPTERS.values() for row in chapter.rows]
NANO = 'arta-nano_mask2former_1xb4-2k_camvid-256x256'


def test_chapters_are_numbered_in_the_order_of_the_page():
    assert [chapter.number for chapter in CHAPTERS.values()] == list(range(1, len(CHAPTERS) + 1))
    assert list(FAMILIES)[: len(CHAPTERS)] == list(CHAPTERS)


def test_rows_are_distinct_and_name_configs_that_exist():
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert find_config(row.config).is_file()


def test_the_page_is_up_to_date_and_faithful():
    measured = read_measurements(ROOT / 'docs' / 'fidelity.json')
    assert sorted(measured) == sorted(row.key for row in ROWS)
    assert (ROOT / 'docs' / 'fidelity.md').read_text(encoding='utf-8') == render(CHAPTERS, measured)
    for row in ROWS:
        found = measured[row.key]
        for ours, published in (
            (found.macs_published / 1e9, row.code.gmacs),
            (found.params / 1e6, row.code.params),
        ):
            assert published is None or ours == pytest.approx(published, rel=0.01), row.name


def test_measures_rows_and_says_why_not():
    rows = (
        Row('Nano', NANO, (64, 96), 'full'),
        Row('Nano', NANO, (64, 96), 'full', without=('post_processing',), options={'a': 1}),
        Row('Nobody', 'no-such-config'),
    )
    found = {row.key: value for row, value in measure(Chapter(1, 'Nano', rows))}
    whole, part, missing = (found[row.key] for row in rows)
    assert whole.tokens == part.tokens == 510 and whole.params == part.params
    difference = whole.components['post_processing']
    assert difference > 0 and whole.macs_published - part.macs_published == difference
    assert "config 'no-such-config' is neither" in missing


def test_page_sets_ours_beside_the_published_figures():
    row = Row(
        'Model A', 'a', (512, 512), 'full', Figures(10.0, 20.0), Figures(None, 21.0), {'x/y': 4.0}
    )
    other = Row('Model B', 'b')
    found = Measurement(10_500_000, 15 * 10**9, 19 * 10**9, {'x/y': 5 * 10**9}, 7)
    page = render({'a': Chapter(1, 'Chapter A', (row, other), ('A note.',))}, {row.key: found})
    assert '## Chapter A' in page and 'A note.' in page and 'Model B' not in page
    assert '| Model A | 10.500 | 10 | +5.00 % | – | – |' in page
    operations = '19.00 | 20 | -5.00 % | 21 | -9.52 % | 15.00 | 30.00 |'
    assert f'| Model A | 512x512 | full | 7 | {operations}' in page
    assert '| x, y | 5.000 | 4 | +25.00 % |' in page
    assert difference(1.0, None) == '–'


def test_measurements_are_kept(tmp_path):
    path = tmp_path / 'numbers.json'
    assert read_measurements(path) == {}
    kept = {'b': Measurement(1, 2, 3, {'x': 4}, 5), 'a': Measurement(1, 2, 3)}
    write_measurements(path, kept)
    assert read_measurements(path) == kept
    path.write_text('{"a": {"size": 3}}')
    with pytest.raises(ValueError, match='holds no measurements of this tool'):
        read_measurements(path)
