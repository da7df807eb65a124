"""Losses read in pieces, at open sites, in groups of rows, against the dense formulas on (B, L, D, S)."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from di4c_cli.core import parameterization, product_law
from di4c_cli.core.component import config_class
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import consistency, datapoint, denoising, distillation, evaluated, marginal, sdtt
from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.samplers import ancestral
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import NEVER, Batch, StateSpace

PROCESSES = {
    "masked": masked.Config(),
    "gaussian": gaussian.Config(rate_sigma=2.0, target_sigma=4.0),
    "uniform": uniform.Config(),
}
NETWORKS = {
    "mlp": {"width": 12, "depth": 2},
    "dit": {"width": 16, "heads": 2, "depth": 1},
    "mdlm": {"width": 16, "heads": 2, "depth": 2, "cond": 8, "dropout": 0.5},
    "maskgit": {"width": 16, "heads": 2, "depth": 2, "hidden": 16, "dropout": 0.5},
    "unet": {"width": 8, "levels": 1, "blocks": 1},
    "tauldr": {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [], "features": 8},
}
LOSSES = {
    "marginal": marginal.Config().build(),
    "datapoint": datapoint.Config().build(),
    "datapoint, plain": datapoint.Config(control_variate=False).build(),
    "consistency": consistency.Config().build(),
    "consistency, plain": consistency.Config(control_variate=False).build(),
    "distillation": distillation.Config().build(),
    "distillation of a share": distillation.Config(share=0.5).build(),
    "denoising": denoising.Config().build(),
    "denoising, smoothed": denoising.Config(smoothing=0.2).build(),
    "sdtt": sdtt.Config(divergence="kl_forward").build(),
}


def fits(process, name, network):
    """Whether a recipe could combine them."""
    has_mask = process == "masked"
    return (has_mask or name not in ("subs", "raw")) and (has_mask or network != "maskgit")


CASES = [
    (process, name, network)
    for process in PROCESSES
    for name in ("free", "raw", "subs", "bayes")
    for network in NETWORKS
    if fits(process, name, network)
]


def segment_of(case, B, L, size, S, seed):
    """A segment in float64; the student in training mode, with dropout where its network has some."""
    kind, name, network = case
    space = StateSpace(shape=(1, size, size), num_states=S, num_classes=2 if network in ("mlp", "dit") else 0)
    process = PROCESSES[kind].build(space)
    torch.manual_seed(seed)
    build = config_class("networks", network)(**NETWORKS[network]).build
    param = parameterization.build(name, process)
    teacher = NetworkDenoiser(build(process.space, lam=False), param).double().eval().requires_grad_(False)
    student = MixtureDenoiser(build(process.space, lam=True), param).double().train()
    for model in (teacher, student):  # layers that start at zero would hide what is behind them
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)
    generator = torch.Generator().manual_seed(seed)
    t = 0.1 + 0.9 * torch.rand(B, generator=generator, dtype=torch.float64)
    cast = Cast(
        process=process,
        student=student,
        num_latents=L,
        teacher=teacher,
        teacher_sampler=ancestral.Config().build(process),
    )
    batch = Batch(torch.randint(S, (B, size * size), generator=generator))
    return Segment(cast, batch, t, t / 2, generator)


# the dense formulas


def dense_log_p(segment, denoiser, x_t, t, lam=None):
    """(B, L, D, S), everywhere."""
    logits = denoiser.network(x_t, t, None, lam)
    name, process = type(denoiser.parameterization).__name__, segment.cast.process
    if name == "BayesSkip":
        logits = logits + process.log_likelihood(x_t, t)[:, None]
    if name in ("Unmasked", "Subs"):
        mask = torch.arange(logits.shape[-1]) == process.space.mask_id
        logits = torch.where(mask, NEVER, logits)
    log_p = logits.log_softmax(-1)
    if name == "Subs":
        certain = torch.nn.functional.one_hot(x_t, logits.shape[-1]).bool()[:, None]
        visible = (x_t != process.space.mask_id)[:, None, :, None]
        log_p = torch.where(visible, torch.where(certain, 0.0, NEVER).double(), log_p)
    return log_p


def lme(values, dim):
    return values.logsumexp(dim) - math.log(values.shape[dim])


def factors(log_p, x):
    """(B, L, N, D)"""
    return torch.stack([log_p.gather(-1, x[:, n, None, :, None].expand(*log_p.shape[:3], 1))[..., 0]
                        for n in range(x.shape[1])], 2)  # fmt: skip


def correlation(log_p, x):
    f = factors(log_p, x)
    return lme(f.sum(-1), 1) - lme(f, 1).sum(-1)


def kl(p, q):
    return (p.exp() * (p - q)).sum((-2, -1))


def dense_values(segment, log_p, names):
    """The losses by the formulas, at the points that the segment has drawn."""
    B = len(segment.batch)
    x_0, mean = segment.batch.x_0[:, None], lme(log_p, 1)
    with torch.no_grad():
        teacher = dense_log_p(segment, segment.cast.teacher, segment.x_t, segment.t)[:, 0]
    found = {
        "marginal": lambda: kl(teacher, mean),
        "datapoint": lambda: -correlation(log_p, x_0)[:, 0],
        "datapoint, plain": lambda: -lme(factors(log_p, x_0).sum(-1), 1)[:, 0],
        "distillation": lambda: kl(teacher[:, None], log_p).mean(1),
        "denoising": lambda: -mean.gather(-1, x_0.transpose(1, 2)).sum((1, 2)),
    }
    if any("consistency" in name for name in names):
        target, at_s = segment.target, lme(segment.student_s.log_p, 1)
        found["consistency"] = lambda: kl(at_s, mean) - correlation(log_p, target).mean(1)
        found["consistency, plain"] = lambda: -lme(factors(log_p, target).sum(-1), 1).mean(1)

    def shared():
        rows = max(1, round(0.5 * B))
        return torch.cat([found["distillation"]()[:rows] * B / rows, torch.zeros(B - rows).double()])

    def smoothed():
        allowed = mean > NEVER / 2
        even = (mean.where(allowed, torch.zeros(()).double()).sum(-1) / allowed.sum(-1)).sum(-1)
        return 0.8 * found["denoising"]() - 0.2 * even

    found |= {"distillation of a share": shared, "denoising, smoothed": smoothed}
    return [found[name]() for name in names]


def of_lambdas(segment):
    """The draws of lambda at x_t (last those of the law at x_t itself), and the seed of the dropout."""
    student, seen = segment.cast.student, []
    mixture = student.mixture

    def watched(x_t, t, lam, label=None):
        if torch.equal(x_t, segment.x_t):
            seen.append(lam)
            torch.manual_seed(7)
        return mixture(x_t, t, lam, label)

    student.mixture = watched
    return seen


def gradients(loss, model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def close(found, wanted, relative):
    assert (found - wanted).norm() <= relative * wanted.norm() + 1e-12


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from(CASES),
    B=st.integers(1, 3),
    L=st.integers(1, 4),
    size=st.integers(2, 3),
    S=st.integers(2, 6),
    piece=st.sampled_from([1, 7, 40, 2**24]),
    names=st.lists(st.sampled_from([n for n in LOSSES if n != "sdtt"]), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**20),
)
def test_pieces_are_the_dense_formulas(case, B, L, size, S, piece, names, seed):
    """Losses within 1e-6 and gradients within 1e-5, relative, whatever the size of the pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(product_law.PIECE, "cpu", piece)
        patch.setattr(product_law, "ROWS", 1)
        patch.setattr(product_law, "KEPT", 1)
        segment = segment_of(case, B, L, size, S, seed)
        lam = of_lambdas(segment)
        values = evaluated([(LOSSES[name], segment) for name in names])
        weight = torch.linspace(0.5, 1.5, B).double()
        student = segment.cast.student
        found = gradients(sum((weight * v).sum() for v in values), student)
        _ = segment.student_t  # where no loss has read it
        torch.manual_seed(7)
        log_p = dense_log_p(
            segment, student, segment.x_t, segment.t, lam[-1]
        )  # after those at an x_s like x_t
        wanted = dense_values(segment, log_p, names)
    for name, ours, theirs in zip(names, values, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9), name
    dense = gradients(sum((weight * v).sum() for v in wanted), student)
    for ours, theirs in zip(found, dense, strict=True):
        zero = torch.zeros(())
        close(zero if ours is None else ours, zero if theirs is None else theirs, 1e-5)


