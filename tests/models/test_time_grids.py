import pytest
import torch

from bayes_ir.models.diffusion import DDPM, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.time_grids import ddim_grid, geometric_grid, karras_grid, quadratic_grid, uniform_grid

GRIDS = [uniform_grid, quadratic_grid, geometric_grid, karras_grid]
FINITE = [VarianceExploding(0.01, 50.0), VariancePreserving(), DDPM()]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: g.__name__)
@pytest.mark.parametrize("process", FINITE, ids=repr)
@pytest.mark.parametrize("steps", [2, 17])
def test_grids_descend_from_end_to_end(grid, process, steps):
    times = grid(process, steps)
    assert times.dtype == torch.float64
    assert times.shape == (steps,)
    assert (times.diff() < 0).all()
    assert float(times[0]) == process.t_max
    assert float(times[-1]) == process.t_min


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: g.__name__)
@pytest.mark.parametrize("process", [*FINITE, RectifiedFlow()], ids=repr)
def test_noise_range_bounds_the_grid_within_the_process(grid, process):
    ratios = process.ratio(grid(process, 9, noise_range=(0.05, 7.0)))
    torch.testing.assert_close(ratios[[0, -1]], torch.tensor([7.0, 0.05], dtype=torch.float64))
    wide = grid(process, 9, noise_range=(1e-9, 1e9))
    assert float(wide[-1]) == process.t_min
    assert float(wide[0]) <= process.t_max


def test_spacings_are_those_of_the_formulae():
    process = VarianceExploding(0.01, 50.0)
    t = uniform_grid(process, 11)
    torch.testing.assert_close(t.diff(), torch.full((10,), -0.1, dtype=torch.float64))
    ddpm = DDPM()
    roots = quadratic_grid(ddpm, 11).sqrt().diff()
    torch.testing.assert_close(roots, roots[:1].expand(10))
    ratios = ddpm.ratio(geometric_grid(ddpm, 11)).log().diff()
    torch.testing.assert_close(ratios, ratios[:1].expand(10))
    for rho in (1.0, 7.0):
        powers = (ddpm.ratio(karras_grid(ddpm, 11, rho=rho)) ** (1 / rho)).diff()
        torch.testing.assert_close(powers, powers[:1].expand(10))


def test_karras_grid_agrees_with_the_paper():
    # Karras et al. 2022, table 1: sigma_min = 0.002, sigma_max = 80, rho = 7, N = 18 (first, second, last).
    sigma = VarianceExploding(0.002, 80.0).ratio(karras_grid(VarianceExploding(0.002, 80.0), 18))
    i = torch.arange(18, dtype=torch.float64)
    paper = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma, paper)
    assert float(sigma[1]) == pytest.approx(57.586, abs=1e-3)


def test_published_ddim_steps_start_below_the_end():
    assert ddim_grid(DDPM(), 20)[[0, 1, -1]].tolist() == [951.0, 901.0, 1.0]
    assert ddim_grid(DDPM(), 50)[0] == 981.0
    assert ddim_grid(DDPM(), 1000).tolist() == list(range(1000, 0, -1))
    # 1000 // 300 = 3: the published range(0, 1000, 3) has 334 members.
    assert len(ddim_grid(DDPM(), 300)) == 334


def test_ddim_steps_with_both_ends():
    times = ddim_grid(DDPM(), 20, both_ends=True)
    assert times[[0, -1]].tolist() == [1000.0, 1.0]
    assert len(times) == 20
    assert set((-times.diff()).tolist()) == {52.0, 53.0}


def test_ddim_steps_outside_the_noise_range_are_left_out():
    ratio = DDPM().ratio(ddim_grid(DDPM(), 100, noise_range=(0.1, 50.0)))
    assert 0.1 <= float(ratio.min()) < 0.12
    assert 40 < float(ratio.max()) <= 50


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: uniform_grid(DDPM(), 1), ValueError, "at least 2 times"),
        (lambda: karras_grid(DDPM(), 5, rho=0.0), ValueError, "rho must be positive"),
        (lambda: geometric_grid(RectifiedFlow(), 5), ValueError, "give noise_range"),
        (lambda: karras_grid(RectifiedFlow(), 5), ValueError, "infinite"),
        (lambda: uniform_grid(DDPM(), 5, noise_range=(1e5, 1e6)), ValueError, "none of them within"),
        (lambda: uniform_grid(DDPM(), 5, noise_range=(2.0, 1.0)), ValueError, "0 < low < high"),
        (lambda: ddim_grid(VariancePreserving(), 5), TypeError, "uniform_grid"),
        (lambda: ddim_grid(DDPM(), 1001), ValueError, "1 to 1000 steps"),
        (lambda: ddim_grid(DDPM(), 1, both_ends=True), ValueError, "2 to 1000 steps"),
        (lambda: ddim_grid(DDPM(), 5, noise_range=(1e5, 1e6)), ValueError, "none of the 5 steps"),
    ],
)
def test_impossible_grids_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
