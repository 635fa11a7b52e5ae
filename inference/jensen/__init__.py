"""How far a denoising posterior's likelihood of ``x_t`` is from the likelihood: values, scores, bounds."""

from bayes_ir.inference.jensen.bound import Ingredients, ingredients, log_bound, log_published_bound
from bayes_ir.inference.jensen.gap import Figures, Reason, check_linear, gap_at
from bayes_ir.inference.jensen.nested import Effort

__all__ = [
    "Effort",
    "Figures",
    "Ingredients",
    "Reason",
    "check_linear",
    "gap_at",
    "ingredients",
    "log_bound",
    "log_published_bound",
]
