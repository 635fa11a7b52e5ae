"""Bad input, and the words it must get."""

import errno
import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from typer.testing import CliRunner

import bayes_ir as bir
from bayes_ir.cli import app
from bayes_ir.inference import DMPS, AnnealedLangevin, Exact, QCSSGMPlus
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianPrior,
    GaussianSensing,
    IllConditionedSensing,
    Mask,
    OneBit,
    Operator,
    Quantized,
    VarianceExploding,
    load_prior,
)

A = DenseOperator(torch.arange(12.0).reshape(3, 4) / 10)
Y = torch.tensor([1.0, -1.0, 1.0])
FAST = QCSSGMPlus(levels=2, steps_per_level=1)


def _prior(n=4, **settings):
    return GaussianPrior(torch.zeros(n), torch.eye(n), **settings)


def _model(prior=None, operator=A, channel=lambda z: OneBit(z, 0.1)):
    prior = prior or _prior()

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return model


class _Square(Operator):
    def forward(self, x):
        return x**2


def _two_priors():
    x = pyro.sample("x", _prior())
    pyro.sample("w", _prior())
    pyro.sample("y", OneBit(A(x), 0.1))


def _no_prior():
    x = pyro.sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    pyro.sample("y", OneBit(A(x), 0.1))


def _two_observed_one_given():
    x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(A(x), 0.1))
    pyro.sample("w", OneBit(A(x), 0.2))


def _normal_channel():
    x = pyro.sample("x", _prior())
    pyro.sample("y", dist.Normal(A(x), 0.1).to_event(1))


def _two_observed():
    x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(A(x), 0.1))
    pyro.sample("w", Gaussian(_Square((4,), (4,))(x), 0.2), obs=torch.ones(4))


def _untouched():
    x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(A(x), 0.1))
    pyro.sample("w", dist.Normal(0.0, 1.0), obs=torch.tensor(0.3))


def _powered():
    x = pyro.sample("x", _prior())
    with pyro.poutine.scale(scale=0.5):
        pyro.sample("y", OneBit(A(x), 0.1))


def _batch_without_plate():
    x = pyro.sample("x", _prior().expand((2,)))
    pyro.sample("y", OneBit(A(x), 0.1), obs=Y.expand(2, 3))


def _subsampled():
    with pyro.plate("images", 5, subsample_size=2):
        x = pyro.sample("x", _prior())
        pyro.sample("y", OneBit(A(x), 0.1).to_event(1), obs=Y.expand(2, 3))


def _two_plates():
    with pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 2, dim=-1):
        x = pyro.sample("x", _prior())
        pyro.sample("y", OneBit(A(x), 0.1).to_event(1), obs=Y.expand(2, 2, 3))


def _plate_masks():
    with pyro.plate("images", 2):
        x = pyro.sample("x", _prior())
        with pyro.poutine.mask(mask=torch.tensor([True, False])):
            pyro.sample("y", OneBit(A(x), 0.1).to_event(1), obs=Y.expand(2, 3))


def _scaled():
    x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(2 * A(x), 0.1))


def _shifted():
    x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(A(x - 1), 0.1))


def _masked():
    x = pyro.sample("x", _prior())
    with pyro.poutine.mask(mask=torch.tensor([False, False, False])):
        pyro.sample("y", OneBit(A(x), 0.1))


def _without_prior():
    with pyro.poutine.mask(mask=False):
        x = pyro.sample("x", _prior())
    pyro.sample("y", OneBit(A(x), 0.1))


UNIT = _prior(data_range=(-1.0, 1.0))
Z = torch.zeros(3)


def _sample(model=None, data=None, kernel=FAST, **settings):
    settings = {"draws": 2, "chains": 1, "progress": False} | settings
    return lambda: bir.sample(model or _model(), kernel, {"y": Y} if data is None else data, **settings)


