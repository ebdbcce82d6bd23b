"""The structures that ctypes passes are those that the compiler sees."""

from __future__ import annotations

import ctypes
import re
import subprocess
from types import ModuleType

import pytest

from mmseg_arta.ops.cpu import build as cpu_build
from mmseg_arta.ops.cpu import interface as cpu_interface
from mmseg_arta.ops.cuda import build as cuda_build
from mmseg_arta.ops.cuda import interface as cuda_interface
from mmseg_arta.ops.native import interface as shared_interface
from mmseg_arta.ops.native import problems

SHARED = cpu_build.SOURCES.parent / 'problems.h'
INTERFACES = {
    'CPU': (cpu_build.SOURCES / 'interface.h', cpu_interface),
    'CUDA': (cuda_build.SOURCES / 'interface.h', cuda_interface),
}

pytestmark = [
    pytest.mark.skipif(
        not all(header.is_file() for header, _ in INTERFACES.values()), reason='needs the sources'
    ),
    pytest.mark.parametrize('name', INTERFACES),
]


def structures(interface: ModuleType) -> dict[str, type[ctypes.Structure]]:
    return {
        name: structure
        for module in (shared_interface, interface)
        for name, structure in vars(module).items()
        if isinstance(structure, type) and issubclass(structure, ctypes.Structure)
    }


def test_everything_is_declared(name):
    header, interface = INTERFACES[name]
    text = SHARED.read_text() + header.read_text()
    assert set(re.findall(r'^struct Arta(\w+) \{', text, re.MULTILINE)) == set(
        structures(interface)
    )
    declared = re.findall(r'^ARTA_API [\w* ]*?(arta_\w+)\(', text, re.MULTILINE)
    assert set(declared) == set(interface.FUNCTIONS)
    assert f'#define ARTA_{name}_VERSION {interface.VERSION}\n' in text
    codes = re.findall(r'^#define ARTA_(?:CUDA_)?([A-Z_]+) (\d+)$', text, re.MULTILINE)
    for code, value in codes:
        if code not in ('CPU_VERSION', 'VERSION'):
            assert getattr(interface, code) == int(value)


def test_number_types_have_their_codes(name):
    (listed,) = re.findall(r'enum ArtaType \{(.*?)\}', SHARED.read_text(), re.DOTALL)
    codes = {word.lower(): int(code) for word, code in re.findall(r'ARTA_(\w+) = (\d)', listed)}
    assert codes == {str(t).removeprefix('torch.'): code for t, code in problems.TYPES.items()}


def test_functions_take_as_many_arguments(name):
    header, interface = INTERFACES[name]
    text = re.sub(r'\s+', ' ', header.read_text())
    for function, (_, arguments) in interface.FUNCTIONS.items():
        (inside,) = re.findall(rf'\b{function}\(([^)]*)\)', text)
        assert len(arguments) == (inside.count(',') + 1 if inside else 0), function


def test_fields_lie_where_the_compiler_puts_them(name, tmp_path):
    header, interface = INTERFACES[name]
    try:
        compiler = cpu_build.find_compiler()
    except cpu_build.BuildError as error:
        pytest.skip(str(error))
    fields = [
        (structure, field, kind)
        for structure, kind in structures(interface).items()
        for field, _ in kind._fields_
    ]
    lines = [
        f'  std::printf("%zu %zu\\n", offsetof(Arta{structure}, {field}), sizeof(Arta{structure}));'
        for structure, field, _ in fields
    ]
    source = tmp_path / 'layout.cpp'
    source.write_text(
        f'#include <cstddef>\n#include <cstdio>\n#include "{header}"\n'
        'int main() {\n' + '\n'.join(lines) + '\n}\n'
    )
    program = tmp_path / 'layout'
    subprocess.run([*compiler, '-std=c++17', str(source), '-o', str(program)], check=True)
    shown = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    found = dict(zip(((s, f) for s, f, _ in fields), shown.splitlines(), strict=True))
    assert found == {
        (s, f): f'{getattr(kind, f).offset} {ctypes.sizeof(kind)}' for s, f, kind in fields
    }
