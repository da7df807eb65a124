"""Samplers that reveal a counted number of positions: MaskGIT's confidence, and the Halton order."""

import pytest
import torch

from di4c_cli.core.denoiser import ProductDenoiser
from di4c_cli.core.processes import gaussian, masked
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import halton, maskgit, sample
from di4c_cli.core.space import NEVER, StateSpace

GRID = StateSpace(shape=(16, 16), num_states=5)
ARCCOS = masked.Config(schedule="arccos")


class Fixed(ProductDenoiser):
    """The same law at every x_t; counts its calls and remembers what it saw."""

    def __init__(self, log_p):
        self.log_p = log_p
        self.seen = []

    def __call__(self, x_t, t, label=None, *, generator=None):
        self.seen.append(x_t.clone())
        return ProductLaw.dense(self.log_p.expand(len(x_t), -1, -1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(space=GRID):
    """Uniform over the data's states; the mask has no probability."""
    log_p = torch.zeros(1, space.num_dims, space.num_states + 1, dtype=torch.float64).log_softmax(-1)
    log_p[..., -1] = NEVER
    return log_p.log_softmax(-1)


def reveals(config, steps, process=None, n=3):
    """How many positions each call leaves visible more than the one before; the last one gets the rest."""
    process = process or ARCCOS.build(GRID)
    model = Fixed(flat())
    x = sample(config.build(process), config.plan(steps, model), process, n, seeded(), "cpu", config=config)
    assert (x != process.mask_id).all()
    visible = torch.stack([(seen != process.mask_id).sum(-1) for seen in model.seen])
    assert (visible == visible[:, :1]).all()
    return [*visible[:, 0].diff().tolist(), process.space.num_dims - int(visible[-1, 0])]


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        (1, [256]),
        (2, [85, 171]),
        (3, [55, 64, 137]),
        (4, [41, 44, 53, 118]),
        (8, [20, 21, 22, 22, 25, 28, 36, 82]),
        (16, [10, 10, 11, 10, 11, 11, 11, 11, 12, 13, 14, 14, 17, 19, 24, 58]),
    ],
)
def test_maskgit_reveals_what_the_arccos_schedule_says(steps, counts):
    assert reveals(maskgit.Config(), steps) == counts


@pytest.mark.parametrize(("steps", "counts"), [(8, [1, 18, 26, 32, 38, 43, 48, 50]), (4, [1, 59, 87, 109])])
def test_maskgit_published_schedule(steps, counts):
    assert reveals(maskgit.Config(schedule="published"), steps) == counts


def test_halton_counts_and_order():
    assert reveals(halton.Config(), 8) == [20, 21, 21, 23, 25, 28, 35, 83]
    cells = halton.halton_order(16, 16)
    first = [(8, 5), (4, 10), (12, 1), (2, 7), (10, 12), (6, 3), (14, 8), (1, 14), (9, 0), (5, 5)]
    assert [divmod(int(c), 16) for c in cells[:10]] == first
    assert cells.sort().values.tolist() == list(range(256))


def test_halton_reveals_the_next_cells_of_its_order_whatever_is_visible():
    process = ARCCOS.build(GRID)
    order = halton.halton_order(16, 16)
    x_t = torch.full((1, 256), process.mask_id)
    x_t[0, order[3]] = 2  # visible already, out of turn
    law = ProductLaw.dense(flat().expand(1, -1, -1))
    x_s = halton.Config().build(process).step(law, x_t, 1.0, 0.9, seeded())[0, 0]
    count = int(256 * (1 - process.mask_prob(torch.tensor(0.9))))
    shown = (x_s != process.mask_id).nonzero().squeeze(1).tolist()
    assert set(shown) == set(order[:count].tolist())
    assert x_s[order[3]] == 2


def test_maskgit_keeps_what_it_is_surest_of():
    """Without noise the positions of highest confidence are revealed, and with their own draw."""
    process = ARCCOS.build(GRID)
    log_p = flat().clone()
    sure = torch.arange(0, 256, 7)
    log_p[:, sure] = NEVER
    log_p[:, sure, 3] = 0
    law = ProductLaw.dense(log_p)
    x_t = torch.full((1, 256), process.mask_id)
    config = maskgit.Config(noise=0.0)
    x_s = config.build(process).step(law, x_t, 1.0, 0.95, seeded(), num=4)[0]
    count = 256 - round(256 * float(process.mask_prob(torch.tensor(0.95))))
    assert count < len(sure)
    for row in x_s:
        shown = (row != process.mask_id).nonzero().squeeze(1)
        assert len(shown) == count
        assert set(shown.tolist()) <= set(sure.tolist())
        assert (row[shown] == 3).all()
    noisy = maskgit.Config(noise=1e9).build(process).step(law, x_t, 1.0, 0.95, seeded(), num=200)[0]
    share = ((noisy != process.mask_id) & ~torch.isin(torch.arange(256), sure)).sum() / (200 * count)
    assert abs(share - (256 - len(sure)) / 256) < 0.02  # pure noise: any position alike


def test_maskgit_noise_falls_to_zero_and_never_below():
    process = ARCCOS.build(GRID)
    t = torch.arange(1, 9, dtype=torch.float64).flip(0) / 8
    own = maskgit.Config(noise=4.5).build(process).noise(t, t - 1 / 8)
    assert torch.allclose(own, 4.5 * (1 - torch.arange(8).double() / 7), atol=1e-9)
    assert maskgit.Config().build(process).noise(torch.ones(1), torch.zeros(1)).isfinite().all()
    late = torch.tensor([0.05], dtype=torch.float64)
    fixed = maskgit.Config(noise_steps=8).build(process).noise(late, late - 0.05)
    published = maskgit.Config(noise_steps=8, parity=True).build(process).noise(late, late - 0.05)
    assert fixed == 0
    assert torch.allclose(published, 4.5 * (1 - 0.95 * 8 / 7) * torch.ones(1, dtype=torch.float64))
    assert published < 0


def test_the_mask_is_never_drawn():
    """A network that likes the mask best still reveals none: the parameterization forbids it."""
    from di4c_cli.core.parameterization import build

    process = ARCCOS.build(GRID)
    logits = torch.zeros(2, 256, 6)
    logits[..., -1] = 50.0
    x_t = torch.full((2, 256), process.mask_id)
    log_p = build("free", process)(logits.clone(), x_t, torch.ones(2, 1))
    config = maskgit.Config()
    x = sample(config.build(process), config.plan(4, Fixed(log_p[:1])), process, 5, seeded(), "cpu")
    assert x.max() < process.mask_id


def test_reveal_samplers_need_a_mask_and_a_grid():
    space = StateSpace(shape=(3, 4, 4), num_states=5)
    for config in (maskgit.Config(), halton.Config()):
        with pytest.raises(ValueError, match="needs a process with a mask"):
            config.build(gaussian.Config().build(space))
    with pytest.raises(ValueError, match="one grid"):
        halton.Config().build(ARCCOS.build(space))
    line = halton.Config().build(ARCCOS.build(StateSpace(shape=(10,), num_states=5)))
    assert sorted(line.place.tolist()) == list(range(10))
