"""Networks, schedulers and pipelines of diffusers: the same numbers on both sides."""

from __future__ import annotations

import json

import pytest
import torch

import sdekit as sk
from sdekit.compat.diffusers import from_diffusers, load_pipeline
from sdekit.sample import sample

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = diffusers.UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
    return net.eval().requires_grad_(False)


def images(n=3):
    return torch.sin(torch.arange(float(n * 64)) * 0.7).view(n, 1, 8, 8)


class Optimal(torch.nn.Module):
    """What a network of this prediction type returns for data N(m, s^2), at levels from 0."""

    def __init__(self, chain, kind, m=0.3, s=0.6):
        super().__init__()
        self.chain, self.kind, self.m, self.s = chain, kind, m, s

    def forward(self, x, k):
        a, sig = (v.view(-1, 1, 1, 1).to(x) for v in self.chain.coefficients(k.round().long() + 1))
        x0 = self.m + a * self.s**2 / (a.square() * self.s**2 + sig.square()) * (x - a * self.m)
        eps = (x - a * x0) / sig
        return {"epsilon": eps, "sample": x0, "v_prediction": a * eps - sig * x0}[self.kind]


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_the_score_of_each_parameterization(kind, schedule):
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=100, beta_schedule=schedule, beta_end=0.1, prediction_type=kind
    )
    sde, score = from_diffusers(torch.nn.Identity(), scheduler)
    chain = score.kind.chain
    torch.testing.assert_close(chain.betas.float(), scheduler.betas, rtol=1e-4, atol=1e-6)
    score = from_diffusers(Optimal(chain, kind), scheduler)[1]
    exact = sk.score.Gaussian(0.3, 0.6, sde)
    x = images().double()
    for k in (1, 37, 99):
        t = chain.time(k)
        torch.testing.assert_close(score(t, x), exact(t, x), rtol=1e-6, atol=1e-6)
        rows = chain.time(torch.tensor([k, 1, 50])).float()
        torch.testing.assert_close(
            score(rows, x.float()), exact(rows, x.float()), rtol=2e-3, atol=2e-3
        )


def test_edm_and_ve_networks():
    """A denoiser whose raw output is 0 is c_skip x; a VE network is the score at sigma(t)."""
    zero = lambda x, k: torch.zeros_like(x)  # noqa: E731

    class Net(torch.nn.Module):
        def __init__(self, f):
            super().__init__()
            self.f = f

        def forward(self, x, k):
            return self.f(x, k)

    sde, score = from_diffusers(Net(zero), diffusers.EDMEulerScheduler(sigma_data=0.7))
    x = images().double()
    t = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)
    # c_skip x is the optimal denoiser of N(0, sigma_data^2).
    torch.testing.assert_close(score(t, x), sk.score.Gaussian(0.0, 0.7, sde)(t, x))
    seen = []
    ve = Net(lambda x, k: (seen.append(k), -x)[1])
    sde, score = from_diffusers(ve, diffusers.ScoreSdeVeScheduler(sigma_max=50.0))
    assert torch.equal(score(torch.tensor(0.5), images()), -images())
    assert seen[0].tolist() == pytest.approx([(0.01 * 50.0) ** 0.5] * 3)


def run_theirs(scheduler, model, x, steps):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t.view(1)), t, x).prev_sample
    return x


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_steps_are_theirs(kind, steps):
    """Deterministic DDIM on a subset of levels, in our loop and in our scheduler: their numbers."""
    settings = {"num_train_timesteps": 100, "beta_end": 0.1, "prediction_type": kind}
    theirs = diffusers.DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=True)
    chain = sk.DDPM.linear(100, 1e-4, 0.1)
    model = Optimal(chain, kind)
    want = run_theirs(theirs, model, images(), steps)
    sde, score = from_diffusers(model, theirs)
    ratio = 100 // steps
    levels = torch.cat([torch.arange(steps - 1, -1, -1) * ratio + 1, torch.tensor([0])])
    mine = sample(
        sde,
        score,
        (3, 1, 8, 8),
        times=chain.time(levels),
        x_init=images(),
        predictor="ddim",
        eta=0.0,
    )
    torch.testing.assert_close(mine, want, rtol=1e-4, atol=1e-4)
    from sdekit.compat.diffusers import SdekitScheduler

    ours = SdekitScheduler(**settings, clip_sample=False, predictor="ddim", eta=0.0)
    torch.testing.assert_close(run_theirs(ours, model, images(), steps), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_steps_are_theirs_given_the_same_noise(variance, clip, monkeypatch):
    import sdekit_kernels
    from diffusers.schedulers import scheduling_ddpm

    from sdekit.compat.diffusers import SdekitScheduler
    from sdekit.noise import keys

    settings = {"num_train_timesteps": 50, "beta_end": 0.2, "clip_sample": clip}
    theirs = diffusers.DDPMScheduler(**settings, variance_type=variance)
    ours = SdekitScheduler(**settings, predictor="ddpm", variance=variance, seed=5)
    count = iter(range(1000))
    monkeypatch.setattr(
        scheduling_ddpm,
        "randn_tensor",
        lambda shape, **_: sdekit_kernels.normal(
            tuple(shape), seed=5, stream=keys.PATH, step=next(count)
        ),
    )
    model = Optimal(ours.chain, "epsilon", m=0.8)
    want = run_theirs(theirs, model, 2.0 * images(), 25)
    got = run_theirs(ours, model, 2.0 * images(), 25)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_an_unchanged_pipeline_uses_our_scheduler(unet, tmp_path):
    from sdekit.compat.diffusers import SdekitScheduler

    pipeline = diffusers.DDPMPipeline(unet, SdekitScheduler(num_train_timesteps=100))
    pipeline.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(k) for k in (3, 4, 5)]
    whole = pipeline(3, generator=seeds, num_inference_steps=5, output_type="np").images
    again = [torch.Generator().manual_seed(4)]
    alone = pipeline(1, generator=again, num_inference_steps=5, output_type="np").images
    assert whole.shape == (3, 8, 8, 1)
    # Each image depends on its own generator; a batch of one rounds convolutions differently.
    assert abs(whole[1] - alone[0]).max() < 1e-5
    assert abs(whole[1] - whole[0]).max() > 0.05
    pipeline.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert config["predictor"] == "ddpm"
    taken = SdekitScheduler.from_config(diffusers.DDIMScheduler(beta_end=0.05).config)
    assert float(taken.chain.betas[-1]) == pytest.approx(0.05)


