"""The windowed mixture by enumeration: every sum over components is exact, whatever couples the windows."""

import itertools
import math

import pytest
import torch

from di4c_cli.core import product_law, readings
from di4c_cli.core.coupling import Chain
from di4c_cli.core.denoiser import NetworkDenoiser
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.losses import consistency, datapoint, distillation, evaluated, marginal
from di4c_cli.core.networks import dit, mlp
from di4c_cli.core.processes import gaussian
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import ancestral
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace
from di4c_cli.core.students.windowed import Config
from di4c_cli.core.tilts import LowRank

D, S, MASK = 5, 3, 3
SPACE = StateSpace(shape=(D,), num_states=S)
PROCESS = MaskedProcess(SPACE)
X_T = torch.tensor([[MASK] * 5, [MASK, 1, MASK, MASK, 0], [0, 1, 2, 0, 1]])
T = torch.tensor([1.0, 0.6, 0.1], dtype=torch.float64)
POINTS = torch.tensor(list(itertools.product(range(S), repeat=D)))
EVERY = POINTS.expand(len(X_T), -1, -1)
NETWORK = mlp.Config(width=8, parameterization="subs")

CASES = [
    {"window": [2]},
    {"window": [2], "tied": False},
    {"window": [2], "chain": True},
    {"window": [3], "tied": False, "chain": True},
    {"window": [5], "gate": "prior"},
    {"window": [1], "gate": "bayes", "chain": True},
    {"window": [2], "rank": 2},
    {"window": [3], "rank": 1, "tied": False, "chain": True},
]
case = pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()))
layout = pytest.mark.parametrize("layout", [0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model, size=0.7):
    torch.manual_seed(1)
    for p in model.parameters():
        p.data += size * torch.randn_like(p)
    return model


def student_of(case, process=PROCESS, network=NETWORK):
    torch.manual_seed(0)
    config = Config(network="trained", **{"layouts": 2, "components": 3, **case})
    return shaken(config.build(network, process).double())


def by_enumeration(law, x):
    """log p(x | x_t) (B, N), by summing over every assignment of components to windows."""
    windows, coupling, u = law.mixing.windows, law.mixing.coupling, law.mixing.u
    W, M = u.shape[1:]
    base = law.base.log_p  # (B, D, S)
    tilted = base[:, :, None] + law.tilts.table().transpose(1, 2)[windows.place][None]  # (B, D, M, S)
    log_p = tilted.log_softmax(-1)
    found = []
    for chosen in itertools.product(range(M), repeat=W):
        log_w = sum(u[:, w, j] for w, j in enumerate(chosen))
        if isinstance(coupling, Chain):
            links = coupling.transition.expand(W - 1, -1, -1)
            log_w = log_w + sum(links[w][chosen[w], chosen[w + 1]] for w in range(W - 1))
        component = torch.tensor(chosen)[windows.window]
        rows = log_p[:, torch.arange(D), component]  # (B, D, S)
        factors = torch.stack([rows[:, d].gather(1, x[..., d]) for d in range(D)]).sum(0)
        found.append((log_w, log_w[:, None] + factors))
    weights, joints = (torch.stack(rows) for rows in zip(*found, strict=True))
    return joints.logsumexp(0) - weights.logsumexp(0)[:, None]


@case
@layout
def test_the_joint_is_the_sum_over_all_components(case, layout):
    law = student_of(case).windowed(X_T, T, None, layout)
    ours, wanted = law.log_joint(EVERY), by_enumeration(law, EVERY)
    assert torch.allclose(ours.exp().sum(1), torch.ones(3).double())
    assert torch.allclose(ours.exp(), wanted.exp(), atol=1e-12)


@case
@layout
def test_marginals_and_pairs_are_those_of_the_joint(case, layout):
    law = student_of(case).windowed(X_T, T, None, layout)
    p = law.log_joint(EVERY).exp().view(3, *[S] * D)
    marginals = law.log_marginal().exp()
    for d in range(D):
        others = [1 + k for k in range(D) if k != d]
        assert torch.allclose(p.sum(others), marginals[:, d, :S])
    # A pair law by the joint of points that agree on two positions: its correlation is that of the table.
    log_product = sum(marginals[:, d, POINTS[:, d]].log() for d in range(D))
    wanted = law.log_joint(EVERY) - log_product
    possible = p.flatten(1) > 0
    assert torch.allclose(law.correlation(EVERY)[possible], wanted[possible])


@case
@layout
def test_draws_have_the_law(case, layout):
    student, num = student_of(case), 30_000
    law = student.windowed(X_T[:1].expand(num, -1), T[:1].expand(num), None, layout)
    x = law.drawn(seeded()).draw(seeded(1))[:, 0]
    counted = torch.bincount(x @ S ** torch.arange(D - 1, -1, -1), minlength=S**D) / num
    wanted = student.windowed(X_T[:1], T[:1], None, layout).log_joint(EVERY[:1]).exp()[0]
    floor = (wanted * (1 - wanted) / num).sqrt().sum() * 0.4  # half the expected L1 distance of a true sample
    assert 0.5 * (counted - wanted).abs().sum() < 2 * floor


def test_windows_of_one_position_without_tilts_are_the_teacher():
    student = student_of({"window": [1], "layouts": 1})
    student.lam_codebooks[0].tilts.values.data.zero_()
    teacher = NetworkDenoiser(student.network, student.parameterization)(X_T, T)
    law = student.windowed(X_T, T, None, 0)
    assert torch.allclose(law.log_marginal().exp(), teacher.log_p.exp())
    assert torch.allclose(law.correlation(EVERY), torch.zeros(()).double(), atol=1e-12)


def test_windows_of_one_position_are_a_product_of_their_marginals():
    law = student_of({"window": [1]}).windowed(X_T, T, None, 0)
    assert torch.allclose(law.correlation(EVERY), torch.zeros(()).double(), atol=1e-12)


def test_one_window_over_everything_is_the_mixture():
    """Equal weights, M components: the formula of the paper's mixture with L = M."""
    student = student_of({"window": [D], "layouts": 1, "gate": "prior"})
    student.lam_codebooks[0].prior.data.fill_(0.3)
    law = student.windowed(X_T, T, None, 0)
    tilted = law.base.log_p[:, :, None] + law.tilts.table().transpose(1, 2)[None]
    mixture = MixtureLaw.dense(tilted.log_softmax(-1).transpose(1, 2))
    assert torch.allclose(law.log_joint(EVERY).exp(), mixture.log_joint(EVERY).exp())
    assert torch.allclose(law.log_marginal().exp(), mixture.log_marginal().exp())
    seen = X_T[:1].expand(3, -1)
    p = ProductLaw.dense(torch.randn(3, D, S + 1, generator=seeded(), dtype=torch.float64).log_softmax(-1))
    whole = student.windowed(seen, T, None, 0)
    tilted = whole.base.log_p[:, :, None] + whole.tilts.table().transpose(1, 2)[None]
    mixture = MixtureLaw.dense(tilted.log_softmax(-1).transpose(1, 2))
    x_s = torch.where(torch.rand(3, D, generator=seeded()) < 0.5, EVERY[:, 7], MASK)
    asked = [
        readings.Joint(EVERY),
        readings.Correlation(EVERY),
        readings.EffectiveComponents(EVERY),
        readings.LogMarginal(EVERY),
        readings.Step(PROCESS, seen, x_s[:, None], T, T / 2),
    ]
    for ours, theirs in zip(whole.answer(*asked), mixture.answer(*asked), strict=True):
        assert torch.allclose(ours, theirs)
    # Where a law gives the mask itself probability, KL to it is another matter.
    certain = p.log_p.clone()
    certain[..., MASK] = -1e6
    p = ProductLaw.dense(certain.log_softmax(-1))
    for reading in (readings.MarginalKL(p), readings.ComponentsKL(p), readings.MarginalKL(p, reverse=True)):
        ours, theirs = whole.answer(reading)[0], mixture.answer(reading)[0]
        assert torch.allclose(ours, theirs)


@case
def test_a_step_integrates_x_0_out(case):
    """log p(x_s | x_t) against the sum over every x_0 of the joint times the forward posterior."""
    law, s = student_of(case).windowed(X_T, T, None, 0), T / 2
    x_s = PROCESS.sample_posterior(EVERY[:, 100], X_T, T, s, seeded())
    joint = law.log_joint(EVERY)
    posterior = torch.stack(
        [
            PROCESS.log_posterior(x_s, X_T, T, s).gather(-1, EVERY[:, n, :, None]).sum((1, 2))
            for n in range(len(POINTS))
        ],
        1,
    )
    wanted = (joint + posterior).logsumexp(1)
    assert torch.allclose(law.log_step(PROCESS, X_T, x_s[:, None], T, s)[:, 0], wanted)


def test_other_processes_are_tilted_everywhere():
    process = gaussian.Config(rate_sigma=2.0, target_sigma=4.0).build(SPACE)
    network = mlp.Config(width=8, parameterization="bayes", time=True)
    student = student_of({"window": [2], "gate": "prior", "chain": True}, process, network)
    x_t, s = EVERY[:, 17], T / 2
    law = student.windowed(x_t, T, None, 1)
    assert torch.allclose(law.log_joint(EVERY).exp().sum(1), torch.ones(3).double())
    assert torch.allclose(law.log_joint(EVERY), by_enumeration(law, EVERY))
    steps = law.log_step(process, x_t, EVERY, T, s)
    assert torch.allclose(steps.exp().sum(1), torch.ones(3).double())


def segment_of(student, seed=0):
    teacher = NetworkDenoiser(student.network, student.parameterization)
    sampler = ancestral.Config().build(PROCESS)
    cast = Cast(process=PROCESS, student=student, num_latents=2, teacher=teacher, teacher_sampler=sampler)
    batch = Batch(POINTS[[3, 77, 160, 200]])
    t = torch.tensor([1.0, 0.8, 0.5, 0.2], dtype=torch.float64)
    return Segment(cast, batch, t, t / 2, seeded(seed))


LOSSES = [marginal.Config().build(), datapoint.Config().build(), consistency.Config().build()]
LOSSES += [datapoint.Config(control_variate=False).build(), distillation.Config(share=0.5).build()]


@case
def test_pieces_make_no_difference(case):
    """Values and gradients of all losses, read site by site or all at once."""

    def step(piece):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(product_law.PIECE, "cpu", piece)
            patch.setattr(product_law, "ROWS", 1)
            patch.setattr(product_law, "KEPT", 1)
            student = student_of(case)
            segment = segment_of(student)
            values = evaluated([(loss, segment) for loss in LOSSES])
            part = segment.restricted(torch.tensor([3, 1]))
            values += evaluated([(loss, part) for loss in LOSSES[:2]])
            parameters = list(student.parameters())
            total = sum((value * torch.arange(1, len(value) + 1)).sum() for value in values)
            return values, torch.autograd.grad(total, parameters, allow_unused=True), segment

    whole, one_pass, _ = step(2**24)
    pieces, many, segment = step(1)
    assert len(segment.student_t.table.parts) > 3
    for ours, theirs in zip(pieces, whole, strict=True):
        assert torch.allclose(ours, theirs)
    for ours, theirs in zip(many, one_pass, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.allclose(ours, theirs, atol=1e-9)


def test_losses_are_the_dense_formulas():
    """Against the joint tables: KL of the marginals, -(J - M) of the data."""
    student = student_of({"window": [2], "chain": True})
    segment = segment_of(student)
    found = evaluated([(loss, segment) for loss in LOSSES[:2]])
    law, x_0 = segment.student_t, segment.batch.x_0
    p = law.log_joint(POINTS.expand(4, -1, -1)).exp()
    one_hot = torch.nn.functional.one_hot(POINTS, S).double()
    marginals = torch.einsum("bn,nds->bds", p, one_hot)
    teacher = segment.teacher_t.log_p[..., :S].exp()
    kl = torch.where(teacher > 0, teacher * (teacher / marginals).log(), 0.0)
    assert torch.allclose(found[0], kl.sum((1, 2)))
    at = (POINTS[None] == x_0[:, None]).all(-1)
    product = marginals.gather(-1, x_0[..., None]).log().sum((1, 2))
    assert torch.allclose(found[1], product - p[at].log())


def test_a_frozen_network_gets_no_gradient_and_no_dropout():
    network = (
        dit.Config(width=16, heads=2, depth=1, dropout=0.5, parameterization="subs")
        if "dropout" in (dit.Config.model_fields)
        else dit.Config(width=16, heads=2, depth=1, parameterization="subs")
    )
    student = Config(components=3, window=[2]).build(network, PROCESS).train()
    assert not student.network.training
    loss = LOSSES[1](segment_of(student.double())).sum()
    loss.backward()
    assert all(p.grad is None for p in student.network.parameters())
    assert student.lam_codebooks[0].tilts.values.grad is not None


def test_layouts_take_turns_in_a_run_and_are_drawn_in_training():
    student = student_of({"window": [2]})
    plan = ancestral.Config().plan(4, student)
    assert [call.denoiser.layout for call in plan] == [0, 1, 0, 1]
    laws = [call.denoiser.law(X_T, T, generator=seeded()) for call in plan[:2]]
    assert not torch.allclose(laws[0].log_joint(EVERY[:, :9]), laws[1].log_joint(EVERY[:, :9]))
    drawn = {student.law(X_T, T, generator=seeded(k)).mixing.windows.num for k in range(20)}
    assert drawn == {3}
    firsts = {int(student.law(X_T, T, generator=seeded(k)).mixing.windows.members[0, 0]) for k in range(20)}
    assert firsts == {0, -1}


@pytest.mark.parametrize(
    ("case", "network", "process", "message"),
    [
        ({"window": [9]}, NETWORK, PROCESS, "does not fit"),
        ({"window": [5], "layouts": 1, "chain": True}, NETWORK, PROCESS, "no neighbours"),
        ({"window": [2]}, NETWORK, gaussian.Config().build(SPACE), "gate"),
    ],
)
def test_what_does_not_go_together_is_refused(case, network, process, message):
    network = network if process is PROCESS else mlp.Config(width=8)
    with pytest.raises(ValueError, match=message):
        Config(**case).build(network, process)


def test_the_gain_over_the_product_of_marginals_is_bounded_by_the_components():
    """sum_d I(x^d; j) - I(x; j) is at most (n - 1) log M for a window of n; and not log M: with 2 components
    for a window whose positions are all alike it is (n - 1) log 2 to the full."""
    student = student_of({"window": [D], "layouts": 1, "gate": "prior", "components": 2})
    codebook = student.codebooks[0]
    codebook.prior.data.zero_()
    codebook.tilts.values.data.zero_()
    codebook.tilts.values.data[:, 0, 0] = codebook.tilts.values.data[:, 1, 1] = 40.0
    law = student.windowed(X_T[:1], T[:1], None, 0)
    p = law.log_joint(EVERY[:1]).exp()
    gain = (p * law.correlation(EVERY[:1])).sum()
    assert gain.item() == pytest.approx((D - 1) * math.log(2), rel=1e-6)


def test_a_windowed_teacher_has_exact_marginals_and_draws_its_steps():
    """The second round: targets need no draws, and every step of the teacher has components of its own."""
    student = student_of({"window": [2], "layouts": 1, "gate": "bayes"})
    sampler = ancestral.Config().build(PROCESS)
    cast = Cast(
        process=PROCESS,
        student=student,
        teacher=student,
        num_latents=4,
        teacher_draws=4,
        teacher_sampler=sampler,
    )
    batch = Batch(POINTS[[3, 77, 160, 200]])
    segment = Segment(cast, batch, torch.ones(4).double(), torch.full((4,), 1e-9).double(), seeded())
    exact = student.windowed(segment.x_t, segment.t, None, 0).log_marginal()
    assert torch.allclose(segment.teacher_t.log_p, exact)
    assert not segment.teacher_t.log_p.requires_grad
    some = segment.restricted(torch.tensor([2, 0]))
    assert torch.allclose(some.teacher_t.log_p, exact[[2, 0]])
    laws = segment.teacher_law.rows.log_p.view(4, 4, D, -1)
    assert (laws[:, 0] - laws[:, 1]).abs().max() > 0.1  # different components
    assert torch.allclose(segment.target_marginal.log_p.exp().sum(-1), torch.ones(4, D).double())
    evaluated([(loss, segment) for loss in LOSSES[:3]])


def test_tables_of_low_rank_start_as_the_best_approximation():
    """Exact where the rank suffices; else no worse than any other of its rank, if states weigh alike."""
    torch.manual_seed(0)
    many = torch.randn(2, 6, 3)
    rank_one = torch.randn(6, 1) @ torch.randn(2, 1, 3)
    even = torch.full((6,), 1 / 6)
    tilts = LowRank(2, 6, 3, rank=1)
    assert tilts.blank
    with torch.no_grad():
        tilts.start(rank_one, even)
        assert torch.allclose(tilts.table(), rank_one, atol=1e-5)
        tilts.start(many, even)
    flat = many.transpose(0, 1).flatten(1)
    least = torch.linalg.svdvals(flat)[1:].square().sum()
    assert (tilts.table() - many).square().sum().item() == pytest.approx(least.item(), rel=1e-4)
    assert not tilts.blank
    with pytest.raises(ValueError, match="at most 6"):
        LowRank(2, 6, 3, rank=7)


@pytest.mark.parametrize("balanced", [False, True])
@case
def test_in_half_precision_the_law_is_read_in_float32(case, balanced):
    """Sampled with `--dtype bfloat16`, and judged: only what the parameters lose by rounding is lost."""
    student = student_of({**case, "balanced": balanced, "layouts": 1})
    student.double()
    exact = student.law(X_T, T, generator=seeded()).log_joint(EVERY)
    student.to(torch.bfloat16)
    law = student.law(X_T, T, generator=seeded())
    found = law.log_joint(EVERY)
    possible = exact > -1e5
    assert torch.allclose(found[possible], exact[possible], atol=0.5)
    total = found.where(possible, -math.inf).logsumexp(-1)
    assert torch.allclose(total, torch.zeros(len(X_T), dtype=torch.float64), atol=1e-4)
    assert student(X_T, T, generator=seeded()).draw(seeded()).shape == (len(X_T), 1, D)
