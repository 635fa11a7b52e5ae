"""What a channel promises whatever its likelihood: its place in a Pyro model, its shapes, its refusals."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from bayes_ir.models.channels import Channel


def double(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class ChannelProtocol:
    """Give a channel and its values; inherit the tests.

    Attributes:
        channel_type: the class under test.
        discrete: whether y takes countably many values.
    """

    channel_type: type[Channel]
    discrete = True

    def make(self, z: torch.Tensor, noise_std: Any = None, **keywords: Any) -> Channel:
        """The channel under test at z."""
        raise NotImplementedError

    def values(self) -> torch.Tensor:
        """Measurements to test with, (n,), float64; all of the code book for a discrete channel."""
        raise NotImplementedError

    def test_is_a_pyro_distribution_elementwise_in_z(self):
        channel = self.make(torch.zeros(5, 3))
        assert type(channel) is self.channel_type
        assert isinstance(channel, dist.TorchDistribution)
        assert channel.batch_shape == (5, 3) and channel.event_shape == ()
        assert channel.support.is_discrete == self.discrete
        assert all(hasattr(channel, name) for name in channel.arg_constraints)
        assert "noise_std" in repr(channel)

    def test_location_is_the_object_that_was_given(self):
        z = torch.zeros(3, requires_grad=True) + 0
        channel = self.make(z)
        assert channel.location is z and channel._origin is z
        assert channel.expand((4, 3))._origin is z
        assert channel.to_event(1).expand((4,)).base_dist._origin is z
        other = z + 1
        assert channel.expand((4, 3)).with_location(other)._origin is other

    def test_expand(self):
        channel = self.make(double(-0.4, 0.1, 0.9), double(0.1, 0.3, 2.0))
        expanded = channel.expand((2, 4, 3))
        assert expanded.batch_shape == (2, 4, 3) and expanded.sample().shape == (2, 4, 3)
        y = self.values()[0]
        torch.testing.assert_close(expanded.log_prob(y), channel.log_prob(y).expand(2, 4, 3))
        assert expanded.mean.shape == expanded.variance.shape == (2, 4, 3)
        with pytest.raises(ValueError, match=r"expand: got \(4, 2\).*batch shape \(3,\).*plates"):
            channel.expand((4, 2))

    def test_with_location_broadcasts_and_follows_the_dtype(self):
        noise_std = double(0.1, 0.3, 2.0)
        channel = self.make(double(-0.4, 0.1, 0.9), noise_std).expand((6, 3))
        z = torch.linspace(-1, 1, 24).reshape(2, 4, 3)
        moved = channel.with_location(z)
        assert type(moved) is self.channel_type and moved.location is z
        assert moved.batch_shape == (2, 4, 3) and moved.sample((5,)).shape == (5, 2, 4, 3)
        assert moved.noise_std.dtype == torch.float32 and channel.noise_std.dtype == torch.float64
        y = self.values()[0]
        torch.testing.assert_close(moved.log_prob(y), self.make(z, noise_std).log_prob(y))
        with pytest.raises(ValueError, match=r"with_location: the shapes z \(2,\), noise_std \(3,\)"):
            channel.with_location(torch.zeros(2))

    def test_with_location_passes_on_draws_that_diverged(self):
        moved = self.make(double(0.0, 0.0)).with_location(double(0.0, math.nan))
        assert moved.log_prob(self.values()[0]).isnan().tolist() == [False, True]

    def test_conditioned_in_a_pyro_model(self):
        z = torch.linspace(-1, 1, 6).reshape(2, 3)
        y = self.values()[torch.arange(6) % len(self.values())].float().reshape(2, 3)

        def model():
            shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
            return pyro.sample("y", self.make(z + shift).to_event(2))

        conditioned = pyro.condition(model, {"y": y, "shift": torch.tensor(0.5)})
        trace = poutine.trace(conditioned).get_trace()
        trace.compute_log_prob()
        assert trace.nodes["y"]["is_observed"]
        torch.testing.assert_close(trace.nodes["y"]["log_prob_sum"], self.make(z + 0.5).log_prob(y).sum())

    def test_in_plates(self):
        torch.manual_seed(2)
        z = torch.linspace(-1, 1, 3)

        def model():
            with pyro.plate("images", 4, dim=-2), pyro.plate("measurements", 3, dim=-1):
                return pyro.sample("y", self.make(z))

        trace = poutine.trace(model).get_trace()
        trace.compute_log_prob()
        site = trace.nodes["y"]
        assert site["value"].shape == (4, 3) and site["fn"]._origin is z
        torch.testing.assert_close(site["log_prob"], self.make(z).log_prob(site["value"]))

    @pytest.mark.parametrize("bad", [0.0, -0.1, math.inf, math.nan])
    def test_refuses_noise_std(self, bad):
        name, said = (
            self.channel_type.__name__,
            rf"noise_std contains {bad:g} \(1 of 3 entries\), expected finite",
        )
        with pytest.raises(ValueError, match=rf"^{name}: {said} .* above 0"):
            self.make(torch.zeros(3), torch.tensor([1.0, bad, 1.0]))

    def test_refuses_z(self):
        with pytest.raises(
            ValueError, match=r"z contains nan \(1 of 2 entries\), expected finite.*diverging"
        ):
            self.make(torch.tensor([0.0, math.nan]))
        with pytest.raises(
            TypeError, match=r"z is a tensor of torch.int64, expected a float32.*z\.float\(\)"
        ):
            self.make(torch.arange(3))
        with pytest.raises(TypeError, match=r"z is a list, expected"):
            self.make([0.0, 1.0])
        with pytest.raises(TypeError, match=r"noise_std is 'much', expected a number or a tensor"):
            self.make(torch.zeros(3), "much")

    def test_refuses_shapes_that_do_not_broadcast(self):
        with pytest.raises(ValueError, match=r"the shapes z \(5, 3\), noise_std \(4,\).* do not broadcast"):
            self.make(torch.zeros(5, 3), torch.ones(4))
        with pytest.raises(
            ValueError, match=r"log_prob: the shapes y \(4,\), z \(5, 3\), .*do not broadcast"
        ):
            self.make(torch.zeros(5, 3)).log_prob(self.values()[0].expand(4))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_refuses_measurements_that_are_not_finite(self, bad):
        y = self.values()[:2].clone()
        y[1] = bad
        with pytest.raises(ValueError, match=rf"log_prob: y contains {bad} \(1 of 2 entries\), .*Mask"):
            self.make(torch.zeros(2)).log_prob(y)
        with pytest.raises(ValueError, match=r"log_prob: y contains"):
            self.make(torch.zeros(2)).with_location(torch.zeros(2)).log_prob(y)

    def test_validation_can_be_turned_off(self):
        channel = self.make(torch.zeros(2), torch.tensor([1.0, -1.0]), validate_args=False)
        assert channel.batch_shape == (2,)
        assert channel.log_prob(torch.tensor([math.nan, 1.0])).shape == (2,)
