"""Multi-coil MRI against matrices and loops made with numpy, and the simulated sensitivities."""

import numpy as np
import pytest
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.complex_images import as_channels, as_complex, to_kspace
from bayes_ir.models.operators.mri import SingleCoilMRI
from bayes_ir.models.operators.mri_masks import poisson_disk
from bayes_ir.models.operators.multi_coil_mri import MultiCoilMRI, simulated_sensitivities

RNG = np.random.default_rng(0)


def fourier(height, width):
    def one(n):
        k = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)

    return np.kron(one(height), one(width))


class MultiCoilCase(OperatorCase):
    mask = RNG.random((4, 5)) < 0.5
    sensitivities = RNG.normal(size=(3, 4, 5)) + 1j * RNG.normal(size=(3, 4, 5))

    def build(self, dtype=torch.float64):
        return MultiCoilMRI(torch.as_tensor(self.mask), torch.as_tensor(self.sensitivities), dtype=dtype)

    def truth(self, operator):
        rows = fourier(*self.mask.shape)[self.mask.ravel()]
        blocks = []
        for sensitivity in self.sensitivities:
            coil = rows * sensitivity.ravel()
            blocks += [np.hstack([coil.real, -coil.imag]), np.hstack([coil.imag, coil.real])]
        return np.vstack(blocks)

    def test_gram_diagonal_needs_no_decomposition(self, operator, matrix, monkeypatch):
        monkeypatch.setattr(type(operator), "decompose", None)
        wanted = np.square(matrix).sum(1).reshape(operator.measurement_shape)
        close(operator.gram_diagonal(), wanted, 1e-13)
        assert not operator.structured


class TestThreeCoils(MultiCoilCase):
    pass


class TestOneCoil(MultiCoilCase):
    mask = RNG.random((3, 4)) < 0.7
    sensitivities = MultiCoilCase.sensitivities[:1, :3, :4]


class TestSmoothCoils(MultiCoilCase):
    mask = RNG.random((4, 4)) < 0.6
    sensitivities = simulated_sensitivities(4, (4, 4), seed=0).numpy()


class TestBlindSpots(MultiCoilCase):
    # Pixels that no coil sees: the operator is rank-deficient however many points are sampled.
    mask = np.ones((3, 4), dtype=bool)
    sensitivities = MultiCoilCase.sensitivities[:2, :3, :4] * (np.arange(12).reshape(3, 4) % 3 > 0)

    def test_blind_spots_stay_empty(self, operator):
        x = operator.pinv(operator(normal(2, 3, 4)))
        close(x[:, np.arange(12).reshape(3, 4) % 3 == 0], np.zeros((2, 4)))
        assert operator.svd.rank == 16


def test_agrees_with_numpy_at_full_size():
    shape = (64, 48)
    mask, maps = poisson_disk(shape, 8, seed=0), simulated_sensitivities(6, shape, seed=1)
    operator = MultiCoilMRI(mask, maps, dtype=torch.float64)
    x = normal(2, *shape)
    z = operator(x)
    back = np.zeros(shape, dtype=complex)
    for coil, sensitivity in enumerate(maps.numpy()):
        image = sensitivity * (x[0].numpy() + 1j * x[1].numpy())
        kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
        close(torch.complex(*z[coil]), kspace[mask.numpy()])
        back += sensitivity.conj() * np.fft.fftshift(
            np.fft.ifft2(np.fft.ifftshift(kspace * mask.numpy()), norm="ortho")
        )
    close(as_complex(operator.adjoint(z)), back)
    assert not operator.has_svd and 0.5 < operator.norm() <= 1 + 1e-9  # sum |S|^2 = 1
    solved = operator.solve(z, scale=2.0, shift=0.1)
    close(2 * operator(operator.adjoint(solved)) + 0.1 * solved, z, 1e-10)


def test_more_coils_than_acceleration_recover_the_image(monkeypatch):
    monkeypatch.setattr(MultiCoilMRI, "has_svd", False)  # by conjugate gradients, as at full size
    maps = simulated_sensitivities(8, (16, 16), seed=0)
    x = normal(2, 16, 16)
    for step, exact in ((2, True), (16, False)):
        mask = (torch.arange(16) % step == 0).expand(16, 16)
        operator = MultiCoilMRI(mask, maps, dtype=torch.float64)
        error = (operator.pinv(operator(x)) - x).norm() / x.norm()
        assert (error < 1e-6) == exact
        alone = SingleCoilMRI(mask, dtype=torch.float64)
        assert (alone.pinv(alone(x)) - x).norm() / x.norm() > 0.5


def test_one_uniform_coil_is_the_single_coil():
    mask = poisson_disk((8, 9), 3, seed=0)
    multi = MultiCoilMRI(mask, torch.ones(1, 8, 9, dtype=torch.complex128), dtype=torch.float64)
    x = normal(4, 2, 8, 9)
    close(multi(x)[:, 0], SingleCoilMRI(mask, dtype=torch.float64)(x))


def test_select_reads_the_measurement_from_kspace():
    maps = simulated_sensitivities(3, (6, 8), seed=0)
    operator = MultiCoilMRI(poisson_disk((6, 8), 3, seed=0), maps, dtype=torch.float64)
    x = normal(2, 2, 6, 8)
    close(operator.select(to_kspace(maps * as_complex(x)[:, None])), operator(x))


