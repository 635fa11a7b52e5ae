r"""What a posterior leaves open for a decision: entropy of a classifier's answers over draws.

For draws x_1, ..., x_n, a classifier p(k | x) and the mean answer p_k = (1/n) sum_i p(k | x_i), in nats:

    entropy of the mean     H(p) = -sum_k p_k log p_k                       all that is open
    mean entropy            (1/n) sum_i H(p(. | x_i))                       open even if the image were known
    mutual information      H(p) - mean entropy = (1/n) sum_i KL(p(. | x_i) || p)      open because the image is not

All three are means over draws, of g_i = -sum_k p(k | x_i) log p_k, of h_i = H(p(. | x_i)) and of g_i - h_i; to first
order the p in g_i is as good as fixed (d H(p) = -sum_k log p_k d p_k, for the d p_k sum to zero), so that ArviZ's Monte
Carlo standard error of these means is that of the entropies, autocorrelation included. To second order H(p) comes out
too small by `bias` = -(1/2) sum_k mcse(p_k)^2 / p_k, and so does the mutual information: negligible where it is well
below the standard error.

Source: Houlsby et al. 2011 (arXiv:1112.5745) for the decomposition; Miller 1955 for the bias.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import entr, xlogy

from bayes_ir.analysis.draws import posterior_draws
from bayes_ir.analysis.functionals import collect
from bayes_ir.analysis.left_out import announced
from bayes_ir.analysis.posterior import as_array

__all__ = ["decision_entropy"]

_SUM_TOLERANCE = 1e-4  # of probabilities that a network gives in float32


def decision_entropy(
    posterior: xr.DataTree,
    classifier: Callable[[np.ndarray], Any],
    *,
    classes: Sequence[Any] | None = None,
    var_name: str | None = None,
) -> xr.Dataset:
    """Entropy of a downstream classifier's decisions over the draws, and how much of it is the image's fault.

    The images are read block by block; the probabilities, K per draw, are kept.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        classifier: function of images (float64, (m, *event)) to probabilities (m, K), an array or a tensor.
        classes: names of the K classes; by default 0, ..., K - 1.
        var_name: name of the image site; needed only when there are several.

    Returns:
        `probability` over `class`, `entropy_of_mean`, `mean_entropy`, `mutual_information` (nats), each with its
        Monte Carlo standard error `..._mcse` (NaN for fewer than four draws per chain), and `bias`; with the axes of
        plates.

    Raises:
        ValueError: the classifier gives something that is no table of probabilities, `classes` are not K names, or no
            draw is finite.
    """
    import arviz_stats

    def checked(images: np.ndarray) -> np.ndarray:
        table = np.asarray(as_array(classifier(images)), dtype=np.float64)
        if table.ndim != 2 or len(table) != len(images) or not table.shape[1]:
            raise ValueError(
                f"decision_entropy: the classifier gave an array of shape {table.shape} for {len(images)} images; "
                f"it must give probabilities ({len(images)}, K)"
            )
        wrong = ~((table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) <= _SUM_TOLERANCE))
        if wrong.any():
            raise ValueError(
                f"decision_entropy: the classifier gave {table[wrong][0]} for an image, which are no probabilities; "
                "they must not be negative and sum to 1: take the softmax of its outputs"
            )
        return table

    p, notes = collect(posterior_draws(posterior, var_name), checked)
    names = np.arange(p.sizes["number"]) if classes is None else np.asarray(classes)
    if len(names) != p.sizes["number"]:
        raise ValueError(
            f"decision_entropy: got {len(names)} classes, the classifier knows {p.sizes['number']}; name each of them"
        )
    p = p.rename(number="class").assign_coords({"class": names})
    mean = p.mean(["chain", "draw"])
    crossed = -xr.apply_ufunc(xlogy, p, mean).sum("class")
    own = xr.apply_ufunc(entr, p).sum("class")
    series = xr.Dataset(
        {
            "probability": p,
            "entropy_of_mean": crossed,
            "mean_entropy": own,
            "mutual_information": crossed - own,
        }
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # few draws: ArviZ answers NaN, which the result shows
        errors = arviz_stats.mcse(series)
    found = series.mean(["chain", "draw"])
    bias = -0.5 * (errors["probability"] ** 2 / mean.where(mean > 0)).sum("class", skipna=True)
    found = found.merge(errors.rename({name: f"{name}_mcse" for name in errors.data_vars}))
    found["bias"] = bias.where(errors["probability"].notnull().all("class"))
    return announced(found.assign_attrs(p.attrs | {"units": "nats"}), notes)
