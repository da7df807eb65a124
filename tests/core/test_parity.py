"""The recipes' losses with `parity = true` against the published formulas, in float64 to 1e-9.

The formulas are written out here with Python's own numbers, datum by datum, from recorded logits and draws;
nothing of the package takes part in them.
"""

import itertools
import math
import tomllib
from types import SimpleNamespace

import pytest
import torch

from di4c_cli.core import parameterization
from di4c_cli.core.averages import Averages
from di4c_cli.core.component import Config, section
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.networks import Network
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace
from di4c_cli.core.times import Config as Times
from di4c_cli.core.trainer import Trainer
from di4c_cli.shipped import recipe_paths

D, L = 4, 3


# what the recipes say under parity


class Sections(Config):
    """The sections of a recipe that losses depend on."""

    times: Times = Times()
    losses: list[section("losses")]
    teacher_sampler: section("samplers")
    process: section("processes")


def sections(name, *, teacher=False):
    """Of a recipe with its defects, whatever its codec and data; `teacher`: those that train the teacher."""
    values = tomllib.loads(recipe_paths()[name].read_text())
    for key, value in values["defects"].items():
        *way, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
        table = values
        for part in way:
            table = table[part]
        table[last] = value
    own = values["teacher"] if teacher else values
    given = {key: own[key] for key in ("times", "losses") if key in own}
    shared = {key: values[key] for key in ("teacher_sampler", "process")}
    return Sections.model_validate(given | shared), values["network"].get("parameterization", "free")


# models with known logits


class Table(Network):
    """Logits in closed form, different for every x, t and lambda; it keeps what it was asked and answered."""

    def __init__(self, space, seed):
        super().__init__()
        self.space = space
        D, S = space.num_dims, space.num_states
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        self.own, self.other = draw(D, S, S), draw(D, S, S)
        self.time, self.lam = draw(D, S), draw(2, D, S)
        self.classes = draw(10, D, S)
        self.calls = []

    def body(self, x, t, label=None, lam=None):
        d = torch.arange(x.shape[1])
        h = self.own[d, x] + self.other[d, x.roll(1, 1)] + t[:, None, None] * self.time
        if label is not None:
            h = h + self.classes[label]
        lam = torch.zeros(len(x), 1).double() if lam is None else lam
        angle = lam[..., None, None]
        logits = h[:, None] + torch.sin(3 * angle) * self.lam[0] + torch.cos(5 * angle) * self.lam[1]
        self.calls.append(SimpleNamespace(x=x, t=t, label=label, lam=lam, logits=logits))
        return logits

    def head(self, h, sites):
        return sites.features(h)


# the published formulas, for one datum; ll[j][d][k] are log-probabilities of component j


def log_mean_exp(values):
    largest = max(values)
    return largest + math.log(sum(math.exp(v - largest) for v in values) / len(values))


def log_softmax(logits):
    norm = log_mean_exp(logits) + math.log(len(logits))
    return [v - norm for v in logits]


def free(logits, x):
    return [log_softmax(row) for row in logits]


def subs(logits, x):
    """Mask logit lowered, normalised, observed positions overwritten."""
    rows = []
    for row, token in zip(logits, x, strict=True):
        mask = len(row) - 1
        row = log_softmax([v - 1e6 * (k == mask) for k, v in enumerate(row)])
        if token != mask:
            row = [0.0 if k == token else -1e6 for k in range(len(row))]
        rows.append(row)
    return rows


def joint(ll, y):
    return log_mean_exp([sum(ll[j][d][y[d]] for d in range(len(y))) for j in range(len(ll))])


def marginals(ll):
    return [
        [log_mean_exp([ll[j][d][k] for j in range(len(ll))]) for k in range(len(ll[0][d]))]
        for d in range(len(ll[0]))
    ]


def control_variate(ll, y):
    m = marginals(ll)
    return joint(ll, y) - sum(m[d][y[d]] for d in range(len(y)))


def kl(p, q):
    return sum(math.exp(p[d][k]) * (p[d][k] - q[d][k]) for d in range(len(p)) for k in range(len(p[d])))


