"""What the pages name exists: files, symbols, configs, options, make targets, commands."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import shlex
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import mmengine.model
import mmseg.apis
import mmseg.models
import mmseg.registry
import pytest
import torch
from mmengine.registry import Registry, root

from tests.pages import PAGES, ROOT, fences, files, spans, tree

# What commands and builds make, and what belongs to others: not part of a checkout.
_MADE = ('dist/', 'build/', 'pretrain/', 'mmseg_arta/.mim', '.venv', '<work_dir>/', 'work_dirs/')
# Folders and files of data sets, as pages on data name them.
_DATA = ('train/', 'val/', 'meta/', 'meta/val.txt', 'data/')
_SUFFIXES = ('.py', '.md', '.json', '.yml', '.yaml', '.toml', '.txt', '.sh', '.cpp', '.h', '.cu')
_SUFFIXES += ('.cuh',)
# Names of other libraries and of their distributions, parameters and files.
_ELSEWHERE = {
    *('efficientnet_lite0', 'aff_mini', 'find_unused_parameters', 'TRITON_INTERPRET'),
    *(
        'model_wrapper_cfg',
        'device_ids',
        'OMP_NUM_THREADS',
        'MALLOC_MMAP_MAX_',
        'MALLOC_TRIM_THRESHOLD_',
    ),
    *('mIoU_small', 'mAcc_small'),  # made of a metric and a group's name
    'packaging',  # the scope of a commit
}


@cache
def configs() -> frozenset[str]:
    """Names of all configs, without suffix."""
    return frozenset(
        Path(name).stem for name in files() if re.match(r'configs/(?!_base_).*\.py$', name)
    )


def expand(pattern: str) -> list[str]:
    """``a{b,c}[d]`` as ``ab``, ``abd``, ``ac`` and ``acd``."""
    match = re.search(r'\{([^{}]*)\}|\[([^\[\]]*)\]', pattern)
    if match is None:
        return [pattern]
    choices = match[1].split(',') if match[1] is not None else ['', match[2]]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [item for choice in choices for item in expand(head + choice + tail)]


# --- Python sources


def members(body: list[ast.stmt]) -> dict[str, ast.AST]:
    """Names that statements define: functions, classes, variables, attributes of ``self``."""
    found: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    found.setdefault(inner.attr, inner)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        found.update({item.id: node for item in targets if isinstance(item, ast.Name)})
        if isinstance(node, ast.If):
            found.update(members([*node.body, *node.orelse]))
    return found


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    """Classes of the package by name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for name in files():
        if name.startswith('mmseg_arta/') and name.endswith('.py'):
            for node in ast.walk(tree(name)):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(node)
    return found


@cache
def attributes(name: str) -> frozenset[str]:
    """Members of a class of the package, inherited ones included where the base is ours too."""
    found: set[str] = set()
    for node in classes().get(name, ()):
        found |= set(members(node.body))
        for base in node.bases:
            found |= attributes(base.id) if isinstance(base, ast.Name) else set()
    return frozenset(found)


@cache
def words() -> frozenset[str]:
    """Identifiers of Python sources, words of native ones, parts of config names."""
    found: set[str] = set(dir(builtins)) | set(dir(torch)) | set(dir(torch.nn))
    found |= {part for name in configs() for part in re.split('[-_]', name)}
    for name in files():
        if name.endswith(('.cpp', '.h', '.cu', '.cuh')) or name in ('Makefile', 'pyproject.toml'):
            found |= set(re.findall(r'\w+', (ROOT / name).read_text(encoding='utf-8')))
        if not name.endswith('.py') or name == 'tests/test_docs.py':
            continue
        found |= set(name.removesuffix('.py').split('/'))
        for node in ast.walk(tree(name)):
            for field in ('name', 'id', 'attr', 'arg'):
                value = getattr(node, field, None)
                found.add(value) if isinstance(value, str) else None
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r'[\w.]+', text):
                found |= set(text.split('.'))
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= set(node.module.split('.'))
    return frozenset(found)


@cache
def sources() -> str:
    """All Python of the package and its configs."""
    wanted = (name for name in files() if re.match(r'(mmseg_arta|configs)/.*\.py$', name))
    return '\n'.join((ROOT / name).read_text(encoding='utf-8') for name in wanted)


@cache
def registered() -> frozenset[str]:
    """Names in OpenMMLab's registries."""
    kinds = [getattr(mmseg.registry, name) for name in dir(mmseg.registry)]
    kinds += [getattr(root, name) for name in dir(root)]
    found = {name for kind in kinds if isinstance(kind, Registry) for name in kind.module_dict}
    return frozenset(found | {'ImageClassifier', 'ImageNet21k'})  # the latter are mmpretrain's


def is_class(name: str) -> bool:
    stock = (mmengine.model, mmseg.apis, mmseg.models)
    return name in classes() or name in registered() or any(hasattr(m, name) for m in stock)


# --- What may be wrong with a name; each returns a message, or ''


