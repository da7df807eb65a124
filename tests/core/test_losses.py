"""Losses against formulas written out over all of S^D, and what must not change them."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from di4c_cli.core import mixture, parameterization
from di4c_cli.core.component import kinds
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.losses import (
    Weight,
    consistency,
    datapoint,
    denoising,
    distillation,
    elbo,
    marginal,
    sdtt,
)
from di4c_cli.core.networks import Network, dit, mlp, unet
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.processes.uniform import UniformProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import ancestral
from di4c_cli.core.schedule import Course
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import NEVER, Batch, StateSpace

B, L, N, D, S = 2, 4, 5, 3, 3
SPACE = StateSpace(shape=(D,), num_states=S)
LOSSES = {
    "consistency": consistency.Config(),
    "consistency, no control variate": consistency.Config(control_variate=False),
    "datapoint": datapoint.Config(),
    "datapoint, no control variate": datapoint.Config(control_variate=False),
    "denoising": denoising.Config(),
    "denoising, smoothed": denoising.Config(smoothing=0.1),
    "distillation": distillation.Config(),
    "distillation, own times": distillation.Config(at=(0.4, 0.9), share=0.5),
    "distillation, own times of each latent": distillation.Config(at=(0.4, 0.9), points="latent", atom=0.5),
    "elbo": elbo.Config(),
    "marginal": marginal.Config(),
    "sdtt": sdtt.Config(),
}


@pytest.fixture(params=[name for name in LOSSES if name != "elbo"])
def config(request):
    """Each loss that a masked process has."""
    return LOSSES[request.param]


def test_every_loss_is_tested():
    assert kinds("losses") == sorted({c.kind for c in LOSSES.values()})


def random_law(*shape, seed=0):
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.5 * logits).log_softmax(-1)


def segment_of(x_0, **laws):
    """A segment in which the laws named are given, not computed."""
    process = MaskedProcess(SPACE)
    student = NetworkDenoiser(mlp.Config(width=4).build(process.space, lam=False), parameterization.Free())
    t, s = torch.full((len(x_0),), 0.8).double(), torch.full((len(x_0),), 0.4).double()
    segment = Segment(Cast(process=process, student=student), Batch(x_0), t, s, torch.Generator())
    vars(segment).update(laws)
    return segment


@pytest.fixture
def laws():
    """Teacher (B, D, S), student (B, L, D, S), target (B, N, D, S), its points (B, N, D), and x_0 (B, D)."""
    generator = torch.Generator().manual_seed(3)
    return (
        random_law(B, D, S, seed=0),
        random_law(B, L, D, S, seed=1),
        random_law(B, N, D, S, seed=2),
        torch.randint(S, (B, N, D), generator=generator),
        torch.randint(S, (B, D), generator=generator),
    )


# by hand, with Python's numbers: each takes one datum


def log_joint(log_p, x):
    """log (1/L) sum_l prod_d p_l^d(x^d)."""
    terms = [math.prod(math.exp(row[d][x[d]]) for d in range(D)) for row in log_p.tolist()]
    return math.log(sum(terms) / len(terms))


def marginal_probs(log_p):
    """(1/L) sum_l p_l^d(k)."""
    rows = log_p.exp().tolist()
    return [[sum(row[d][k] for row in rows) / len(rows) for k in range(S)] for d in range(D)]


def log_marginals(log_p, x):
    return sum(math.log(marginal_probs(log_p)[d][x[d]]) for d in range(D))


def kl(p, q):
    return sum(p[d][k] * math.log(p[d][k] / q[d][k]) for d in range(D) for k in range(S))


def by_hand(function, *args):
    return torch.tensor([function(*row) for row in zip(*args, strict=True)], dtype=torch.float64)


def test_consistency(laws):
    _, log_l, log_r, target, x_0 = laws
    segment = segment_of(
        x_0, student_t=MixtureLaw.dense(log_l), student_s=MixtureLaw.dense(log_r), target=target
    )

    def whole(log_l, log_r, points):
        l_corr = -sum(log_joint(log_l, x) - log_marginals(log_l, x) for x in points.tolist()) / N
        return l_corr + kl(marginal_probs(log_r), marginal_probs(log_l))

    def plain(log_l, points):
        return -sum(log_joint(log_l, x) for x in points.tolist()) / N

    assert torch.allclose(LOSSES["consistency"].build()(segment), by_hand(whole, log_l, log_r, target))
    without = LOSSES["consistency, no control variate"].build()(segment)
    assert torch.allclose(without, by_hand(plain, log_l, target))


def test_datapoint(laws):
    _, log_l, _, _, x_0 = laws
    segment = segment_of(x_0, student_t=MixtureLaw.dense(log_l))
    rows = x_0.tolist()
    correlation = by_hand(lambda p, x: log_marginals(p, x) - log_joint(p, x), log_l, rows)
    assert torch.allclose(LOSSES["datapoint"].build()(segment), correlation)
    joint = by_hand(lambda p, x: -log_joint(p, x), log_l, rows)
    assert torch.allclose(LOSSES["datapoint, no control variate"].build()(segment), joint)


def test_marginal(laws):
    log_p, log_l, _, _, x_0 = laws
    segment = segment_of(x_0, student_t=MixtureLaw.dense(log_l), teacher_t=ProductLaw.dense(log_p))
    wanted = by_hand(lambda p, rows: kl(p.exp().tolist(), marginal_probs(rows)), log_p, log_l)
    assert torch.allclose(LOSSES["marginal"].build()(segment), wanted)


def test_distillation(laws):
    log_p, log_l, _, _, x_0 = laws
    segment = segment_of(x_0, student_t=MixtureLaw.dense(log_l), teacher_t=ProductLaw.dense(log_p))
    wanted = by_hand(
        lambda p, rows: sum(kl(p.exp().tolist(), q) for q in rows.exp().tolist()) / L, log_p, log_l
    )
    assert torch.allclose(LOSSES["distillation"].build()(segment), wanted)


def test_denoising(laws):
    log_p, _, _, _, x_0 = laws
    segment = segment_of(x_0, student_t=MixtureLaw.dense(log_p[:, None]))
    wanted = by_hand(lambda p, x: -sum(p[d, x[d]].item() for d in range(D)), log_p, x_0.tolist())
    assert torch.allclose(LOSSES["denoising"].build()(segment), wanted)


def test_label_smoothing(laws):
    """0.3 of the target evenly over S states; the impossible ones (a mask, here the last) get none."""
    log_p, _, _, _, x_0 = laws
    with_mask = torch.nn.functional.pad(log_p, (0, 1), value=NEVER)
    for law in (log_p, with_mask):
        segment = segment_of(x_0, student_t=MixtureLaw.dense(law[:, None]))

        def smoothed(p, x):
            target = [[0.3 / S + 0.7 * (k == x[d]) for k in range(S)] for d in range(D)]
            return -sum(target[d][k] * p[d, k].item() for d in range(D) for k in range(S))

        loss = denoising.Config(smoothing=0.3).build()(segment)
        assert torch.allclose(loss, by_hand(smoothed, log_p, x_0.tolist()), atol=1e-12)


def test_label_smoothing_leaves_visible_positions_of_subs_alone():
    process = MaskedProcess(SPACE)
    x_0 = torch.tensor([[0, 1, 2], [2, 1, 0]])
    logits = random_law(2, D, S + 1)
    subs = parameterization.build("subs", process)
    visible = subs(logits, x_0, torch.ones(2, 1).double())
    loss = denoising.Config(smoothing=0.3).build()
    assert (loss(segment_of(x_0, student_t=MixtureLaw.dense(visible[:, None]))) == 0).all()


def test_consistency_is_the_kl_to_the_target_up_to_its_constant(laws):
    """Averaged over the target's law r: KL(r || student) minus the total correlation of r."""
    _, log_l, log_r, _, x_0 = laws
    expected, exact = torch.zeros(B).double(), torch.zeros(B).double()
    for x in itertools.product(range(S), repeat=D):
        point = torch.tensor(x).expand(B, 1, D)
        segment = segment_of(
            x_0, student_t=MixtureLaw.dense(log_l), student_s=MixtureLaw.dense(log_r), target=point
        )
        law_r, law_l = MixtureLaw.dense(log_r), MixtureLaw.dense(log_l)
        log_joint_r = law_r.log_joint(point)[:, 0]
        r = log_joint_r.exp()
        expected += r * LOSSES["consistency"].build()(segment)
        kl_term = log_joint_r - law_l.log_joint(point)[:, 0]
        exact += r * (kl_term - law_r.correlation(point)[:, 0])
    assert torch.allclose(expected, exact, atol=1e-12)


