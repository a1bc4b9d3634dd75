"""What a half of the job keeps: how far it is, its weights and their average, and where they are written."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from research.gpu_job.job.muon import Muon

FILE_LIMIT = 15_000_000  # bytes of tensors; what brings the files home takes 16 MB each
SAVE_SECONDS = 60.0
MUON_DECAY, SLOW = 0.1, 0.4
MOMENTS = ("exp_avg", "exp_avg_sq")


class Clock:
    """Progress over the seconds given, those of earlier calls counted in, so that a schedule goes on where it was."""

    def __init__(self, seconds: float, used: float):
        self.whole, self.began = used + seconds, time.monotonic() - used

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def progress(self) -> float:
        """0 to 1; 1 when the time is over."""
        return min(1.0, self.seconds / max(self.whole, 1e-9))

    def told(self, learner: Learner) -> dict[str, Any]:
        """How far a half is, for a point of its curve."""
        return {"progress": self.progress, "seconds": self.seconds, "step": learner.step, "samples": learner.samples}


class Log:
    """Lines to the screen and to log.txt; points of the curve to curve.json."""

    def __init__(self, out: Path):
        self.out, self.began = out, time.monotonic()
        path = out / "curve.json"
        self.curve: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []

    def line(self, text: str) -> None:
        text = f"{time.monotonic() - self.began:7.1f} s  {text}"
        print(text, flush=True)
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def point(self, half: str, values: dict[str, Any]) -> None:
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        self.curve.append({"half": half, **values})
        part = self.out / "curve.part"
        part.write_text(json.dumps(self.curve, indent=1), encoding="utf-8")
        os.replace(part, self.out / "curve.json")
        self.line(f"{half}: {json.dumps(values)}")


class Learner:
    """A network with its optimizers and the moving average of its weights.

    With `muon`, a learning rate, the kernels of convolutions that are not depthwise learn by Muon, the others by AdamW;
    of these, what begins with `slow` at SLOW of the learning rate.

    Written as `NAME.pt` (the average: these are the weights to take) and `NAME.resumeN.pt` (the rest), each under
    16 MB: matrices as float16, vectors as float32, the moments as bfloat16. A resume is therefore close to, but not
    the same as, having gone on.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        lr: float,
        decay: float,
        ema: float,
        muon: float = 0.0,
        slow: tuple[str, ...] = (),
    ):
        self.name, self.network, self.ema = name, network, ema
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        matrices = [m.weight for m in network.modules() if muon and isinstance(m, nn.Conv2d) and m.groups == 1]
        own = {id(p) for p in matrices}
        named = [(n, p) for n, p in network.named_parameters() if id(p) not in own]
        groups = []
        for kernel in (True, False):
            for part, rate in ((False, lr), (True, SLOW * lr)):
                some = [p for n, p in named if (p.ndim > 1) == kernel and n.startswith(slow) == part]
                groups.append({"params": some, "weight_decay": decay * kernel, "lr": rate})
        groups = [group for group in groups if group["params"]]
        fused = next(network.parameters()).is_cuda
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, fused=fused)]
        if matrices:
            self.optimizers.append(Muon(matrices, muon, MUON_DECAY))
        self.peaks = [(group, group["lr"]) for optimizer in self.optimizers for group in optimizer.param_groups]
        self.step, self.samples, self.used, self.saved = 0, 0, 0.0, 0.0
        floats = [
            (a, b) for a, b in zip(self._all(self.average), self._all(network), strict=True) if a.is_floating_point()
        ]
        self._pairs = [list(side) for side in zip(*floats, strict=True)]

    @staticmethod
    def _all(network: nn.Module) -> list[Tensor]:
        return list(network.state_dict(keep_vars=True).values())

    def learn(self, loss: Tensor, samples: int, rate: float, norm: float) -> None:
        """One step of gradient descent and of the average; no value is read back, so that the GPU need not wait."""
        for group, peak in self.peaks:
            group["lr"] = peak * rate
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.samples += samples
        keep = min(self.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._pairs[0], [p.detach() for p in self._pairs[1]], 1 - keep)

    def rate(self, progress: float, warmup: int) -> float:
        """Share of the learning rates: linear for the first steps, then a cosine to zero at progress 1."""
        return min(1.0, (self.step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * progress))

    def save(self, out: Path, seconds: float) -> None:
        """All files beside, then all in place; each tells its step, so that a mixture is noticed."""
        self.saved = time.monotonic()
        average = {n: small(t) for n, t in self.average.state_dict().items()}
        rest = {f"network/{n}": small(t) for n, t in self.network.state_dict().items()}
        names = {p: n for n, p in self.network.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for moment in [m for m in MOMENTS if m in state]:
                    rest[f"{moment}/{names[parameter]}"] = state[moment].detach().to("cpu", torch.bfloat16)
        about = {"step": self.step, "samples": self.samples, "seconds": seconds}
        chunks = split(rest)
        files = {f"{self.name}.pt": average, **{f"{self.name}.resume{i + 1}.pt": c for i, c in enumerate(chunks)}}
        for name, tensors in files.items():
            torch.save({"about": {**about, "chunks": len(chunks)}, "tensors": tensors}, out / f"{name}.part")
        for name in files:
            os.replace(out / f"{name}.part", out / name)

    def save_now_and_then(self, out: Path, seconds: float) -> None:
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save(out, seconds)

    def load(self, out: Path, tell: Callable[[str], None]) -> None:
        """Go on from what `save` wrote, where there is any."""
        first = out / f"{self.name}.pt"
        if not first.is_file():
            return
        kept = torch.load(first, weights_only=True, map_location="cpu")
        about = kept["about"]
        self._set(self.average, kept["tensors"])
        paths = [out / f"{self.name}.resume{i + 1}.pt" for i in range(about["chunks"])]
        parts = [torch.load(p, weights_only=True, map_location="cpu") for p in paths if p.is_file()]
        self.step, self.samples, self.used = about["step"], about["samples"], about["seconds"]
        if len(parts) < len(paths) or any(part["about"] != about for part in parts):
            self._set(self.network, kept["tensors"])
            tell(f"{self.name}: the files are of different steps; going on from the average at step {self.step}")
            return
        rest = {n: t for part in parts for n, t in part["tensors"].items()}
        self._set(self.network, {n.split("/", 1)[1]: t for n, t in rest.items() if n.startswith("network/")})
        names = {p: n for n, p in self.network.named_parameters()}
        for optimizer in self.optimizers:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                moments = {m: rest[f"{m}/{names[parameter]}"] for m in MOMENTS if f"{m}/{names[parameter]}" in rest}
                state = optimizer.state[parameter] if moments else {}
                if "exp_avg_sq" in moments:  # AdamW's
                    device = parameter.device if parameter.is_cuda else "cpu"
                    state["step"] = torch.tensor(float(self.step), device=device)
                state |= {m: torch.empty_like(parameter).copy_(values) for m, values in moments.items()}
        tell(f"{self.name}: going on at step {self.step}, {self.samples} samples, {self.used:.0f} s")

    @staticmethod
    def _set(network: nn.Module, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.copy_(tensors[name])


def small(tensor: Tensor) -> Tensor:
    """On the CPU; matrices in float16, the rest as they are."""
    tensor = tensor.detach().cpu()
    return tensor.half() if tensor.ndim > 1 else tensor.clone()


def split(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """In order, into parts below the limit."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > FILE_LIMIT:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    return parts
