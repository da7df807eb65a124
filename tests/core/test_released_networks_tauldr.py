"""The U-Net of tauLDR and Di4C's student: published names, sizes and outputs, and the truncated logistic."""

import json

import pytest
import torch
from golden import expected, golden, keys, wave
from heads import all_logits, logits_at
from torch.nn.functional import logsigmoid

from di4c_cli.core.component import config_class
from di4c_cli.core.networks._logistic import truncated_logistic
from di4c_cli.core.space import StateSpace

CIFAR = StateSpace(shape=(3, 32, 32), num_states=256)
SMALL = StateSpace(shape=(3, 8, 12), num_states=11)
D, S = SMALL.num_dims, SMALL.num_states
B, L = 2, 3


def config(**settings):
    return config_class("networks", "tauldr")(**settings)


def small(lam=True, seed=0, **settings):
    """A small network in evaluation mode, no weight at zero."""
    torch.manual_seed(seed)
    sizes = {"channels": 8, "multipliers": [1, 2, 3], "blocks": 1, "attention": [1], "features": 8}
    network = config(**{**sizes, **settings}).build(SMALL, lam=lam)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn_like(p)
    return network.eval()


def inputs(space=SMALL, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(space.num_states, (B, space.num_dims), generator=generator)
    t, lam = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in ((B,), (B, L)))
    return x, t, None, lam


RENAMED = {".dense1.": ".lam_dense.", ".hlemb_modules.": ".lam_h_modules.", ".lemb_modules.": ".lam_modules."}


def ours(released):
    """Our name for a tensor of a released file (the prefix of distributed training stripped)."""
    name = released.replace("net.module.", "net.", 1)
    for theirs, our in RENAMED.items():
        name = name.replace(theirs, our)
    return name.removeprefix("net.")


# the released sizes


@pytest.mark.parametrize(
    ("name", "lam", "tensors", "parameters"),
    [("unet_teacher", False, 328, 35_749_766), ("unet_student", True, 384, 39_066_630)],
)
def test_names_shapes_and_order_are_the_released_ones(name, lam, tensors, parameters):
    with torch.device("meta"):
        state = config().build(CIFAR, lam=lam).state_dict()
    assert len(state) == tensors
    assert sum(p.numel() for p in state.values()) == parameters
    assert [(key, tuple(p.shape)) for key, p in state.items()] == [
        (ours(key), shape) for key, shape in keys(name)
    ]


