"""Sphinx's configuration; ``make docs`` builds the checkout's pages into ``build/site``.

The source folder is the checkout, so that pages keep their paths and the links between them.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx

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

smartquotes = False  # options begin with two hyphens
maximum_signature_line_length = 88

html_theme = 'furo'
html_title = f'{project} {__version__}'
html_copy_source = html_show_sourcelink = False


def unlink_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Links to files that are no pages become their text.

    Sphinx would copy the files; MIM, which searches the whole checkout of an editable install,
    would then find configs twice.
    """
    for node in list(doctree.findall(download_reference)):
        node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    """Called by Sphinx; before its own collector of files to copy."""
    app.connect('doctree-read', unlink_sources, priority=100)
