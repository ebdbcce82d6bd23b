"""Where configs lie, by name: those of this package and those of MMSegmentation."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path

# Their modules, whose configs lie in .mim once installed and beside the module in a checkout.
_PACKAGES = ('mmseg_arta', 'mmseg')
# How many names an error suggests, and how alike they are at least, from 0 to 1.
_SUGGESTED, _ALIKE = 3, 0.6


def config_folders(package: str = '') -> list[Path]:
    """Where configs are looked up by name: this package's, then MMSegmentation's, or one's own."""
    places = []
    for name in _PACKAGES if not package else (package,):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).resolve().parent
            both = (folder / '.mim' / 'configs', folder.parent / 'configs')
            places += [place for place in both if place.is_dir()][:1]
    return places


def configs_below(folder: Path) -> list[Path]:
    """The configs in a folder of families, sorted; files that configs inherit are none."""
    return sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts)


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: a path, or the file name of a config of this package or of MMSegmentation, with or
            without '.py'; as in OpenMMLab's configs 'mmseg::' or 'mmseg_arta::' before it says
            whose, and folders may stand between.

    Raises:
        FileNotFoundError: if there is none; names that are alike stand in the message.
    """
    package, _, rest = name.rpartition('::')
    if not package and Path(name).is_file():
        return Path(name)
    if package and package not in _PACKAGES:
        known = ', '.join(f'{known}::' for known in _PACKAGES)
        raise FileNotFoundError(f'config {name!r}: configs are known of {known}, not {package}::')
    folders = config_folders(package)
    for folder in folders:
        relative = f'{rest.removesuffix(".py")}.py'
        if (folder / relative).is_file():
            return folder / relative
        found = sorted(path for path in folder.rglob('*.py') if path.name == relative)
        if found:
            return found[0]
    places = ', '.join(str(folder) for folder in folders) or 'no folder: the package has no configs'
    message = f'config {name!r} is neither a file nor the name of one in {places}'
    names = {path.stem for folder in folders for path in configs_below(folder)}
    raise FileNotFoundError(message + suggestion(rest, names))


def inherited(name: str) -> str:
    """What stands in ``_base_`` for a bundled config, wherever the package is installed."""
    return f"__import__('mmseg_arta').config_path({name!r})"


def suggestion(name: str, names: set[str]) -> str:
    """The end of an error about a name that does not exist: those that are alike, or ''."""
    stem = Path(name).name.removesuffix('.py')
    alike = difflib.get_close_matches(stem, sorted(names), _SUGGESTED, _ALIKE)
    return f'; near it: {", ".join(alike)}' if alike else ''
