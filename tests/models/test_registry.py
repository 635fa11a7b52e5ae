import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bayes_ir.models.diffusion import DDPM, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.networks import Denoiser, UNet
from bayes_ir.models.priors import (
    GaussianMixturePrior,
    GaussianPrior,
    NetworkPrior,
    available_priors,
    load_prior,
    read_card,
    save_prior,
)

CARD = {"data": {"name": "noise"}, "licence": "CC0", "credit": "nobody", "measured": {"error": 0.5}}


def network_prior(diffusion=None, width=8):
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        network = UNet(1, width, 1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=rng)
    return NetworkPrior(
        Denoiser(network, 0.2, 0.3),
        diffusion or VarianceExploding(0.02, 40.0),
        (1, 4, 6),
        data_range=(0.0, 1.0),
        noise_range=(0.02, 40.0),
        mean=0.2,
        std=0.3,
        sample_steps=5,
        churn=1.5,
    )


def mixture_prior(dtype=torch.float32):
    rng = torch.Generator().manual_seed(1)
    factors = torch.randn(3, 12, 2, dtype=torch.float64, generator=rng)
    covariances = factors @ factors.mT + torch.tensor([0.1, 0.2, 0.3])[:, None, None] * torch.eye(12)
    means = torch.randn(3, 12, generator=rng)
    prior = GaussianMixturePrior(
        [0.2, 0.3, 0.5], means, covariances, event_shape=(1, 3, 4), data_range=(0.0, 1.0)
    )
    return prior.to(dtype=dtype)


@pytest.mark.parametrize(
    "diffusion", [VarianceExploding(0.02, 40.0), DDPM(500), VariancePreserving(), RectifiedFlow()], ids=repr
)
def test_a_network_comes_back_to_the_bit(tmp_path, diffusion):
    prior = network_prior(diffusion)
    card = save_prior(prior, tmp_path / "mine", CARD)
    assert card == tmp_path / "mine.json"
    loaded = load_prior(card)
    for name, tensor in prior.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    x_t = torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(2))
    t = 0.3 * diffusion.t_max
    assert torch.equal(loaded.denoise(x_t, t), prior.denoise(x_t, t))
    assert loaded.diffusion == diffusion
    for name in ("event_shape", "data_range", "noise_range", "sample_steps", "churn"):
        assert getattr(loaded, name) == getattr(prior, name), name
    assert torch.equal(loaded.mean, prior.mean)
    assert torch.equal(loaded.variance, prior.variance)


def test_a_mixture_comes_back_from_its_factors(tmp_path):
    prior = mixture_prior(torch.float64)
    loaded = load_prior(save_prior(prior, tmp_path / "mix", CARD))
    assert load_file(tmp_path / "mix.safetensors")["factors"].shape == (3, 12, 2)
    torch.testing.assert_close(loaded.weights, prior.weights)
    torch.testing.assert_close(loaded.components.means, prior.components.means)
    torch.testing.assert_close(
        loaded.components.covariance_matrix, prior.components.covariance_matrix, rtol=1e-9, atol=1e-9
    )
    assert loaded.dtype == torch.float64
    assert loaded.data_range == (0.0, 1.0)
    assert loaded.noise_range == prior.noise_range
    assert loaded.diffusion == prior.diffusion


