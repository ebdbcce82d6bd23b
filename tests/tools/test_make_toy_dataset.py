from __future__ import annotations

import json
from pathlib import Path

import pytest

SMALL = ['--train', '2', '--val', '1', '--size', '32', '48']


def test_writes_the_layout(load_tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / 'new' / 'toy'
    tool = load_tool('make_toy_dataset.py')
    assert tool.main([str(root), '--layout', 'coco_stuff10k', *SMALL, '--seed', '7']) == 0
    names = sorted(str(path.relative_to(root)) for path in root.rglob('*.*g'))
    assert names == [
        'annotations/test2014/COCO_train2014_000000000001_labelTrainIds.png',
        'annotations/train2014/COCO_train2014_000000000000_labelTrainIds.png',
        'annotations/train2014/COCO_train2014_000000000002_labelTrainIds.png',
        'images/test2014/COCO_train2014_000000000001.jpg',
        'images/train2014/COCO_train2014_000000000000.jpg',
        'images/train2014/COCO_train2014_000000000002.jpg',
    ]
    made = json.loads((root / 'toy_dataset.json').read_text())
    assert made == dict(layout='coco_stuff10k', train=2, val=1, size=[32, 48], seed=7)
    printed = capsys.readouterr()
    assert str(root) in printed.out and 'train: 2 images' in printed.err


def test_full_folder_needs_the_option(
    load_tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = load_tool('make_toy_dataset.py')
    arguments = [str(tmp_path), '--layout', 'camvid', *SMALL]
    assert tool.main(arguments) == 0
    assert tool.main(arguments) == 2
    assert f'{tmp_path} is not empty' in (error := capsys.readouterr().err)
    assert '--overwrite' in error
    assert tool.main([*arguments, '--overwrite']) == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--layout', 'voc'], "unknown layout 'voc'"),
        (['--layout', 'camvid', '--size', '8', '64'], 'size is (8, 64)'),
        (['--layout', 'camvid', '--train', '0'], 'train is 0'),
    ],
    ids=['layout', 'size', 'train'],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, load_tool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert load_tool('make_toy_dataset.py').main([str(tmp_path / 'toy'), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
