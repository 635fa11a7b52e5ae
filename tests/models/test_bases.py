import numpy as np
import pytest
import scipy.fft
import torch

from bayes_ir.models.priors import DCTBasis, PCABasis, PixelBasis, principal_components


def images(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def columns(n, rank):
    return torch.linalg.qr(images(n, rank))[0]


BASES = {
    "pixels": PixelBasis((2, 5, 6)),
    "cosines": DCTBasis((2, 5, 6)),
    "cosines of a vector": DCTBasis((7,)),
    "cosines of a grey image": DCTBasis((4, 3)),
    "components": PCABasis(columns(60, 60), (2, 5, 6)),
    "some components": PCABasis(columns(60, 9), (2, 5, 6)),
    "components of vectors": PCABasis(columns(8, 3)),
}


@pytest.mark.parametrize(("shape", "axes"), [((2, 5, 6), (-2, -1)), ((4, 3), (-2, -1)), ((7,), (-1,))])
def test_cosines_are_those_of_scipy(shape, axes):
    x = images(2, 3, *shape)
    c = scipy.fft.dctn(x.numpy(), type=2, norm="ortho", axes=axes)
    np.testing.assert_allclose(DCTBasis(shape).analyse(x).numpy(), c.reshape(2, 3, -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("basis", BASES.values(), ids=BASES)
def test_synthesis_is_the_transpose_of_analysis_and_inverts_it_on_the_span(basis):
    x, c = images(2, 3, *basis.event_shape), images(2, 3, basis.rank)
    assert basis.analyse(x).shape == c.shape
    assert basis.synthesise(c).shape == x.shape
    torch.testing.assert_close(basis.analyse(basis.synthesise(c)), c)
    inner = (basis.synthesise(c) * x).sum()
    torch.testing.assert_close(inner, (basis.analyse(x) * c).sum())
    projected = basis.synthesise(basis.analyse(x))
    assert basis.complete == (basis.rank == basis.event_shape.numel())
    assert torch.allclose(projected, x) == basis.complete


@pytest.mark.parametrize("basis", BASES.values(), ids=BASES)
def test_both_ways_differentiate(basis):
    x = images(2, *basis.event_shape).requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * basis.analyse(x).square().sum(), x)
    torch.testing.assert_close(gradient, basis.synthesise(basis.analyse(x)).detach())
    c = images(2, basis.rank).requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * basis.synthesise(c).square().sum(), c)
    torch.testing.assert_close(gradient, c.detach())


@pytest.mark.parametrize("basis", BASES.values(), ids=BASES)
def test_the_type_is_that_of_the_image(basis):
    for moved in (basis, basis.to("cpu", torch.float32)):
        c = moved.analyse(images(*basis.event_shape, dtype=torch.float32))
        assert c.dtype == moved.synthesise(c).dtype == torch.float32
    assert moved.event_shape == basis.event_shape
    assert moved.rank == basis.rank
    if isinstance(basis, PCABasis):
        assert (basis.components.dtype, moved.components.dtype) == (torch.float64, torch.float32)


@pytest.mark.parametrize(("n", "rank"), [(50, 4), (50, None), (6, None), (6, 3)])
def test_principal_components_are_the_leading_eigenvectors(n, rank):
    x = images(n, 2, 3, 2) * torch.linspace(1, 3, 12, dtype=torch.float64).reshape(2, 3, 2)
    q = principal_components(x, rank)
    values, vectors = np.linalg.eigh(np.cov(x.flatten(1).numpy().T))
    expected = min(12, n - 1) if rank is None else rank
    assert q.shape == (12, expected)
    overlap = np.abs(np.sum(q.numpy() * vectors[:, ::-1][:, :expected], axis=0))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-8)
    assert values[-1] > 1.2 * values[-2]  # the check above means something


@pytest.mark.parametrize(
    ("components", "shape", "words"),
    [
        (torch.eye(4)[:, :2], (5,), r"shape \(4, 2\) for images \(5,\)"),
        (torch.eye(4)[:2], None, r"expected \(2, R\) with 1 <= R <= 2"),
        (torch.zeros(4, 0), None, "1 <= R"),
        (torch.zeros(4), None, "one component per column"),
        (2 * torch.eye(4), None, r"not orthonormal .*torch\.linalg\.qr"),
        (torch.full((4, 1), torch.nan), None, "not orthonormal"),
    ],
)
def test_components_that_are_no_basis_are_refused(components, shape, words):
    with pytest.raises(ValueError, match=words):
        PCABasis(components, shape)
