"""Every option is checked when built: what cannot be is an error that names it, all else works."""

from __future__ import annotations

import inspect
import math
import re
import resource
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import mmseg.registry
import pytest
from mmengine.registry import Registry

from mmseg_arta.engine import CPUDistributedDataParallel
from mmseg_arta.option_checks import MOST_NUMBER
from tests.option_table import CASES, Case

UNUSUAL: dict[str, Any] = {
    'zero': 0,
    'negative': -1,
    'fraction': 0.3,
    'true': True,
    'nan': math.nan,
    'infinity': math.inf,
    '-infinity': -math.inf,
    'huge': 2**61,
    'hugely negative': -(2**61),
    'beyond single precision': 1e300,
    'empty text': '',
    'text': 'nonsense',
    'empty sequence': (),
    'empty dict': {},
    'dict': {'nonsense': 1},
    'object': object(),
    'none': None,
}
# Inside of sequences.
_SCALARS = (*tuple(UNUSUAL)[:10], 'text', 'empty sequence', 'none')

_ANY_NUMBER = ('zero', 'negative', 'fraction', 'huge', 'hugely negative')
_POSITIVE = ('fraction', 'huge')
_NOT_NEGATIVE = ('zero', *_POSITIVE)
_SHARE = ('zero', 'fraction')
_LABEL = ('zero', 'negative')
#: Unusual values that do work, by option; None works where the signature says so.
WORKS: dict[str, tuple[str, ...]] = {
    'alpha': _ANY_NUMBER,
    'blank_clamp': _POSITIVE,
    'caps': _SHARE,
    'class_weight': _SHARE,
    'costs': (),
    'dice_weight': _SHARE,
    'downsample_rate': ('fraction',),
    'drop_path_rate': _SHARE,
    'dropout': _SHARE,
    'eps': ('fraction',),
    'fixed': _ANY_NUMBER,
    'floor': _SHARE,
    'gamma': _SHARE,
    'gflops': _POSITIVE,
    'ignore_index': _LABEL,
    'importance': _SHARE,
    'inference': _SHARE,
    'init_cfg': ('empty sequence', 'empty dict'),
    'keep_per_class': ('zero',),
    'layer_scale_init': _SHARE,
    'loss': ('empty dict',),
    'loss_weight': _SHARE,
    'mask_weight': _SHARE,
    'max_images': ('zero',),
    'mlp_ratio': ('fraction',),
    'mlp_ratios': ('fraction',),
    'no_object_weight': _SHARE,
    'norm_eps': ('fraction',),
    'out_indices': ('zero',),
    'out_stages': ('zero',),
    'pairs': _ANY_NUMBER,
    'pixel_decoder': ('empty dict',),
    'criterion': ('empty dict',),
    'transformer_decoder': ('empty dict',),
    'rate': _SHARE,
    'ratios': _SHARE,
    'schedule': _SHARE,
    'seed': ('zero',),
    'shape': _POSITIVE,
    'share': _SHARE,
    'shrink_at': ('zero',),
    'threshold': _ANY_NUMBER,
    'thresholds': (*_ANY_NUMBER, 'infinity', '-infinity', 'beyond single precision'),
    'tokens': _NOT_NEGATIVE,
    'in_index': ('zero',),
    'pre_norm_blocks': ('zero', 'empty sequence'),
}
#: Unusual values that were built, by option, to find what ``WORKS`` lists in vain.
BUILT: dict[str, set[str]] = defaultdict(set)
#: Classes that were tried.
WALKED: set[str] = set()


def registries() -> Iterator[Registry]:
    yield from (one for one in vars(mmseg.registry).values() if isinstance(one, Registry))
    try:
        import mmpretrain.registry as pretrain

        import mmseg_arta.pretrain  # noqa: F401
    except ImportError:
        return
    yield from (one for one in vars(pretrain).values() if isinstance(one, Registry))


