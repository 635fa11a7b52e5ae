"""A battery for nonlinear operators: give the operator and its map in numpy, inherit the tests."""

import copy
import pickle

import numpy as np
import pytest
import torch
from operator_case import BATCHES, JVP_WARNS, Recorder, close

from bayes_ir.models.operators import LinearOperator, Operator


def uniform(*shape: int, low: float, high: float, seed: int, dtype: torch.dtype) -> torch.Tensor:
    draw = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (low + (high - low) * draw).to(dtype)


class NonlinearCase:
    """Inherit as ``TestMine(NonlinearCase)`` and give ``build`` and ``truth``.

    Attributes:
        has_pinv: whether there is a pseudo-inverse with A(A^+(A(x))) = A(x).
        image_range: test images are uniform in it; wider than the data range where clipping is to be seen.
        tolerance: agreement with the independent implementation in float64.
        single: agreement of float32 with float64.
        typed: whether ``repr`` is the call of the constructor.
    """

    has_pinv = False
    image_range = (-1.0, 1.0)
    tolerance = 1e-11
    single = 1e-5
    typed = True

    def build(self, dtype: torch.dtype = torch.float64) -> Operator:
        raise NotImplementedError

    def truth(self, operator: Operator, x: np.ndarray) -> np.ndarray:
        """The measurement of one image, float64, made without calling the operator."""
        raise NotImplementedError

    def differentiated(self, operator: Operator, x: torch.Tensor) -> torch.Tensor:
        """The map whose derivative the operator has: itself, unless its gradient is straight-through."""
        return operator(x)

    def awkward(self, operator: Operator) -> list[torch.Tensor]:
        """Images where a careless derivative is infinite or undefined."""
        blank = torch.zeros(operator.event_shape, dtype=operator.dtype)
        return [blank, blank + self.image_range[0], blank + self.image_range[1], 1e-30 + blank]

    @pytest.fixture
    def operator(self) -> Operator:
        return self.build()

    def image(self, operator: Operator, *batch: int, seed: int = 1) -> torch.Tensor:
        low, high = self.image_range
        return uniform(*batch, *operator.event_shape, low=low, high=high, seed=seed, dtype=operator.dtype)

    def direction(self, operator: Operator, *shape: int, seed: int = 7) -> torch.Tensor:
        return uniform(*shape, low=-1.0, high=1.0, seed=seed, dtype=operator.dtype)

    def test_is_a_nonlinear_operator(self, operator):
        assert {type(operator.event_shape), type(operator.measurement_shape)} == {torch.Size}
        assert operator.dtype == torch.float64 and operator.device.type == "cpu"
        assert not operator.linear and not isinstance(operator, LinearOperator)
        x, v = self.image(operator), self.image(operator, seed=3)
        assert not torch.allclose(operator(x) + operator(v), operator(x + v))

    @pytest.mark.parametrize("batch", BATCHES)
    def test_agrees_with_the_independent_implementation(self, operator, batch):
        x = self.image(operator, *batch)
        z = operator(x)
        assert z.shape == (*batch, *operator.measurement_shape) and z is not x
        images = x.reshape(-1, *operator.event_shape).numpy()
        wanted = np.array([self.truth(operator, image) for image in images]).reshape(z.shape)
        close(z, wanted, self.tolerance)

    def test_leaves_its_input_alone(self, operator):
        x = self.image(operator, 2)
        before = x.clone()
        operator(x)
        assert torch.equal(x, before)

    @JVP_WARNS
    def test_forward_mode_is_the_transpose_of_reverse_mode(self, operator):
        x, v = self.image(operator, 2), self.direction(operator, 2, *operator.event_shape)
        z, push = torch.func.jvp(operator, (x,), (v,))
        value, pull = torch.func.vjp(operator, x)
        w = self.direction(operator, *z.shape, seed=8)
        close(value, z)
        close((push * w).sum(), (v * pull(w)[0]).sum(), 1e-9)
        leaf = x.clone().requires_grad_()
        close(torch.autograd.grad((operator(leaf) * w).sum(), leaf)[0], pull(w)[0])

    @JVP_WARNS
    def test_derivative_is_that_of_finite_differences(self, operator):
        x, v = self.image(operator, 2), self.direction(operator, 2, *operator.event_shape)
        push = torch.func.jvp(operator, (x,), (v,))[1]
        step = 1e-6
        ahead, behind = (self.differentiated(operator, x + s * v) for s in (step, -step))
        close(push, (ahead - behind) / (2 * step), 2e-6)
        assert push.abs().max() > 0

    @JVP_WARNS
    def test_no_derivative_is_undefined(self, operator):
        for x in self.awkward(operator):
            v = torch.ones_like(x)
            z, push = torch.func.jvp(operator, (x,), (v,))
            assert z.isfinite().all() and push.isfinite().all()
            assert torch.func.vjp(operator, x)[1](torch.ones_like(z))[0].isfinite().all()

    @JVP_WARNS
    def test_functional_transforms(self, operator):
        x = self.image(operator, 3)
        close(torch.func.vmap(operator)(x), operator(x))

        def energy(x: torch.Tensor) -> torch.Tensor:
            return 0.5 * operator(x).square().sum()

        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(leaf), leaf)
        close(torch.func.vmap(torch.func.grad(energy))(x), gradient)

    def test_one_map_in_every_dtype(self, operator):
        single = self.build(torch.float32)
        x = self.image(single, 4)
        z = single(x)
        assert z.dtype == torch.float32
        close(z.double(), operator(x.double()), self.single)

    def test_to_makes_a_copy(self, operator):
        copied = operator.to(dtype=torch.float32)
        x = self.image(copied, 2)
        assert type(copied) is type(operator) and copied.dtype == torch.float32
        assert operator.dtype == torch.float64 and operator(x.double()).dtype == torch.float64
        assert torch.equal(copied(x), self.build(torch.float32)(x))
        close(copied.to(dtype=torch.float64)(x.double()), operator(x.double()), self.single)

    def test_every_part_follows_the_device(self, operator):
        # The meta device computes shapes only, and refuses to mix with tensors that stayed behind.
        moved = operator.to(device="meta")
        z = moved(self.image(operator, 2).to("meta"))
        assert z.device.type == "meta" and z.shape == (2, *operator.measurement_shape)
        assert moved.device.type == "meta" and operator.device.type == "cpu"

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_agrees_on_the_gpu(self, operator):
        x = self.image(operator, 2)
        close(operator.to(device="cuda")(x.cuda()).cpu(), operator(x))

    def test_construction_is_reproducible(self, operator):
        x = self.image(operator, 2)
        for again in (self.build(), copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
            assert torch.equal(again(x), operator(x))
        assert torch.equal(operator(x), operator(x))  # nothing is drawn when it is called

    def test_announces_itself(self, operator):
        x = self.image(operator, 2)
        with Recorder() as recorder:
            z = operator(x)
            if self.has_pinv:
                operator.pinv(z)
        ((seen_operator, seen_x, seen_z),) = recorder.seen
        assert seen_operator is operator and seen_x is x and seen_z is z
        assert torch.equal(z, operator(x))

    def test_measuring_the_pseudo_inverse_changes_nothing(self, operator):
        for batch in BATCHES if self.has_pinv else ():
            z = operator(self.image(operator, *batch))
            assert operator.pinv(z).shape == (*batch, *operator.event_shape)
            close(operator(operator.pinv(z)), z, 1e-12)

    def test_pseudo_inverse_refuses_in_words(self, operator):
        z = operator(self.image(operator))
        if not self.has_pinv:
            if type(operator).pinv is Operator.pinv:
                with pytest.raises(TypeError, match="has no pseudo-inverse; kernels that need one"):
                    operator.pinv(z)
            return
        with pytest.raises(ValueError, match=r"pinv: expected z of shape \(\*batch, .*reshape z"):
            operator.pinv(z[..., 1:])
        with pytest.raises(TypeError, match=r"pinv: z is torch.float32 .*A\.to\(dtype=torch\.float32\)"):
            operator.pinv(z.float())

    def test_refuses_in_words(self, operator):
        name, x = type(operator).__name__, self.image(operator)
        for wrong in (x[..., 1:], x.flatten()[0]):
            with pytest.raises(ValueError, match=rf"{name}: expected x of shape \(\*batch, .*reshape x"):
                operator(wrong)
        with pytest.raises(TypeError, match=rf"{name}: x is torch.float32 .*A\.to\(dtype=torch\.float32\)"):
            operator(x.float())
        with pytest.raises(TypeError, match=rf"{name}: expected x in torch.float64, got torch.uint8"):
            operator((x > 0).to(torch.uint8))
        with pytest.raises(TypeError, match=rf"{name}: expected x to be a tensor, got list"):
            operator(x.tolist())
        with pytest.raises(ValueError, match=rf"{name}: x is on meta .*A\.to\(device='meta'\)"):
            operator(x.to("meta"))

    def test_repr(self, operator):
        text, name = repr(operator), type(operator).__name__
        assert text.startswith(f"{name}(") and text.endswith("dtype=torch.float64)")
        assert f"event_shape={tuple(operator.event_shape)}" in text
        assert "dtype" not in repr(operator.to(dtype=torch.float32))
        assert repr(operator.to(device="meta")).endswith(".to(device='meta')")
        assert type(operator).__doc__.startswith("``z = ")
        if self.typed:
            x = self.image(operator, 2)
            again = eval(text, {name: type(operator), "torch": torch})
            assert torch.equal(again(x), operator(x)) and repr(again) == text
