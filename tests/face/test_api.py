"""The two verbs: what `sample` returns, and that it is the same however the work is cut."""

import subprocess
import sys

import arviz_stats
import numpy as np
import pyro
import pytest
import torch

import bayes_ir as bir
from bayes_ir.inference import (
    DAPS,
    DPS,
    AnnealedLangevin,
    Exact,
    GuidedDiffusion,
    Kernel,
    QCSSGMPlus,
    read_problem,
)
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianPrior,
    Mask,
    NetworkPrior,
    OneBit,
    PhaseRetrieval,
    VarianceExploding,
    calibrate,
)

KERNEL = QCSSGMPlus(levels=15, steps_per_level=1)
PRIOR = GaussianPrior(torch.zeros(12), torch.eye(12), event_shape=(1, 3, 4), data_range=(-3.0, 3.0))
A = DenseOperator(torch.randn(5, 12, generator=torch.Generator().manual_seed(0)), event_shape=(1, 3, 4))


def model():
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", OneBit(A(x), 0.1))


def _sample(**settings):
    data = {"y": bir.simulate(model, seed=1)["y"]}
    return bir.sample(model, KERNEL, data, **({"draws": 5, "chains": 2, "progress": False} | settings))


def _draws(tree):
    return tree["posterior"]["x"].values


def test_simulate_is_a_function_of_the_seed():
    state = torch.random.get_rng_state()
    one, again, other = (bir.simulate(model, seed=s) for s in (0, 0, 1))
    assert torch.equal(one["x"], again["x"]) and torch.equal(one["y"], again["y"])
    assert not torch.equal(one["x"], other["x"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_groups_dims_and_attributes():
    tree = _sample()
    assert tree["posterior"]["x"].dims == ("chain", "draw", "x_channel", "x_row", "x_column")
    assert tree["posterior"]["x"].shape == (2, 5, 1, 3, 4)
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "observed_data",
        "constant_data",
    }
    assert {"nfe", "ep_sweeps", "ep_residual", "diverging", "log_lik", "log_lik_rep"} <= set(
        tree["sample_stats"]
    )
    assert tree["log_likelihood"]["y"].shape == (2, 5, 5)
    assert eval(tree.attrs["kernel"]) == KERNEL
    assert tree.attrs["seed"] == 0 and tree.attrs["nfe"] == 15
    assert tree["sample_stats"]["nfe"].values.tolist() == [[15] * 5] * 2
    assert arviz_stats.summary(tree, var_names=["x"]).shape[0] == 12


def test_log_likelihood_is_that_of_the_draws():
    tree = _sample()
    x = torch.from_numpy(_draws(tree))
    expected = OneBit(A(x), 0.1).log_prob(torch.from_numpy(tree["observed_data"]["y"].values))
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("block_size", [1, 2, 5, None])
def test_same_seed_same_draws(block_size):
    assert np.array_equal(_draws(_sample(block_size=block_size)), _draws(_sample(block_size=block_size)))
    assert not np.array_equal(
        _draws(_sample(block_size=block_size)), _draws(_sample(block_size=block_size, seed=1))
    )


def test_store_and_memory_agree_and_a_run_can_be_extended(tmp_path):
    """Run 2n equals run n, resume n, to the bit."""
    whole = _sample(block_size=2, draws=8)
    first = _sample(block_size=2, draws=4, store=tmp_path / "run.zarr")
    assert np.array_equal(_draws(first), _draws(whole)[:, :4])
    stored = _sample(block_size=2, draws=8, store=tmp_path / "run.zarr")
    for group in ("posterior", "sample_stats", "log_likelihood"):
        for name, values in whole[group].data_vars.items():
            assert np.array_equal(stored[group][name].values, values.values), name


def test_an_interrupted_run_goes_on_to_the_bit(tmp_path, monkeypatch):
    whole = _sample(block_size=2)
    made = []

    def stop_after_three(problem, kernel, *args, **settings):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(args)
        return draw_block(problem, kernel, *args, **settings)

    from bayes_ir.inference import run

    draw_block = run.draw_block
    monkeypatch.setattr(run, "draw_block", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        _sample(block_size=2, store=tmp_path / "run.zarr")
    monkeypatch.setattr(run, "draw_block", draw_block)
    resumed = _sample(block_size=2, store=tmp_path / "run.zarr")
    assert np.array_equal(_draws(resumed), _draws(whole))


def test_float64_on_request():
    assert _draws(_sample(dtype=torch.float64)).dtype == np.float64


def test_default_kernels():
    def gaussian():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(A(x), 0.1))

    tree = bir.sample(gaussian, data={"y": torch.zeros(5)}, draws=2, chains=1, progress=False)
    assert tree.attrs["kernel"] == repr(Exact())


class _Network(torch.nn.Module):
    """The exact denoiser of a white standard normal prior."""

    def forward(self, x_t, a, b):
        return (a / (a**2 + b**2)).to(x_t)[:, None, None, None] * x_t


@pytest.mark.parametrize("calibrated", [True, False])
def test_default_kernels_of_a_learned_prior(calibrated):
    shape = (1, 4, 4)
    prior = NetworkPrior(_Network(), VarianceExploding(0.01, 20.0), shape, mean=0.0, std=1.0)
    if calibrated:
        images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))
        prior = calibrate(prior, images, bases=("pca",))
    linear = Mask(torch.arange(16).reshape(shape) % 2 == 0)

    def chosen(operator, channel):
        def model():
            pyro.sample("y", channel(operator(pyro.sample("x", prior))))

        return bir.default_kernel(read_problem(model, {"y": torch.ones(operator.measurement_shape)}))

    signs = chosen(linear, lambda z: OneBit(z, 0.1))
    smooth = chosen(linear, lambda z: Gaussian(z, 0.1))
    assert signs == (GuidedDiffusion() if calibrated else QCSSGMPlus())
    assert smooth == (GuidedDiffusion() if calibrated else AnnealedLangevin())
    wavy = PhaseRetrieval(shape)
    assert chosen(wavy, lambda z: Gaussian(z, 0.1)) == DPS()
    assert chosen(wavy, lambda z: OneBit(z, 0.1)) == DAPS()


def test_default_kernel_is_announced(capsys):
    def gaussian():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(A(x), 0.1))

    bir.sample(gaussian, data={"y": torch.zeros(5)}, draws=2, chains=1)
    assert f"kernel: {Exact()!r}, the default for Gaussian" in capsys.readouterr().out


@pytest.mark.parametrize("kernel", [AnnealedLangevin(levels=4, steps_per_level=1), KERNEL])
def test_kernels_are_kernels(kernel):
    assert isinstance(kernel, Kernel)


HEAVY = ("matplotlib", "seaborn", "arviz", "xarray", "skimage", "diffusers")


def test_import_is_light():
    """No plotting or table library comes along; processor time below 1.5 x that of ``import torch, pyro``."""

    def seconds(statement):
        report = f"print(time.process_time()); print([m for m in {HEAVY} if m in sys.modules])"
        code = f"import sys, time\n{statement}\n{report}"
        runs = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            for _ in "12"
        ]
        return min(float(run.stdout.split()[0]) for run in runs), runs[0].stdout.splitlines()[1]

    ours, heavy = seconds("import bayes_ir")
    bare, _ = seconds("import torch, pyro")
    assert heavy == "[]"
    assert ours < 1.5 * bare