def test_a_gaussian_of_full_rank_comes_back(tmp_path):
    prior = GaussianPrior(torch.zeros(3), torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    loaded = load_prior(save_prior(prior, tmp_path / "gauss", {}))
    torch.testing.assert_close(
        loaded.components.covariance_matrix.float(), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    )


def test_names_paths_types_and_devices(tmp_path):
    save_prior(mixture_prior(), tmp_path / "a.b", CARD)
    for name in ("a.b", "a.b.json", "a.b.safetensors"):
        assert load_prior(tmp_path / name).event_shape == (1, 3, 4)
        assert load_prior(str(tmp_path / name)).dtype == torch.float32
    assert load_prior(tmp_path / "a.b", device="cpu", dtype=torch.float64).sample().dtype == torch.float64


def test_the_card_says_what_the_prior_is(tmp_path):
    save_prior(network_prior(), tmp_path / "mine", CARD)
    card = read_card(tmp_path / "mine.json")
    assert card["kind"] == "network"
    assert card["architecture"]["width"] == 8
    assert card["diffusion"] == {"name": "VarianceExploding", "noise_min": 0.02, "noise_max": 40.0}
    assert card["event_shape"] == [1, 4, 6]
    assert {key: card[key] for key in CARD} == CARD


def test_loading_leaves_the_global_generator_alone(tmp_path):
    save_prior(network_prior(), tmp_path / "mine", CARD)
    before = torch.get_rng_state()
    load_prior(tmp_path / "mine")
    assert torch.equal(torch.get_rng_state(), before)


def test_shipped_mixture():
    assert "mnist-gmm" in available_priors()
    prior = load_prior("mnist-gmm")
    assert prior.event_shape == (1, 14, 14)
    assert prior.data_range == (0.0, 1.0)
    assert len(prior.weights) == 20
    card = read_card("mnist-gmm")
    assert card["measured"]["test_log_likelihood"] > card["measured"]["test_log_likelihood_of_one_component"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = prior.sample((200,))
    # E log p(x) is what EM maximised on the training digits: draws of the model score about as well.
    assert abs(float(prior.log_prob(draws).mean()) - card["measured"]["train_log_likelihood"]) < 20


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ValueError, match=r"did you mean 'mnist-gmm'\? Available: .*mnist-gmm"):
        load_prior("mnist-gmn")
    with pytest.raises(ValueError, match=r"no prior is called 'zebra'; Available: .*path of a card"):
        load_prior("zebra")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the card .*gone\.json is missing"):
        load_prior(tmp_path / "gone.json")
    save_prior(mixture_prior(), tmp_path / "mix", CARD)
    (tmp_path / "mix.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"the weights .*mix\.safetensors is missing"):
        load_prior(tmp_path / "mix.json")


def change_card(path, **changes):
    card = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in {**card, **changes}.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "card format 2, this version reads up to 1; install a newer"),
        ({"format": None}, "not a card of a prior"),
        ({"kind": "normalising-flow"}, "kind 'normalising-flow'; expected"),
        ({"noise_range": None, "diffusion": None}, r"lacks \['diffusion', 'noise_range'\]"),
        ({"diffusion": {"name": "Cosine"}}, "diffusion 'Cosine'; expected"),
        ({"diffusion": {"name": "DDPM", "beta": 1.0}}, "parameters it does not have"),
        ({"architecture": {"name": "Transformer"}}, "architecture 'Transformer'"),
        ({"architecture": {"name": "UNet", "width": 8}}, "does not describe a UNet"),
        ({"weights_sha256": "0" * 64}, "damaged or belongs to another card"),
    ],
)
def test_cards_that_cannot_be_read_are_refused(tmp_path, changes, words):
    card = save_prior(network_prior(), tmp_path / "mine", CARD)
    change_card(card, **changes)
    with pytest.raises(ValueError, match=words):
        load_prior(card)


def test_a_card_that_is_not_json_is_refused(tmp_path):
    card = save_prior(network_prior(), tmp_path / "mine", CARD)
    card.write_text(card.read_text()[:-20])
    with pytest.raises(ValueError, match="is not JSON"):
        load_prior(card)
    card.write_text("[1]")
    with pytest.raises(ValueError, match="not a card"):
        load_prior(card)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def replace_by_text(path):
    path.write_bytes(b"PK\x03\x04 a pickle perhaps")


def rename_tensor(path):
    tensors = load_file(path)
    tensors["enter.wait"] = tensors.pop("enter.weight")
    save_file(tensors, path)


def reshape_tensor(path):
    tensors = load_file(path)
    tensors["enter.bias"] = tensors["enter.bias"][:4].contiguous()
    save_file(tensors, path)


def poison(path):
    tensors = load_file(path)
    tensors["enter.bias"][0] = math.nan
    save_file(tensors, path)


def nudge(path):
    tensors = load_file(path)
    tensors["enter.bias"][0] += 1.0
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "truncated, or of another format"),
        (replace_by_text, "not a whole safetensors file"),
        (rename_tensor, r"enter\.wait: got .*expected none"),
        (reshape_tensor, r"enter\.bias: got \(4,\), expected \(8,\)"),
        (poison, "'enter.bias' .* not finite"),
        (nudge, "SHA-256"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, damage, words):
    card = save_prior(network_prior(), tmp_path / "mine", CARD)
    damage(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=words):
        load_prior(card)


def test_mixtures_of_other_shapes_are_refused(tmp_path):
    card = save_prior(mixture_prior(), tmp_path / "mix", CARD)
    change_card(card, event_shape=[1, 4, 4])
    with pytest.raises(ValueError, match=r"means: got \(3, 12\), expected \(3, 16\)"):
        load_prior(card)


def test_priors_that_cannot_be_stored_are_refused(tmp_path):
    own = NetworkPrior(nn.Identity(), VarianceExploding(), (2,))
    with pytest.raises(TypeError, match=r"around bayes_ir\.models\.networks\.Denoiser"):
        save_prior(own, tmp_path / "own", CARD)
    with pytest.raises(ValueError, match=r"sets \['event_shape', 'kind'\]"):
        save_prior(mixture_prior(), tmp_path / "mix", {"kind": "mine", "event_shape": [2]})
    assert list(tmp_path.iterdir()) == []
