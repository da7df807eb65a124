"""How the weights in training lie on the ranks: a copy on each, or a piece on each."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from di4c_cli.core import ranks


def held(module: nn.Module) -> dict[str, Tensor]:
    """A module's state as far as it lies on this rank: the very tensors, of those in pieces the piece."""
    return {name: _own(value) for name, value in module.state_dict().items()}


def _own(value: Tensor) -> Tensor:
    return value.to_local() if hasattr(value, "to_local") else value


@torch.no_grad()
def fill(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names and shapes."""
    for name, tensor in into.items():
        tensor.copy_(values[name])


class Copies:
    """Every rank has all weights; gradients are added up once a step.

    Not by DistributedDataParallel, which expects one forward call of one module a step and each gradient
    once: losses call methods of a network several times, on some ranks not at all where nothing has weight,
    and read it anew in the backward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        ranks.share_first(model.state_dict().values())
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        """What the optimiser works on."""

    def whole(self) -> AbstractContextManager[None]:
        """Within, the model can be called on this rank."""
        return nullcontext()

    def reduce(self) -> None:
        """The gradients of all ranks, added up; None where no rank has one. Within `whole`."""
        grown = ranks.largest([p.grad is not None for p in self.trained.values()])
        parameters = [p for p, any_ in zip(self.trained.values(), grown, strict=True) if any_]
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        ranks.add_up(p.grad for p in parameters if p.grad is not None)

    def clip(self, limit: float) -> Tensor:
        """Scale the gradient down to a norm of at most `limit`; the norm before."""
        return torch.nn.utils.clip_grad_norm_(list(self.trained.values()), limit)

    def gathered(self, tensors: Mapping[str, Tensor], *, everywhere: bool = False) -> dict[str, Tensor]:
        """Whole tensors from those that the ranks hold: weights, averages or the optimiser's, by name.

        On the first rank; elsewhere too if asked, else what is there is of no use.
        """
        return dict(tensors)

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this rank holds of whole tensors."""
        return dict(tensors)

    def outline(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the shapes of `gathered`, on no account its values."""
        return dict(tensors)


class _Everything(nn.Module):
    """A model as FSDP knows it: nothing but weights, called once a step by way of all of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        """0."""
        return torch.stack([p.sum() * 0 for p in self.parameters() if p.requires_grad]).sum()


class Pieces(Copies):
    """Every rank has a piece of each weight (FSDP2) and optimises that; they are whole within a step.

    All weights are one group that is gathered at the beginning of a step and scattered at its end. Layer by
    layer, as is usual, every rank would have to call the same layers equally often: see `Copies`.
    """

    def __init__(self, model: nn.Module) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(model)
        mesh = init_device_mesh(next(model.parameters()).device.type, (ranks.size(),))
        self.everything = _Everything(model)
        self.sharded = fully_shard(self.everything, mesh=mesh, reshard_after_forward=False)
        self.sharded.set_gradient_divide_factor(1.0)  # losses are shares of the global batch already
        self.sharded.set_force_sum_reduction_for_comms(True)  # gloo multiplies by no factor, not even 1
        with self.whole():  # from here on, pieces stay where they are in memory
            pass
        self._spread = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.trained = {name: nn.Parameter(_own(p.detach())) for name, p in self._spread.items()}
        self._rows = {
            name: len(value) for name, value in model.state_dict().items() if hasattr(value, "to_local")
        }

    @contextmanager
    def whole(self) -> Iterator[None]:
        with ranks.peers():
            self.sharded.unshard()
        yield
        self.sharded.reshard()

    def reduce(self) -> None:
        """FSDP reduces what its module's backward pass went through. The losses' passes go by its hooks, as
        what they go through differs from rank to rank; one through everything takes their gradients along.
        """
        grown = ranks.largest([p.grad is not None for p in self.model.parameters() if p.requires_grad])
        with ranks.peers():
            self.everything().backward()
        for any_, piece, spread in zip(grown, self.trained.values(), self._spread.values(), strict=True):
            piece.grad = _own(spread.grad) if any_ and spread.grad is not None else None
            spread.grad = None

    def clip(self, limit: float) -> Tensor:
        gradients = [p.grad for p in self.trained.values() if p.grad is not None]
        square = torch.nn.utils.get_total_norm(gradients).square()
        ranks.add_up([square])
        norm = square.sqrt()
        torch.nn.utils.clip_grads_with_norm_(self.trained.values(), limit, norm)
        return norm

    def gathered(self, tensors: Mapping[str, Tensor], *, everywhere: bool = False) -> dict[str, Tensor]:
        found = dict(tensors)
        for key, value in tensors.items():
            if (rows := self._rows_of(key, value)) is not None:
                whole = ranks.stacked(value, self._most(rows), rows)
                if everywhere or ranks.first():  # one at a time on the device, which has no room for all
                    found[key] = whole.cpu()
        return found

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for key, value in tensors.items():
            rows = self._rows_of(key, value)
            most = 0 if rows is None else self._most(rows)
            mine = slice(ranks.rank() * most, (ranks.rank() + 1) * most)
            found[key] = value if rows is None else value[mine].clone()  # without the rest in memory
        return found

    def outline(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for key, value in tensors.items():
            rows = self._rows_of(key, value)
            found[key] = value if rows is None else value.new_empty(rows, *value.shape[1:], device="meta")
        return found

    def _rows_of(self, key: str, value: Tensor) -> int | None:
        """How many rows the whole tensor has, of a weight or of one of its moments; None if it is whole."""
        name = key.removeprefix("exp_avg/").removeprefix("exp_avg_sq/")
        return self._rows.get(name) if value.dim() else None

    @staticmethod
    def _most(rows: int) -> int:
        """Rows of a piece, but for the last ones, which may have fewer or none."""
        return -(-rows // ranks.size())