def test_a_pipeline_folder_in_one_call(unet, tmp_path):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_end=0.1)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path)
    sde, score = load_pipeline(tmp_path)
    assert score.event_shape == (1, 8, 8)
    t = score.kind.chain.time(50).float()
    eps = unet(images(), torch.tensor(49)).sample
    std = sde.std(t)
    torch.testing.assert_close(score(t, images()), -eps / std, rtol=1e-5, atol=1e-5)
    x = sk.sample(sde, score, (2, 1, 8, 8), times=score.kind.chain.times[::20], predictor="ddpm")
    assert x.shape == (2, 1, 8, 8) and bool(x.isfinite().all())
    ll = sk.log_likelihood(sde, score, x.clamp(-1, 1), divergence="hutchinson", n_probes=1)
    assert bool(ll.log_prob.isfinite().all())


def test_a_transformer_with_labels(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=1,
            out_channels=2,
            num_layers=1,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=10,
        ).eval()
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100)
    with pytest.raises(ValueError, match="class labels"):
        from_diffusers(net, scheduler)
    sde, score = from_diffusers(net, scheduler, labels=[1, 2, 3])
    t = score.kind.chain.time(30).float()
    with torch.no_grad():
        own = net(images(), torch.full((3,), 29), class_labels=torch.tensor([1, 2, 3])).sample
        s = score(t, images())
    torch.testing.assert_close(s, -own[:, :1] / sde.std(t), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="3 labels for 2 samples"):
        score(t, images(2))


def test_clipping_holds_the_estimate(unet):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, clip_sample_range=0.5)
    sde, score = from_diffusers(
        Optimal(sk.DDPM.linear(100), "epsilon", m=2.0), scheduler, clip=True
    )
    t = score.kind.chain.time(60)
    x0 = sde.tweedie(t, images().double(), score(t, images().double()))
    assert float(x0.abs().max()) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"prediction_type": "flow_prediction", "beta_schedule": "linear"}, "flow_prediction"),
        ({"_class_name": "FlowMatchEuler", "shift": 3.0}, "FlowMatchEuler"),
        ({"beta_schedule": "laplace"}, "laplace"),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": True}, "no signal"),
        (
            {"sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.1, "prediction_type": "sample"},
            "v",
        ),
    ],
)
def test_unknown_configurations_are_named(config, says):
    with pytest.raises(ValueError, match=says):
        from_diffusers(torch.nn.Identity(), config)


def test_bad_input(unet, tmp_path):
    class Wide(torch.nn.Module):
        def forward(self, x, k):
            return x.repeat(1, 3, 1, 1)

    scheduler = diffusers.DDPMScheduler()
    score = from_diffusers(Wide(), scheduler)[1]
    with pytest.raises(ValueError, match="the network Wide returned"):
        score(torch.tensor(0.5), images())
    with pytest.raises(TypeError, match="torch module"):
        from_diffusers(lambda x, k: x, scheduler)
    with pytest.raises(TypeError, match="configuration"):
        from_diffusers(unet, 7)
    with pytest.raises(FileNotFoundError, match="model_index"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="neither"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("[")
    with pytest.raises(ValueError, match="no index"):
        load_pipeline(tmp_path)
    from sdekit.compat.diffusers import SdekitScheduler

    with pytest.raises(ValueError, match="belongs to"):
        SdekitScheduler(predictor="ddim", variance="fixed_large")
    ours = SdekitScheduler()
    ours.set_timesteps(10)
    with pytest.raises(ValueError, match="not among"):
        ours.step(images(), 13, images())
    with pytest.raises(ValueError, match="either"):
        ours.set_timesteps()
