"""Operators inside Pyro models: seen by handlers that ask, harmless to all others."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from operator_case import Recorder, close, normal
from pyro import poutine
from pyro.infer import Predictive
from pyro.infer.mcmc.util import initialize_model
from pyro.poutine.messenger import Messenger

from bayes_ir.models.operators import GaussianSensing, Operator

A = GaussianSensing(measurements=3, event_shape=(2, 2), seed=0, dtype=torch.float64)
Y = normal(3, seed=9)


def image_prior():
    return dist.Normal(torch.zeros(2, 2, dtype=torch.float64), 1.0).to_event(2)


def model():
    x = pyro.sample("x", image_prior())
    z = A(x)
    pyro.sample("y", dist.Normal(z, 0.1).to_event(1))
    return x, z


def same(x, z):
    close(z, x.reshape(*x.shape[:-2], 4) @ A.matrix.mT)


def test_trace_has_no_operator_site():
    trace = poutine.trace(model).get_trace()
    assert set(trace.nodes) == {"_INPUT", "x", "y", "_RETURN"}
    same(*trace.nodes["_RETURN"]["value"])
    trace.compute_log_prob()
    close(trace.nodes["y"]["fn"].base_dist.loc, trace.nodes["_RETURN"]["value"][1])


def test_condition_replay_block_scale_and_mask():
    for handled in (
        pyro.condition(model, data={"y": Y}),
        pyro.do(model, data={"y": Y}),
        poutine.replay(model, trace=poutine.trace(model).get_trace()),
        poutine.block(model),
        poutine.scale(model, scale=0.5),
        poutine.mask(model, mask=False),
        poutine.uncondition(pyro.condition(model, data={"y": Y})),
    ):
        same(*handled())


def test_plates():
    def batched():
        with pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 5, dim=-1):
            x = pyro.sample("x", image_prior())
            z = A(x)
            pyro.sample("y", dist.Normal(z, 0.1).to_event(1))
        return x, z

    x, z = batched()
    assert x.shape == (2, 5, 2, 2) and z.shape == (2, 5, 3)
    same(x, z)

    def one_by_one():
        return [A(pyro.sample(f"x{i}", image_prior())) for i in pyro.plate("images", 3)]

    assert [z.shape for z in one_by_one()] == [(3,)] * 3

    def subsampled(x):
        with pyro.plate("images", 10, subsample_size=4, dim=-1) as index:
            z = A(x[index])
            pyro.sample("y", dist.Normal(z, 0.1).to_event(1))
        return x[index], z

    same(*subsampled(normal(10, 2, 2)))


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive(parallel):
    def plated():
        with pyro.plate("images", 3):
            x = pyro.sample("x", image_prior())
            pyro.deterministic("z", A(x), event_dim=1)

    draws = Predictive(plated, num_samples=4, parallel=parallel)()
    assert draws["z"].shape == (4, 3, 3)
    same(draws["x"], draws["z"])


def test_inference_differentiates_through_it():
    conditioned = pyro.condition(model, data={"y": Y})
    _, potential, _, _ = initialize_model(conditioned)
    x = normal(2, 2, seed=4).requires_grad_()
    (gradient,) = torch.autograd.grad(potential({"x": x}), x)
    wanted = x - A.adjoint(Y - A(x)) / 0.1**2  # of |x|^2 / 2 + |y - A x|^2 / (2 sigma^2)
    close(gradient, wanted.detach())


def test_a_handler_sees_operator_argument_and_value():
    with Recorder() as recorder:
        x, z = pyro.condition(model, data={"y": Y})()
    ((operator, seen_x, seen_z),) = recorder.seen
    assert operator is A and seen_x is x and seen_z is z


def test_a_handler_inside_a_plate_and_under_a_trace_sees_it_too():
    with Recorder() as recorder, pyro.plate("images", 3):
        poutine.trace(model).get_trace()
    assert [operator for operator, _, _ in recorder.seen] == [A]


def test_a_block_hides_it():
    with Recorder() as recorder:
        poutine.block(model)()
    assert recorder.seen == []


def test_a_handler_may_answer_in_its_place():
    class Zero(Messenger):
        def _pyro_operator(self, msg):
            operator, x = msg["args"]
            msg["value"] = x.new_zeros(len(x), *operator.measurement_shape)

    with Zero():
        assert torch.equal(A(normal(7, 2, 2)), torch.zeros(7, 3, dtype=torch.float64))


def test_a_refusal_inside_a_model_is_still_in_words():
    def wrong():
        A(pyro.sample("x", dist.Normal(torch.zeros(4, dtype=torch.float64), 1.0).to_event(1)))

    with pytest.raises(ValueError, match=r"GaussianSensing: expected x .* got \(4,\)"):
        poutine.trace(wrong).get_trace()


class Clipping(Operator):
    """A map that is not linear, with a number that follows the dtype."""

    def __init__(self):
        super().__init__((4,), (2,), torch.float64)
        self.limit = torch.tensor(0.5, dtype=torch.float64)

    def forward(self, x):
        return x[..., :2].clamp(max=self.limit)


def test_nonlinear_operators_are_announced_checked_and_moved():
    clip, x = Clipping(), normal(3, 4)
    with Recorder() as recorder:
        z = clip(x)
    assert recorder.seen[0][0] is clip and recorder.seen[0][2] is z and not clip.linear
    close(z, x[:, :2].clamp(max=0.5))
    single = clip.to(dtype=torch.float32)
    assert single.limit.dtype == single(x.float()).dtype == torch.float32
    assert clip.limit.dtype == torch.float64
    with pytest.raises(ValueError, match=r"Clipping: expected x of shape \(\*batch, 4\), got \(3, 5\)"):
        clip(normal(3, 5))
    assert repr(clip) == "Clipping(event_shape=(4,), measurement_shape=(2,), dtype=torch.float64)"