@settings(max_examples=15, deadline=None)
@given(
    case=st.sampled_from(CASES),
    B=st.integers(1, 3),
    L=st.integers(1, 5),
    at_once=st.integers(1, 7),
    names=st.lists(st.sampled_from(list(LOSSES)), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 2**20),
)
def test_rows_in_groups_have_the_gradients_of_all_at_once(case, B, L, at_once, names, seed):
    """The second pass sees the dropout of the first; without dropout, groups do not matter at all."""
    if case[0] != "masked":
        names = [name for name in names if name != "sdtt"] or ["marginal"]

    def step(groups, dropout):
        segment = segment_of(case, B, L, 2, 3, seed)
        student = segment.cast.student.train(dropout)
        student.network.rows_at_once = groups
        torch.manual_seed(seed)
        total = sum(value.sum() for value in evaluated([(LOSSES[name], segment) for name in names]))
        torch.manual_seed(seed + 1)  # what happens in between is no matter
        return total.detach(), gradients(total, student), segment

    whole, one_pass, _ = step(None, dropout=False)
    split, two_pass, _ = step(at_once, dropout=False)
    assert torch.allclose(split, whole, rtol=1e-6, atol=1e-9)
    for ours, theirs in zip(two_pass, one_pass, strict=True):
        zero = torch.zeros(())
        close(zero if ours is None else ours, zero if theirs is None else theirs, 1e-5)