def test_gradient_of_the_consistency_loss_in_closed_form(laws):
    """-(1/N) sum_i [w_ij - rho_jd(x_i)] 1(k = x_i^d) - pbar_d(k) rho_jd(k), for the normalised l_jd(k)."""
    _, log_l, log_r, target, x_0 = laws
    leaf = log_l.clone().requires_grad_()
    segment = segment_of(
        x_0, student_t=MixtureLaw.dense(leaf), student_s=MixtureLaw.dense(log_r), target=target
    )
    (gradient,) = torch.autograd.grad(LOSSES["consistency"].build()(segment).sum(), leaf)
    rho = log_l.softmax(1)
    wanted = -log_r.exp().mean(1)[:, None] * rho
    for b, j, d, i in itertools.product(range(B), range(L), range(D), range(N)):
        scores = [sum(log_l[b, m, e, target[b, i, e]] for e in range(D)) for m in range(L)]
        w = torch.stack(scores).softmax(0)[j]
        k = target[b, i, d]
        wanted[b, j, d, k] -= (w - rho[b, j, d, k]) / N
    assert torch.allclose(gradient, wanted, atol=1e-12)


# whole segments: a masked process, a teacher and a mixture student


IMAGE = StateSpace(shape=(1, 4, 4), num_states=3)
NETWORKS = {
    "mlp": mlp.Config(width=16, parameterization="subs"),
    "unet": unet.Config(width=8, levels=2, blocks=1, parameterization="subs"),
    "dit": dit.Config(width=16, depth=2, heads=2, parameterization="subs"),
}


