"""`pyro.render_model` on our models, and the same picture from what a run writes down."""

import json
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes_ir.model_graph import draw_model, model_in_words, model_relations, model_svg
from bayes_ir.models import (
    Gaussian,
    GaussianPrior,
    Identity,
    NetworkPrior,
    OneBit,
    Poisson,
    Quantized,
    VarianceExploding,
)
from bayes_ir.sketches import EXAMPLES

PRIOR = GaussianPrior(torch.zeros(3), torch.eye(3))
A = Identity(PRIOR.event_shape)
Y = torch.ones(3)


def one_site():
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", OneBit(A(x), noise_std=0.1))


def several_sites():
    x = pyro.sample("x", PRIOR)
    pyro.sample("bits", OneBit(A(x), noise_std=0.1))
    pyro.sample("y", Gaussian(A(x), torch.tensor([0.1, 0.2, 0.3])))


def nuisance():
    noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
    x = pyro.sample("x", PRIOR)
    pyro.deterministic("norm", x.norm())
    pyro.sample("y", Gaussian(A(x), noise))


def plates():
    noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
    with pyro.plate("images", 4):
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(A(x), noise).to_event(1))


def exposures():
    x = pyro.sample("x", PRIOR)
    with pyro.plate("exposures", 6):
        pyro.sample("y", Gaussian(A(x), 0.3).to_event(1))


MODELS = {
    # model, data, edges of the graph, laws shown
    "one site": (one_site, {"y": Y}, {"x -> y"}, {"x ~ GaussianPrior", "y ~ OneBit"}),
    "several sites": (
        several_sites,
        {"bits": Y, "y": Y},
        {"x -> bits", "x -> y"},
        {"bits ~ OneBit", "y ~ Gaussian"},
    ),
    "nuisance": (
        nuisance,
        {"y": Y},
        {"x -> y", "noise -> y", "x -> norm"},
        {"noise ~ LogNormal", "norm ~ Deterministic"},
    ),
    "plate of images": (plates, {"y": Y.expand(4, 3)}, {"x -> y", "noise -> y"}, {"x ~ GaussianPrior"}),
    "plate of exposures": (exposures, {"y": Y.expand(6, 3)}, {"x -> y"}, {"y ~ Gaussian"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_pyro_renders_the_model(name):
    model, data, edges, laws = MODELS[name]
    conditioned = pyro.condition(model, data)
    source = pyro.render_model(conditioned, render_distributions=True, render_deterministic=True).source
    lines = {line.strip() for line in source.splitlines()}
    assert {line for line in lines if "->" in line} == edges
    assert all(law in source for law in laws)
    grey = {line.split(" ")[0] for line in lines if "fillcolor=gray" in line and "dashed" not in line}
    assert grey == set(data)
    for plate in ("images", "exposures"):
        assert (f"cluster_{plate}" in source) == (plate in name)
    # What is written down, as JSON, makes the same picture.
    again = json.loads(json.dumps(model_relations(model, data)))
    assert draw_model(again).source == source


@pytest.mark.parametrize("name", EXAMPLES)
def test_pyro_follows_the_image_through_every_operator(name):
    operator = EXAMPLES[name]()
    pixels = operator.event_shape.numel()
    prior = GaussianPrior(torch.zeros(pixels), torch.eye(pixels), event_shape=operator.event_shape)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", Gaussian(operator(x), 0.3).to_event(len(operator.measurement_shape)))

    source = pyro.render_model(model, render_distributions=True).source
    assert "x -> y" in source and "y ~ Gaussian" in source


@pytest.mark.parametrize(
    "channel",
    [
        lambda z: OneBit(z, 0.1, threshold=torch.linspace(-1, 1, 3)),
        lambda z: Quantized(z, 0.1, bits=3, step=0.5),
        lambda z: Quantized(z, 0.1, thresholds=torch.tensor([-0.5, 0.5])),
        lambda z: Poisson(z.exp(), peak=20.0, background=2.0),
    ],
    ids=["dithered", "uniform", "by thresholds", "counts"],
)
def test_pyro_follows_the_image_through_every_channel(channel):
    def model():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", channel(A(x)).to_event(1))

    assert "x -> y" in pyro.render_model(model, render_distributions=True).source


def test_the_model_in_words():
    relations = model_relations(plates, {"y": Y.expand(4, 3)})
    assert model_in_words(relations) == [
        "noise ~ LogNormal(loc=0, scale=1), unknown",
        "x ~ GaussianPrior(event_shape=(3,)), unknown, in the plate images",
        # The value that the noise had in this run is none of the model's.
        "y ~ Gaussian(noise_std from noise) given noise, x, observed, in the plate images",
    ]
    words = model_in_words(model_relations(several_sites, {"bits": Y}))
    assert words[1] == "bits ~ OneBit(noise_std=0.1, threshold=0) given x, observed"
    assert words[2] == "y ~ Gaussian(noise_std=array(3,)) given x, unknown"
    assert model_in_words(model_relations(nuisance, {"y": Y}))[2] == "norm = a function of x, computed"


class _Counted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))
        self.calls = 0

    def forward(self, x_t, a, b):
        self.calls += 1
        return self.gain * x_t


def test_a_learned_prior_is_read_in_few_calls_and_left_as_it_was():
    network = _Counted()
    prior = NetworkPrior(network, VarianceExploding(0.01, 10.0), (1, 9, 9))
    operator = Identity(prior.event_shape)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", Gaussian(operator(x), 0.1).to_event(3))

    relations = model_relations(model, {"y": torch.zeros(1, 9, 9)})
    assert relations["sample_sample"] == {"x": [], "y": ["x"]}
    # Pyro alone takes 95 for the draw and, with 81 pixels, 32 steps for the density.
    assert 0 < network.calls < 30
    assert (prior.sample_steps, prior.density_steps, prior.density_probes) == (48, 32, None)


def test_arguments_of_the_model():
    def model(n, noise=0.1):
        x = pyro.sample("x", PRIOR)
        for i in range(n):
            pyro.sample(f"y{i}", Gaussian(A(x), noise))

    relations = model_relations(model, {"y1": Y}, (2,), {"noise": 0.5})
    assert relations["observed"] == ["y1"]
    assert relations["described"]["y0"] == "Gaussian(noise_std=0.5)"


def test_drawn_as_svg_where_graphviz_is(monkeypatch, tmp_path):
    pytest.importorskip("graphviz", reason="the Python package graphviz is not installed")
    from shutil import which

    relations = model_relations(one_site, {"y": Y})
    if which("dot") is None:
        pytest.skip("graphviz's program dot is not installed")
    picture = model_svg(relations).decode()
    assert picture.startswith("<?xml") and ">x<" in picture and "OneBit" in picture
    monkeypatch.setenv("PATH", str(tmp_path))
    assert model_svg(relations) is None


def test_without_the_package_there_is_no_picture(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert model_svg(model_relations(one_site, {"y": Y})) is None
