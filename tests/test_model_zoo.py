"""The model zoo is what the metafiles say, and these are what the families' pages say."""

from __future__ import annotations

import importlib.util

import pytest

from tests.pages import ROOT


@pytest.fixture(scope='module')
def zoo():
    spec = importlib.util.spec_from_file_location('model_zoo', ROOT / 'docs' / 'model_zoo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(zoo):
    text = zoo.PAGE.read_text(encoding='utf-8')
    assert text == zoo.render(), 'run python docs/model_zoo.py'


def test_published_results_stand_on_the_pages_of_the_families(zoo):
    published = 0
    for folder, metafile in zoo.families():
        page = (ROOT / 'configs' / folder / 'README.md').read_text(encoding='utf-8')
        for model in metafile['Models']:
            miou = model['Metadata'].get('Published mIoU')
            assert miou is None or str(miou) in page, model['Name']
            published += miou is not None
    assert published > 50


def test_figures_are_those_of_the_fidelity_page(zoo):
    text = zoo.PAGE.read_text(encoding='utf-8')
    name = 'arta-tiny_mask2former_4xb8-80k_ade20k-512x512'
    assert f'| `{name}` | ADE20K | 48.95 | 55.4 | 512x512 | 51.5 |' in text