@pytest.mark.parametrize(("coils", "shape"), [(1, (8, 8)), (4, (16, 24)), (8, (33, 20)), (15, (64, 64))])
def test_sensitivities(coils, shape):
    maps = simulated_sensitivities(coils, shape, seed=3)
    assert maps.shape == (coils, *shape) and maps.dtype == torch.complex128
    np.testing.assert_allclose((np.abs(maps.numpy()) ** 2).sum(0), 1, atol=1e-14)
    assert torch.equal(maps, simulated_sensitivities(coils, shape, seed=3))
    assert not torch.allclose(maps, simulated_sensitivities(coils, shape, seed=4))


def test_sensitivities_are_fields_of_wires():
    # Undo the normalisation by ratios: S_c / S_0 = e^{i phi} (w - p_0) / (w - p_c), a Moebius map of w = x + i y,
    # fixed by three of its values; the cross-ratio predicts all others.
    maps = simulated_sensitivities(3, (20, 30), seed=5).numpy()
    y, x = np.meshgrid((2 * np.arange(20) + 1) / 20 - 1, (2 * np.arange(30) + 1) / 30 - 1, indexing="ij")
    w, ratio = (x + 1j * y).ravel(), (maps[1] / maps[0]).ravel()
    a, b, c, d = 0, 17, 311, np.arange(320, 599)

    def cross(u):
        return (u[a] - u[c]) * (u[b] - u[d]) / ((u[b] - u[c]) * (u[a] - u[d]))

    np.testing.assert_allclose(cross(ratio), cross(w), rtol=1e-9)


def test_every_coil_sees_its_own_side_smoothly():
    maps = simulated_sensitivities(4, (64, 64), seed=0)
    brightest = [divmod(int(m.abs().argmax()), 64) for m in maps]
    assert all({i, j} & {0, 63} for i, j in brightest) and len(set(brightest)) == 4
    assert max(maps.diff(dim=axis).abs().max() for axis in (1, 2)) < 0.1


MASK, MAPS = torch.ones(4, 6, dtype=torch.bool), torch.ones(3, 4, 6, dtype=torch.complex64)
REFUSED = [
    (lambda: MultiCoilMRI(MASK.float(), MAPS), TypeError, "^MultiCoilMRI: expected a bool mask"),
    (lambda: MultiCoilMRI(~MASK, MAPS), ValueError, "none of the 24 points"),
    (lambda: MultiCoilMRI(MASK[0], MAPS), ValueError, r"expected a mask of shape \(H, W\), got \(6,\)"),
    (
        lambda: MultiCoilMRI(MASK, MAPS.real),
        TypeError,
        r"expected complex sensitivities .*got torch\.float32; .*as_comp",
    ),
    (lambda: MultiCoilMRI(MASK, MAPS[0]), ValueError, r"of shape \(coils, 4, 6\) .*got \(4, 6\)"),
    (lambda: MultiCoilMRI(MASK, MAPS.mT), ValueError, r"of shape \(coils, 4, 6\) .*got \(3, 6, 4\)"),
    (lambda: MultiCoilMRI(MASK, MAPS[:0]), ValueError, r"got \(0, 4, 6\)"),
    (
        lambda: MultiCoilMRI(MASK, MAPS.to("meta")),
        ValueError,
        r"mask is on cpu but the sensitivities are on meta",
    ),
    (lambda: MultiCoilMRI(MASK, MAPS * torch.nan), ValueError, "72 of the 72 sensitivities are not finite"),
    (lambda: MultiCoilMRI(MASK, 0 * MAPS), ValueError, "zero everywhere"),
    (lambda: MultiCoilMRI(MASK, MAPS, (1, 4, 6)), ValueError, r"event_shape=\(2, 4, 6\), .*torch\.cat\("),
    (lambda: MultiCoilMRI(MASK, MAPS, (2, 6, 4)), ValueError, r"shape \(4, 6\), got \(2, 6, 4\)"),
    (lambda: MultiCoilMRI(MASK, MAPS, 4), TypeError, "expected event_shape to be a tuple"),
    (lambda: MultiCoilMRI(MASK, MAPS, dtype=torch.complex64), TypeError, "expected a real floating dtype"),
    (lambda: MultiCoilMRI(MASK, MAPS).select(MAPS[0]), ValueError, r"\(\*batch, 3, 4, 6\), got \(4, 6\)"),
    (lambda: MultiCoilMRI(MASK, MAPS).select(MAPS.real), TypeError, "expected k-space as a complex tensor"),
    (lambda: simulated_sensitivities(0, (4, 6), 0), ValueError, "expected coils >= 1, got 0"),
    (
        lambda: simulated_sensitivities(2, (2, 4, 6), 0),
        ValueError,
        r"expected shape=\(H, W\), got \(2, 4, 6\)",
    ),
    (lambda: simulated_sensitivities(2, (4, 6), None), TypeError, "expected seed to be a whole number"),
    (
        lambda: simulated_sensitivities(2, (4, 6), 0, 1.0),
        ValueError,
        r"wires outside the image, distance > 1\.4143",
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_single_precision_maps_serve_any_dtype():
    operator = MultiCoilMRI(MASK.numpy(), MAPS.numpy(), dtype=torch.float64)
    assert operator.sensitivities.dtype == torch.complex128
    assert operator.to(dtype=torch.float32).sensitivities.dtype == torch.complex64
    assert operator.adjoint(operator(normal(2, 4, 6))).shape == as_channels(MAPS[0]).shape
    assert "sensitivities=<3 coils>" in repr(operator)
