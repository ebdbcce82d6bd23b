"""What is counted as a kernel, a wait and a copy, and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg_arta.analysis.launches import CARDS, LAUNCH, LaunchCounter, Launches
from mmseg_arta.ops import class_scores
from mmseg_arta.ops.backend import chosen_backend

ROOT = Path(__file__).resolve().parents[2]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.decode_head = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode_head(self.backbone(x))


def counted(function, model: nn.Module | None = None) -> Launches:
    counter = LaunchCounter(model or Model())
    with torch.no_grad(), counter:
        function()
    return counter.total


def test_modules_are_parts_and_views_are_no_kernels() -> None:
    model = Model()
    counter = LaunchCounter(model)
    with torch.no_grad(), counter:
        model(torch.zeros(5, 3))
    first, second = counter.parts['backbone'], counter.parts['decode_head']
    assert (first.launched, second.launched) == (1, 2)  # addmm; relu, addmm
    assert first.dispatched == 2 and second.dispatched == 3  # transposed weights
    assert (first.macs, second.macs) == (5 * 3 * 4, 5 * 4 * 2)
    assert first.bytes == 4 * (4 + 5 * 3 + 3 * 4 + 5 * 4)
    assert counter.names['addmm'] == 2 and counter.names['relu'] == 1
    assert counter.total.synced == 0


def test_ops_without_a_kernel_for_gpus_are_counted_as_they_run_there() -> None:
    probs, logits = torch.rand(1, 3, 2), torch.rand(1, 3, 16, 16)
    before = chosen_backend('class_scores', probs)
    counter = LaunchCounter(Model())
    with torch.no_grad(), counter:
        class_scores(probs, logits, 4, (64, 64))
    assert 'mask_probabilities' not in counter.names and counter.total.launched < 10
    assert chosen_backend('class_scores', probs) == before


ROWS = torch.arange(6).view(2, 3)


@pytest.mark.parametrize(
    'function',
    [
        lambda: ROWS.sum().item(),
        lambda: ROWS.tolist(),
        lambda: ROWS.numpy(),
        lambda: bool((ROWS > 0).any()),
        lambda: int(ROWS[0, 1]),
        lambda: ROWS.nonzero(),
        lambda: ROWS[ROWS > 2],
        lambda: ROWS.clone().index_put_((ROWS > 2,), torch.tensor(1)),
        lambda: ROWS[0].repeat_interleave(ROWS[1]),
        lambda: torch.unique(ROWS),
        lambda: torch.masked_select(ROWS, ROWS > 2),
        lambda: torch.equal(ROWS, ROWS),
    ],
)
def test_reading_a_value_is_a_wait(function) -> None:
    assert counted(function).synced == 1


@pytest.mark.parametrize(
    'function',
    [
        lambda: ROWS[ROWS[0] % 2],
        lambda: ROWS[0].repeat_interleave(ROWS[1], output_size=12),
        lambda: ROWS.view(3, 2).t()[1:].unsqueeze(0).split(1),
        lambda: ROWS.shape[0] + len(ROWS),
        lambda: torch.empty_like(ROWS),
        lambda: F.softmax(ROWS.float(), 0),
    ],
)
def test_what_needs_no_value_is_none(function) -> None:
    assert counted(function).synced == 0


def test_host_values_are_copies() -> None:
    found = counted(lambda: (torch.tensor([1, 2]), torch.as_tensor((3.0,)), torch.zeros(2)))
    assert found.copied == 2


def test_views_and_memory_start_no_kernel() -> None:
    views = counted(lambda: (ROWS.view(3, 2).t()[1:].unsqueeze(0).split(1), torch.empty(3)))
    assert views.launched == 0 and views.dispatched >= 5


def test_backward_and_optimizer_are_booked_by_phase() -> None:
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    counter = LaunchCounter(model)
    with counter:
        loss = model(torch.ones(5, 3)).sum()
        counter.phase = 'backward'
        loss.backward()
        counter.phase = 'optimizer'
        optimizer.step()
    assert counter.parts['backward'].launched > counter.parts['backbone'].launched
    assert counter.parts['optimizer'].launched >= 1
    assert {'backbone', 'decode_head'} < set(counter.parts)


@pytest.mark.parametrize(
    ('shapes', 'kernels'),
    [([3] * 110, 1), ([3] * 111, 2), ([65536 * 320], 1), ([65536 * 320 + 1], 2)],
    ids=['tensors', 'too many tensors', 'values', 'too many values'],
)
def test_one_kernel_takes_many_tensors_but_not_all(shapes, kernels) -> None:
    tensors = [torch.zeros(shape, device='meta') for shape in shapes]
    assert counted(lambda: torch._foreach_mul_(tensors, 2.0)).launched == kernels


def test_two_lists_fill_a_kernel_sooner() -> None:
    tensors, others = ([torch.zeros(3) for _ in range(65)] for _ in range(2))
    assert counted(lambda: torch._foreach_add_(tensors, others)).launched == 2


def test_numbers_of_steps_lie_on_the_host() -> None:
    step = torch.tensor(3.0)
    counter = LaunchCounter(Model())
    counter.on_host = lambda tensor: tensor is step
    with counter:
        step.item()
        assert counter.total.synced == 0
        torch.tensor(3.0).item()
    assert counter.total.synced == 1


def test_estimates() -> None:
    found = Launches(launched=200, macs=10**9, bytes=10**6)
    assert found.seconds_to_launch() == pytest.approx(200 * LAUNCH)
    card = CARDS['h100']
    assert found.roofline(card, 'fp32') == pytest.approx(1e9 / (66.9e12 / 2))
    assert Launches(bytes=335 * 10**7).roofline(card, 'bf16') == pytest.approx(1e-3)


def test_command_names_what_is_wrong() -> None:
    command = [sys.executable, 'benchmarks/launches.py', 'no-such-config']
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and 'no-such-config' in done.stderr.splitlines()[-1]