def data_corr(ll, x_0):
    return -control_variate(ll, x_0)


def data_marg(ll, teacher):
    return kl(teacher, marginals(ll))


def consis_corr(ll, targets):
    return -sum(control_variate(ll, x) for x in targets) / len(targets)


def consis_marg(ll, at_u):
    return kl(marginals(at_u), marginals(ll))


def distil(teachers, ll):
    """Each component with the teacher at its own point, or at the shared one."""
    return sum(kl(teachers[j], ll[j]) for j in range(len(ll))) / len(ll)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


# a training step with everything that was drawn and answered


def trained(losses):
    """A trainer that only weighs and adds."""
    trainer = Trainer.__new__(Trainer)
    trainer.terms = [(loss.kind, loss.weight, loss.build()) for loss in losses]
    trainer.averages = Averages()
    trainer.device = torch.device("cpu")
    return trainer


class Step:
    """One step of a recipe's distillation on a small space, from draws of its own; `formula` normalises."""

    def __init__(self, monkeypatch, recipe, space, times, formula, *, label=None, mixture_teacher=False):
        """`times` are pairs (t, s); of a masked x_t about half is masked, even near t = 0."""
        settings, name = sections(recipe)
        self.settings, self.formula = settings, formula
        process = settings.process.build(space)
        rule = parameterization.build(name, process)
        self.teacher, self.student = Table(process.space, 1), Table(process.space, 2)
        cast = Cast(
            process=process,
            student=MixtureDenoiser(self.student, rule),
            num_latents=L,
            teacher=(MixtureDenoiser if mixture_teacher else NetworkDenoiser)(self.teacher, rule),
            teacher_draws=L if mixture_teacher else 1,
            teacher_sampler=settings.teacher_sampler.build(process),
            noise_ahead=settings.times.ahead,
        )
        self.t, self.s = (torch.tensor(side, dtype=torch.float64) for side in zip(*times, strict=True))
        generator = torch.Generator().manual_seed(5)
        self.B, S = len(times), space.num_states
        x_0 = torch.randint(S, (self.B, D), generator=generator)
        self.segment = Segment(cast, Batch(x_0, label), self.t, self.s, generator)
        self.x_0 = x_0.tolist()
        if process.space.mask_id is not None:
            hidden = torch.rand(self.B, D, generator=generator) < 0.5
            vars(self.segment)["x_t"] = x_0.masked_fill(hidden, process.space.mask_id)
        self.targets, draw_each = [], MixtureLaw.draw_each

        def recorded(law, generator):
            drawn = draw_each(law, generator)
            self.targets.append(drawn[0])
            return drawn

        monkeypatch.setattr(MixtureLaw, "draw_each", recorded)
        self.total = trained(settings.losses)._weighted_loss(self.segment, self.t, 0.0)

    def rows(self, call):
        """log-probabilities of every (row, component) of a call: nested lists [row][j][d][k]."""
        return [
            [self.formula(logits, x) for logits in row]
            for row, x in zip(call.logits.tolist(), call.x.tolist(), strict=True)
        ]

    def at_t(self):
        """The student's components at x_t, and the teacher's, for each datum."""
        (student,) = [
            c for c in self.student.calls if c.lam.shape == (self.B, L) and torch.equal(c.t, self.t)
        ]
        (teacher,) = [c for c in self.teacher.calls if c.t.max() > 0.1]
        assert torch.equal(student.x, self.segment.x_t)
        K = len(teacher.x) // self.B
        assert torch.equal(teacher.x, student.x.repeat_interleave(K, 0))
        components = [row[0] for row in self.rows(teacher)]
        return self.rows(student), [components[b * K : (b + 1) * K] for b in range(self.B)]

    def at_s(self, rows):
        """The student's components at x_s, and the points drawn from them, for the data with that term."""
        s = self.s[rows].repeat_interleave(L)
        (call,) = [c for c in self.student.calls if c.t.shape == s.shape and torch.equal(c.t, s)]
        components = [row[0] for row in self.rows(call)]
        (target,) = self.targets
        assert len(target) == len(rows)
        groups = [components[n * L : (n + 1) * L] for n in range(len(rows))]
        return dict(zip(rows, zip(groups, target.tolist(), strict=True), strict=True))

    def term(self, kind):
        (loss,) = [loss for loss in self.settings.losses if loss.kind == kind]
        return loss