FULL_SIZE = {
    "unet_teacher": {
        "head": (0.04182576, 0.39277438),
        "first": [-0.7288487, -0.5654052, -0.3674107, -0.1304637, 0.163184],
        "last": [-0.1369284, -0.0988886, -0.048592],
        "log_p": [-5.0482197, -4.9974442, -4.9474554, -4.898283, -4.8499765],
        "at_5": [-14.9098415, -8.2351475, -7.5405607],
    },
    "unet_student": {
        "head": (0.02492395, 0.36555348),
        "first": [-0.7983338, -0.6813495, -0.466971, -0.1834645, 0.1204735],
        "last": [0.0383026, 0.0539205, 0.041169],
        "log_p": [-4.526094, -4.4910984, -4.4571576, -4.4242887, -4.3925433],
        "at_5": [-12.8795624, -7.2696338, -7.2405757],
    },
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_outputs_are_the_published_ones(name):
    """Weights by rule; numbers by the published modules, in float32 on a CPU."""
    wanted, student = FULL_SIZE[name], name == "unet_student"
    with torch.device("meta"):
        network = config().build(CIFAR, lam=student)
    weights = {ours(key): wave(k, key, shape) for k, (key, shape) in enumerate(keys(name))}
    network.load_state_dict(weights, assign=True)
    network.eval()
    x = (37 * torch.arange(2 * 3072) % 256).view(2, 3072)
    lam = torch.tensor([[0.25], [0.9]]) if student else None
    with torch.no_grad():
        params = network.body(x, torch.tensor([0.3, 0.8]), None, lam)
        log_p = all_logits(network, params, params.shape[2]).log_softmax(-1)
    head = params[:, 0].unflatten(1, (3, 32, 32)).movedim(-1, 1).flatten()  # (2, 6, 32, 32) in the source

    def near(found, value):
        return torch.allclose(found, torch.tensor(value), atol=2e-4, rtol=0)

    assert near(head.mean(), wanted["head"][0])
    assert near(head.std(), wanted["head"][1])
    assert near(head[:5], wanted["first"])
    assert near(head[-3:], wanted["last"])
    assert near(log_p[0, 0, 0, :5], wanted["log_p"])
    assert near(log_p[1, 0, 5, [0, 100, 255]], wanted["at_5"])
    if not student:
        assert near(log_p.mean(), -7.5108366)


def published(folder, file):
    """The network that a small checkpoint describes, with its averaged weights."""
    told = json.loads((golden(folder) / "hparams.json").read_text())
    state = torch.load(golden(folder) / file, weights_only=True)["model"]
    network = config(
        channels=told["ch"],
        multipliers=told["ch_mult"],
        blocks=told["num_res_blocks"],
        attention=[told["scale_count_to_put_attn"]],
        features=told["time_embed_dim"],
        dropout=told["dropout"],
        lam_scale=told["time_scale_factor"],
    ).build(StateSpace(shape=tuple(told["shape"]), num_states=told["S"]), lam=told["do_lam_embed"])
    names = [ours(key) for key, value in state.items() if isinstance(value, torch.Tensor) and "net." in key]
    averaged = state["ema_shadow_params"]
    own = network.state_dict()
    network.load_state_dict(dict(zip(own, averaged, strict=True)))
    return network.eval(), names


@pytest.mark.parametrize(
    ("folder", "file"), [("tauldr", "ckpt_0001999999.pt"), ("sony-tauldr", "tldr-di4c.pt")]
)
def test_small_checkpoints_give_the_published_outputs(folder, file):
    network, names = published(folder, file)
    assert names == list(network.state_dict())
    given = expected(folder)
    lam = given["lam"][:, None] if "lam" in given else None
    with torch.no_grad():
        params = network.body(given["x"], given["t"], None, lam)[:, 0]
        found = all_logits(network, params[:, None], params.shape[1])[:, 0]
    wanted = given["logits"]
    wrong = (found - wanted).abs()
    # On the kind of processor that computed these numbers nothing differs. Elsewhere the last bit of 1 -
    # share does; share is what the bin has of all that lies left of its right edge. The logit is the log of
    # share + 1e-6: where the share is tiny, that bit (6e-8) makes hundredths of it, also against float64, as
    # the numbers are float32's. How many logits that hits depends on the processor; how hard does not.
    rounding = torch.finfo(torch.float32).eps / (share(params.double(), wanted.shape[-1]) + 1e-6)
    assert (wrong < 2e-4 + 5e-6 * wanted.abs() + rounding).all()
    assert (found.exp() - wanted.exp()).abs().max() < 2e-5


# lambda


def test_a_new_student_ignores_lambda_and_is_its_teacher():
    torch.manual_seed(0)
    sizes = {"channels": 8, "multipliers": [1, 2], "features": 8}
    teacher, student = (config(**sizes).build(SMALL, lam=lam).eval() for lam in (False, True))
    student.load_state_dict(teacher.state_dict(), strict=False)
    x, t, _, lam = inputs()
    assert torch.allclose(student(x, t, None, lam), teacher(x, t).expand(-1, L, -1, -1), atol=1e-5)
    awake = config(**sizes, lam_std=0.3).build(SMALL, lam=True).eval()
    awake.load_state_dict(teacher.state_dict(), strict=False)
    assert (awake(x, t, None, lam) - teacher(x, t)).abs().amax((1, 2, 3)).min() > 1e-2


def test_draws_of_lambda_and_data_points_do_not_meet():
    """One call with (B, L) is B L calls with one of each."""
    network = small()
    x, t, _, lam = inputs()
    assert network(x, t, None, lam).shape == (B, L, D, S)
    together = network.body(x, t, None, lam)
    for b in range(B):
        for j in range(L):
            alone = network.body(x[[b]], t[[b]], None, lam[[b], j : j + 1])
            assert torch.allclose(together[b, j], alone[0, 0], atol=1e-5)
    assert (together[:, 0] - together[:, 1]).abs().amax((1, 2)).min() > 1e-2


@pytest.mark.parametrize("silenced", ["lam_modules", "lam_h_modules"])
def test_lambda_enters_in_both_stages(silenced):
    """Either stage alone still carries lambda."""
    network = small()
    with torch.no_grad():
        for p in getattr(network, silenced).parameters():
            p.zero_()
    x, t, _, lam = inputs()
    out = network(x, t, None, lam)
    assert (out[:, 0] - out[:, 1]).abs().amax((1, 2)).min() > 1e-3


def test_what_comes_before_lambda_runs_once_a_datum():
    """The embedding of t, the input, and the first convolution of the first block."""
    network, rows = small(), {}
    first = network.downsampling_modules[0]
    modules = {"t": network.temb_modules[0], "input": network.input_conv, "0": first.conv0, "1": first.conv1}
    for name, module in modules.items():
        module.register_forward_hook(lambda module, given, out, name=name: rows.update({name: len(out)}))
    network.body(*inputs())
    assert rows == {"t": B, "input": B, "0": B, "1": B * L}


# body and head


def test_head_by_slices_is_the_whole():
    network = small()
    h = network.body(*inputs())
    assert h.shape == (B, L, D, 2)
    assert h[..., 0].abs().max() <= 1
    whole = all_logits(network, h, h.shape[2])
    for positions in (slice(0, 1), slice(5, 40), slice(40, D)):
        assert torch.equal(logits_at(network, h, positions, h.shape[2]), whole[:, :, positions])


def test_head_keeps_two_numbers_a_position_for_the_backward_pass():
    network = small()
    h = network.body(*inputs()).detach().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: kept.append(z.numel()) or z, lambda z: z):
        logits = all_logits(network, h, h.shape[2])
    assert sum(kept) <= 1.5 * h.numel()  # the numbers, and which features they are
    (found,) = torch.autograd.grad(logits.square().sum(), h)
    (wanted,) = torch.autograd.grad(as_published(h, S).square().sum(), h)
    assert (found - wanted).norm() < 1e-3 * wanted.norm()


