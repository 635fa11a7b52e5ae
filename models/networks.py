r"""A small U-Net for images on a processor, and the preconditioning that makes it a denoiser.

The network ``F`` sees inputs of unit size and is asked for outputs of unit size (Karras et
al. 2022, table 1, here written for any process ``x_t = a x_0 + b eps`` and data of mean ``m``
and standard deviation ``d``, so that ``a = 0`` is no special case):

    w^2    = b^2 + a^2 d^2
    x0_hat = m + (a d^2 / w^2) (x_t - a m) + (b d / w) F((x_t - a m) / w, log(b / a)).

A network of K classes takes a label too.  Its embedding is added to that of the noise level, before the last
nonlinearity; no label adds nothing, so that one network holds ``E[x_0 | x_t, label]`` and ``E[x_0 | x_t]`` (Ho and
Salimans 2022, arXiv 2207.12598, section 3.2, of which the joint training is used here and the guidance is not).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NO_LABEL", "Denoiser", "UNet"]

NO_LABEL = -1
"""What stands for a label where an image has none."""


def _start_at_zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm_2 = nn.GroupNorm(8, outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        _start_at_zero(self.conv_2)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(functional.silu(self.norm_1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_2(functional.silu(torch.addcmul(shift, self.norm_2(h), 1 + scale)))
        return self.skip(x) + h


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        _start_at_zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, rows * columns)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(batch, channels, rows, columns))


class UNet(nn.Module):
    """Two-level U-Net on 2x2 patches: most arithmetic happens at half and quarter resolution.

    Args:
        channels: channels of the image, C.
        width: feature channels at half resolution; a multiple of 8.
        depth: residual blocks on each side of the U at half resolution; the bottom
            (quarter resolution, ``2 * width`` channels, self-attention) has ``depth + 2``.
        log_noise_range: range of ``log(b / a)`` the noise embedding covers; inputs are clamped to it.
        classes: K, for labels 0 .. K - 1 or :data:`NO_LABEL`; ``None`` for a network without.
            Embeddings start at zero.

    Images must have an even number of rows and columns; (batch, C, H, W) in and out.
    """

    frequencies: Tensor

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        depth: int = 1,
        log_noise_range: tuple[float, float] = (math.log(0.01), math.log(50.0)),
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = {
            "channels": channels,
            "width": width,
            "depth": depth,
            "log_noise_range": list(log_noise_range),
            **({} if classes is None else {"classes": classes}),
        }
        self.classes = classes
        embedding, bottom = 2 * width, 2 * width
        self.log_noise_range = tuple(log_noise_range)
        self.register_buffer("frequencies", math.pi * torch.arange(1, 33) / 2, persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        if classes is not None:
            self.label = nn.Parameter(torch.zeros(classes, embedding))
        self.enter = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.descent = nn.ModuleList(_ResidualBlock(width, width, embedding) for _ in range(depth))
        self.down = nn.Conv2d(width, bottom, 3, stride=2, padding=1)
        self.bottom_1 = nn.ModuleList(_ResidualBlock(bottom, bottom, embedding) for _ in range(depth))
        self.attention = _Attention(bottom)
        self.bottom_2 = nn.ModuleList(_ResidualBlock(bottom, bottom, embedding) for _ in range(2))
        self.up = nn.Conv2d(bottom, 4 * width, 1)
        self.ascent = nn.ModuleList(
            _ResidualBlock(2 * width if i == 0 else width, width, embedding) for i in range(depth + 1)
        )
        last = nn.Conv2d(width, 4 * channels, 3, padding=1)
        _start_at_zero(last)
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), last)

    def forward(self, x: Tensor, log_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Evaluate ``F(x, log_noise, label)`` for x (batch, C, H, W), log_noise and integer label (batch,)."""
        low, high = self.log_noise_range
        phase = ((log_noise.clamp(low, high) - low) / (high - low))[:, None] * self.frequencies
        *first, last = self.embed
        e = torch.cat([phase.cos(), phase.sin()], dim=1)
        for layer in first:
            e = layer(e)
        if label is not None:
            e = e + torch.where((label >= 0)[:, None], self.label[label.clamp(min=0)], 0.0)
        e = last(e)
        rows, columns = x.shape[-2:]
        # Bottom rows and columns of odd half-resolution grids are padded by the stride and cropped again.
        h = self.enter(functional.pixel_unshuffle(x, 2))
        for block in self.descent:
            h = block(h, e)
        side = h
        h = self.down(h)
        for block in self.bottom_1:
            h = block(h, e)
        h = self.attention(h)
        for block in self.bottom_2:
            h = block(h, e)
        h = functional.pixel_shuffle(self.up(h), 2)[..., : rows // 2, : columns // 2]
        h = torch.cat([h, side], dim=1)
        for block in self.ascent:
            h = block(h, e)
        return functional.pixel_shuffle(self.leave(h), 2)


class Denoiser(nn.Module):
    """The preconditioned denoiser ``x0_hat(x_t, a, b)`` of the module docstring.

    Args:
        network: ``F(x, log_noise)``, or ``F(x, log_noise, label)``, on (batch, C, H, W) and (batch,).
        data_mean: ``m``, mean pixel of the data.
        data_std: ``d``, standard deviation of the pixels about ``m``.
    """

    def __init__(self, network: nn.Module, data_mean: float, data_std: float) -> None:
        super().__init__()
        self.network = network
        self.data_mean = data_mean
        self.data_std = data_std

    def forward(self, x_t: Tensor, a: Tensor, b: Tensor, label: Tensor | None = None) -> Tensor:
        """Denoise x_t (batch, C, H, W); a and b are (batch,), float64; label (batch,), integers."""
        log_noise = (b / a).log().to(x_t.dtype)
        a, b = a[:, None, None, None], b[:, None, None, None]
        m, d = self.data_mean, self.data_std
        w = (b**2 + a**2 * d**2).sqrt()
        c_in, c_skip, c_out = ((c).to(x_t.dtype) for c in (1 / w, a * d**2 / w**2, b * d / w))
        centred = x_t - (a * m).to(x_t.dtype)
        known = () if label is None else (label,)
        return m + c_skip * centred + c_out * self.network(c_in * centred, log_noise, *known)