REFUSALS = {
    "NaN data": (
        _sample(data={"y": torch.tensor([1.0, torch.nan, 1.0])}),
        r"data\['y'\] holds 1 values that are not finite, the first at index \(1,\)",
    ),
    "infinite data": (_sample(data={"y": torch.tensor([1.0, torch.inf, 1.0])}), "values that are not finite"),
    "y of the wrong shape": (
        _sample(data={"y": torch.ones(5)}),
        r"data\['y'\] has shape \(5,\); DenseOperator measures shape \(3,\)",
    ),
    "y outside -1, 1": (
        _sample(data={"y": torch.tensor([1.0, 0.0, -1.0])}),
        "expected only -1 and 1; for bits 0 and 1 pass 2 \\* y - 1",
    ),
    "y outside the code book": (
        _sample(
            _model(channel=lambda z: Quantized(z, 0.1, bits=2, step=1.0)),
            {"y": torch.tensor([0.5, 0.7, 0.5])},
        ),
        "y contains 0.7",
    ),
    "text as data": (_sample(data={"y": "plus"}), r"data\['y'\] is a str that is no array of numbers"),
    "unknown site": (_sample(data={"z": Y}), r"data names the site 'z', but the model has only \['x', 'y'\]"),
    "nothing observed": (_sample(data={}), r"nothing is observed: the latent sites are \['x', 'y'\]"),
    "image observed": (_sample(data={"x": torch.zeros(4), "y": Y}), "the image site 'x' is itself observed"),
    "no prior site": (_sample(_no_prior), "the model has no image site"),
    "two prior sites": (_sample(_two_priors), r"the model has 2 image sites, \['x', 'w'\]"),
    "a measurement without values": (
        _sample(_two_observed_one_given),
        "the measurement site 'w' has no values; .*Predictive",
    ),
    "no channel": (_sample(_normal_channel), r"kernels need a channel such as Gaussian\(A\(x\), noise_std\)"),
    "a site beside one that is not linear": (
        _sample(_two_observed),
        "site 'w': .*not linear, and the model observes 2",
    ),
    "a site the image does not touch": (_sample(_untouched), "'w', a Normal, does not depend on the image"),
    "a power of signs": (_sample(_powered), "sits under poutine.scale"),
    "a batch without a plate": (_sample(_batch_without_plate, {}), "put a batch of images in a pyro.plate"),
    "a part of a plate": (_sample(_subsampled, {}), "sees 2 of the 5 images of the plate 'images'"),
    "images in two plates": (_sample(_two_plates, {}), r"sits in 2 plates, \['rows', 'columns'\]"),
    "masks of each image": (_sample(_plate_masks, {}), "differs between the images of its plate"),
    "arithmetic after A": (_sample(_scaled), "without arithmetic in between"),
    "arithmetic before A": (_sample(_shifted), "was applied to something computed from 'x'"),
    "nothing but masked measurements": (
        _sample(_masked),
        "poutine.mask leaves nothing of the observed site 'y'",
    ),
    "image without its prior": (_sample(_without_prior), "image site 'x' sits under poutine.mask"),
    "image with half of its prior": (
        _sample(pyro.poutine.scale(_model(), scale=0.5)),
        "image site 'x' sits under poutine.scale",
    ),
    "nonlinear map given to DMPS": (
        _sample(
            _model(operator=_Square((4,), (4,)), channel=lambda z: Gaussian(z, 0.1)),
            {"y": torch.ones(4)},
            DMPS(),
        ),
        "DMPS needs a linear operator, and _Square",
    ),
    "8-bit image": (
        _sample(
            _model(UNIT, Mask(torch.tensor([True] * 4)), lambda z: Gaussian(z, 0.1)),
            {"y": torch.full((4,), 200.0)},
        ),
        "rescale the measurements, for 8-bit data by 1/255",
    ),
    "1-bit data for AnnealedLangevin": (
        _sample(kernel=AnnealedLangevin()),
        r"AnnealedLangevin needs a Gaussian channel; site 'y' has OneBit. Use QCSSGMPlus\(\)",
    ),
    "too many signs for Exact": (
        lambda: bir.sample(
            _model(operator=DenseOperator(torch.ones(101, 4))),
            Exact(),
            {"y": torch.ones(101)},
            progress=False,
        ),
        "takes at most 100 measurements",
    ),
    "a class as kernel": (_sample(kernel=QCSSGMPlus), r"pass an instance, QCSSGMPlus\(\)"),
    "a name as kernel": (_sample(kernel="QCSSGMPlus"), "kernel is a str; expected a kernel such as"),
    "draws=0": (_sample(draws=0), "draws is 0; expected a whole number of at least 1"),
    "half a chain": (_sample(chains=0.5), "chains is 0.5; expected a whole number"),
    "negative seed": (_sample(seed=-1), "seed is -1; expected a whole number of at least 0"),
    "unknown device": (_sample(device="gpu"), "device 'gpu' cannot be used here"),
    "integer images": (_sample(dtype=torch.int64), "expected torch.float32 or torch.float64"),
    "zero noise": (lambda: OneBit(Z, 0.0), "noise_std contains 0 .* expected finite values above 0"),
    "negative noise": (lambda: Gaussian(Z, -0.1), "noise_std contains -0.1"),
    "thresholds not increasing": (
        lambda: Quantized(Z, 0.1, thresholds=torch.tensor([0.0, 1.0, 1.0])),
        "thresholds .* increas",
    ),
    "nine bits": (lambda: Quantized(Z, 0.1, bits=9, step=1.0), "bits"),
    "bits without a step": (lambda: Quantized(Z, 0.1, bits=2), "step"),
    "image of the wrong shape": (lambda: A(torch.zeros(5)), r"DenseOperator.*\(5,\)"),
    "image of the wrong type": (lambda: A(torch.zeros(4, dtype=torch.float64)), r"\.to\(dtype="),
    "no measurements": (lambda: GaussianSensing(0, (4,), seed=0), "measurements"),
    "condition number below 1": (lambda: IllConditionedSensing(2, (4,), 0.5, seed=0), "condition_number"),
    "indefinite covariance": (
        lambda: GaussianPrior(torch.zeros(2), torch.diag(torch.tensor([1.0, -1.0]))),
        "semi-definite",
    ),
    "covariance of the wrong size": (
        lambda: GaussianPrior(torch.zeros(2), torch.eye(3)),
        r"covariances \(1, 3, 3\)",
    ),
    "noise range upside down": (lambda: VarianceExploding(2.0, 1.0), "0 < noise_min < noise_max"),
    "unknown prior": (lambda: load_prior("minst"), "mnist"),
    "missing weights": (lambda: load_prior("no/such/card.json"), "no/such/card.json"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_in_words(case):
    act, words = REFUSALS[case]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=words):
        act()


def test_there_are_enough():
    assert len(REFUSALS) >= 25


def test_corrupt_weights(tmp_path):
    from importlib.resources import files

    shipped = files("bayes_ir.models.weights")
    (tmp_path / "mnist-gmm.json").write_bytes(shipped.joinpath("mnist-gmm.json").read_bytes())
    weights = shipped.joinpath("mnist-gmm.safetensors").read_bytes()
    (tmp_path / "mnist-gmm.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"mnist-gmm\.safetensors"):
        load_prior(tmp_path / "mnist-gmm.json")


def test_store_of_another_run(tmp_path):
    _sample(store=tmp_path / "run.zarr", seed=0)()
    with pytest.raises(ValueError, match="seed"):
        _sample(store=tmp_path / "run.zarr", seed=1)()
    with pytest.raises(ValueError, match="fingerprint"):
        _sample(store=tmp_path / "run.zarr", seed=0, data={"y": -Y})()


def _run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


COMMANDS = {
    "unknown problem": (
        ("run", "one-bit-digits"),
        "unknown problem 'one-bit-digits'. Did you mean 'one-bit-digit'?",
    ),
    "unknown kernel": (
        ("run", "exact-gaussian", "--kernel", "QCSGM"),
        "unknown kernel 'QCSGM'. Did you mean 'QCSSGM'?",
    ),
    "unknown setting": (
        ("run", "exact-gaussian", "--set", "levles=3"),
        "unknown setting of AnnealedLangevin 'levles'. Did you mean 'levels'?",
    ),
    "setting without a value": (("run", "exact-gaussian", "--set", "levels"), "expected NAME=VALUE"),
    "no such digit": (("run", "one-bit-digit", "--image", 20), "the shipped digits are numbered 0 to 19"),
    "no draws": (("run", "exact-gaussian", "--draws", 0), "draws is 0"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_command_refuses_in_words(case, tmp_path):
    words, message = COMMANDS[case]
    result = _run(*words, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_full_disk(tmp_path, monkeypatch):
    """A disk that fills up is named, and what was written before stays usable."""
    import bayes_ir.analysis.zarr_store as zarr_store

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    settings = ("run", "exact-gaussian", "--set", "levels=3", "--draws", 2, "--chains", 1, "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(zarr_store, "flush_chunk", full)
        result = _run(*settings)
    assert result.exit_code == 1
    assert "full" in result.output and "posterior.zarr" in result.output.replace("\n", "")
    assert _run(*settings).exit_code == 0  # once there is room, the same command goes on
    assert json.loads((tmp_path / "posterior.zarr" / "zarr.json").read_text())
