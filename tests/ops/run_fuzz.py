"""Many calls of the ops with arguments of which some lie, see ``fuzz.py``: `make sanitize`."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import math
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from mmseg_arta.ops import library

# Other packages install one that is called `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
fuzz = importlib.import_module('ops.fuzz')

#: Cases until another instruction set takes its turn.
EACH = 170


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=100_000, help='cases (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help='number of the first case')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--seconds', type=float, default=math.inf, help='stop after so long')
    parser.add_argument('--library', type=Path, help='C++ library (default: the built one)')
    parser.add_argument('--memory', type=int, default=0, help='GiB that the process may take')
    args = parser.parse_args(arguments)
    if args.library:
        library.cpu.path = args.library.resolve()
    library.cpu.loaded()
    if args.memory:
        resource.setrlimit(resource.RLIMIT_AS, (args.memory << 30,) * 2)
    torch.set_num_threads(2)
    sets = [name for name in ('base', 'avx2', 'avx512') if library.cpu.use(name)]
    done, report = 0, fuzz.Report()
    begin = time.monotonic()
    with tempfile.NamedTemporaryFile(prefix='fuzz-', delete=False) as place:
        while done < args.count and time.monotonic() - begin < args.seconds:
            # A process that dies leaves where it was; one that hangs is ended.
            faulthandler.dump_traceback_later(600, exit=True)
            os.pwrite(place.fileno(), f'seed {args.seed}, {args.first + done} and on\n'.encode(), 0)
            library.cpu.use(sets[done // EACH % len(sets)])
            some, found = fuzz.run_all(
                min(EACH, args.count - done), args.seed, first=args.first + done
            )
            done += some
            report.answered += found.answered
            report.errors += found.errors
            report.faults += found.faults
            if len(report.faults) >= 20:
                break
    faulthandler.cancel_dump_traceback_later()
    os.unlink(place.name)
    for name in dict.fromkeys(op for op, _ in (*report.answered, *report.errors)):
        plain, lied = (report.answered[name, lie] for lie in (False, True))
        errors = {kind: n for (op, kind), n in sorted(report.errors.items()) if op == name}
        print(f'{name}: answered {plain} without and {lied} with lies; errors {errors}')
    print('\n'.join(report.faults))
    print(
        f'{done} cases of seed {args.seed} in {time.monotonic() - begin:.0f} s: '
        f'{len(report.faults)} faults'
    )
    return bool(report.faults) or done < min(args.count, 1)


if __name__ == '__main__':
    raise SystemExit(main())
