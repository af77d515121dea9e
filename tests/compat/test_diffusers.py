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
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "epsilon or v are"),
        ({"sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.1}, "scheduler itself"),
        ({"beta_schedule": "linear", "timestep_type": "continuous"}, "timestep_type='continuous'"),
        ({"beta_schedule": "linear", "use_flow_sigmas": True}, "flow matching"),
        ({"beta_schedule": "linear", "timestep_scaling": 10.0}, "consistency model"),
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


def run_ours(scheduler, model, x, **given):
    scheduler.set_timesteps(25)
    for k in scheduler.timesteps:
        x = scheduler.step(model(x, k.view(1)), k, x, **given).prev_sample
    return x


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("of", ["none", "one", "list"])
def test_two_runs_are_two_draws(of):
    from sdekit.compat.diffusers import SdekitScheduler

    n = 16
    fresh = {
        "none": lambda: None,
        "one": lambda: torch.Generator().manual_seed(3),
        "list": lambda: [torch.Generator().manual_seed(k) for k in range(n)],
    }[of]

    def make():
        return SdekitScheduler(num_train_timesteps=50, beta_end=0.2, clip_sample=False)

    ours, generator = make(), fresh()
    model, x = Optimal(ours.chain, "epsilon"), images(n)
    first, second, third = (run_ours(ours, model, x, generator=generator) for _ in range(3))
    # 1024 independent pixels: a standard error of 1 / 32. The state at the start is the same one,
    # of which 0.6 * 0.08 is left in the result, a correlation of 0.002.
    for a, b in [(first, second), (first, third), (second, third)]:
        assert abs(correlation(a, b)) < 4 / 32
    # The same generator made anew gives the same images, whatever the batch.
    ours, generator = make(), fresh()
    few = generator[:2] if of == "list" else generator
    assert torch.equal(run_ours(ours, model, x[:2], generator=few), first[:2])
    if of != "none":
        # Whatever was drawn before.
        assert torch.equal(run_ours(ours, model, x, generator=fresh()), first)


def test_a_seed_is_drawn_once_a_run_from_the_generator():
    from sdekit.compat.diffusers import SdekitScheduler

    ours = SdekitScheduler(num_train_timesteps=50)
    ours.set_timesteps(5)
    g = torch.Generator().manual_seed(1)
    before, seen = g.get_state(), []
    for k in ours.timesteps:
        ours.step(images(), k, images(), generator=g)
        seen.append(g.get_state())
    assert not torch.equal(before, seen[0])
    assert all(torch.equal(s, seen[0]) for s in seen)
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        ours.step(images(), ours.timesteps[0], images(), generator=[g, g])
    with pytest.raises(TypeError, match=r"must be a torch.Generator, got int"):
        ours.step(images(), ours.timesteps[0], images(), generator=5)


def test_a_pipeline_draws_other_images_with_each_call(unet):
    from sdekit.compat.diffusers import SdekitScheduler

    pipeline = diffusers.DDPMPipeline(unet, SdekitScheduler(num_train_timesteps=100))
    pipeline.set_progress_bar_config(disable=True)

    def draw(g):
        return pipeline(8, generator=g, num_inference_steps=5, output_type="pt").images

    g = torch.Generator().manual_seed(3)
    first, second = draw(g), draw(g)
    # 512 pixels, a standard error of 0.044; neighbours share a little by the network.
    assert abs(correlation(first, second)) < 0.3
    assert torch.equal(draw(torch.Generator().manual_seed(3)), first)


def test_a_ddim_pipeline_with_our_scheduler(unet):
    from sdekit.compat.diffusers import SdekitScheduler

    theirs = diffusers.DDIMScheduler(num_train_timesteps=100, clip_sample=False)
    pipeline = diffusers.DDIMPipeline(unet, theirs)
    pipeline.set_progress_bar_config(disable=True)

    def draw(**given):
        g = torch.Generator().manual_seed(3)
        return pipeline(2, generator=g, num_inference_steps=5, output_type="pt", **given).images

    want = draw()
    # Their constructor makes a DDIMScheduler of any: ours is put in after it.
    ours = SdekitScheduler.from_config(theirs.config, predictor="ddim")
    assert not isinstance(diffusers.DDIMPipeline(unet, ours).scheduler, SdekitScheduler)
    pipeline.scheduler = ours
    torch.testing.assert_close(draw(), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draw(use_clipped_model_output=False), want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"eta=0.5 was asked for.*predictor='ddim', eta=0.5"):
        draw(eta=0.5)
    pipeline.scheduler = SdekitScheduler.from_config(theirs.config, predictor="ddim", eta=0.5)
    assert torch.equal(draw(eta=0.5), draw()) and not torch.equal(draw(), want)
    pipeline.scheduler = SdekitScheduler(predictor="ddim", clip_sample=True)
    with pytest.raises(ValueError, match="use_clipped_model_output=False was asked for"):
        draw(use_clipped_model_output=False)


CHAINS = [
    *("CogVideoXDDIM", "CogVideoXDPM", "DDIM", "DDIMInverse", "DDIMParallel", "DDPM"),
    *("DDPMParallel", "DEISMultistep", "DPMSolverMultistep", "DPMSolverMultistepInverse"),
    *("DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete"),
    *("HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LMSDiscrete", "PNDM"),
    *("RePaint", "SASolver", "UnCLIP", "UniPCMultistep"),
]
READ = {
    **dict.fromkeys(CHAINS, "chain"),
    **dict.fromkeys(["EDMEuler", "EDMDPMSolverMultistep"], "edm"),
    "ScoreSdeVe": "score_ve",
}


def made_schedulers():
    """Those of diffusers that can be made without arguments, by name."""
    import diffusers.schedulers as module

    for name in sorted(n for n in dir(module) if n.endswith("Scheduler")):
        try:
            yield name.removesuffix("Scheduler"), getattr(module, name)()
        except (TypeError, ImportError, AttributeError):
            continue


def test_each_scheduler_of_diffusers_is_read_rightly_or_refused_by_name():
    seen = set()
    for name, scheduler in made_schedulers():
        seen.add(name)
        if name not in READ:
            with pytest.raises((ValueError, TypeError), match=f"{name}Scheduler"):
                from_diffusers(torch.nn.Identity(), scheduler)
            continue
        kind = from_diffusers(torch.nn.Identity(), scheduler)[1].kind
        assert kind.family == READ[name], name
        if kind.family == "chain":
            alpha, std = kind.chain.coefficients(torch.arange(1, kind.chain.steps + 1))
            want = scheduler.alphas_cumprod.double()
            # Theirs is a float32 product of 1000 factors.
            torch.testing.assert_close(alpha.square(), want, rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(std.square(), 1.0 - want, rtol=1e-3, atol=1e-6)
    assert seen >= set(READ) and {"CosineDPMSolverMultistep", "CMStochasticIterative"} <= seen


@pytest.mark.parametrize("name", ["EDMEuler", "EDMDPMSolverMultistep"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_edm_networks_see_the_inputs_and_times_of_their_scheduler(name, kind):
    class Net(torch.nn.Module):
        def forward(self, x, k):
            return torch.sin(2 * x + k.view(-1, 1, 1, 1).to(x))

    scheduler = getattr(diffusers, f"{name}Scheduler")(prediction_type=kind)
    scheduler.set_timesteps(15)
    sigma = scheduler.sigmas[3]
    x = images() * sigma
    raw = Net()(scheduler.precondition_inputs(x, sigma), scheduler.timesteps[3].expand(3))
    want = scheduler.precondition_outputs(x, raw, sigma)
    score = from_diffusers(Net(), scheduler)[1]
    torch.testing.assert_close(x + sigma**2 * score(sigma, x), want, rtol=1e-4, atol=1e-3)


def test_a_configuration_keeps_its_meaning_or_is_refused():
    from sdekit.compat.diffusers import SdekitScheduler

    take = SdekitScheduler.from_config
    for kind, variance in [("fixed_small_log", "fixed_small"), ("fixed_large", "fixed_large")]:
        ours = take(diffusers.DDPMScheduler(variance_type=kind).config)
        want = SdekitScheduler(variance=variance)
        assert all(torch.equal(a, b) for a, b in zip(ours._rows[7], want._rows[7], strict=True))
    assert not torch.equal(want._rows[7][2], SdekitScheduler()._rows[7][2])
    for config, says in [
        (diffusers.DDPMScheduler(variance_type="learned_range").config, "ddpm_learned"),
        (diffusers.DDPMScheduler(variance_type="learned").config, "variance_type='learned'"),
        (diffusers.DDPMScheduler(variance_type="fixed_large_log").config, "fixed_large_log"),
        (diffusers.DDPMScheduler(thresholding=True).config, "thresholding=True"),
        (diffusers.EDMEulerScheduler().config, "no betas"),
        (diffusers.LCMScheduler().config, "LCM"),
        (diffusers.EulerDiscreteScheduler(timestep_type="continuous").config, "continuous"),
    ]:
        with pytest.raises(ValueError, match=says):
            take(config)
    # What the user says counts.
    learned = diffusers.DDPMScheduler(variance_type="learned_range").config
    assert take(learned, variance="fixed_small").chain.steps == 1000
    assert take(learned, predictor="ddim").chain.steps == 1000
    # Their defaults are not replaced by ours.
    assert take(diffusers.PNDMScheduler().config).config["set_alpha_to_one"] is False
    assert float(take(diffusers.HeunDiscreteScheduler().config).chain.betas[0]) == 0.00085
    moved = take(diffusers.CogVideoXDDIMScheduler().config).chain
    want = diffusers.CogVideoXDDIMScheduler().alphas_cumprod.double()
    torch.testing.assert_close((1.0 - moved.betas).cumprod(0), want, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_last_step_ends_where_theirs_does(spacing):
    from sdekit.compat.diffusers import SdekitScheduler

    settings = {"num_train_timesteps": 100, "beta_start": 0.02, "beta_end": 0.1}
    settings |= {"clip_sample": False, "timestep_spacing": spacing}
    ends = {}
    for to_one in (True, False):
        theirs = diffusers.DDIMScheduler(
            **settings, set_alpha_to_one=to_one, steps_offset=int(spacing == "leading")
        )
        ours = SdekitScheduler.from_config(theirs.config, predictor="ddim")
        model = Optimal(ours.chain, "epsilon")
        want = run_theirs(theirs, model, images(), 10)
        ends[to_one] = run_theirs(ours, model, images(), 10)
        torch.testing.assert_close(ends[to_one], want, rtol=1e-4, atol=1e-4)
    assert float((ends[True] - ends[False]).abs().max()) > 1e-3


class Learned(torch.nn.Module):
    """A network of two channels for one: what it predicts, and 2 v - 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, k):
        return torch.cat([self.model(x, k), torch.sin(3.0 * x)], 1)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_learned_variance_is_theirs_given_the_same_noise(kind, monkeypatch):
    import sdekit_kernels
    from diffusers.schedulers import scheduling_ddpm

    from sdekit.noise import keys
    from sdekit.sample import ddpm_learned

    settings = {"num_train_timesteps": 50, "beta_end": 0.2, "prediction_type": kind}
    theirs = diffusers.DDPMScheduler(**settings, clip_sample=False, variance_type="learned_range")
    count = iter(range(1000))
    monkeypatch.setattr(
        scheduling_ddpm,
        "randn_tensor",
        lambda shape, **_: sdekit_kernels.normal(
            tuple(shape), seed=5, stream=keys.PATH, step=next(count)
        ),
    )
    model = Learned(Optimal(sk.DDPM.linear(50, 1e-4, 0.2), kind))
    want = run_theirs(theirs, model, images(), 25)
    sde, score = from_diffusers(model, theirs)
    levels = torch.cat([torch.arange(48, -1, -2) + 1, torch.tensor([0])])
    times = score.kind.chain.time(levels)
    t = times[3].float()
    eps, v = score.eps_and_variance(t, images())
    torch.testing.assert_close(v, 0.5 + 0.5 * torch.sin(3.0 * images()))
    torch.testing.assert_close(eps, -sde.std(t) * score(t, images()))
    got = ddpm_learned(
        sde, score.eps_and_variance, (3, 1, 8, 8), times=times, x_init=images(), seed=5
    )
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_variance_that_is_not_learned_is_refused(unet):
    from sdekit.compat.diffusers import SdekitScheduler

    t = torch.tensor(0.5)
    score = from_diffusers(unet, diffusers.DDIMScheduler())[1]
    with pytest.raises(ValueError, match="UNet2DModel has no learned variance: it returns 1 chan"):
        score.eps_and_variance(t, images())
    wide = Learned(Optimal(sk.DDPM.linear(1000), "epsilon"))
    for scheduler in (diffusers.DDPMScheduler(), diffusers.DDPMScheduler(variance_type="learned")):
        with pytest.raises(ValueError, match=r"its scheduler has variance_type='(fixed|learned)"):
            from_diffusers(wide, scheduler)[1].eps_and_variance(t, images())
    with pytest.raises(ValueError, match="no chain"):
        from_diffusers(wide, diffusers.EDMEulerScheduler())[1].eps_and_variance(t, images())
    ours, out = SdekitScheduler(), wide(images(), torch.tensor([999]))
    with pytest.raises(ValueError, match="ddpm_learned"):
        ours.step(out, 999, images())
    plain = SdekitScheduler(variance="fixed_small").step(out, 999, images()).prev_sample
    assert torch.equal(plain, SdekitScheduler().step(out[:, :1], 999, images()).prev_sample)
