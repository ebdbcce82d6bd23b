"""Where the stock data set classes look for files, and how they encode labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

IGNORED = 255


@dataclass(frozen=True)
class Cast:
    """Which class index plays which part in a street scene.

    ``rare`` lists classes that appear once in a while as small objects. It holds the last class
    of the layout, and with the other parts the first, so that both ends of the encoding occur.
    """

    sky: int
    hill: int
    building: int
    tree: int
    road: int
    verge: int
    fence: int
    pole: int
    sign: int
    car: int
    person: int
    rare: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """One data set's folders, file names and label encoding.

    Attributes:
        num_classes: Classes are numbered 0 to ``num_classes - 1`` in memory.
        reduce_zero_label: In files 0 means "no class" and class c is written as c + 1, as
            mmseg's option of that name undoes. Otherwise c is written as c and 255 is ignored.
        folders: Split ('train', 'val') to the image folder and the label folder.
        name: Split and image number to the stem that image and label file share; it may hold
            a sub-folder.
        image_suffix: Ending of image files, and so their format.
        label_suffix: Ending of label files.
        cast: The classes that appear.
    """

    num_classes: int
    reduce_zero_label: bool
    folders: dict[str, tuple[str, str]]
    name: Callable[[str, int], str]
    image_suffix: str
    label_suffix: str
    cast: Cast


LAYOUTS: dict[str, Layout] = {
    'ade20k': Layout(
        num_classes=150,
        reduce_zero_label=True,
        folders={
            'train': ('images/training', 'annotations/training'),
            'val': ('images/validation', 'annotations/validation'),
        },
        name=lambda split, i: f'ADE_{split}_{i + 1:08d}',
        image_suffix='.jpg',
        label_suffix='.png',
        cast=Cast(
            sky=2,
            hill=16,
            building=1,
            tree=4,
            road=6,
            verge=9,
            fence=32,
            pole=93,
            sign=43,
            car=20,
            person=12,
            rare=(149, 0, 41, 69, 104, 111, 127, 138, 28, 80),
        ),
    ),
    'coco_stuff164k': Layout(
        num_classes=171,
        reduce_zero_label=False,
        folders={
            'train': ('images/train2017', 'annotations/train2017'),
            'val': ('images/val2017', 'annotations/val2017'),
        },
        name=lambda split, i: f'{2 * i + (split == "val"):012d}',
        image_suffix='.jpg',
        label_suffix='_labelTrainIds.png',
        cast=(
            coco := Cast(
                sky=145,
                hill=123,
                building=84,
                tree=157,
                road=137,
                verge=112,
                fence=101,
                pole=120,
                sign=11,
                car=2,
                person=0,
                rare=(170, 1, 13, 25, 33, 58, 74, 107, 138, 149),
            )
        ),
    ),
    'coco_stuff10k': Layout(
        num_classes=171,
        reduce_zero_label=True,
        folders={
            'train': ('images/train2014', 'annotations/train2014'),
            'val': ('images/test2014', 'annotations/test2014'),
        },
        name=lambda split, i: f'COCO_train2014_{2 * i + (split == "val"):012d}',
        image_suffix='.jpg',
        label_suffix='_labelTrainIds.png',
        cast=coco,
    ),
    'cityscapes': Layout(
        num_classes=19,
        reduce_zero_label=False,
        folders={
            'train': ('leftImg8bit/train', 'gtFine/train'),
            'val': ('leftImg8bit/val', 'gtFine/val'),
        },
        name=lambda split, i: f'toytown{split}/toytown{split}_{i:06d}_000019',
        image_suffix='_leftImg8bit.png',
        label_suffix='_gtFine_labelTrainIds.png',
        cast=Cast(
            sky=10,
            hill=9,
            building=2,
            tree=8,
            road=0,
            verge=1,
            fence=4,
            pole=5,
            sign=7,
            car=13,
            person=11,
            rare=(18, 3, 6, 12, 14, 15, 16, 17),
        ),
    ),
    'camvid': Layout(
        num_classes=11,
        reduce_zero_label=False,
        folders={
            'train': ('images/train', 'annotations/train'),
            'val': ('images/val', 'annotations/val'),
        },
        name=lambda split, i: f'toy_{split}_{i:06d}',
        image_suffix='.png',
        label_suffix='.png',
        cast=Cast(
            sky=0,
            hill=5,
            building=1,
            tree=5,
            road=3,
            verge=4,
            fence=7,
            pole=2,
            sign=6,
            car=8,
            person=9,
            rare=(10,),
        ),
    ),
}