def process_of(name):
    """A process that the loss can do with."""
    return UniformProcess(IMAGE) if name == "elbo" else MaskedProcess(IMAGE)


def denoiser(network, process, *, lam, seed):
    torch.manual_seed(seed)
    kind = MixtureDenoiser if lam else NetworkDenoiser
    name = "free" if process.space.mask_id is None else "subs"
    model = kind(network.build(process.space, lam=lam), parameterization.build(name, process))
    return model.double()


def segment_with(teacher, student, process, num_latents=L, seed=0, rows=6):
    generator = torch.Generator().manual_seed(seed)
    states = process.space.num_states - (process.space.mask_id is not None)
    x_0 = torch.randint(states, (rows, process.space.num_dims), generator=generator)
    t = torch.linspace(0.2, 1, rows, dtype=torch.float64)
    cast = Cast(
        process=process,
        student=student,
        num_latents=num_latents,
        teacher=teacher,
        teacher_sampler=ancestral.Config().build(process),
    )
    return Segment(cast, Batch(x_0), t, t / 2, generator)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", [name for name in LOSSES if "no control variate" not in name])
def test_a_constant_lambda_gives_the_losses_of_a_product_model(network, name):
    """(Without control variates it depends on the points drawn, and lambda takes some of the draws.)"""
    process = process_of(name)
    settings = NETWORKS[network].model_copy(update={"lam_std": 0.0})
    teacher = denoiser(NETWORKS[network], process, lam=False, seed=1)
    product = denoiser(settings, process, lam=False, seed=2)
    mixed = denoiser(settings, process, lam=True, seed=3)
    mixed.load_state_dict(product.state_dict(), strict=False)
    losses = [LOSSES[name].build()(segment_with(teacher, model, process)) for model in (product, mixed)]
    assert torch.allclose(*losses, atol=1e-10)
    assert (losses[0].abs().max() > 1e-3) == (name != "datapoint")


def test_without_correlation_only_marginals_are_left():
    """One draw of lambda: J = M, so the datapoint term is 0 and the consistency term a KL of marginals."""
    process = MaskedProcess(IMAGE)
    teacher = denoiser(NETWORKS["mlp"], process, lam=False, seed=1)
    student = denoiser(NETWORKS["mlp"], process, lam=True, seed=2)
    segment = segment_with(teacher, student, process, num_latents=1)
    assert (LOSSES["datapoint"].build()(segment) == 0).all()
    marginals = mixture.kl(segment.student_s.log_marginal(), segment.student_t.log_marginal()).sum(-1)
    assert torch.allclose(LOSSES["consistency"].build()(segment), marginals.double(), atol=1e-5)
    assert segment.health()["correlation"] == 0
    assert segment.health()["effective_components"] == 1


class Disturbed(Network):
    """Logits (1 + lam) times a table, plus a disturbance wherever a position is visible."""

    def __init__(self, space, disturbance):
        super().__init__()
        self.space = space
        self.mask = space.mask_id
        self.table = torch.nn.Parameter(random_law(space.num_dims, space.num_states, seed=5))
        self.disturbance = torch.nn.Parameter(
            disturbance * random_law(space.num_dims, space.num_states, seed=6)
        )

    def body(self, x, t, label=None, lam=None):
        lam = torch.zeros(len(x), 1).double() if lam is None else lam
        visible = (x != self.mask)[:, None, :, None]
        return (1 + lam[..., None, None]) * self.table + visible * self.disturbance

    def head(self, h, sites):
        return sites.features(h)


@pytest.mark.parametrize("name", ["subs", "free"])
def test_losses_do_not_see_logits_at_visible_positions(config, name):
    process = MaskedProcess(SPACE)
    rule = parameterization.build(name, process)

    def loss_of(disturbance):
        teacher = NetworkDenoiser(Disturbed(process.space, disturbance), rule)
        student = MixtureDenoiser(Disturbed(process.space, disturbance), rule)
        segment = segment_with(teacher, student, process)
        loss = config.build()(segment)
        loss.sum().backward()
        return loss, student.network

    plain, _ = loss_of(0.0)
    disturbed, network = loss_of(50.0)
    assert torch.equal(plain, disturbed)
    assert not network.disturbance.grad.any()
    assert network.table.grad.any()


