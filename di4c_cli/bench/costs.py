"""What a call costs whatever the machine, operations and bytes; and what the machine can do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from di4c_cli.bench.timing import Call

aten = torch.ops.aten
FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten._unsafe_view}
"""Operations that touch no element, beside the views."""
SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices that tell what a device can do."""


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    flops: int
    """Of matrix products, convolutions and attention; a multiplication with an addition counts as two."""
    bytes: int
    """Read and written by all operations, as if each went to memory and back."""


def cost_of(call: Call) -> Cost:
    """Run a call once, slowly, and count; parts that are compiled go uncounted."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as flops, ByteCounter() as counter:
        call()
    return Cost(flops.get_total_flops(), counter.bytes)


class ByteCounter(TorchDispatchMode):
    """Adds up the sizes of tensors that go into and come out of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket not in FREE:
            self.bytes += sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs, out)))
        return out


def _bytes(value: object) -> int:
    """Of a tensor's elements; an expanded one has fewer than its shape says."""
    if not isinstance(value, Tensor):
        return 0
    sizes = zip(value.shape, value.stride(), strict=True)
    return value.itemsize * math.prod(size for size, stride in sizes if stride or not size)


def matmul(device: torch.device, dtype: torch.dtype) -> tuple[Call, int]:
    """A large square matrix product, which has run once, and its FLOP: what a network could reach at most."""
    side = SIDE[device.type]
    a = torch.randn(side, side, device=device).to(dtype)

    def call() -> object:
        return a @ a

    call()
    return call, 2 * side**3


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    grad: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *args: Any,
    **kwargs: Any,
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


_CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""PyTorch's counter knows attention on GPUs only."""
