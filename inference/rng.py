"""Random numbers of one block of draws.

A block is named by (seed, chain, block), the image of a plate that is drawn by itself by one number more, and owns
one generator seeded from these numbers, so its draws do not depend on which blocks ran before, beside or after it.
Numbers are made on the processor and moved, so they are the same on every device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Rng"]


class Rng:
    """The generator of a block of ``draws`` draws.

    Args:
        seed: seed of the run, a non-negative integer.
        chain: number of the chain.
        block: number of the block in its chain.
        image: number of the image of a plate, from 1; 0 for all together.
        draws: number of draws in the block; every request returns one row per draw.
        device: where the numbers are wanted.
        dtype: floating point type of the numbers.
    """

    def __init__(
        self,
        seed: int,
        chain: int = 0,
        block: int = 0,
        image: int = 0,
        *,
        draws: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.draws, self.device, self.dtype = draws, device, dtype
        state = np.random.SeedSequence((seed, chain, block, image)).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state[0]) >> 1)

    def seed(self) -> int:
        """A seed for a generator that cannot be passed on (Pyro's)."""
        return int(torch.randint(2**62, (), generator=self._generator))

    def spawn(self, draws: int) -> Rng:
        """A generator of as many rows as wanted (of particles, say), seeded by :meth:`seed`."""
        return Rng(self.seed(), draws=draws, device=self.device, dtype=self.dtype)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (draws, *shape)."""
        return torch.randn(self.draws, *shape, generator=self._generator, dtype=self.dtype).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers on [0, 1), (draws, *shape)."""
        return torch.rand(self.draws, *shape, generator=self._generator, dtype=self.dtype).to(self.device)
