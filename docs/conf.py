"""Sphinx's configuration; ``make docs`` builds the checkout's pages into ``build/site``.

The source folder is the checkout, so that pages keep their paths and the links between them.
"""

from __future__ import annotations

from mmseg_arta.version import __version__

project = 'mmseg_arta'
author = copyright = 'mmseg_arta contributors'
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
root_doc = 'docs/index'
include_patterns = [
    'docs/**',
    'configs/*/README.md',
    'benchmarks/README.md',
    'csrc/README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
]

myst_heading_anchors = 3  # links to headings, named as on GitHub

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_inherit_docstrings = False  # PyTorch's and OpenMMLab's are their own
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = 'furo'
html_title = f'{project} {__version__}'
html_copy_source = html_show_sourcelink = False