@pytest.fixture
def segment():
    process = MaskedProcess(IMAGE)
    teacher = denoiser(NETWORKS["mlp"], process, lam=False, seed=1).requires_grad_(True)
    student = denoiser(NETWORKS["mlp"], process, lam=True, seed=2)
    return segment_with(teacher, student, process)


def test_distillation_at_its_own_times(monkeypatch, segment):
    """x_t of a share of the batch at times between the bounds, scaled to the mean over the batch."""
    seen = []
    call = NetworkDenoiser.forward

    def recorded(self, x_t, t, *args, **kwargs):
        seen.append((x_t, t))
        return call(self, x_t, t, *args, **kwargs)

    monkeypatch.setattr(NetworkDenoiser, "forward", recorded)
    loss = distillation.Config(at=(0.3, 0.6), share=0.5).build()(segment)
    ((x_t, t),) = seen
    assert len(x_t) == 3
    assert ((t >= 0.3) & (t <= 0.6)).all()
    assert ((x_t == segment.batch.x_0[:3]) | (x_t == segment.cast.process.mask_id)).all()
    assert (loss[:3] > 0).all()
    assert (loss[3:] == 0).all()
    assert "x_t" not in vars(segment)
    constant = distillation.Config(at=(1 - 1e-12, 1), share=0.5).build()(segment)
    everyone = distillation.Config(at=(1 - 1e-12, 1)).build()(segment)
    assert constant.mean().item() == pytest.approx(
        everyone.mean().item(), rel=0.2
    )  # all masked: only lambda varies


def test_distillation_at_times_of_each_latent(monkeypatch, segment):
    """Each component of each datum at a point of its own; a share of them at the lower bound exactly."""
    seen = []
    call = NetworkDenoiser.law_of_draws

    def recorded(self, x, t, *args, **kwargs):
        seen.append((x[:, 0], t))
        return call(self, x, t, *args, **kwargs)

    monkeypatch.setattr(NetworkDenoiser, "law_of_draws", recorded)
    segment = replace(segment, cast=replace(segment.cast, num_latents=200))
    loss = distillation.Config(at=(0.3, 0.6), points="latent", atom=0.5, share=0.5).build()(segment)
    ((x_t, t),) = seen
    assert len(x_t) == 3 * 200
    assert (t == 0.3).double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert t[t > 0.3].mean().item() == pytest.approx(0.45, abs=0.02)
    assert t.max() <= 0.6
    x_0 = segment.batch.x_0[:3].repeat_interleave(200, 0)
    mask = segment.cast.process.mask_id
    assert ((x_t == x_0) | (x_t == mask)).all()
    assert len(x_t[:200].unique(dim=0)) > 150
    assert (loss[:3] > 0).all()
    assert (loss[3:] == 0).all()


def test_settings_of_own_times_need_own_times():
    with pytest.raises(ValueError, match="set `at`"):
        distillation.Config(points="latent")
    with pytest.raises(ValueError, match="set `at`"):
        distillation.Config(atom=0.5)


# weights


def test_weights_over_time():
    t = torch.tensor([0.005, 0.02, 0.5, 1.0], dtype=torch.float64)
    sigmoid = [1 / (1 + math.exp(-20 * (x - 0.5))) for x in t.tolist()]
    wanted = {
        "constant": [3, 3, 3, 3],
        "linear": [0.015, 0.06, 1.5, 3],
        "inverse": [300, 150, 6, 3],
        "sigmoid": [3 * x for x in sigmoid],
        "below": [3, 0, 0, 0],
        "above": [0, 3, 3, 3],
    }
    for shape, values in wanted.items():
        assert Weight(shape=shape, scale=3.0).at(t, 0.5).tolist() == pytest.approx(values)
    assert Weight(shape="sigmoid", slope=-4, centre=0).at(t, 0.0)[3].item() == pytest.approx(
        1 / (1 + math.exp(4))
    )


def test_weights_over_the_course_of_training():
    weight = Weight(scale=2.0, shape="linear", course=Course(knots=[(0.0, 0.0), (0.5, 0.0), (1.0, 3.0)]))
    t = torch.tensor([0.5, 1.0])
    assert [weight.at(t, p).tolist() for p in (0.0, 0.5, 0.75, 1.0)] == [[0, 0], [0, 0], [1.5, 3], [3, 6]]


def test_a_number_is_a_constant_weight():
    assert marginal.Config.model_validate({"weight": 2.5}).weight == Weight(scale=2.5)
    assert marginal.Config.model_validate({"weight": {"shape": "linear"}}).weight == Weight(shape="linear")
