"""Networks: shapes, slices, lambda as an argument, and the start from a teacher."""

import pytest
import torch

from di4c_cli.core import parameterization, students
from di4c_cli.core.component import config_class, kinds
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.networks._embedding import sinusoid
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

B, L = 3, 4
SPACE = StateSpace(shape=(2, 4, 4), num_states=5, mask_id=4, num_classes=3)
D, S = SPACE.num_dims, SPACE.num_states
SETTINGS = {
    "mlp": {"width": 16, "depth": 3, "time": True},
    "unet": {"width": 8, "levels": 2, "blocks": 1},
    "dit": {"width": 16, "depth": 2, "heads": 2},
}


def settings(kind, **more):
    return config_class("networks", kind)(**SETTINGS[kind], **more)


def build(kind, lam=True, space=SPACE, seed=0, **more):
    """The network, with no weight left at zero."""
    torch.manual_seed(seed)
    network = settings(kind, **more).build(space, lam=lam)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.std() == 0 and "lam" not in name:
                p += 0.1 * torch.randn_like(p)
    return network.eval()


def inputs(space=SPACE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(space.num_states, (B, space.num_dims), generator=generator)
    t = torch.rand(B, generator=generator, dtype=torch.float64)
    label = torch.arange(B) % (space.num_classes + 1)
    lam = torch.rand(B, L, generator=generator, dtype=torch.float64)
    return x, t, label, lam


@pytest.fixture(params=SETTINGS)
def kind(request):
    return request.param


def test_every_network_is_tested():
    released = {"maskgit", "mdlm", "tauldr"}  # test_released_networks_<kind>.py
    assert set(kinds("networks")) == SETTINGS.keys() | released


def test_shapes(kind):
    x, t, label, lam = inputs()
    assert build(kind)(x, t, label, lam).shape == (B, L, D, S)
    assert build(kind)(x, t, label).shape == (B, 1, D, S)
    assert build(kind, lam=False)(x, t, label).shape == (B, 1, D, S)
    assert build(kind)(x, t, lam=lam).shape == (B, L, D, S)


def some_sites(share):
    return Sites.where(torch.rand(B, D, generator=torch.Generator().manual_seed(0)) < share)


def test_head_at_sites_is_part_of_the_whole(kind):
    network = build(kind)
    h = network.body(*inputs())
    whole = network(*inputs())
    for sites in (Sites.everywhere(B, D, "cpu"), some_sites(0.3), some_sites(0.0)):
        wanted = whole.transpose(1, 2)[sites.row, sites.position]
        logits = network.head(h, sites)
        assert torch.allclose(logits, wanted, atol=1e-6)
        logits.fill_(0)  # in memory of their own
    assert torch.equal(
        network.head(h, some_sites(0.3)), network.head(network.body(*inputs()), some_sites(0.3))
    )


def test_draws_of_lambda_do_not_meet(kind):
    """One call with L draws is L calls with one."""
    network = build(kind)
    x, t, label, lam = inputs()
    together = network(x, t, label, lam)
    alone = torch.cat([network(x, t, label, lam[:, [j]]) for j in range(L)], 1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_data_points_do_not_meet(kind):
    network = build(kind)
    x, t, label, lam = inputs()
    together = network(x, t, label, lam)
    alone = torch.cat([network(x[[b]], t[[b]], label[[b]], lam[[b]]) for b in range(B)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_everything_given_matters(kind):
    network = build(kind)
    x, t, label, lam = inputs()
    out = network(x, t, label, lam)
    others = [
        network((x + 1) % S, t, label, lam),
        network(x, 1 - t, label, lam),
        network(x, t, (label + 1) % 4, lam),
        network(x, t, label, 1 - lam),
    ]
    for other in others:
        assert (other - out).abs().flatten(1).amax(1).min() > 1e-3
    assert (out[:, 0] - out[:, 1]).abs().max() > 1e-3


def test_lambda_wakes_up_with_its_weights(kind):
    x, t, label, lam = inputs()
    out = build(kind, lam_std=0)(x, t, label, lam)
    assert torch.equal(out, out[:, :1].expand_as(out))
    spread = [build(kind, lam_std=std)(x, t, label, lam).std(1).mean() for std in (0.01, 0.3)]
    assert 0 < spread[0] < spread[1]


def test_gradient_reaches_every_weight(kind):
    network = build(kind)
    network(*inputs()).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_run_in_their_own_precision(kind, dtype):
    network = build(kind)
    out = network(*inputs())
    other = network.to(dtype)(*inputs())
    assert other.dtype == dtype
    assert torch.allclose(other.float(), out, atol=0.15 if dtype == torch.bfloat16 else 1e-5, rtol=0.1)


# teachers and students


def denoisers(kind, teacher_seed=1, **more):
    process = MaskedProcess(StateSpace(shape=SPACE.shape, num_states=S - 1, num_classes=3))
    subs = parameterization.build("subs", process)
    teacher = NetworkDenoiser(build(kind, lam=False, seed=teacher_seed), subs)
    return teacher, MixtureDenoiser(build(kind, **more), subs)


def test_a_student_differs_from_its_teacher_by_lambda_only(kind):
    teacher, student = denoisers(kind)
    surplus = student.state_dict().keys() - teacher.state_dict().keys()
    assert surplus
    assert all("lam" in name for name in surplus)
    assert not teacher.state_dict().keys() - student.state_dict().keys()


def test_a_student_starts_as_its_teacher(kind):
    teacher, student = denoisers(kind, lam_std=0)
    x, t, label, lam = inputs()
    before = student.mixture(x, t, lam, label).log_p
    students.init_from(student, teacher.state_dict())
    wanted = teacher(x, t, label).log_p[:, None].expand(-1, L, -1, -1)
    assert torch.allclose(student.mixture(x, t, lam, label).log_p, wanted, atol=1e-5)
    assert not torch.allclose(before, wanted, atol=0.1)


def test_a_student_does_not_start_from_another_network(kind):
    _, student = denoisers(kind)
    other = next(k for k in SETTINGS if k != kind)
    with pytest.raises(ValueError, match="different networks"):
        students.init_from(student, denoisers(other)[0].state_dict())
    with pytest.raises(ValueError, match="different networks"):  # a teacher that knows lambda
        students.init_from(denoisers(kind)[0], student.state_dict())
    before = {name: p.clone() for name, p in student.state_dict().items()}
    wider = config_class("networks", kind)(**{**SETTINGS[kind], "width": 32}).build(SPACE, lam=False)
    with pytest.raises(ValueError, match="different networks"):
        students.init_from(student, NetworkDenoiser(wider, student.parameterization).state_dict())
    assert all(torch.equal(p, before[name]) for name, p in student.state_dict().items())


def test_mixtures_read_at_sites(kind):
    _, student = denoisers(kind)
    x, t, label, lam = inputs()
    law = student.mixture(x, t, lam, label)
    sites = some_sites(0.5)
    wanted = law.log_p.transpose(1, 2)[sites.row, sites.position]
    assert torch.allclose(law.read(sites), wanted, atol=1e-5)


def test_one_lambda_a_row_is_one_component(kind):
    _, student = denoisers(kind)
    x, t, label, lam = inputs()
    law = student.component(x, t, lam[:, 2], label)
    assert torch.allclose(law.log_p, student.mixture(x, t, lam, label).log_p[:, 2], atol=1e-5)


def test_law_of_draws_pairs_each_point_with_a_lambda(kind):
    _, student = denoisers(kind)
    x, t, label, _ = inputs()
    many = torch.stack([x, (x + 1) % S, (x + 2) % S], 1)
    law = student.law_of_draws(many, t, label, generator=torch.Generator().manual_seed(0))
    seen = many != SPACE.mask_id
    assert (law.log_p.exp().gather(-1, many[..., None])[seen] == 1).all()
    drawn = torch.rand(B, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lam = (torch.arange(3) + drawn) / 3  # stratified
    for n in range(3):
        alone = student.component(many[:, n], t, lam[:, n], label).log_p
        assert torch.allclose(law.log_p[:, n], alone, atol=1e-5)


def lambdas_of(student):
    """Every lambda that the student's network is given from now on."""
    seen, body = [], student.network.body
    student.network.body = lambda x, t, label, lam: seen.append(lam) or body(x, t, label, lam)
    return seen


def test_students_draw_a_fresh_lambda_for_each_row():
    _, student = denoisers("mlp")
    seen = lambdas_of(student)
    generator = torch.Generator().manual_seed(0)
    x, t, _, _ = inputs()
    for _ in range(2):
        student(x, t, generator=generator)
    assert [lam.shape for lam in seen] == [(B, 1), (B, 1)]
    assert len(torch.cat(seen).unique()) == 2 * B


def test_lambda_is_stratified_within_a_datum():
    _, student = denoisers("mlp")
    seen = lambdas_of(student)
    x, t, _, _ = inputs()
    student.law(x, t, generator=torch.Generator().manual_seed(0), num_latents=8)
    (lam,) = seen
    assert ((lam * 8).floor() == torch.arange(8)).all()


# one by one


def test_features_of_scalars():
    """sin first, frequencies 10000^(-k / (half - 1)), angles in float64."""
    angle = torch.tensor([z * 10000 ** (-k / 3) for z in (0, 700) for k in range(4)]).double().view(2, 4)
    out = sinusoid(torch.tensor([0.0, 700.0]), 8, torch.float32)
    assert out.dtype == torch.float32
    assert torch.allclose(out, torch.cat([angle.sin(), angle.cos()], 1).float(), atol=1e-4)


@pytest.mark.parametrize("lam_from", [0, 1, 2])
def test_lambda_enters_the_mlp_where_it_is_told_to(lam_from):
    config = config_class("networks", "mlp")(width=16, depth=3, lam_from=lam_from)
    network = config.build(SPACE, lam=True)
    assert sum("lam" in name for name, _ in network.named_parameters()) == 3 - lam_from
    assert not any("lam" in name for name, _ in config.build(SPACE, lam=False).named_parameters())
    rows = []
    network.shared.inner.register_forward_hook(lambda module, given, out: rows.append(out.shape[1]))
    x, t = torch.zeros(2, SPACE.num_dims, dtype=torch.long), torch.full((2,), 0.5).double()
    lam = torch.tensor([[0.1, 0.5, 0.9]] * 2).double()
    logits = network(x, t, None, lam)
    assert rows == [3 if lam_from == 0 else 1]  # before lambda comes in, once for all of its draws
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    with pytest.raises(ValueError, match="lam_from 3"):
        config_class("networks", "mlp")(depth=3, lam_from=3).build(SPACE, lam=True)


def test_mlp_without_time_does_not_see_it():
    network = config_class("networks", "mlp")(width=16).build(SPACE, lam=True)
    x, t, label, lam = inputs()
    assert torch.equal(network(x, t, label, lam), network(x, 1 - t, label, lam))


def test_unet_takes_images_of_any_size():
    space = StateSpace(shape=(1, 7, 5), num_states=3)
    x, t, _, lam = inputs(space)
    assert build("unet", space=space)(x, t, None, lam).shape == (B, L, 35, 3)
    deep = config_class("networks", "unet")(width=4, levels=3).build(space, lam=True)
    assert deep(x, t, None, lam).shape == (B, L, 35, 3)


def test_networks_refuse_what_they_cannot_take():
    with pytest.raises(ValueError, match="needs images"):
        settings("unet").build(StateSpace(shape=(8,), num_states=3), lam=False)
    with pytest.raises(ValueError, match="multiple of 3 heads"):
        config_class("networks", "dit")(width=16, heads=3).build(SPACE, lam=False)
