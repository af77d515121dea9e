"""What one step of a training changes: the network, the average of its weights, the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn

from sdekit.train.checkpoint import CheckpointError
from sdekit.train.ema import EMA
from sdekit.train.parallel import Ranks
from sdekit.train.precision import check_precision, gradient_scaler, in_precision

Score = Callable[[Tensor, Tensor], Tensor]

EXPLODED: Final = 1e4
"""A loss so many times above the first one, and above 1, has diverged though it is finite: Adam's
steps have size lr whatever the gradient, so that weights grow for long before they overflow."""
READ_EVERY: Final = {"cuda": 20}
"""Steps between two readings of the losses, by the kind of device; 1 on the others."""


@final
class Learner:
    """Adam on the mean of a batch's losses, and the weights' average.

    ``losses``: the mean of each step that has been read so far. every: after how many steps they
    are read from the device; to wait for each one would leave a GPU idle between steps. Raises
    TypeError or ValueError for numbers out of their range, ValueError for a network without
    parameters.
    """

    def __init__(
        self,
        net: nn.Module,
        ranks: Ranks,
        *,
        lr: float,
        ema: float,
        clip: float | None,
        precision: str,
        every: int = 1,
    ) -> None:
        self.net, self.ranks, self.lr = net, ranks, check_positive("lr", lr)
        # Looking a module through for them takes as long as a layer of a small network.
        self._parameters = list(net.parameters())
        self.clip = None if clip is None else check_positive("clip", clip)
        self.device = first_parameter(net).device
        self.every = check_int_range("every", every, 1, 1 << 31)
        self.precision = check_precision(precision, self.device)
        ranks.from_first(net.state_dict().values())
        self.average = EMA(net, ema)
        # 0.99 instead of 0.999: the second moment must follow within a run of a few thousand steps.
        self.adam = torch.optim.Adam(self._parameters, lr=lr, betas=(0.9, 0.99), fused=True)
        self.scaler = gradient_scaler(precision, self.device)
        self.losses: list[float] = []
        self._unread: list[Tensor] = []

    def score(self, compiled: bool) -> Score:
        """The network as the losses see it: compiled, in its precision, this process' rows."""
        net: Any = torch.compile(self.net) if compiled else self.net
        return self.ranks.share(in_precision(net, self.precision, self.device))

    def step(self, each: Tensor, rate: float) -> Tensor | None:
        """One step down the mean of ``each`` (B,); the gradients' norm where they are clipped.

        rate: the learning rate of this step. Raises as ``read``, before it changes anything where
        each step is read.
        """
        value = self.ranks.mean(each)
        self._unread.append(value.detach())
        if len(self._unread) >= self.every:
            self.read()
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        self.ranks.sum_gradients(self._parameters)
        norm = None
        if self.clip is not None:
            self.scaler.unscale_(self.adam)
            norm = nn.utils.clip_grad_norm_(self._parameters, self.clip)
        self.scaler.step(self.adam)
        self.scaler.update()
        self.average.update()
        return norm

    def read(self) -> None:
        """Take the losses of the steps since the last time into ``losses``.

        Raises ArithmeticError, with step and lr, for the first one that is not finite or has
        exploded.
        """
        if not self._unread:
            return
        values = torch.stack(self._unread).tolist()
        self._unread.clear()
        for loss in self.ranks.sum(*values):
            self._record(loss)

    def check_finite(self) -> None:
        """Raises ArithmeticError, with step and lr, for weights that are not finite.

        The last step changes the weights after the last loss: no loss tells what became of them.
        """
        weights = [p.detach() for p in self._parameters] + self.average.average
        if not all(bool(w.isfinite().all()) for w in weights):
            raise ArithmeticError(
                f"the weights left the finite numbers by step {len(self.losses)}: write a smaller "
                f"lr than {self.lr:g}"
            )

    def state(self) -> dict[str, Tensor]:
        """Copies of "net/NAME", "ema/NAME", "adam/QUANTITY/NAME" for each parameter; "losses".

        Raises as ``read``.
        """
        self.read()
        names = [name for name, _ in self.net.named_parameters()]
        out = {f"net/{name}": v.detach().clone() for name, v in self.net.state_dict().items()}
        averages = zip(names, self.average.average, strict=True)
        out |= {f"ema/{name}": v.clone() for name, v in averages}
        for i, moments in self.adam.state_dict()["state"].items():
            out |= {f"adam/{key}/{names[i]}": v.detach().clone() for key, v in moments.items()}
        out["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        return out

    def restore(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, Any]) -> None:
        """Put back what ``state`` and the scaler's own state took.

        Raises CheckpointError for tensors that are not this network's.
        """
        names = [name for name, _ in self.net.named_parameters()]
        try:
            known = self.net.state_dict()
            # What is missing is the module's own matter.
            self.net.load_state_dict(
                {k: tensors[f"net/{k}"] for k in known if f"net/{k}" in tensors}
            )
            with torch.no_grad():
                for name, own in zip(names, self.average.average, strict=True):
                    own.copy_(tensors[f"ema/{name}"])
            adam = self.adam.state_dict()
            moments = {i: _moments(tensors, name) for i, name in enumerate(names)}
            adam["state"] = {i: found for i, found in moments.items() if found}
            self.adam.load_state_dict(adam)
            self.losses = tensors["losses"].tolist()
            self._unread.clear()
            self.average.updates = len(self.losses)
            self.scaler.load_state_dict(dict(scaler))
        except (KeyError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"the state is not that of this network: {text}") from None

    def _record(self, loss: float) -> None:
        first = abs(self.losses[0]) if self.losses else 0.0
        exploded = bool(self.losses) and abs(loss) > EXPLODED * (1.0 + first)
        if exploded or not math.isfinite(loss):
            raise ArithmeticError(
                f"the loss is {loss:g} at step {len(self.losses)}: write a smaller lr than "
                f"{self.lr:g}"
            )
        self.losses.append(loss)


def first_parameter(net: nn.Module) -> nn.Parameter:
    """Whose type and device are the network's; raises ValueError for a network without any."""
    found = next(net.parameters(), None)
    if found is None:
        raise ValueError(
            f"the network {type(net).__name__} has no parameters: there is nothing to train"
        )
    return found


def _moments(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The optimizer's tensors of the parameter ``name``; none before its first step."""
    keys = [key.split("/", 2) for key in tensors if key.startswith("adam/")]
    return {key[1]: tensors["/".join(key)] for key in keys if key[2] == name}
