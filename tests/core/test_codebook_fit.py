"""What a codebook starts from: mixtures fitted to windows of data, and the contexts of a text."""

import math

import pytest
import torch

from di4c_cli.core import codebook_fit
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.networks import mlp
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.space import StateSpace
from di4c_cli.core.students.windowed import Config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def two_words(num):
    """Windows that are 0 1 2 0 or 2 2 1 1, evenly, and a fifth of their symbols anything at all."""
    words = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])[torch.randint(2, (num,), generator=seeded())]
    noise = torch.randint(3, words.shape, generator=seeded(1))
    return torch.where(torch.rand(words.shape, generator=seeded(2)) < 0.2, noise, words)


def test_em_finds_the_two_components():
    x = two_words(4000)
    mixture, gain = codebook_fit.fitted(x, 3, 2, 20, 1.0, seeded(3))
    found = {tuple(mixture.log_p[:, :, j].argmax(1).tolist()) for j in range(2)}
    assert found == {(0, 1, 2, 0), (2, 2, 1, 1)}
    assert torch.allclose(mixture.log_p.exp().sum(1), torch.ones(4, 2), atol=1e-4)
    assert torch.allclose(mixture.log_prior.exp(), torch.tensor(0.5), atol=0.03)
    assert 0.9 < gain < 3 * math.log(2)  # what four positions can share by two components


def test_more_rounds_are_never_worse():
    x = two_words(500)
    gains = [codebook_fit.fitted(x, 3, 4, rounds, 1e-3, seeded())[1] for rounds in (1, 2, 4, 8, 16)]
    assert gains == sorted(gains)


def test_contexts_are_the_most_frequent_suffixes():
    """In 0 1 0 1 ... with one 1 1: empty, 1, 0, and then 0 1 (state 3) before 1 0."""
    x = torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1]])
    states = codebook_fit.context_of(x, 4, 2)
    assert states.shape == (1, 10)
    # Whatever a position ends with decides its state, and 0 1 is told from 1 1.
    ends = {}
    for position, state in enumerate(states[0].tolist()):
        ends.setdefault(tuple(x[0, position : position + 2].tolist()), set()).add(state)
    assert all(len(found) == 1 for found in ends.values())
    assert ends[(0, 1)] != ends[(1, 1)]


def test_a_chain_of_contexts_knows_a_text_from_the_start():
    """A text of order 2: the untrained student's joint at t = 1 is far above its product of marginals."""
    num, D = 3000, 12
    x = torch.zeros(num, D, dtype=torch.long)
    x[:, :2] = torch.randint(3, (num, 2), generator=seeded())
    for d in range(2, D):  # mostly the sum of the two before
        noise = torch.randint(3, (num,), generator=seeded(d))
        told = (x[:, d - 1] + x[:, d - 2]) % 3
        x[:, d] = torch.where(torch.rand(num, generator=seeded(100 + d)) < 0.1, noise, told)
    process = MaskedProcess(StateSpace(shape=(D,), num_states=3))
    kind = Config(window=[2], chain=True, start="contexts", components=16, gate="bayes", start_windows=30_000)
    student = kind.build(mlp.Config(width=8, parameterization="subs"), process)
    data = Dataset(train=TensorSplit(x), test=TensorSplit(x[:10]))
    kind.fit(student, data, seeded(), lambda line: None)
    test = x[:200]
    x_t = torch.full_like(test, process.mask_id)
    law = student.windowed(x_t, torch.ones(200), None, 0)
    gain = law.correlation(test[:, None]).mean()
    # Ten positions that the two before tell: log 3 less the entropy of the noise, each.
    p = torch.tensor([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    possible = 10 * (math.log(3) + (p * p.log()).sum())
    assert 0.8 * possible < gain < 1.05 * possible


@pytest.mark.parametrize("tied", [True, False])
def test_a_chain_of_mixtures_may_end_in_a_cut_window(tied):
    """Windows of 2 over 5 positions of a text that repeats: neighbours are coupled from the start."""
    x = two_words(3000)[:, [0, 1, 2, 0, 1]]
    process = MaskedProcess(StateSpace(shape=(5,), num_states=3))
    kind = Config(window=[2], layouts=1, chain=True, tied=tied, components=6, gate="bayes")
    student = kind.build(mlp.Config(width=8, parameterization="subs"), process)
    kind.fit(student, Dataset(train=TensorSplit(x), test=TensorSplit(x[:10])), seeded(), lambda line: None)
    law = student.windowed(torch.full_like(x[:300], process.mask_id), torch.ones(300), None, 0)
    chained = law.correlation(x[:300, None]).mean()
    student.codebooks[0].coupling.transition.data.zero_()
    law = student.windowed(torch.full_like(x[:300], process.mask_id), torch.ones(300), None, 0)
    apart = law.correlation(x[:300, None]).mean()
    assert chained > apart + 0.2


def test_a_codebook_that_came_with_weights_is_kept():
    process = MaskedProcess(StateSpace(shape=(4,), num_states=3))
    kind = Config(window=[4], layouts=1, components=2, gate="bayes")
    student = kind.build(mlp.Config(width=8, parameterization="subs"), process)
    data = Dataset(train=TensorSplit(two_words(500)), test=TensorSplit(two_words(10)))
    told = []
    kind.fit(student, data, seeded(), told.append)
    first = student.codebooks[0].tilts.values.clone()
    assert first.any()
    assert len(told) == 1
    kind.fit(student, data, seeded(7), told.append)
    assert torch.equal(student.codebooks[0].tilts.values, first)