def registered() -> dict[type, str]:
    """Classes of this package whose constructor is its own, too."""
    found = {}
    for registry in registries():
        for name, one in registry.module_dict.items():
            if inspect.isclass(one) and getattr(one.__init__, '__module__', '').startswith(
                'mmseg_arta'
            ):
                found[one] = name
    return found


def options_of(make: type) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(make).parameters
    return {name: one for name, one in found.items() if one.kind in kinds}


def unusual(option: inspect.Parameter, usual: Any) -> Iterator[tuple[str, Any]]:
    """Unusual values of an option, and the option with one of its entries replaced."""
    yield from UNUSUAL.items()
    if isinstance(usual, (list, tuple)) and usual:
        for label in _SCALARS:
            yield label, (UNUSUAL[label], *usual[1:])
            yield label, (*usual[:-1], UNUSUAL[label])
    elif isinstance(usual, Mapping) and 'type' not in usual and 'dims' not in usual:
        first = next(iter(usual))
        for label in ('nan', 'text', 'none', 'object', 'infinity'):
            yield label, {**usual, first: UNUSUAL[label]}


def may_be(case: Case, name: str, option: inspect.Parameter, label: str, usual: Any) -> bool:
    value = UNUSUAL.get(label)
    if label == 'none' and (usual is None or 'None' in str(option.annotation)):
        return True
    if isinstance(usual, bool):
        return label in ('zero', 'true')
    return label in case.works.get(name, WORKS.get(name, ())) or (
        label != 'none' and isinstance(usual, type(value)) and usual == value
    )


@pytest.fixture(autouse=True, scope='module')
def _little_memory():
    """What is refused takes no memory; what is built here needs little."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open('/proc/self/statm', encoding='ascii') as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (3 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_every_class_has_an_entry():
    known = {case.make for case in CASES.values()}
    # The wrapper of a model has no option of its own.
    known.add(CPUDistributedDataParallel)
    missing = [name for one, name in registered().items() if one not in known]
    assert not missing
    assert sum(one in known for one in registered()) > 30


@pytest.mark.parametrize('name', CASES)
def test_usual_options_work(name):
    case = CASES[name]
    case.use(case.make(**case.options))


@pytest.mark.parametrize('name', CASES)
def test_options_are_checked(name, record_property):
    case, wrong, tried = CASES[name], [], 0
    WALKED.add(name)
    # ARTA and DUPS share their constructor.
    same = [other for other, one in CASES.items() if one.make.__init__ is case.make.__init__]
    if same[0] != name and CASES[same[0]].options == case.options:
        return
    for option, parameter in options_of(case.make).items():
        default = parameter.default
        usual = case.options.get(option, None if default is inspect.Parameter.empty else default)
        for label, value in unusual(parameter, usual):
            tried += 1
            said = f'{name}({option}={value!r})'
            try:
                made = case.make(**{**case.options, option: value})
            except (TypeError, ValueError) as error:
                names = [option, 'nonsense', *(value if isinstance(value, Mapping) else ())]
                if not any(re.search(rf'\b{name}\b', str(error)) for name in names):
                    wrong.append(f'{said} does not name the option: {error!r}')
            except Exception as error:
                wrong.append(f'{said} ends in {error!r}')
            else:
                BUILT[option].add(label)
                if not may_be(case, option, parameter, label, usual):
                    wrong.append(f'{said} is built')
                    continue
                try:
                    case.use(made)
                except Exception as error:
                    wrong.append(f'{said} is built and fails: {error!r}')
    record_property('times', tried)  # for the page on reliability
    assert not wrong, '\n' + '\n'.join(wrong)


def test_no_rule_is_in_vain():
    if set(CASES) != WALKED:
        pytest.skip('needs all of test_options_are_checked in one process')
    vain = {
        name: sorted(set(labels) - BUILT[name])
        for name, labels in WORKS.items()
        if set(labels) - BUILT[name]
    }
    assert not vain


def test_the_largest_number_is_finite_in_single_precision():
    assert math.isfinite(MOST_NUMBER) and MOST_NUMBER > 1e38
