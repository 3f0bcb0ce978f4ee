"""N networks being fitted by the kernels of this package."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.runtime import JITFunction

from ridefense.engines.base import Progress, Size, image_size, initial_state
from ridefense.engines.cuda import persistent, stacked
from ridefense.engines.cuda.plan import PRECISIONS, STEPS, Plan, Tiles
from ridefense.engines.cuda.state import State, packing
from ridefense.engines.eager import BETAS
from ridefense.noise import Keys, Stream
from ridefense.settings import Settings

# Up to so many pixels a step one program an image fits it alone; above, a kernel a stage keeps
# the whole GPU busy even with few images.
_SMALL = 64 * 64
# Operations of a part of a fit: about a second's on a fast GPU.
_PART_WORK = 10**14
_TILES = {True: Tiles(warps=8), False: Tiles()}


def plan_of(
    settings: Settings,
    size: Size,
    precision: str = "float16",
    alone: bool | None = None,
    tiles: Tiles | None = None,
) -> tuple[Plan, bool]:
    """The plan of fits of images of this size, and `alone`, see `CudaFits`."""
    height, width = (settings.crop, settings.crop) if settings.crop else size
    alone = settings.batch * height * width <= _SMALL if alone is None else alone
    return Plan.of(settings, size, PRECISIONS[precision][1], tiles or _TILES[alone]), alone


class CudaFits:
    """N networks being fitted, see `engines.Fits`; on CPU tensors under Triton's interpreter.

    Args:
        precision: of the convolutions' operands, one of `PRECISIONS`.
        alone: whether one program an image fits it, see `persistent.py`; by default where images
            are small.
        tiles: how work is cut into programs; by default as suits `alone`.
    """

    def __init__(
        self,
        settings: Settings,
        images: Tensor,
        keys: Keys,
        *,
        precision: str = "float16",
        alone: bool | None = None,
        tiles: Tiles | None = None,
    ) -> None:
        self.settings, self.keys = settings, keys
        self._dtype, _ = PRECISIONS[precision]
        self.plan, self.alone = plan_of(settings, image_size(images), precision, alone, tiles)
        orders = packing(settings.network)
        self._packed, self._unpacked = (order.to(images.device) for order in orders)
        weights, moments = initial_state(settings, images, keys)
        room = (0, self.plan.stride - self.plan.size)
        self.state = State.allocate(
            self.plan,
            F.pad(weights[:, self._packed], room),
            F.pad(moments[..., self._packed].transpose(0, 1), room),
            self.keys,
            self.settings.sigmas,
            self._dtype,
        )
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def weights(self) -> Tensor:
        return self.state.weights[:, self._unpacked]

    @property
    def moments(self) -> Tensor:
        return self.state.moments[..., self._unpacked].transpose(0, 1)

    @moments.setter
    def moments(self, moments: Tensor) -> None:
        packed = moments[..., self._packed].transpose(0, 1)
        self.state.moments[..., : self.plan.size] = packed

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        schedule = x.new_tensor(_schedule(steps, rates, start)).view(-1, 2)
        losses, running, done = [x.new_zeros(len(x), 0)], None, 0
        with _on(x.device):
            self._set(x, steps.start)
            for part in torch.split(schedule, self._part) if len(steps) else ():
                self.state.schedule[: len(part)] = part
                self.state.clock[1] = 0
                self._run(len(part))
                losses.append(self.state.losses[:, : len(part)].clone())
                done += len(part)
                # A part is queued while another runs, and no more than that: so an interrupt is
                # heard soon, and progress is at most one part ahead.
                queued = torch.cuda.current_stream().record_event() if x.is_cuda else None
                if running:
                    running.synchronize()
                running = queued
                if progress:
                    progress(len(x) * done, len(x) * len(steps))
        return torch.cat(losses, dim=1)

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream | None = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        plan, count = self.plan.whole, len(x)
        number = -1 if stream is None else int(stream)
        with _on(x.device):
            self._set(x, step)
            self.state.output.zero_()
            for sample in range(samples):
                draws = count * plan.draw_tiles
                self._launch(stacked.draw, draws, plan, number, dropout, False, sample)
                for layer in range(1, plan.convolutions):
                    self._launch(stacked.hidden, count * plan.pixel_tiles, plan, layer, dropout)
                self._launch(stacked.output, count * plan.pixel_tiles, plan, 1 / samples)
        return self.state.output.clone()

    @property
    def _part(self) -> int:
        """Steps between two looks at progress and interrupts."""
        one = self.settings.flops(self.plan.image_height, self.plan.image_width)
        work = one // self.settings.total_steps * len(self.keys)
        return max(1, min(STEPS, _PART_WORK // work))

    def _set(self, x: Tensor, step: int) -> None:
        self.state.x.copy_(x)
        self.state.clock[0] = step

    def _run(self, steps: int) -> None:
        if self.alone:
            self._launch(persistent.fit, len(self.keys), self.plan, steps)
            self.state.clock.add_(steps)
            return
        if self.state.x.is_cuda and self._graph is None:
            # The first step compiles the kernels; capturing runs nothing.
            self._step()
            self._graph, steps = torch.cuda.CUDAGraph(), steps - 1
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._step()
        take_step = self._graph.replay if self._graph else self._step
        for _ in range(steps):
            take_step()

    def _step(self) -> None:
        """One step, a kernel a stage; all that changes from step to step lies in device memory."""
        plan, images = self.plan, len(self.keys)
        samples = images * plan.samples
        tiles = samples * plan.pixel_tiles
        self._launch(
            stacked.draw, samples * plan.draw_tiles, plan, int(Stream.INPUT), True, True, 0
        )
        for layer in range(1, plan.convolutions):
            self._launch(stacked.hidden, tiles, plan, layer, True)
        self._launch(stacked.loss, tiles, plan)
        for layer in range(plan.convolutions, 0, -1):
            self._launch(stacked.partial_gradient, samples * plan.parts(layer), plan, layer)
            if layer > 1:
                self._launch(stacked.input_gradient, tiles, plan, layer)
        self._launch(stacked.total_loss, images, plan)
        self._launch(stacked.update, images * plan.weight_tiles, plan)
        self.state.clock.add_(1)

    def _launch(self, kernel: JITFunction, programs: int, plan: Plan, *args: object) -> None:
        kernel[(programs,)](
            self.state, plan, *args, num_warps=plan.tiles.warps, num_stages=plan.tiles.stages
        )


def _schedule(steps: range, rates: Sequence[float], start: int) -> list[tuple[float, float]]:
    """What Adam multiplies by at each step: rate / (1 - β₁ᵗ) and 1 / √(1 - β₂ᵗ)."""
    return [
        (rate / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t) ** -0.5)
        for rate, t in zip(rates, (step + 1 - start for step in steps), strict=True)
    ]


def _on(device: torch.device) -> AbstractContextManager[None]:
    """Launch kernels on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
