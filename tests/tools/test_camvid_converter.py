from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tool(load_tool) -> ModuleType:
    return load_tool('dataset_converters/camvid.py')


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images a split, as the SegNet distribution holds them."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'CamVid'
    for split in ('train', 'val', 'test'):
        for folder in (root / split, root / f'{split}annot'):
            folder.mkdir(parents=True)
        lines = []
        for name in (f'{split}_1.png', f'{split}_2.png'):
            pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)
            label = np.resize(np.arange(12, dtype=np.uint8), (12, 16))
            Image.fromarray(label).save(root / f'{split}annot' / name)
            lines.append(f'/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}')
        (root / f'{split}.txt').write_text('\n'.join(lines) + '\n')
    return root


def convert(tool: ModuleType, source: Path, *arguments: str) -> int:
    return tool.main([str(source), '-o', str(source.parent / 'out'), *arguments])


def test_layout_and_labels(
    tool: ModuleType, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tool, source) == 0
    out = source.parent / 'out'
    for split in ('train', 'val', 'test'):
        for name in (f'{split}_1.png', f'{split}_2.png'):
            image = out / 'images' / split / name
            assert image.read_bytes() == (source / split / name).read_bytes()
            label = np.array(Image.open(out / 'annotations' / split / name))
            before = np.array(Image.open(source / f'{split}annot' / name))
            assert label.dtype == np.uint8 and set(np.unique(label)) == {*range(11), 255}
            np.testing.assert_array_equal(label == 255, before == 11)
            np.testing.assert_array_equal(label[before < 11], before[before < 11])
    assert 'train: 2 images (2 of 12x16), 8.3 % of pixels ignored' in capsys.readouterr().out


def test_lists_say_which_files(tool: ModuleType, source: Path) -> None:
    (source / 'train.txt').write_text('/x/train/train_2.png /x/trainannot/train_2.png\n')
    (source / 'val.txt').unlink()
    assert convert(tool, source, '--splits', 'train', 'val') == 0
    images = source.parent / 'out' / 'images'
    assert sorted(path.name for path in images.rglob('*.png')) == [
        'train_2.png',
        'val_1.png',
        'val_2.png',
    ]


@pytest.mark.parametrize(
    'line',
    [
        '/My Data/Seg Net/train/train_2.png /My Data/Seg Net/trainannot/train_2.png',
        'D:/My Data/train/train_2.png\t/My Data/trainannot/train_2.png',
        '  /x/train/train_2.png',
    ],
)
def test_listed_paths_may_have_spaces(tool: ModuleType, source: Path, line: str) -> None:
    (source / 'train.txt').write_text(f'{line}\n', encoding='utf-8-sig')
    assert convert(tool, source, '--splits', 'train') == 0
    images = source.parent / 'out' / 'images' / 'train'
    assert [path.name for path in images.iterdir()] == ['train_2.png']


def test_listed_names_may_have_spaces(tool: ModuleType, source: Path) -> None:
    for folder in ('train', 'trainannot'):
        (source / folder / 'train_2.png').rename(source / folder / 'train 2.png')
    (source / 'train.txt').write_text('/x/train/train 2.png /x/trainannot/train 2.png\n')
    assert convert(tool, source, '--splits', 'train') == 0
    images = source.parent / 'out' / 'images' / 'train'
    assert [path.name for path in images.iterdir()] == ['train 2.png']


@pytest.mark.parametrize('suffix', ['.tif', '.PNG', '.bmp'])
@pytest.mark.parametrize('listed', [True, False])
@pytest.mark.parametrize('labels', [True, False])
def test_images_of_every_kind(tool: ModuleType, source: Path, suffix, listed, labels) -> None:
    lines = []
    for path in sorted((source / 'train').iterdir()):
        annotation = source / 'trainannot' / path.name
        Image.open(path).save(path.with_suffix(suffix))
        if labels:
            Image.open(annotation).save(annotation.with_suffix(suffix))
            annotation.unlink()
        path.unlink()
        lines.append(f'/x/train/{path.stem}{suffix} /x/trainannot/{path.stem}.png')
    (source / 'train.txt').unlink()
    if listed:
        (source / 'train.txt').write_text('\n'.join(lines) + '\n\n')
    assert convert(tool, source, '--splits', 'train') == 0
    out = source.parent / 'out'
    found = sorted(path.name for path in (out / 'images/train').iterdir())
    assert found == [f'train_1{suffix}', f'train_2{suffix}']
    found = sorted(path.name for path in (out / 'annotations/train').iterdir())
    assert found == ['train_1.png', 'train_2.png']


def break_size(source: Path) -> None:
    Image.fromarray(np.zeros((11, 16), np.uint8)).save(source / 'valannot' / 'val_2.png')


def break_value(source: Path) -> None:
    Image.fromarray(np.full((12, 16), 31, np.uint8)).save(source / 'valannot' / 'val_2.png')


def break_channels(source: Path) -> None:
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(source / 'valannot' / 'val_2.png')


def break_file(source: Path) -> None:
    (source / 'valannot' / 'val_2.png').unlink()


def break_folder(source: Path) -> None:
    (source / 'valannot').rename(source / 'labels')


def break_list(source: Path) -> None:
    (source / 'val.txt').write_bytes(b'/x/val/\xe9.png\n')


def break_listed(source: Path) -> None:
    (source / 'val.txt').write_text('/My Data/val/none.png /My Data/valannot/none.png\n')


@pytest.mark.parametrize(
    ('damage', 'messages'),
    [
        (break_list, ['val.txt is no text in UTF-8']),
        (break_listed, ['val/none.png not found; split val needs it']),
        (break_size, ['valannot/val_2.png is 11x16', 'val/val_2.png is 12x16']),
        (break_value, ['valannot/val_2.png holds label 31', 'expected 0 to 10 and 11']),
        (break_channels, ['valannot/val_2.png has 3 channels']),
        (break_file, ['valannot/val_2.png not found']),
        (break_folder, ['valannot not found', 'SegNet distribution']),
    ],
    ids=['list', 'listed', 'size', 'value', 'channels', 'file', 'folder'],
)
def test_errors_name_the_file_and_leave_nothing(
    damage, messages: list[str], tool: ModuleType, source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    damage(source)
    assert convert(tool, source) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages)
    assert [path.name for path in source.parent.iterdir()] == ['CamVid']


def test_full_folder_is_left_alone(
    tool: ModuleType, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.parent / 'out').mkdir()
    (source.parent / 'out' / 'mine.txt').write_text('mine')
    assert convert(tool, source) == 2
    assert 'out is not empty' in capsys.readouterr().err
    assert [path.name for path in (source.parent / 'out').iterdir()] == ['mine.txt']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--splits', 'train', 'val', 'train'], '--splits names train more than once'),
        (['-o', 'text.txt'], '--out-dir text.txt: '),
        (['-o', 'text.txt/below'], '--out-dir text.txt/below: '),
    ],
)
def test_options_that_cannot_be(tool, source, options, message, monkeypatch, capsys) -> None:
    monkeypatch.chdir(source.parent)
    Path('text.txt').write_text('text')
    assert convert(tool, source, *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted(path.name for path in source.parent.iterdir()) == ['CamVid', 'text.txt']