def wrong_symbol(text: str) -> str:
    """``file.py::Name.member``: the file by the end of its path, which must tell it apart."""
    path, _, dotted = text.partition('::')
    hits = [name for name in files() if name == path] or [
        name for name in files() if f'/{name}'.endswith(f'/{path}') and 'mmseg_arta/' in name
    ]
    if len(hits) != 1:
        return f'{len(hits)} files are named {path}: {hits}'
    found, body = None, tree(hits[0]).body
    for part in dotted.split('.'):
        owner = found
        found = members(body).get(part)
        if found is None and isinstance(owner, ast.ClassDef) and part in attributes(owner.name):
            return ''
        if found is None:
            return f'{hits[0]} has no {dotted}'
        body = getattr(found, 'body', [])
    return ''


def wrong_path(text: str, page: Path) -> str:
    if text.startswith(_MADE):
        return ''
    text = re.sub(r'<\w+>', '*', text)
    for pattern in expand(text):
        wanted = pattern.rstrip('/')
        folder = page.parent.relative_to(ROOT).as_posix()
        ends = [f'*/{wanted}', f'*/{wanted}/*']
        near = [f'/{folder}/{wanted}', f'/{folder}/{wanted}/*']
        if not any(fnmatchcase(f'/{name}', end) for name in files() for end in ends + near):
            return f'there is no {pattern}'
    return ''


def wrong_config(text: str) -> str:
    name = text.removesuffix('.py')
    for pattern in expand(name):
        if not any(fnmatchcase(config, pattern) for config in configs()):
            return f'there is no config {pattern}'
    return ''


def is_config(text: str) -> bool:
    if '/' in text or ' ' in text:
        return False
    pattern = re.search(r'_\d+xb\d+-\d+[ke]_', text)
    return bool(pattern) or bool(re.fullmatch(r'[a-z*][\w{},\[\]*-]*_[\w*-]*\*', text))


def wrong_names(text: str) -> str:
    """Identifiers of a piece of Python or of an option's path.

    A name alone, before a value or before a shape, and an option's value alone must be known, as
    must be all names that are no plain words. Statements must be those of the package.
    """
    known = words() | _ELSEWHERE | set(classes())
    alone = re.match(r"'?([A-Za-z]\w*)('?$| \([A-Z]|=)", text)
    if alone and alone[1] not in known and not is_class(alone[1]):
        return f'nothing is named {alone[1]}'
    if ' = ' in text and '\n' not in text and text not in sources():
        return 'no file has this statement'
    for dotted in re.findall(r'[A-Za-z_][\w.]*', text):
        owner = ''
        for name in dotted.strip('.').split('.'):
            if owner in classes() and name not in attributes(owner):
                return f'{owner} has no {name}'
            camel = re.fullmatch(r'[A-Z]+[a-z]\w*|[A-Z]{2,}[A-Z][a-z]\w*', name)
            if camel and re.search('[a-z][A-Z]', name) and not is_class(name):
                return f'there is no class {name}'
            if '_' in name.strip('_') and name not in known:
                return f'nothing is named {name}'
            owner = name
    return ''


@cache
def targets() -> frozenset[str]:
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    return frozenset(re.findall(r'^([a-z]+):', text, re.M))


def wrong_command(line: str) -> str:
    try:
        parts = shlex.split(line, comments=True)
    except ValueError as error:
        return str(error)
    while parts and re.match(r'[A-Z_]+=', parts[0]):
        parts.pop(0)
    if not parts:
        return ''
    program, *rest = parts
    if program == 'make':
        unknown = {word for word in rest if '=' not in word} - targets()
        return f'no make target {unknown}' if unknown else ''
    if program == 'mim' and rest[1:2] == ['mmsegmentation']:
        # It knows the names of its own configs alone; another package's are found by a path.
        named = [word for word in rest[2:3] if is_config(word) and '/' not in word]
        if named and named[0].removesuffix('.py') in configs():
            return f'mim train mmsegmentation does not find {named[0]}: say mmseg_arta'
    if program in ('git', 'pip', 'mkdir', 'pre-commit', 'ruff', 'ty', 'mim', '--cfg-options'):
        return wrong_arguments(rest)
    source = None
    if program == 'python' and rest[:1] == ['-m']:
        spec = importlib.util.find_spec(rest[1]) if len(rest) > 1 else None
        if spec is None or spec.origin is None:
            return f'there is no module {rest[1:2]}'
        origin = Path(spec.origin)
        source = origin.with_name('__main__.py') if origin.name == '__init__.py' else origin
        rest = rest[2:]
    elif program == 'python' and rest:
        source, rest = ROOT / rest[0], rest[1:]
    elif '/' in program:
        source = ROOT / program
    if source is None or not source.is_file():
        return f'there is no {source or program}'
    text = source.read_text(encoding='utf-8')
    for word in rest:
        if word.startswith('--') and not re.search(rf"['\"]{word.split('=')[0]}['\"]", text):
            return f'{source.name} has no option {word}'
    return wrong_arguments(rest)


