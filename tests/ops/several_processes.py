"""Uses the ops in several processes and threads, and many times.

``python several_processes.py WAY LIBRARY``: a script, so that processes that are spawned can import
it.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from mmseg_arta.models import ARTA
from mmseg_arta.ops import build_neighborhood, cluster_attention, library, nearest_clusters

ARCH = dict(
    dims=(16, 16, 16, 16),
    num_heads=(1, 1, 2, 2),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
)


def attended(seed: int = 0) -> Tensor:
    """Output and gradient of some cluster attention."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (700, 3, 0, 500)
    total = sum(lengths)
    xy = torch.randint(0, 64, (total, 2), generator=generator).int()
    counts = torch.tensor(lengths)
    batch = torch.repeat_interleave(torch.arange(4), counts)
    hood = build_neighborhood(xy, batch, counts, lengths, (64, 64))
    shapes = (total, 2, 16), (total, 2, 2, 16), (2, 5), (2,), (2, 16), (2, 16)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    out = cluster_attention(*tensors, hood)
    (grad,) = torch.autograd.grad(out.square().sum(), tensors[1])
    return torch.cat((out.detach().flatten(), grad.flatten()))


def in_another(path: str, threads: int, expected: list[float]) -> None:
    library.cpu.path = Path(path)
    library.cpu.loaded()
    torch.set_num_threads(threads)
    if not torch.equal(attended(), torch.tensor(expected)):
        raise SystemExit('other numbers in the other process')


def another_process(method: str) -> None:
    """The ops work in a process that is made after they were used, and give the same numbers."""
    threads = 1 if method == 'fork' else 2
    torch.set_num_threads(threads)
    expected = attended()
    context = multiprocessing.get_context(method)
    given = str(library.cpu.path), threads, expected.tolist()
    others = [context.Process(target=in_another, args=given) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(120)
        if other.exitcode != 0:
            raise SystemExit(f'{method}: the other process ended with {other.exitcode}')
    assert torch.equal(attended(), expected)


def threads() -> None:
    """Calls from two threads at once do not disturb one another, nor do their errors."""
    torch.set_num_threads(2)
    expected = [attended(seed) for seed in range(4)]

    def again(number: int) -> bool:
        if number % 7 == 0:
            start = torch.tensor([0, 9, 4, 20])
            try:
                nearest_clusters(torch.zeros(20, 2).int(), start, (20,), 8)
            except ValueError as error:
                return 'start' in str(error)
            return False
        return torch.equal(attended(number % 4), expected[number % 4])

    with ThreadPoolExecutor(2) as pool:
        if not all(pool.map(again, range(60))):
            raise SystemExit('other numbers from another thread')


def resident() -> int:
    """Bytes of memory that the process holds."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096


@torch.no_grad()
def passes(count: int = 1000) -> None:
    """Many forward passes of a model, and errors between them, take no more memory than few."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ARTA(ARCH).eval()
    images = [torch.randn(1, 3, 64, 32 * n) for n in (1, 2, 3)]
    for number in range(count):
        if number == count // 4:
            before = resident()
        model(images[number % 3])
        try:
            nearest_clusters(torch.zeros(20, 2).int(), torch.tensor([0, 9, 4, 20]), (20,), 8)
        except ValueError:
            continue
        raise SystemExit('an argument that lies was taken')
    grown = resident() - before
    print(f'{count} passes: {grown / 1e6:.1f} MB more than after a quarter of them')
    if grown > 8e6:
        raise SystemExit(1)


if __name__ == '__main__':
    way, path = sys.argv[1:]
    library.cpu.path = Path(path)
    library.cpu.loaded()
    {'threads': threads, 'passes': passes}.get(way, lambda: another_process(way))()
