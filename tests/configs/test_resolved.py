"""Configs resolve to what they resolved to before, however their bases are cut."""

from __future__ import annotations

import json

import pytest

from tests.configs.resolved import CONFIGS, DIGESTS, digests, load

EXPECTED = json.loads(DIGESTS.read_text())
RENEW = 'python tests/configs/resolved.py'


def test_no_config_came_or_went() -> None:
    new, gone = sorted(CONFIGS.keys() - EXPECTED), sorted(EXPECTED.keys() - CONFIGS)
    assert not new and not gone, f'new: {new}, gone: {gone}; if this is meant: {RENEW}'


@pytest.mark.parametrize('name', EXPECTED)
def test_resolved_content_is_unchanged(name: str) -> None:
    found = digests(load(name))
    changed = [
        section
        for section in sorted(found.keys() | EXPECTED[name])
        if found.get(section) != EXPECTED[name].get(section)
    ]
    assert not changed, (
        f'{name} resolves to something else in: {", ".join(changed)}. To see it, compare the '
        f'output of "{RENEW} {name}" here and at the commit before; if this is meant: {RENEW}'
    )
