r"""A learned prior over images of K classes: ``p(x)``, and ``p(x | label)`` for every label, in one network.

The network is a denoiser that may be told the label, ``x0_hat(x_t, a, b, label)``, and was trained with and without
(Ho and Salimans 2022, arXiv 2207.12598, section 3.2).  In a Pyro model the label is a site like any other:

    label = pyro.sample("label", dist.Categorical(torch.ones(10) / 10))
    x = pyro.sample("x", prior.given(label))

Classifier-free guidance is not offered.  It moves along ``(1 + w) score(x_t | label) - w score(x_t)``, the scores of
no noised law for any w but 0 and -1: what it draws has no density that a likelihood could be multiplied with, so that
there would be no posterior to be right or wrong about.

Without a label the denoiser is that of the mixture, as far as training got: ``p(x) = sum_k p(k) p(x | k)`` holds up to
the errors of the network.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bayes_ir.models.diffusion import Diffusion
from bayes_ir.models.networks import NO_LABEL
from bayes_ir.models.priors.calibration import Calibration, calibrate
from bayes_ir.models.priors.network import NetworkPrior

__all__ = ["LabelledPrior", "calibrate_labelled"]


class LabelledPrior(NetworkPrior):
    """A learned prior that can be told the label of its images.

    As it stands it is the prior of an image of unknown class; :meth:`given` tells the class.

    Args:
        network: a denoiser called as ``network(x_t, a, b, label)``, label being int64 (batch,) with -1 for none; such
            is :class:`~bayes_ir.models.networks.Denoiser` around a ``UNet(classes=K)``.
        diffusion: as for :class:`NetworkPrior`.
        event_shape: as for :class:`NetworkPrior`.
        classes: K; labels are 0 .. K - 1.
        label_calibrations: per label what :meth:`calibration` answers once it is given, by the name of the basis; none,
            or K with the same bases and noise ratios.  :func:`calibrate_labelled` fits them.
        settings: further arguments of :class:`NetworkPrior`.

    Raises:
        ValueError: for fewer than two classes, calibrations for another number of labels, or a ``prediction``: wrap
            such a network in a module that denoises.

    Example:
        >>> prior = load_prior("mnist-labelled")  # doctest: +SKIP
        >>> seven = prior.given(7).sample()  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        diffusion: Diffusion,
        event_shape: Sequence[int],
        *,
        classes: int,
        label_calibrations: Sequence[Mapping[str, Calibration]] = (),
        **settings: Any,
    ) -> None:
        if settings.get("prediction") is not None:
            raise ValueError(
                "LabelledPrior: takes a denoiser network(x_t, a, b, label), got prediction="
                f"{settings['prediction']!r}; wrap the network in a module that returns the denoised mean."
            )
        if classes < 2 or len(label_calibrations) not in (0, classes):
            raise ValueError(
                "LabelledPrior: expected at least 2 classes, and calibrations for all of them or none, got "
                f"classes={classes} and {len(label_calibrations)} calibrations."
            )
        super().__init__(network, diffusion, event_shape, **settings)
        self.classes = classes
        self.label_calibrations = tuple(dict(c) for c in label_calibrations)
        self._label: Tensor | None = None

    def __repr__(self) -> str:
        told = "" if self._label is None else f", label={self._label.tolist()}"
        return f"{super().__repr__()[:-1].replace('Network', 'Labelled', 1)}, classes={self.classes}{told})"

    @property
    def label(self) -> Tensor | None:
        """The label it was given, a number or one per image, int64; ``None`` if none."""
        return self._label

    def given(self, label: int | Tensor) -> LabelledPrior:
        """The prior of images of a class, ``p(x | label)``.

        Args:
            label: a whole number, or a tensor of them (*batch): independent images then, shaped as a plate wants
                them, each with a label of its own.

        Returns:
            A prior of batch shape (*batch).  Its calibrations are those of the label; those of several are the mean
            over the images, which is the mean squared error over all of them.

        Raises:
            TypeError: for a label that is no whole number.
            ValueError: for one out of range.
        """
        known = _whole(label)
        if known.numel() == 0 or int(known.min()) < 0 or int(known.max()) >= self.classes:
            raise ValueError(
                f"LabelledPrior.given: got the label {label}; expected whole numbers from 0 to {self.classes - 1}, "
                f"this prior having {self.classes} classes. Without a label use the prior itself."
            )
        other = copy.copy(self)
        other._label = known.to(self.device)
        other._batch_shape = known.shape
        if self.label_calibrations:
            other.calibrations = _mean([self.label_calibrations[k] for k in known.flatten().tolist()])
        else:
            other.calibrations = {}
        return other

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LabelledPrior:
        """The same prior around a copy of the network on another device or in another type."""
        other: LabelledPrior = super().to(device, dtype)  # type: ignore[assignment]
        other.label_calibrations = tuple(
            {name: c.to(device) for name, c in calibrations.items()}
            for calibrations in self.label_calibrations
        )
        other._label = None if self._label is None else self._label.to(other.device)
        return other

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LabelledPrior:
        """Independent copies; labels broadcast.  To ``()`` the labels of a plate stay: one per row, in turn."""
        other: LabelledPrior = super().expand(batch_shape)  # type: ignore[assignment]
        if self._label is not None and self._label.ndim and len(batch_shape):
            other._label = self._label.expand(tuple(batch_shape))
        return other

    def data_set(self, index: int) -> LabelledPrior:
        """The prior of image ``index`` of a plate."""
        if self._label is None or not self._label.ndim:
            return self
        return self.given(self._label.reshape(-1)[index])

    def log_prob(self, value: Tensor) -> Tensor:
        """As :meth:`NetworkPrior.log_prob`, every image under its own label."""
        if self._label is None or not self._label.ndim:
            return super().log_prob(value)
        batch = torch.broadcast_shapes(self._batch_of(value), self.batch_shape)
        images, labels = value.expand(batch + self.event_shape), self._label.expand(batch)
        found = value.new_zeros(batch)
        for label in labels.unique():
            rows = labels == label
            found = found.masked_scatter(rows, self.given(label).log_prob(images[rows]))
        return found

    def _denoised_mean(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        label = x_t.new_tensor(NO_LABEL, dtype=torch.int64) if self._label is None else self._label
        rows, images = len(x_t), label.numel()
        if rows % images:
            raise ValueError(
                f"LabelledPrior: got {rows} images for the {images} labels of a plate; expected a multiple, the images "
                "of the plate innermost."
            )
        return self._denoised_by(x_t, a, b, label.reshape(-1).repeat(rows // images))


def calibrate_labelled(
    prior: LabelledPrior, images: Tensor, labels: Tensor, *, seed: int = 0, **settings: Any
) -> LabelledPrior:
    """A copy of a prior with calibrations for images of unknown class and for those of every label.

    Args:
        prior: the prior, given no label.
        images: held-out images (n, *event_shape) in the prior's units; of every class at least two, hundreds for a use.
        labels: their labels (n,).
        seed: of the noise.
        settings: further arguments of :func:`~bayes_ir.models.priors.fit_calibration`.

    Raises:
        ValueError: as there; when labels do not fit the images or a class has fewer than two.
    """
    known = _whole(labels)
    count = (
        torch.bincount(known.clamp(min=0), minlength=prior.classes) if known.ndim == 1 else known.new_zeros(1)
    )
    if (
        known.shape != images.shape[:1]
        or int(known.min()) < 0
        or len(count) != prior.classes
        or count.min() < 2
    ):
        raise ValueError(
            f"calibrate_labelled: got labels of shape {tuple(known.shape)} for {len(images)} images, per class "
            f"{count.tolist()}; expected one per image, each of {prior.classes} labels at least twice."
        )
    if settings.get("components") is None and "pca" in settings.get("bases", ("pca",)):
        raise ValueError(
            "calibrate_labelled: the basis 'pca' is shared by the labels; give its components, such as "
            "principal_components(images)."
        )
    other = calibrate(prior, images, seed=seed, **settings)
    fitted = [
        calibrate(prior.given(k), images[known == k], seed=seed, **settings).calibrations
        for k in range(prior.classes)
    ]
    bases = {name: c.basis for name, c in other.calibrations.items()}
    other.label_calibrations = tuple(
        {name: replace(c, basis=bases[name]) for name, c in by_name.items()} for by_name in fitted
    )
    return other


def _whole(label: int | Tensor) -> Tensor:
    if isinstance(label, Tensor):
        if not (label.is_floating_point() or label.is_complex() or label.dtype == torch.bool):
            return label.long()
    elif not isinstance(label, bool):
        try:
            return torch.tensor(operator.index(label))
        except TypeError:
            pass
    got = label.dtype if isinstance(label, Tensor) else f"{type(label).__name__} {label!r}"
    raise TypeError(
        f"LabelledPrior: got a label of type {got}; expected a whole number or a tensor of whole numbers, such as "
        "dist.Categorical draws. Without a label use the prior itself."
    )


def _mean(calibrations: Sequence[dict[str, Calibration]]) -> dict[str, Calibration]:
    """Calibrations of images of several labels together."""
    first = calibrations[0]
    if all(c is first for c in calibrations):
        return first

    def mean(name: str, table: str) -> Tensor:
        return torch.stack([getattr(c[name], table) for c in calibrations]).mean(0)

    return {
        name: replace(c, variances=mean(name, "variances"), rest=mean(name, "rest"))
        for name, c in first.items()
    }