def close(ours, published):
    assert torch.as_tensor(ours).tolist() == pytest.approx(published, abs=1e-9, rel=0)
    assert any(abs(v) > 1e-3 for v in published)


def check(step, gate, own_distillation, alpha, factor):
    """Terms one by one, then the weighted total.

    Args:
        gate: which data have the consistency term.
        own_distillation: published distillation of a datum, or None for that at x_t.
        alpha: weight of the datapoint term; factor: weight of distillation.
    """
    student, teachers = step.at_t()
    B, rows = range(step.B), [b for b in range(step.B) if gate[b]]
    product = [marginals(teachers[b]) for b in B]
    near = [
        own_distillation(b) if own_distillation is not None else distil([product[b]] * L, student[b])
        for b in B
    ]
    at_s = step.at_s(rows)
    published = {
        "data_corr": [data_corr(student[b], step.x_0[b]) for b in B],
        "data_marg": [data_marg(student[b], product[b]) for b in B],
        "consis_corr": [consis_corr(student[b], at_s[b][1]) for b in rows],
        "consis_marg": [consis_marg(student[b], at_s[b][0]) for b in rows],
    }
    segment = step.segment
    close(step.term("datapoint").build()(segment), published["data_corr"])
    close(step.term("marginal").build()(segment), published["data_marg"])
    law = segment.student_t.subset(torch.tensor(rows))
    close(-law.correlation(step.targets[0]).mean(1), published["consis_corr"])
    part = segment.restricted(torch.tensor(rows))
    vars(part).update(target=step.targets[0], student_s=dense([at_s[b][0] for b in rows]))
    both = [sum(pair) for pair in zip(published["consis_corr"], published["consis_marg"], strict=True)]
    close(step.term("consistency").build()(part), both)
    if own_distillation is None:
        close(step.term("distillation").build()(segment), near)
    consis = dict(zip(rows, both, strict=True))
    total = [
        factor[b] * near[b]
        + alpha[b] * published["data_corr"][b]
        + published["data_marg"][b]
        + consis.get(b, 0.0)
        for b in B
    ]
    close(step.total, total)


def dense(components):
    return MixtureLaw.dense(torch.tensor(components, dtype=torch.float64))


# the three systems


def test_pixels(monkeypatch):
    """Section 12, CIFAR: own points near t = 0 for each component, every term at every t."""
    times = [(0.9, 0.893), (0.5, 0.499), (0.3, 0.29), (0.02, 0.012)]
    step = Step(monkeypatch, "cifar10", StateSpace(shape=(1, 2, 2), num_states=5), times, free)
    (asked,) = [c for c in step.teacher.calls if c.t.max() <= 0.02]
    (answered,) = [c for c in step.student.calls if c.x.shape == asked.x.shape and torch.equal(c.x, asked.x)]
    assert asked.x.shape == (4 * L, D)
    assert (asked.t >= 0.01).all()
    assert (asked.t == 0.01).any()
    assert (asked.t > 0.01).any()
    teacher, student = step.rows(asked), step.rows(answered)

    def own(b):
        mine = range(b * L, (b + 1) * L)
        return distil([teacher[n][0] for n in mine], [student[n][0] for n in mine])

    check(step, [True] * 4, own, [sigmoid(20 * (t - 0.5)) for t, _ in times], [1.0] * 4)


