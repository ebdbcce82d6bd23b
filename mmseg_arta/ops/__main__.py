"""``python -m mmseg_arta.ops``: which back end runs each op, and why not the others."""

from __future__ import annotations

import sys

import torch

from ..command_line import Parser
from .backend import ENV, OPS, available_backends, explain
from .library import cpu


def table(device: str, dtype: torch.dtype) -> str:
    """The ops, the back end chosen for each, and why the others are not."""
    rows = [('op', 'runs on', 'not on')]
    for op in OPS:
        chosen, why = explain(op, device, dtype)
        rows.append((op, chosen, '; '.join(f'{name}: {reason}' for name, reason in why.items())))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return '\n'.join(
        f'{op:{widths[0]}}  {chosen:{widths[1]}}  {why}'.rstrip() for op, chosen, why in rows
    )


def main(arguments: list[str] | None = None) -> int:
    parser = Parser('ops', prog='python -m mmseg_arta.ops', description=__doc__)
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', default=default, help=f'device type (default: {default})')
    parser.add_argument(
        '--dtype', default='float32', choices=['float32', 'float64', 'float16', 'bfloat16']
    )
    args = parser.parse_args(arguments)
    try:
        device = torch.device(args.device).type
    except RuntimeError:
        parser.error(f'--device must be a device type of PyTorch, found {args.device!r}')
    try:
        chosen = table(device, getattr(torch, args.dtype))
    except RuntimeError as error:  # of a back end that is forced
        parser.error(str(error))
    print('back ends:')
    for name, reason in available_backends().items():
        detail = f' ({cpu.describe()})' if name == 'cpu' and not reason else ''
        print(f'  {name}: {reason or "available"}{detail}')
    print(f'\n{device} tensors, {args.dtype}; {ENV} forces a back end:\n')
    print(chosen)
    return 0


if __name__ == '__main__':
    sys.exit(main())
