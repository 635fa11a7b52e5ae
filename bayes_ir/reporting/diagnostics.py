"""What is looked at in a run, each with a light and the reason in words; thresholds are those of `lights.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_ir.reporting.leave_one_out import leave_one_out
from bayes_ir.reporting.lights import Diagnostic, Light, banded, chance_r_hat
from bayes_ir.reporting.opening import Run
from bayes_ir.reporting.ranges import draws_in_range, saturation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["diagnose"]


def diagnose(run: Run, scalars: pd.DataFrame) -> list[Diagnostic]:
    """Every diagnostic of a run.

    Args:
        run: what was opened.
        scalars: ArviZ's table of the scalar quantities (columns `r_hat`, `ess_bulk`, `ess_tail`).
    """
    found = [_finished(run), _r_hat(run, scalars), _ess(run, scalars), _diverging(run)]
    found += _nuts(run)
    found += [
        _measurements(run),
        draws_in_range(run),
        *saturation(run),
        *leave_one_out(run),
        _evaluations(run),
    ]
    return found


def _finished(run: Run) -> Diagnostic:
    if run.unfinished:
        return Diagnostic(
            "run finished",
            Light.AMBER,
            "no",
            f"only {run.unfinished} are there, and all below is about these",
        )
    return Diagnostic("run finished", Light.GREEN, "yes", "every block of draws is there")


def _draws(run: Run) -> tuple[int, int]:
    sizes = run.posterior["posterior"].sizes
    return sizes["chain"], sizes["draw"]


def _r_hat(run: Run, scalars: pd.DataFrame) -> Diagnostic:
    name = "largest R-hat"
    chains, draws = _draws(run)
    values = scalars["r_hat"].dropna()
    if chains < 2:
        return Diagnostic(
            name, Light.UNKNOWN, "", "one chain cannot be compared with another; run at least two"
        )
    if values.empty:
        return Diagnostic(name, Light.UNKNOWN, "", f"{draws} draws in a chain are too few for it")
    most, where, chance = (
        float(values.max()),
        str(values.idxmax()),
        chance_r_hat(chains, draws, len(scalars)),
    )
    if most <= 1.01:
        light, reason = Light.GREEN, "at most 1.01: the chains tell the same story of every quantity below"
    elif most <= chance:
        light = Light.AMBER
        reason = (
            f"above 1.01, but so few draws, were they independent, would reach {chance:.2f} by chance; "
            "draw more to tell"
        )
    else:
        light = banded(most, 1.01, 1.1)
        reason = (
            "above 1.01: the chains differ by more than chance; draw longer, or see which chain stands apart"
        )
        if light is Light.RED:
            reason = (
                "above 1.1: the chains have not found the same posterior; what is below is not one answer"
            )
    return Diagnostic(name, light, f"{most:.3f} ({where})", reason)


def _ess(run: Run, scalars: pd.DataFrame) -> Diagnostic:
    name = "fewest effective draws"
    chains, draws = _draws(run)
    values = scalars[["ess_bulk", "ess_tail"]].min(axis=1).dropna()
    if values.empty:
        return Diagnostic(name, Light.UNKNOWN, "", f"{draws} draws in a chain are too few to estimate it")
    least, where, total = float(values.min()), str(values.idxmin()), chains * draws
    wanted = max(400, 100 * chains)
    shown = f"{least:.0f} of {total} draws ({where})"
    if least >= wanted:
        reason = f"at least {wanted}: intervals and tails are known well enough"
        return Diagnostic(name, Light.GREEN, shown, reason)
    light = Light.RED if least < 10 * chains else Light.AMBER
    fewer = f"below 10 for each of {chains} chains" if light is Light.RED else f"below {wanted}"
    if least > total / 3:
        why = "the draws are nearly independent, there are only few of them; draw more for the tails"
    else:
        why = "the chains move slowly; draw longer, or take a kernel of independent draws"
    return Diagnostic(name, light, shown, f"{fewer}: {why}")


def _statistics(run: Run) -> Any:
    tree = run.posterior
    return tree["sample_stats"].dataset if "sample_stats" in tree.children else {}


def _diverging(run: Run) -> Diagnostic:
    name, stats = "diverging draws", _statistics(run)
    if "diverging" not in stats:
        return Diagnostic(name, Light.UNKNOWN, "", "the run did not record it")
    flags = stats["diverging"].values
    share, shown = float(flags.mean()), f"{int(flags.sum())} of {flags.size}"
    if not flags.any():
        return Diagnostic(name, Light.GREEN, shown, "every draw is a finite image")
    reason = "these became infinite or not a number and are left out below; take more steps or smaller ones"
    return Diagnostic(name, banded(share, 0.0, 0.01), shown, reason)


def _nuts(run: Run) -> list[Diagnostic]:
    stats = _statistics(run)
    if "nuts_diverging" not in stats:
        return []
    flags = stats["nuts_diverging"].values  # of a plate of images the same for each of them
    count = int(flags.reshape(*flags.shape[:2], -1)[..., 0].sum())
    reason = "NUTS moved the other sites without a divergence"
    if count:
        reason = "NUTS could not follow the density of the other sites there; reparametrise the model"
    return [
        Diagnostic("NUTS divergences", Light.AMBER if count else Light.GREEN, str(count), reason),
    ]


def _measurements(run: Run) -> Diagnostic:
    from bayes_ir.analysis import measurement_check

    name = "measurements explained"
    try:
        check = measurement_check(run.posterior)
    except ValueError as error:
        return Diagnostic(name, Light.UNKNOWN, "", str(error))
    p, mean, expected = check.p_value, check.mean_log_lik, check.mean_log_lik_rep
    if np.isnan(p):
        return Diagnostic(
            name, Light.UNKNOWN, f"log likelihood {mean:.4g}", "no replicated data were recorded"
        )
    shown = f"p = {p:.3g}: log likelihood {mean:.4g}, of replicated data {expected:.4g}"
    extreme = min(p, 1 - p)
    if extreme >= 0.05:
        return Diagnostic(name, Light.GREEN, shown, "the draws fit the data as data of their own would")
    few = check.draws_used < 100
    light = Light.RED if extreme < 0.01 and not few else Light.AMBER
    side = (
        "the draws do not reach the measurements: sampling has not converged, or the model is wrong"
        if p < 0.5
        else "the draws follow the measurements closer than the noise allows: they are over-fitted"
    )
    return Diagnostic(
        name, light, shown, side + (f" ({check.draws_used} draws tell p only roughly)" if few else "")
    )


def _evaluations(run: Run) -> Diagnostic:
    stats, planned = _statistics(run), run.settings.get("nfe")
    if "nfe" not in stats:
        return Diagnostic("network evaluations", Light.UNKNOWN, "", "the run did not record them")
    mean = float(stats["nfe"].values.mean())
    of_path = f"; one path of the kernel takes {planned}" if planned is not None else ""
    return Diagnostic(
        "network evaluations", Light.TOLD, f"{mean:.4g} per draw", f"a cost, not a fault{of_path}"
    )