def wrong_arguments(rest: list[str]) -> str:
    for word in rest:
        if is_config(word):
            problem = wrong_config(word)
        elif re.match(r'(configs|tools|tests|benchmarks|requirements)/', word):
            problem = '' if (ROOT / word).exists() else f'there is no {word}'
        elif re.match(r'[a-z_]+(\.\w+)+=', word):
            problem = wrong_names(word.partition('=')[0])
        else:
            continue
        if problem:
            return problem
    return ''


def wrong_span(text: str, page: Path) -> str:
    """What is wrong with a piece of code in a sentence."""
    text = text.strip()
    if text.startswith(_MADE) or text in _DATA:
        return ''
    if '::' in text and re.match(r'[\w/]+\.py::', text):
        return wrong_symbol(text)
    if re.match(r'(make|python|mim|benchmarks/gpu\.sh|\.ci/run)( |$)', text):
        return wrong_command(re.sub(r' \.\.\.', '', text))
    if is_config(text):
        return wrong_config(text)
    if '-' in text and any(name.startswith(text) for name in configs()):
        return ''
    if re.fullmatch(r'[\w.{},\[\]*<>/-]+', text) and (
        text.endswith((*_SUFFIXES, '/')) or ('/' in text and (ROOT / text.split('/')[0]).exists())
    ):
        return wrong_path(text, page)
    return wrong_names(re.sub(r"'[^']*/[^']*'", '', text))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page):
    text = page.read_text(encoding='utf-8')
    problems = [(span, wrong_span(span, page)) for span in spans(text)]
    for kind, content in fences(text):
        if kind == 'shell':
            lines = content.replace('\\\n', ' ').replace('&&', '\n').splitlines()
            problems += [
                (line, wrong_command(line))
                for line in lines
                if not re.match(r'\s*(cd |git clone <)', line)
            ]
        elif kind == 'python' and page.parent.name != 'tutorials':  # those are run
            ast.parse(content.replace(', ...)', ')'))
            problems.append((content, wrong_names(re.sub(r"'[^']*/[^']*'|#.*", '', content))))
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if not re.match(r'[a-z]+:|#', target):
            exists = (page.parent / target.partition('#')[0]).exists()
            problems.append((target, '' if exists else 'the link leads nowhere'))
    wrong = [f'{name}: {problem}' for name, problem in problems if problem]
    assert not wrong, '\n' + '\n'.join(wrong)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('mixed_encoder.py::MixedResolutionEncoder._allocate', ''),
        ('mixed_encoder.py::MixedResolutionEncoder._alocate', 'has no'),
        ('mixed_encoder.py::join', ''),
        ('reference.py::cluster_attention', 'files are named'),
        ('mixed_decoder.py::join', '0 files'),
        ('TokenSet.offsets', ''),
        ('TokenSet.offset', 'has no offset'),
        ('SparseMask2FormerHead', ''),
        ('DenseMask2FormerHead', 'DenseMask2FormerHead'),
        ('straight_through=False', ''),
        ('straight_thru=False', 'nothing is named'),
        ('feats (T, C)', ''),
        ('featurez (T, C)', 'nothing is named'),
        ("'canvas'", ''),
        ("'canvass'", 'nothing is named'),
        ('*coarser, candidates = levels', ''),
        ('*coarser, candidate = levels', 'no file'),
        ('arta-{tiny,base}_mask2former_4xb8-80k_ade20k-512x512', ''),
        ('arta-{tiny,huge}_mask2former_4xb8-80k_ade20k-512x512', 'arta-huge'),
        ('arta-nano_*', ''),
        ('arta-micro_*', 'no config'),
        ('mmseg_arta/ops/', ''),
        ('mmseg_arta/opps/', 'there is no'),
        ('structures/token_set.py', ''),
        ('structures/tokens_set.py', 'there is no'),
        ('make sweep', ''),
        ('make sweeep', 'make target'),
        ('python tools/get_flops.py CONFIG --shape 512 512', ''),
        ('python tools/get_flops.py CONFIG --size 512 512', 'no option'),
        ('python tools/get_flop.py', 'there is no'),
        ('python -m mmseg_arta.ops', ''),
        ('python -m mmseg_arta.operators', 'no module'),
        ('mim train mmsegmentation arta-tiny_mask2former_4xb8-80k_ade20k-999x999.py', 'no config'),
        ('mim train mmsegmentation arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py', 'mmseg_arta'),
        ('mim train mmseg_arta arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py', ''),
    ],
)
def test_the_check_tells_wrong_names(text, problem):
    found = wrong_span(text, ROOT / 'README.md')
    assert problem in found if problem else not found


def test_the_walkthrough_names_every_ablation():
    text = (ROOT / 'docs' / 'arta_walkthrough.md').read_text(encoding='utf-8')
    named = {name for span in spans(text) if is_config(span) for name in expand(span)}
    ablations = {path.stem for path in ROOT.glob('configs/arta/ablations/*.py')}
    ablations |= {path.stem for path in ROOT.glob('configs/dups/ablations/*.py')}
    missing = sorted(ablations - named)
    assert not missing, missing
