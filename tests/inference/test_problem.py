"""Reading Pyro models: what is found (what is refused: tests/face/test_refusals.py)."""

import pyro
import torch

from bayes_ir.inference import read_problem
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, Identity, OneBit


def _prior(n=4):
    return GaussianPrior(torch.zeros(n), torch.eye(n))


A = DenseOperator(torch.arange(12.0).reshape(3, 4) / 10)
Y = torch.tensor([1.0, -1.0, 1.0])


def _model(prior=None, operator=A, channel=lambda z: OneBit(z, 0.1)):
    prior = prior or _prior()

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return model


def test_reads_prior_operator_channel_and_data():
    prior = _prior()
    problem = read_problem(_model(prior), {"y": Y})
    assert problem.site == "x" and problem.observed_site == "y"
    assert problem.prior is prior
    assert isinstance(problem.channel, OneBit)
    torch.testing.assert_close(problem.operator.to_matrix(), A.to_matrix())
    torch.testing.assert_close(problem.y, Y)


def test_a_conditioned_model_needs_no_data():
    problem = read_problem(pyro.condition(_model(), data={"y": Y}))
    torch.testing.assert_close(problem.y, Y)


def test_obs_in_the_model_and_arguments():
    prior = _prior()

    def model(y, noise):
        x = pyro.sample("image", prior)
        pyro.sample("data", Gaussian(A(x), noise).to_event(1), obs=y)

    problem = read_problem(model, model_args=(Y,), model_kwargs={"noise": 0.5})
    assert (problem.site, problem.observed_site) == ("image", "data")
    assert float(problem.channel.noise_std) == 0.5


def test_a_channel_on_the_image_itself_is_the_identity():
    problem = read_problem(
        _model(operator=lambda x: x, channel=lambda z: Gaussian(z, 1.0)), {"y": torch.zeros(4)}
    )
    assert isinstance(problem.operator, Identity)


def test_reading_draws_nothing():
    state = torch.random.get_rng_state()
    read_problem(_model(), {"y": Y})
    assert torch.equal(state, torch.random.get_rng_state())


def test_log_likelihood_is_that_of_the_model():
    model = _model()
    problem = read_problem(model, {"y": Y})
    x = torch.randn(4, generator=torch.Generator().manual_seed(0))
    trace = pyro.poutine.trace(pyro.condition(model, data={"x": x, "y": Y})).get_trace()
    trace.compute_log_prob()
    torch.testing.assert_close(problem.log_likelihood(x), trace.nodes["y"]["unscaled_log_prob"])
