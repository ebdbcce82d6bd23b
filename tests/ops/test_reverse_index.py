from __future__ import annotations

import torch

from mmseg_arta.ops.reverse_index import reverse_index


def test_reverse_index():
    numbers = torch.tensor([2, -1, 0, 2, 2, -1])
    first, places = reverse_index(numbers, 4)
    lists = [places[first[n] : first[n + 1]].tolist() for n in range(4)]
    assert lists == [[2], [], [0, 3, 4], []]