@pytest.mark.parametrize("network", ["mdlm", "maskgit"])
def test_dropout_is_replayed(network):
    """Both passes of a group see the same noise, whatever is drawn between them."""
    segment = segment_of(("masked", "subs", network), 2, 3, 2, 3, 0)
    body, student = segment.cast.student.network, segment.cast.student.train()
    lam = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, t = segment.x_t, segment.t
    body.rows_at_once = 1
    torch.manual_seed(3)
    h = body.hidden(x, t, None, lam)
    g = torch.randn_like(h)
    found = torch.autograd.grad((h * g).sum(), list(body.parameters()), allow_unused=True)
    body.rows_at_once = None
    torch.manual_seed(3)
    rows = [body.hidden(x[[b]], t[[b]], None, lam[[b], [n]][:, None]) for b in range(2) for n in range(3)]
    again = torch.cat(rows).view_as(h)
    assert torch.allclose(h, again)
    assert student.training
    assert not torch.allclose(again, body.hidden(x, t, None, lam))  # there is dropout
    wanted = torch.autograd.grad((again * g).sum(), list(body.parameters()), allow_unused=True)
    for ours, theirs in zip(found, wanted, strict=True):
        zero = torch.zeros(())
        close(zero if ours is None else ours, zero if theirs is None else theirs, 1e-9)


def test_pieces_keep_nothing_of_size_S():
    """Between forward and backward pass no tensor is as large as a law."""
    segment = segment_of(("masked", "subs", "mdlm"), 2, 4, 3, 5, 0)
    segment.cast.student.eval()
    sizes = []

    def kept(value):
        sizes.append(value.numel())
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(product_law.PIECE, "cpu", 40)  # two sites
        patch.setattr(product_law, "ROWS", 1)
        patch.setattr(product_law, "KEPT", 1)
        losses = [LOSSES[name] for name in ("marginal", "datapoint", "consistency", "distillation")]
        h = segment.student_t  # the network's own activations are another matter
        with torch.autograd.graph.saved_tensors_hooks(kept, lambda value: value):
            values = evaluated([(loss, segment) for loss in losses])
        total = sum(value.sum() for value in values)
    assert h.table.parts[0].num_rows == 2
    assert len(h.table.parts) > 3
    assert max(sizes) < 4 * len(h.sites) * 5
    assert total.requires_grad
