"""From logits to laws: SUBS, the Bayes skip, and the plain softmax."""

import pytest
import torch

from di4c_cli.core import parameterization
from di4c_cli.core.parameterization import BayesSkip, Free, Subs, Unmasked
from di4c_cli.core.processes.gaussian import GaussianProcess
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.processes.uniform import UniformProcess
from di4c_cli.core.space import StateSpace
from di4c_cli.core.teachers.exact import ExactDenoiser

D, S, MASK = 4, 5, 4
SPACE = StateSpace(shape=(D,), num_states=S - 1)
PROCESSES = {
    "masked": MaskedProcess(SPACE),
    "arccos": MaskedProcess(SPACE, "arccos"),
    "gaussian": GaussianProcess(SPACE, rate_sigma=1.0),
    "uniform": UniformProcess(SPACE),
}
X_T = torch.tensor([[0, MASK, 2, MASK], [MASK, MASK, MASK, 3], [0, 1, 2, 3]])
TIME = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)


def logits(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(len(X_T), D, S, generator=generator, dtype=torch.float64)).to(dtype)


def three(name):
    return {"free": Free(), "subs": Subs(MASK), "bayes": BayesSkip(PROCESSES["masked"])}[name]


@pytest.mark.parametrize("name", ["free", "subs", "bayes"])
def test_rows_are_laws_and_each_stands_for_itself(name):
    log_p = three(name)(logits(), X_T, TIME[:, None])
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(3, D).double())
    for positions in (slice(0, 1), slice(1, 3), slice(3, 4)):
        piece = three(name)(logits()[:, positions], X_T[:, positions], TIME[:, None])
        assert torch.equal(piece, log_p[:, positions])


@pytest.mark.parametrize("name", ["free", "subs", "bayes"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_left_before_anything_is_added(name, dtype):
    half = logits(dtype=dtype)
    log_p = three(name)(half, X_T, TIME[:, None])
    assert log_p.dtype == torch.float32
    assert torch.allclose(log_p, three(name)(half.float(), X_T, TIME[:, None]))
    assert torch.isfinite(log_p).all()


def test_subs_never_predicts_the_mask_and_keeps_what_is_visible():
    p = Subs(MASK)(logits(), X_T, TIME[:, None]).exp()
    assert (p[..., MASK] == 0).all()
    visible = X_T != MASK
    assert (p[visible].gather(-1, X_T[visible][:, None]) == 1).all()
    assert torch.allclose(p[~visible][:, :MASK], logits()[~visible][:, :MASK].softmax(-1))


def test_subs_passes_no_gradient_to_visible_positions():
    z = logits().requires_grad_()
    log_p = Subs(MASK)(z.clone(), X_T, TIME[:, None])
    (gradient,) = torch.autograd.grad((log_p * log_p.exp().detach() + log_p[..., :1] * 0.1).sum(), z)
    visible = X_T != MASK
    assert (gradient[visible] == 0).all()
    assert (gradient[~visible].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", PROCESSES)
def test_bayes_skip_is_exact_where_positions_are_independent(name):
    """With log p(x_0^d) for logits it is the posterior, at every x_t and t, without any learning."""
    process = PROCESSES[name]
    prior = torch.rand(D, S - 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    prior /= prior.sum(-1, keepdim=True)
    joint = torch.einsum("a,b,c,d->abcd", *prior)
    x_t = X_T if process.space.mask_id is not None else X_T.clamp(max=S - 2)
    z = torch.zeros(len(x_t), D, process.space.num_states, dtype=torch.float64)
    z[..., : S - 1] = prior.log()
    skipped = BayesSkip(process)(z.clone(), x_t, TIME[:, None])
    exact = ExactDenoiser(process, joint)(x_t, TIME).log_p
    assert torch.allclose(skipped.exp(), exact.exp(), atol=1e-12)
    likelihood = process.log_likelihood(x_t, TIME)
    by_hand = torch.zeros_like(z)
    by_hand[..., : S - 1] = prior * likelihood[..., : S - 1].exp()
    assert torch.allclose(skipped.exp(), by_hand / by_hand.sum(-1, keepdim=True), atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "uniform"])
def test_bayes_skip_knows_the_answer_near_t_0(name):
    x_t = X_T.clamp(max=S - 2)
    z = logits()[..., : S - 1]
    log_p = BayesSkip(PROCESSES[name])(z, x_t, torch.full((3, 1), 1e-9).double())
    assert torch.allclose(log_p.exp().gather(-1, x_t[..., None]), torch.ones(()).double(), atol=1e-4)


def test_names_of_a_recipe():
    masked, plain = PROCESSES["masked"], PROCESSES["uniform"]
    assert type(parameterization.build("free", plain)) is Free
    assert type(parameterization.build("raw", masked)) is Free  # the mask included
    assert type(parameterization.build("free", masked)) is Subs
    assert type(parameterization.build("free", masked, everywhere=True)) is Unmasked
    assert isinstance(parameterization.build("bayes", plain), BayesSkip)
    assert parameterization.build("subs", masked).mask_id == MASK
    with pytest.raises(ValueError, match="needs a process with a mask"):
        parameterization.build("subs", plain)
