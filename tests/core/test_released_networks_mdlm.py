"""MDLM's transformer against the released one (names, shapes, outputs), and as a network of this house."""

import json

import pytest
import torch
from golden import expected, golden, keys, wave
from heads import all_logits, logits_at
from safetensors.torch import load_file

from di4c_cli.core.networks import mdlm
from di4c_cli.core.space import StateSpace

RELEASED = StateSpace(shape=(1024,), num_states=50258, mask_id=50257)
SPACE = StateSpace(shape=(12,), num_states=7, mask_id=6)
B, L, D, S = 3, 4, SPACE.num_dims, SPACE.num_states
SIZES = {"width": 16, "depth": 2, "heads": 2, "cond": 8}


def ours(name):
    return name.removeprefix("backbone.").replace("latent_projection.", "lam_projection.")


def released(lam):
    """The full-size network, without memory behind its weights."""
    with torch.device("meta"):
        return mdlm.Config().build(RELEASED, lam=lam).eval()


def build(lam=True, **more):
    """A network with no weight left at zero."""
    torch.manual_seed(0)
    network = mdlm.Config(**SIZES, **more).build(SPACE, lam=lam)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if "adaLN" in name or "output" in name:
                p += 0.3 * torch.randn_like(p)
    return network.eval()


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(S, (B, D), generator=generator)
    return x, torch.rand(B, generator=generator), None, torch.rand(B, L, generator=generator).double()


# the release


@pytest.mark.parametrize(("lam", "tensors", "numbers"), [(False, 131, 169_627_250), (True, 135, 170_087_282)])
def test_released_counts(lam, tensors, numbers):
    """The 32 rotary frequencies are counted."""
    state = released(lam).state_dict()
    assert (len(state), sum(p.numel() for p in state.values())) == (tensors, numbers)


@pytest.mark.parametrize("lam", [False, True])
def test_released_names(lam):
    """In the order of registration too: lists of averaged weights come without names, and without buffers."""
    wanted = [(ours(name), shape) for name, shape in keys(f"dit_{'student' if lam else 'teacher'}")]
    assert [(name, tuple(p.shape)) for name, p in released(lam).state_dict().items()] == wanted
    names = [name for name, _ in wanted if name != "rotary_emb.inv_freq"]
    assert [name for name, _ in released(lam).named_parameters()] == names


def small_checkpoint(folder):
    """Weights and sizes of one golden folder."""
    at = golden(folder)
    if folder == "sony-sdtt":  # no configuration comes with this one
        state, heads = torch.load(at / "sdtt7-di4c2.ckpt", weights_only=True)["state_dict"], 4
    else:
        config = json.loads((at / "config.json").read_text())
        state, heads = load_file(at / "model.safetensors"), config.get("model", config)["n_heads"]
    state = {ours(name): p for name, p in state.items()}
    cond, width = state["sigma_map.mlp.2.weight"].shape[0], state["vocab_embed.embedding"].shape[1]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    return state, mdlm.Config(width=width, depth=depth, heads=heads, cond=cond)


@pytest.mark.parametrize("folder", ["mdlm-owt", "sdtt", "sony-sdtt"])
def test_small_checkpoints_give_the_published_outputs(folder):
    state, config = small_checkpoint(folder)
    case = expected(folder)
    x, S = case["input_ids"], case["logits"].shape[-1]
    space = StateSpace(shape=x.shape[1:], num_states=S, mask_id=S - 1)
    network = config.build(space, lam="lam" in case).eval()
    assert torch.equal(network.rotary_emb.inv_freq, state["rotary_emb.inv_freq"])
    network.load_state_dict(state)
    lam = case["lam"][:, None] if "lam" in case else None
    with torch.no_grad():
        out = network(x, torch.zeros(len(x)), None, lam)
    assert (out[:, 0] - case["logits"]).abs().max() < 1e-5


FIRST = {
    False: [-0.0898913, -6.4225698, 5.006135, 2.2313232, -6.786346],
    True: [-0.0873518, -6.4206686, 5.0017662, 2.2329667, -6.7841954],
}
LAST = {False: [6.2876644, 1.1907988, -7.0299602], True: [6.2883053, 1.1910675, -7.0306239]}
MEAN_STD = {False: (-0.00215442, 5.04792726), True: (-0.00215457, 5.0481851)}


@pytest.mark.parametrize("lam", [False, True])
def test_full_size_outputs(lam):
    """The published code's numbers at the deterministic weights."""
    network = released(lam)
    names = keys(f"dit_{'student' if lam else 'teacher'}")
    weights = {ours(name): wave(k, name, shape) for k, (name, shape) in enumerate(names)}
    weights["rotary_emb.inv_freq"] = mdlm.Rotary(64).inv_freq
    network.load_state_dict(weights, assign=True)
    x = (1601 * torch.arange(2 * 32) % 50258).view(2, 32)
    x[:, ::3] = RELEASED.mask_id
    draws = torch.tensor([[0.25], [0.9]]) if lam else None
    with torch.no_grad():
        logits = network(x, torch.zeros(2), None, draws)[:, 0]
    assert logits.shape == (2, 32, 50258)
    assert torch.allclose(logits.flatten()[:5], torch.tensor(FIRST[lam]), rtol=0, atol=1e-4)
    assert torch.allclose(logits.flatten()[-3:], torch.tensor(LAST[lam]), rtol=0, atol=1e-4)
    mean, std = MEAN_STD[lam]
    assert logits.double().mean().item() == pytest.approx(mean, abs=1e-6)
    assert logits.double().std().item() == pytest.approx(std, abs=1e-5)