def test_everything_given_matters():
    network = small()
    x, t, _, lam = inputs()
    out = network(x, t, None, lam)
    for other in (network((x + 1) % S, t, None, lam), network(x, 1 - t, None, lam)):
        assert (other - out).abs().amax((1, 2, 3)).min() > 1e-3


def test_gradient_reaches_every_weight():
    network = small()
    network(*inputs()).log_softmax(-1)[..., 0].sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only():
    network = small(dropout=0.5)
    out = [network(*inputs()) for _ in range(2)]
    assert torch.equal(*out)
    network.train()
    assert not torch.allclose(network(*inputs()), network(*inputs()))
    assert torch.equal(small(dropout=0.0).train()(*inputs()), out[0])


def test_half_precision_keeps_the_head_in_float32():
    network = small()
    out = network(*inputs()).log_softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        h = network.body(*inputs())
        logits = all_logits(network, h, h.shape[2])
    assert h.dtype == logits.dtype == torch.float32
    assert (logits.log_softmax(-1) - out).abs().mean() < 0.1
    assert network.to(torch.bfloat16)(*inputs()).dtype == torch.float32
    assert network.to(torch.float64)(*inputs()).dtype == torch.float64


def test_initial_weights_follow_the_published_rules():
    """No bias in the embeddings of t and lambda, lambda's share at zero, attention's last map near it."""
    torch.manual_seed(0)
    for name, p in config(channels=32, features=32).build(CIFAR, lam=True).named_parameters():
        biased = name.endswith("bias") and "conv" not in name and "norm" not in name.lower()
        if "lam_dense" in name or name.endswith(".b") or (biased and "output" not in name):
            assert not p.any(), name
        elif name.endswith(".W"):
            bound = (3 * (1e-10 if "NIN_3" in name else 0.1) / (sum(p.shape) / 2)) ** 0.5
            assert 0.95 * bound < p.abs().max() <= bound
            assert p.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        elif name.endswith("weight") and p.ndim > 1:
            bound = (p.numel() / len(p)) ** -0.5
            assert 0.95 * bound < p.abs().max() <= bound


