r"""Can a classifier tell two sets of draws apart?

A classifier is trained on k - 1 folds and asked about the remaining one; a is the share of draws whose set it tells
rightly. If both sets have one law a is near 1/2 and the labels can be exchanged within each fold, so that

    p = (1 + #{b : a_b >= a}) / (B + 1)

over B exchanges is a valid p-value however folds and fits depend on each other (the binomial one is not: training sets
overlap, and the accuracy spreads more than n coin tosses).

The classifier: least squares of labels +-1 with a ridge, F (F^T F / n + lambda I)^{-1} F^T l / n, on the coordinates F,
their squares and their products after standardisation; of events with more than `components` coordinates on those of
their first principal components (pooled over both sets, so blind to the labels). It sees differences in mean,
covariance and the weights of modes that these features separate, and no others; an accuracy of 1/2 is no proof.

Source: Lopez-Paz and Oquab 2017 (arXiv:1610.06545).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayes_ir.analysis.draw_sets import flat_pair

__all__ = ["TwoSampleTest", "classifier_two_sample_test"]

_STREAM = 2  # keeps these random numbers apart from those of a caller with the same seed
_RIDGE = 1e-2


class TwoSampleTest(NamedTuple):
    """Outcome of `classifier_two_sample_test`.

    Attributes:
        accuracy: share of draws whose set was told rightly, 1/2 by chance.
        standard_error: standard deviation of the accuracy over the exchanged labels.
        p_value: of an accuracy at least as large, if the laws are one.
        draws: n, draws used of each set.
    """

    accuracy: float
    standard_error: float
    p_value: float
    draws: int


def classifier_two_sample_test(
    first: Any, second: Any, *, folds: int = 5, components: int = 10, permutations: int = 999, seed: int = 0
) -> TwoSampleTest:
    """Accuracy with which a classifier tells the two sets apart, by cross-validation.

    Args:
        first: independent draws, an array (n, *event_shape) or what `bir.sample` gave.
        second: independent draws; of the larger set a random part as large as the smaller is used.
        folds: number of folds.
        components: principal components to which larger events are reduced.
        permutations: B; the smallest p-value is 1 / (B + 1).
        seed: seed of folds and exchanges.

    Raises:
        ValueError: draws of different shape, not finite, or fewer than 2 per fold in a set; settings too small.
    """
    where = "classifier_two_sample_test"
    if min(folds, components) < 2 or permutations < 19:
        raise ValueError(
            f"{where}: folds is {folds}, components {components} and permutations {permutations}; expected at least "
            "2, 2 and 19."
        )
    x, y = flat_pair(where, first, second, least=2 * folds)
    rng = np.random.default_rng((seed, _STREAM))
    n = min(len(x), len(y))
    x, y = x[rng.permutation(len(x))[:n]], y[rng.permutation(len(y))[:n]]
    features = _features(np.concatenate([x, y]), components)
    fold = np.tile(np.arange(n) % folds, 2)  # as many of each set in every fold
    labels = np.repeat(
        np.repeat([-1.0, 1.0], n)[:, None], permutations + 1, axis=1
    )  # first column as they are
    for k in range(folds):
        labels[fold == k, 1:] = rng.permuted(labels[fold == k, 1:], axis=0)
    right = np.zeros(permutations + 1)
    for k in range(folds):
        test = fold == k
        right += (_scores(features[~test], labels[~test], features[test]) * labels[test] > 0).sum(axis=0)
    accuracy = right / (2 * n)
    exceeded = int((accuracy[1:] >= accuracy[0]).sum())
    return TwoSampleTest(
        float(accuracy[0]), float(accuracy[1:].std()), (1 + exceeded) / (permutations + 1), n
    )


def _features(x: np.ndarray, components: int) -> np.ndarray:
    """Constant, coordinates, squares and products of the standardised (reduced) draws."""
    x = _standard(x)
    if x.shape[1] > components:
        x = _standard(x @ np.linalg.svd(x, full_matrices=False)[2][:components].T)
    rows, columns = np.triu_indices(x.shape[1])
    return np.column_stack([np.ones(len(x)), x, _standard(x[:, rows] * x[:, columns])])


def _standard(x: np.ndarray) -> np.ndarray:
    sd = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(sd > 0, sd, 1.0)


def _scores(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Least squares with a ridge, for all columns of labels at once."""
    gram = features.T @ features / len(features) + _RIDGE * np.eye(features.shape[1])
    return asked @ np.linalg.solve(gram, features.T @ labels / len(features))