# the network


def test_shapes():
    x, t, _, lam = inputs()
    assert build()(x, t, None, lam).shape == (B, L, D, S)
    assert build()(x, t).shape == build(lam=False)(x, t).shape == (B, 1, D, S)
    assert build()(x[:, :5], t, None, lam).shape == (B, L, 5, S)  # any length


def test_slices_are_the_whole():
    network = build()
    h = network.body(*inputs())
    whole = all_logits(network, h, h.shape[2])
    for positions in (slice(0, 1), slice(2, 7), slice(7, None)):
        assert torch.allclose(logits_at(network, h, positions, h.shape[2]), whole[:, :, positions], atol=1e-6)


def test_draws_and_data_points_do_not_meet():
    network = build()
    x, t, _, lam = inputs()
    out = network(x, t, None, lam)
    draws = torch.cat([network(x, t, None, lam[:, [j]]) for j in range(L)], 1)
    rows = torch.cat([network(x[[b]], t[[b]], None, lam[[b]]) for b in range(B)])
    assert torch.allclose(out, draws, atol=1e-5)
    assert torch.allclose(out, rows, atol=1e-5)
    assert (out - out.roll(1, 1)).abs().flatten(2).amax(2).min() > 1e-3


def test_without_lambda_a_student_is_its_teacher():
    teacher, student = build(lam=False), build()
    surplus = student.load_state_dict(teacher.state_dict(), strict=False)
    assert surplus.missing_keys
    assert all("lam" in name for name in surplus.missing_keys)
    x, t, _, lam = inputs()
    assert torch.equal(student(x, t), teacher(x, t))
    assert not torch.allclose(student(x, t, None, lam[:, :1]), teacher(x, t), atol=1e-2)


def test_rotary_turns_pairs_half_a_head_apart():
    """Position n turns the pair (k, k + 2) of a head of width 4 by n 10000^(-k/2); lambda is not turned."""
    cos, sin = mdlm.Rotary(4)(3, 1, torch.float64)
    z = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).double().expand(4, 4)
    turned = z * cos + z.roll(2, -1) * sin
    pairs = torch.complex(z[:, :2], z[:, 2:])
    angle = torch.tensor([[0, 0], [1, 0.01], [2, 0.02], [0, 0]]).double()
    wanted = pairs * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(torch.complex(turned[:, :2], turned[:, 2:]), wanted, atol=1e-6)
    assert torch.equal(turned[3], z[3])


def test_order_counts():
    """Without rotary positions a text read backwards would give its logits backwards."""
    network = build(lam=False)
    x, t, _, _ = inputs()
    assert not torch.allclose(network(x.flip(1), t), network(x, t).flip(2), atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_rotary_frequencies_keep_their_precision(dtype):
    network = build()
    own = network.rotary_emb.inv_freq.clone()
    out = network(*inputs())
    other = network.to(dtype)(*inputs())
    assert other.dtype == dtype
    assert torch.equal(network.rotary_emb.inv_freq, own)
    assert network.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.allclose(other.float(), out, atol=0.1 if dtype == torch.bfloat16 else 1e-5)


def test_mixed_precision():
    network = build()
    out = network(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(*inputs())
    assert torch.allclose(mixed.float(), out, atol=0.1)
    assert not torch.equal(mixed.float(), out)


def test_neither_time_nor_label_is_seen():
    network = build()
    x, t, _, lam = inputs()
    assert not network.sees_time
    out = network(x, t, None, lam)
    assert torch.equal(network(x, 1 - t, torch.zeros(B, dtype=torch.long), lam), out)


def test_dropout_is_for_training():
    network = build(dropout=0.5)
    assert torch.equal(network(*inputs()), network(*inputs()))
    assert torch.equal(network(*inputs()), build(dropout=0.0).train()(*inputs()))
    network.train()
    assert not torch.allclose(network(*inputs()), network(*inputs()), atol=1e-2)


@pytest.mark.parametrize("silent", ["attn_out", "mlp"])
def test_attention_and_mlp_both_drop(silent):
    network = build(dropout=0.5).train()
    with torch.no_grad():
        for name, p in network.blocks.named_parameters():
            if silent in name:
                p.zero_()
    assert not torch.allclose(network(*inputs()), network(*inputs()), atol=1e-3)


def test_gradient_reaches_every_weight():
    network = build()
    network(*inputs()).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_initial_weights():
    """Blocks that do nothing yet and logits that say nothing yet, as published."""
    torch.manual_seed(0)
    network = mdlm.Config(**SIZES).build(SPACE, lam=True)
    zero = {name for name, p in network.named_parameters() if not p.any()}
    adaln = {name for name, _ in network.named_parameters() if "adaLN" in name}
    assert zero == adaln | {"output_layer.linear.weight", "output_layer.linear.bias"}
    assert not network(*inputs()).any()


def test_misfits():
    for width, heads in ((16, 3), (12, 4)):  # heads of width 3 cannot be rotated
        with pytest.raises(
            ValueError, match=rf"^network 'mdlm': width {width} .* multiple of {heads} heads$"
        ):
            mdlm.Config(width=width, heads=heads).build(SPACE, lam=False)
    labelled = StateSpace(shape=(12,), num_states=7, mask_id=6, num_classes=10)
    with pytest.raises(ValueError, match=r"^network 'mdlm' takes no class labels: set classes = 0, not 10$"):
        mdlm.Config(**SIZES).build(labelled, lam=False)
