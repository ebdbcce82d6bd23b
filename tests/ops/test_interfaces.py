"""What the ops declare for ctypes is what the C sources state and the compiler sees."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from mmseg_arta.ops import build, library

LIBRARIES = {'cpu': library.cpu, 'cuda': library.cuda}

pytestmark = [
    pytest.mark.skipif(not build.SOURCES.is_dir(), reason='needs the sources'),
    pytest.mark.parametrize('name', LIBRARIES),
]


def text_of(name: str) -> str:
    """All sources of a back end."""
    files = sorted((build.SOURCES / name).iterdir()) + sorted(build.SOURCES.glob('*.h'))
    return '\n'.join(path.read_text() for path in files)


def structures(name: str) -> dict[str, type[ctypes.Structure]]:
    """Those that functions of a back end take, by their names in C."""
    found: dict[str, type[ctypes.Structure]] = {'ArtaRun': library.Run}
    for _, *arguments in LIBRARIES[name].functions.values():
        for argument in arguments:
            kind = getattr(argument, '_type_', None)
            if isinstance(kind, type) and issubclass(kind, ctypes.Structure):
                found['Arta' + kind.__name__.removeprefix('Cpu').removeprefix('Cuda')] = kind
    return found


def declarations(name: str) -> dict[str, str]:
    """The text of the C structures in the sources of a back end, by name."""
    text = text_of(name)
    return {
        declared.split()[1]: declared
        for declared in re.findall(r'^struct Arta\w+ \{.*?^\};', text, re.MULTILINE | re.DOTALL)
    }


def test_everything_is_declared(name):
    text = text_of(name)
    assert set(structures(name)) == set(declarations(name))
    stated = re.findall(r'^ARTA_API [\w* ]*?(arta_\w+)\(', text, re.MULTILINE)
    assert sorted(stated) == sorted(LIBRARIES[name].functions)
    versions = dict(re.findall(r'^ARTA_INTERFACE\((\w+), (\d+)\)', text, re.MULTILINE))
    assert {op: int(number) for op, number in versions.items()} == LIBRARIES[name].versions
    header = (build.SOURCES / name / 'interface.h').read_text()
    codes = re.findall(r'^#define ARTA_([A-Z_]+) (\d+)\b', header, re.MULTILINE)
    assert len(codes) == {'cpu': 4, 'cuda': 3}[name]
    assert all(getattr(library, code) == int(value) for code, value in codes)


def test_number_types_have_their_codes(name):
    (listed,) = re.findall(r'enum ArtaType \{(.*?)\}', text_of(name), re.DOTALL)
    codes = {word.lower(): int(code) for word, code in re.findall(r'ARTA_(\w+) = (\d)', listed)}
    assert codes == {str(t).removeprefix('torch.'): code for t, code in library.TYPES.items()}


def test_functions_take_as_many_arguments(name):
    text = re.sub(r'\s+', ' ', text_of(name))
    for function, (_, *arguments) in LIBRARIES[name].functions.items():
        (inside,) = re.findall(rf'ARTA_API [\w* ]*?\b{function}\(([^)]*)\)', text)
        assert len(arguments) == (inside.count(',') + 1 if inside else 0), function


def test_fields_lie_where_the_compiler_puts_them(name, tmp_path: Path):
    try:
        compiler = build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    fields = [
        (structure, field, kind)
        for structure, kind in structures(name).items()
        for field, _ in kind._fields_
    ]
    lines = [
        f'  std::printf("%zu %zu\\n", offsetof({structure}, {field}), sizeof({structure}));'
        for structure, field, _ in fields
    ]
    # ArtaRun, which others hold, comes from the header.
    declared = [text for arta, text in declarations(name).items() if arta != 'ArtaRun']
    source = tmp_path / 'layout.cpp'
    source.write_text(
        '#include <cstddef>\n#include <cstdio>\n'
        f'#include "{build.SOURCES / name / "interface.h"}"\n'
        + '\n'.join(declared)
        + '\nint main() {\n'
        + '\n'.join(lines)
        + '\n}\n'
    )
    program = tmp_path / 'layout'
    subprocess.run([*compiler, '-std=c++17', str(source), '-o', str(program)], check=True)
    shown = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    found = dict(zip(((s, f) for s, f, _ in fields), shown.splitlines(), strict=True))
    assert found == {
        (s, f): f'{getattr(kind, f).offset} {ctypes.sizeof(kind)}' for s, f, kind in fields
    }
