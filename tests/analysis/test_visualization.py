"""Contact sheets, the choice of panels, and marks over pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_arta.analysis.paper_panels import compared
from mmseg_arta.analysis.visualization import SHEET, Sheets, check_readable, choose
from mmseg_arta.engine.drawing import Panel, draw_labels
from mmseg_arta.engine.token_panels import ImageResult


def rows():
    picture = np.full((30, 40, 3), 200, np.uint8)
    names = ('image', 'truth', 'prediction', 'scores', 'scores', 'tokens', 'tokens')
    panels = [Panel(key, f'{number}', picture) for number, key in enumerate(names)]
    return [panels[:3], panels[3:]]


def titles(panels):
    return [panel.title for panel in panels]


def test_panels_are_chosen_by_name_and_number():
    assert titles(choose(rows(), ['tokens', 'image'])) == ['5', '6', '0']
    assert titles(choose(rows(), ['scores:2', 'scores:1'])) == ['4', '3']
    assert titles(choose(rows(), SHEET, strict=False)) == ['0', '1', '3', '2']
    for missing in ('scores:3', 'merging'):
        with pytest.raises(ValueError, match=f'{missing}: this image has no such panel, but image'):
            choose(rows(), [missing])


def test_a_sheet_for_every_dozen(tmp_path):
    path = tmp_path / 'new' / 'sheet.png'
    sheets = Sheets(path, 13, panel_width=40)
    for number in range(13):
        sheets.add(rows(), [(f'class {number % 2}', (0, 0, 0))])
    assert [one.name for one in sheets.written] == ['sheet_1.png', 'sheet_2.png']
    with Image.open(sheets.written[0]) as first, Image.open(sheets.written[1]) as second:
        # Points have tokens by stage alone: those of the second stage are in the row.
        assert first.width == second.width > 5 * 40
        assert 12 * 30 < first.height < 12 * 60 and second.height < 2 * 60
    single = Sheets(tmp_path / 'one.png', 1, ['image'], 40)
    single.add(rows(), [])
    assert [one.name for one in single.written] == ['one.png']


def test_two_models_where_only_one_is_right():
    truth = np.zeros((40, 60), np.int32)
    truth[:, :3] = 255
    ours, theirs = truth % 255, truth % 255
    ours[:10, 50:] = 1
    theirs = theirs.copy()
    theirs[20:32, 20:40] = 1
    image = np.full((40, 60, 3), 100, np.uint8)
    palette = [[0, 0, 0], [10, 20, 30]]
    drawn = draw_labels(ours, palette)
    first = [[Panel('image', 'name', image), Panel('prediction', 'prediction', drawn)]]
    found = compared(first, ImageResult('name', image, ours, truth), theirs, ('a', 'b'), palette)
    known, added = found
    assert titles(known) == ['name', 'a']
    counted = 40 * 57
    wrong = 100 * 12 * 20 / counted
    lost = 100 * 10 * 10 / counted
    assert titles(added) == [
        'b',
        f'errors: {wrong:.1f} % of pixels',
        f'only one right: {wrong:.1f} % (blue), {lost:.1f} %',
    ]

    class Axes:
        boxes = []

        def add_patch(self, patch):
            self.boxes.append(patch.get_bbox().extents.tolist())

    known[1].marks(Axes())
    # Around the one place where the first alone is right.
    assert Axes.boxes == [[16, 16, 44, 36]]


def test_images_are_looked_at(tmp_path):
    good, bad = tmp_path / 'good.png', tmp_path / 'bad.png'
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(good)
    check_readable(str(good))
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(OSError, match=r'bad\.png cannot be read'):
        check_readable(str(bad))