def test_image_tokens(monkeypatch):
    """Section 12, MaskGIT: gates at r = 0.95, datapoint weight 0.1 sigmoid(20 (0.5 - r)), all 1025 logits."""
    r = [0.0, 0.3, 0.75, 0.94, 0.96, 0.99]
    times = [(1 - x, 1 - min(x + 0.05, 1)) for x in r]
    space = StateSpace(shape=(2, 2), num_states=4, num_classes=9)
    step = Step(monkeypatch, "imagenet", space, times, free, label=torch.tensor([0, 9, 3, 4, 9, 5]))
    alpha = [0.1 * sigmoid(20 * (0.5 - x)) for x in r]
    check(step, [x < 0.95 for x in r], None, alpha, [(x >= 0.95) / 0.05 for x in r])
    for call in step.student.calls + step.teacher.calls:
        assert call.label is not None


@pytest.mark.parametrize("recipe", ["owt", "owt_round2"])
def test_text(monkeypatch, recipe):
    """Section 12, OWT: gates at t = 0.02; round two means the marginals of a mixture teacher."""
    times = [(n / 1024, n / 1024 - min(1 / 1024, n / 2048)) for n in (1, 20, 21, 300, 1024)]
    space = StateSpace(shape=(D,), num_states=5)
    step = Step(monkeypatch, recipe, space, times, subs, mixture_teacher=recipe == "owt_round2")
    t = [t for t, _ in times]
    alpha = [0.1 * sigmoid(20 * (x - 0.5)) for x in t]
    check(step, [x >= 0.02 for x in t], None, alpha, [float(x < 0.02) for x in t])
    assert len(step.teacher.calls) == 1  # one pass serves the step, the marginals and the distillation
    assert len(step.teacher.calls[0].x) == 5 * (L if recipe == "owt_round2" else 1)


@pytest.mark.parametrize("recipe", ["owt", "owt_round2"])
def test_text_is_noised_at_times_that_went_to_the_grid_twice(monkeypatch, recipe):
    """floor(t T) / T + 1 / T for a t that has been through that once."""
    settings, _ = sections(recipe)
    process, noised = settings.process.build(StateSpace(shape=(D,), num_states=2)), []
    forward = process.sample_forward
    monkeypatch.setattr(process, "sample_forward", lambda x, t, g: noised.append(t) or forward(x, t, g))
    t, s = settings.times.sample(200, torch.Generator().manual_seed(0), "cpu")
    student = NetworkDenoiser(Table(process.space, 0), parameterization.Free())
    cast = Cast(process=process, student=student, noise_ahead=settings.times.ahead)
    assert Segment(cast, Batch(torch.zeros(200, D).long()), t, s, torch.Generator()).x_t.shape == (200, D)
    twice = [math.floor(time * 1024) / 1024 + 1 / 1024 for time in t.tolist()]
    assert noised[0].tolist() == pytest.approx(twice, abs=1e-12)


# the closed form of the gradient (section 9)


def test_gradient_of_a_whole_step_in_closed_form():
    """alpha datapoint + marginal + consistency by the normalised l_jd(k), datum by datum."""
    B, N, S = 2, 5, 3
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).log_softmax(-1)  # noqa: E731
    leaf, at_s, teacher = draw(B, L, D, S).requires_grad_(), draw(B, N, D, S), draw(B, D, S)
    target = torch.randint(S, (B, N, D), generator=generator)
    x_0 = torch.randint(S, (B, D), generator=generator)
    t = torch.tensor([0.45, 0.6], dtype=torch.float64)
    settings, name = sections("cifar10")
    process = settings.process.build(StateSpace(shape=(D,), num_states=S))
    student = NetworkDenoiser(Table(process.space, 0), parameterization.build(name, process))
    segment = Segment(Cast(process=process, student=student), Batch(x_0), t, t / 2, generator)
    vars(segment).update(
        student_t=MixtureLaw.dense(leaf),
        student_s=MixtureLaw.dense(at_s),
        target=target,
        teacher_t=ProductLaw.dense(teacher),
    )
    losses = [loss for loss in settings.losses if loss.kind != "distillation"]
    (gradient,) = torch.autograd.grad(trained(losses)._weighted_loss(segment, t, 0.0).sum(), leaf)

    def softmax(values):
        whole = sum(math.exp(v) for v in values)
        return [math.exp(v) / whole for v in values]

    for b, j, d, k in itertools.product(range(B), range(L), range(D), range(S)):
        ll = leaf[b].tolist()

        def pull(points, ll=ll, j=j, d=d, k=k):
            """Mean over the points y with y^d = k of w_j(y) - rho_jd(k)."""
            rho = softmax([ll[m][d][k] for m in range(L)])[j]
            here = [y for y in points if y[d] == k]
            w = [softmax([sum(ll[m][e][y[e]] for e in range(D)) for m in range(L)])[j] for y in here]
            return sum(v - rho for v in w) / len(points), rho

        consis, rho = pull(target[b].tolist())
        data, _ = pull([x_0[b].tolist()])
        p_bar = at_s[b, :, d, k].exp().mean().item()
        alpha = sigmoid(20 * (t[b].item() - 0.5))
        wanted = -consis - p_bar * rho - alpha * data - math.exp(teacher[b, d, k].item()) * rho
        assert gradient[b, j, d, k].item() == pytest.approx(wanted, abs=1e-12)