def test_images_only_and_sides_that_divide():
    with pytest.raises(ValueError, match="needs images"):
        config().build(StateSpace(shape=(64,), num_states=4), lam=False)
    with pytest.raises(ValueError, match="sides that 8 divides, not 32 x 28"):
        config().build(StateSpace(shape=(1, 32, 28), num_states=4), lam=False)
    with pytest.raises(ValueError, match="attention at level 2, and the last is 1"):
        config(multipliers=[1, 1], attention=[0, 2]).build(CIFAR, lam=False)
    with pytest.raises(ValueError, match="144 channels do not divide into 32 groups"):
        config(channels=36).build(CIFAR, lam=False)
    with pytest.raises(ValueError, match="no class labels: set classes = 0, not 10"):
        config().build(StateSpace(shape=(3, 32, 32), num_states=256, num_classes=10), lam=False)


# the truncated logistic


def cdf_at_the_edges(params, num_states):
    """log F at the left and the right edge of every bin."""
    mu, log_scale = params[..., None, 0], params[..., None, 1]
    inverse = torch.exp(-(log_scale - 2))
    width = 2 / num_states
    centre = torch.arange(num_states) * width - 1 + width / 2
    return logsigmoid((centre - width / 2 - mu) * inverse), logsigmoid((centre + width / 2 - mu) * inverse)


def as_published(params, num_states):
    left, right = cdf_at_the_edges(params, num_states)
    return right + torch.log1p(-torch.exp(left - right) + 1e-6)


def share(params, num_states):
    """Of what lies left of a bin's right edge, what lies in the bin."""
    left, right = cdf_at_the_edges(params, num_states)
    return 1 - torch.exp(left - right)


def test_truncated_logistic_golden_values():
    p = truncated_logistic(torch.tensor([0.1, 0.3], dtype=torch.float64), 256).softmax(-1)
    wanted = [1.0650774e-4, 1.07935401e-2, 3.1619080e-4]
    assert p[[0, 140, 255]].tolist() == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("num_states", [2, 16, 256])
def test_truncated_logistic_is_the_published_formula(num_states):
    """In float64 everywhere; in float32 where the published order of operations has that precision."""
    places = torch.tensor([-1.0, -0.97, -0.3, 0.0, 0.51, 1.0])
    params = torch.cartesian_prod(places, torch.linspace(-10, 12, 23)).float().double()
    wanted = as_published(params, num_states)
    assert torch.allclose(truncated_logistic(params, num_states), wanted, atol=1e-8, rtol=1e-10)
    single = truncated_logistic(params.float(), num_states)
    solid = share(params, num_states) > 3e-3
    assert torch.allclose(single.double()[solid], wanted[solid], atol=1e-4, rtol=1e-6)
    assert torch.allclose(single, as_published(params.float(), num_states), atol=1e-6, rtol=1e-6)


def test_truncated_logistic_has_the_gradient_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(2, 7, 2, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(2, 7, 9, dtype=torch.float64, generator=generator)
    (found,) = torch.autograd.grad((truncated_logistic(params, 9) * weight).sum(), params)
    (wanted,) = torch.autograd.grad((as_published(params, 9) * weight).sum(), params)
    assert torch.allclose(found, wanted, atol=1e-10)


def test_truncated_logistic_is_safe_at_every_log_scale():
    scales = torch.tensor([-1e30, -300.0, -100.0, -30.0, -28.0, -12.0, 0.0, 12.0, 100.0, 300.0, 1e30])
    params = torch.cartesian_prod(torch.tensor([-1.0, -0.5, 0.0, 0.013, 1.0]), scales).requires_grad_()
    log_p = truncated_logistic(params, 256).log_softmax(-1)
    assert log_p.isfinite().all()
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(len(params)))
    log_p.square().mean().sqrt().backward()
    assert params.grad.isfinite().all()
    assert params.grad.square().sum().isfinite()
    beyond = scales.repeat(5) < -28  # where sharpness no longer grows
    assert not params.grad[beyond, 1].any()
    assert params.grad[~beyond, 1].any()
    assert torch.allclose(log_p[scales.repeat(5) >= 100].exp(), torch.tensor(1 / 256))
    sharp = truncated_logistic(torch.tensor([0.013, -1e30]), 256).argmax()
    assert sharp == int((0.013 + 1) * 128)
