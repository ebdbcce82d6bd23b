from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmseg_arta.datasets.toy import IMAGE_LAYOUTS, LAYOUTS, write_toy_dataset
from mmseg_arta.datasets.toy.writer import MARKER


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name != MARKER
    }


def file_values(root: Path, layout: str) -> set[int]:
    values: set[int] = set()
    for _, folder in LAYOUTS[layout].folders.values():
        for path in (root / folder).rglob('*.png'):
            values |= set(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).tolist())
    return values


def test_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    first = write_toy_dataset(tmp_path / 'a', 'camvid', train=2, val=1, size=(40, 48), seed=3)
    second = write_toy_dataset(tmp_path / 'b', 'camvid', train=2, val=1, size=(40, 48), seed=3)
    assert digests(first) == digests(second)


def test_another_seed_gives_other_files(tmp_path: Path) -> None:
    first = write_toy_dataset(tmp_path / 'a', 'camvid', train=2, val=1, size=(40, 48), seed=3)
    second = write_toy_dataset(tmp_path / 'b', 'camvid', train=2, val=1, size=(40, 48), seed=4)
    assert not set(digests(first).values()) & set(digests(second).values())


def test_scenes_do_not_depend_on_how_many_are_made(tmp_path: Path) -> None:
    few = digests(write_toy_dataset(tmp_path / 'a', 'ade20k', train=1, val=1, size=(40, 48)))
    many = digests(write_toy_dataset(tmp_path / 'b', 'ade20k', train=3, val=2, size=(40, 48)))
    assert len(few) == 4 and few.items() <= many.items()


def test_training_and_validation_scenes_differ(toy_roots: dict[str, Path]) -> None:
    images = [v for k, v in digests(toy_roots['camvid']).items() if k.startswith('images')]
    assert len(images) == len(set(images)) == 8


@pytest.mark.parametrize('layout', LAYOUTS)
def test_ends_of_the_encoding_occur(layout: str, toy_roots: dict[str, Path]) -> None:
    values = file_values(toy_roots[layout], layout)
    style = LAYOUTS[layout]
    if style.reduce_zero_label:
        assert {0, 1, style.num_classes} <= values <= set(range(style.num_classes + 1))
    else:
        assert {0, style.num_classes - 1, 255} <= values
        assert values <= {*range(style.num_classes), 255}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_cast_names_classes_of_the_layout(layout: str) -> None:
    cast = LAYOUTS[layout].cast
    parts = [value for name, value in vars(cast).items() if name != 'rare']
    assert all(0 <= label < LAYOUTS[layout].num_classes for label in (*parts, *cast.rare))


def test_colour_tells_the_class(toy_roots: dict[str, Path]) -> None:
    """Learnable: the mean colours of the large classes lie apart in every image."""
    root, cast = toy_roots['cityscapes'], LAYOUTS['cityscapes'].cast
    for path in (root / 'leftImg8bit').rglob('*.png'):
        label_path = str(path).replace('leftImg8bit', 'gtFine')
        label_path = label_path.replace('_gtFine.png', '_gtFine_labelTrainIds.png')
        image, label = cv2.imread(str(path)), cv2.imread(label_path, cv2.IMREAD_UNCHANGED)
        means = [
            image[label == c].mean(0)
            for c in (cast.sky, cast.building, cast.tree, cast.road)
            if (label == c).sum() > 50
        ]
        gaps = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
        assert len(means) >= 3 and min(gaps) > 15


@pytest.mark.parametrize('size', [(32, 32), (33, 57), (200, 40)], ids=str)
def test_any_size_from_32(size: tuple[int, int], tmp_path: Path) -> None:
    root = write_toy_dataset(tmp_path / 'toy', 'camvid', train=1, val=1, size=size)
    (image,) = (root / 'images/train').iterdir()
    assert cv2.imread(str(image)).shape == (*size, 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(layout='voc'), "unknown layout 'voc'.*camvid"),
        (dict(train=0), 'train is 0'),
        (dict(val=-1), 'val is -1'),
        (dict(size=(31, 64)), r'size is \(31, 64\).*32'),
        (dict(seed=-5), 'seed is -5'),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_arguments_are_named(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_toy_dataset(tmp_path / 'toy', **{'layout': 'camvid', **arguments})
    assert not any(tmp_path.iterdir())


def test_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='not empty'):
        write_toy_dataset(tmp_path, 'camvid', train=1, val=1, size=(32, 32))
    with pytest.raises(FileExistsError, match='not made by this tool'):
        write_toy_dataset(tmp_path, 'camvid', train=1, val=1, size=(32, 32), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / 'toy').write_text('mine')
    with pytest.raises(FileExistsError, match='is a file'):
        write_toy_dataset(tmp_path / 'toy', 'camvid', train=1, val=1, size=(32, 32))


def test_overwrite_replaces_everything(tmp_path: Path) -> None:
    options = dict(train=1, val=1, size=(32, 32))
    write_toy_dataset(tmp_path / 'toy', 'cityscapes', **options)
    root = write_toy_dataset(tmp_path / 'toy', 'camvid', overwrite=True, **options)
    assert not (root / 'gtFine').exists()
    assert len(digests(root)) == 4


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(split: str, done: int, total: int) -> None:
        if split == 'val':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy_dataset(tmp_path / 'toy', 'camvid', size=(32, 32), train=1, progress=interrupt)
    assert not any(tmp_path.iterdir())


def test_pictures_have_one_label_each_in_folders_of_their_classes(tmp_path: Path) -> None:
    root = write_toy_dataset(tmp_path / 'toy', 'imagenet', train=12, val=3, size=(40, 48))
    classes = IMAGE_LAYOUTS['imagenet'].classes
    # ImageNet's labels number its folders in the order of their names.
    assert list(classes.values()) == sorted(classes.values()) and {0, 999} <= classes.keys()
    for split, count in (('train', 12), ('val', 3)):
        lines = (root / 'meta' / f'{split}.txt').read_text().splitlines()
        assert len(lines) == len(set(lines)) == count
        for line in lines:
            name, label = line.rsplit(' ', 1)
            assert Path(name).parent.name == classes[int(label)]
            assert cv2.imread(str(root / split / name)).shape == (40, 48, 3)
        folders = {path.name for path in (root / split).iterdir()}
        assert folders == set(classes.values())


def test_pictures_tell_the_class(tmp_path: Path) -> None:
    """Learnable: two objects of a class are more alike in colour than objects of two classes."""
    root = write_toy_dataset(tmp_path / 'toy', 'imagenet', train=20, val=1, size=(64, 64))
    centres: dict[str, list[np.ndarray]] = {}
    for path in sorted((root / 'train').rglob('*.JPEG')):
        pixels = cv2.imread(str(path)).reshape(-1, 3).astype(float)
        histogram = np.histogramdd(pixels, bins=4, range=[(0, 256)] * 3)[0].ravel()
        centres.setdefault(path.parent.name, []).append(histogram / histogram.sum())
    pairs = list(centres.values())
    same = np.mean([np.abs(a - b).sum() for a, b in pairs])
    other = np.mean([np.abs(p[0] - q[1]).sum() for p in pairs for q in pairs if p is not q])
    assert same < other