# the teachers' objectives (section 2)


def taught(recipe, space, t, *, role="teacher", label=None):
    """The weighted loss of a product model for each datum, its segment, its network and what it answered."""
    settings, name = sections(recipe, teacher=role == "teacher")
    process = settings.process.build(space)
    rule = parameterization.build(name, process)
    own, other = Table(process.space, 3), Table(process.space, 4)
    sampler = settings.teacher_sampler.build(process)
    cast = Cast(
        process=process,
        student=NetworkDenoiser(own, rule),
        teacher=NetworkDenoiser(other, rule) if role == "student" else None,
        teacher_sampler=sampler,
    )
    generator = torch.Generator().manual_seed(2)
    x_0 = torch.randint(space.num_states, (len(t), D), generator=generator)
    t = torch.tensor(t, dtype=torch.float64)
    s = (t - 0.00195310546875 if role == "student" else t / 2).clamp(min=0)
    segment = Segment(cast, Batch(x_0, label), t, s, generator)
    if process.space.mask_id is not None:
        hidden = torch.rand(x_0.shape, generator=generator) < 0.6
        vars(segment)["x_t"] = x_0.masked_fill(hidden, process.space.mask_id)
    return trained(settings.losses)._weighted_loss(segment, segment.t, 0.0), segment, own, other


def answered(call, formula):
    return [formula(row[0], x) for row, x in zip(call.logits.tolist(), call.x.tolist(), strict=True)]


def test_nelbo_of_mdlm():
    """2b: the mean over tokens of -log p(x_0) sigma' / (e^sigma - 1), sigma = -log(1 - (1 - eps) t)."""
    t = [1e-3, 0.004, 0.3, 1.0]
    loss, segment, network, _ = taught("owt", StateSpace(shape=(D,), num_states=5), t)
    published = []
    for time, x_0, rows in zip(t, segment.batch.x_0.tolist(), answered(network.calls[0], subs), strict=True):
        sigma = -math.log(1 - (1 - 1e-3) * time)
        weight = (1 - 1e-3) / (1 - (1 - 1e-3) * time) / (math.exp(sigma) - 1)
        published.append(-sum(rows[d][x_0[d]] for d in range(D)) * weight / 1024)
    close(loss, published)
    settings, _ = sections("owt", teacher=True)
    times, _ = settings.times.sample(2000, torch.Generator().manual_seed(0), "cpu")
    assert times.min() >= 1e-3  # MDLM's sampling_eps


def test_cross_entropy_of_maskgit():
    """2c: label smoothing 0.1 over all positions, masked and visible, and over all logits; a mean."""
    space = StateSpace(shape=(2, 2), num_states=4, num_classes=9)
    label = torch.tensor([3, 9, 0])
    loss, segment, network, _ = taught("imagenet", space, [0.1, 0.5, 0.9], label=label)
    published = []
    for x_0, rows in zip(segment.batch.x_0.tolist(), answered(network.calls[0], free), strict=True):
        nll = sum(-rows[d][x_0[d]] for d in range(D)) / 256
        even = sum(-sum(row) / len(row) for row in rows) / 256
        published.append(0.9 * nll + 0.1 * even)
    close(loss, published)


def test_elbo_of_tauldr():
    """2a: reg - num / norm plus 0.001 of the mean cross-entropy, with its own eps."""
    S, eps = 5, 1e-9
    space = StateSpace(shape=(1, 2, 2), num_states=S)
    times = [0.05, 0.3, 0.9]
    loss, segment, network, _ = taught("cifar10", space, times)
    (call,) = network.calls
    assert torch.equal((call.x != segment.x_t).sum(1), torch.ones(3).long())
    process, states = segment.cast.process, torch.arange(S)[None]
    published = []
    for time, x_0, y, rows in zip(
        times, segment.batch.x_0.tolist(), call.x.tolist(), answered(call, free), strict=True
    ):
        at = torch.tensor([time], dtype=torch.float64)
        q = process.rows(states, at, torch.zeros(1).double())[0].tolist()
        R = process.rate_rows(states, at)[0].tolist()
        total = sum(-R[v][v] for v in y)
        reg = num = norm = 0.0
        for d, row in enumerate(rows):
            p, here = [math.exp(v) for v in row], y[d]
            for k0 in range(S):
                reg += p[k0] / (q[k0][here] + eps) * sum(R[k][here] * q[k0][k] for k in range(S) if k != here)
            for k in range(S):
                if k != here:
                    flow = R[k][here] * q[x_0[d]][k] / (q[x_0[d]][here] + eps)
                    mean = sum(p[k0] * q[k0][k] / (q[k0][here] + eps) for k0 in range(S))
                    num += flow * math.log(mean + eps)
                    norm += flow / (total + R[here][here] - R[k][k])
        cross_entropy = -sum(row[x_0[d]] for d, row in enumerate(rows)) / D
        published.append(reg - num / norm + 0.001 * cross_entropy)
    assert loss.tolist() == pytest.approx(published, rel=1e-12, abs=1e-9)


def test_self_distillation_through_time(monkeypatch):
    """2d: KL(student || target), a mean over masked tokens, with the reference's times inside the target."""
    draws = []
    t = [0.9, 0.5, 0.004, 1e-3]
    step = 0.00195310546875
    settings, _ = sections("sdtt")
    sampler = type(
        settings.teacher_sampler.build(settings.process.build(StateSpace(shape=(D,), num_states=5)))
    )
    call = sampler.step

    def recorded(self, law, x_t, t, s, generator, num=1):
        draws.append((x_t, t, s, call(self, law, x_t, t, s, generator, num)))
        return draws[-1][3]

    monkeypatch.setattr(sampler, "step", recorded)
    loss, segment, student, teacher = taught("sdtt", StateSpace(shape=(D,), num_states=5), t, role="student")
    dt = (1 - 1e-5) / 1024
    assert dt * 2 == pytest.approx(step)
    first, second = teacher.calls
    for b, time in enumerate(t):
        end = time - 2 * dt
        assert first.t[b].item() == pytest.approx(max(time + (1 - time) * end, 1e-5))
        assert second.t[b].item() == pytest.approx(max((1 - time) * end, 1e-5))
    ((x_t, start, stop, x_next),) = draws
    assert torch.equal(start, first.t)
    assert torch.allclose(stop, (first.t - dt).clamp(min=0))
    assert torch.equal(second.x, x_next[:, 0])
    assert torch.equal(x_t, segment.x_t)

    at_first, at_second = answered(first, subs), answered(second, subs)
    total, masked, mask = 0.0, 0, 5
    for b, rows in enumerate(answered(student.calls[0], subs)):
        for d in range(D):
            if segment.x_t[b, d] == mask:
                updated = x_next[b, 0, d] != mask
                target = (at_first if updated else at_second)[b][d]
                total += sum(math.exp(v) * (v - w) for v, w in zip(rows[d], target, strict=True))
                masked += 1
    assert loss.mean().item() == pytest.approx(total / masked, abs=1e-9)
    assert total > 1e-3
