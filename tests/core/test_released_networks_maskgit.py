"""MaskGIT's transformer against the released one (names, shapes, outputs), and as a network of this house."""

import json

import pytest
import torch
from golden import expected, golden, keys, wave
from heads import all_logits, logits_at

from di4c_cli.core.networks import maskgit
from di4c_cli.core.space import StateSpace

RELEASED = StateSpace(shape=(16, 16), num_states=1025, mask_id=1024, num_classes=1000)
SPACE = StateSpace(shape=(3, 4), num_states=7, mask_id=6, num_classes=5)
B, L, D, S = 3, 4, SPACE.num_dims, SPACE.num_states
SIZES = {"width": 16, "depth": 2, "heads": 2, "hidden": 24}


def ours(name):
    return name.replace("latent_projection.", "lam_projection.")


def released(lam):
    """The full-size network, without memory behind its weights."""
    with torch.device("meta"):
        return maskgit.Config().build(RELEASED, lam=lam).eval()


def build(lam=True, space=SPACE, **more):
    torch.manual_seed(0)
    network = maskgit.Config(**SIZES, **more).build(space, lam=lam)
    with torch.no_grad():
        network.bias.normal_()
    return network.eval()


def inputs(space=SPACE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(space.num_states, (B, space.num_dims), generator=generator)
    label = torch.tensor([0, 3, 5])
    return x, torch.rand(B, generator=generator), label, torch.rand(B, L, generator=generator).double()


# the release


@pytest.mark.parametrize(
    ("lam", "tensors", "parameters"), [(False, 305, 174_160_874), (True, 309, 174_620_906)]
)
def test_released_counts(lam, tensors, parameters):
    state = released(lam).state_dict()
    assert (len(state), sum(p.numel() for p in state.values())) == (tensors, parameters)


@pytest.mark.parametrize("lam", [False, True])
def test_released_names(lam):
    """In the order of registration too: lists of averaged weights come without names."""
    wanted = [(ours(name), shape) for name, shape in keys(f"maskgit_{'student' if lam else 'teacher'}")]
    assert [(name, tuple(p.shape)) for name, p in released(lam).state_dict().items()] == wanted
    assert [name for name, _ in released(lam).named_parameters()] == [name for name, _ in wanted]


@pytest.mark.parametrize(
    ("folder", "file"), [("maskgit", "MaskGIT_ImageNet_256.pth"), ("sony-maskgit", "maskgit-di4c-d.pth")]
)
def test_small_checkpoints_give_the_published_outputs(folder, file):
    at = golden(folder)
    state = torch.load(at / file, weights_only=True)["model_state_dict"]
    case = expected(folder)
    hidden, width = state["transformer.layers.0.1.fn.net.0.weight"].shape
    S = case["logits"].shape[-1]
    num_classes = len(state["tok_emb.weight"]) - S - 1
    space = StateSpace(shape=(4, 4), num_states=S, mask_id=S - 1, num_classes=num_classes)
    depth = len({name.split(".")[2] for name in state if name.startswith("transformer")})
    heads = json.loads((at / "hparams.json").read_text())["heads"]
    config = maskgit.Config(width=width, depth=depth, heads=heads, hidden=hidden)
    network = config.build(space, lam="lam" in case).eval()
    network.load_state_dict({ours(name): p for name, p in state.items()})
    label = case["labels"].masked_fill(case["drop"], num_classes)
    lam = case["lam"][:, None] if "lam" in case else None
    with torch.no_grad():
        out = network(case["tokens"].flatten(1), torch.zeros(len(label)), label, lam)
    assert (out[:, 0] - case["logits"]).abs().max() < 1e-5


FIRST = {
    False: [0.1325445, -0.9034257, 0.6347691, 0.4611223, -1.0097671],
    True: [0.1325444, -0.9034254, 0.6347687, 0.4611221, -1.0097665],
}
LAST = {False: [-0.4741024, -0.4548126, 0.9695486], True: [-0.4741023, -0.4548125, 0.9695482]}
STD = {False: 0.70451144, True: 0.70451112}


@pytest.mark.parametrize("lam", [pytest.param(False, marks=pytest.mark.slow), True])
def test_full_size_outputs(lam):
    """The published code's numbers at the deterministic weights; lambda moves their last digits only."""
    network = released(lam)
    names = keys(f"maskgit_{'student' if lam else 'teacher'}")
    weights = {ours(name): wave(k, name, shape) for k, (name, shape) in enumerate(names)}
    network.load_state_dict(weights, assign=True)
    x = (29 * torch.arange(2 * 256) % 1025).view(2, 256)
    label = torch.tensor([7, 1000])  # the second one's label is dropped
    draws = torch.tensor([[0.25], [0.9]]) if lam else None
    with torch.no_grad():
        logits = network(x, torch.zeros(2), label, draws)[:, 0]
    assert logits.shape == (2, 256, 1025)
    assert torch.allclose(logits.flatten()[:5], torch.tensor(FIRST[lam]), rtol=0, atol=1e-5)
    assert torch.allclose(logits.flatten()[-3:], torch.tensor(LAST[lam]), rtol=0, atol=1e-5)
    assert logits.double().std().item() == pytest.approx(STD[lam], abs=1.5e-7)
    if not lam:
        assert logits.double().mean().item() == pytest.approx(8.832e-5, abs=1e-7)


# the network


def test_shapes():
    x, t, label, lam = inputs()
    assert build()(x, t, label, lam).shape == (B, L, D, S)
    assert build()(x, t, label).shape == build(lam=False)(x, t, label).shape == (B, 1, D, S)


def test_slices_are_the_whole():
    network = build()
    h = network.body(*inputs())
    whole = all_logits(network, h, h.shape[2])
    for positions in (slice(0, 1), slice(2, 7), slice(7, None)):
        assert torch.allclose(logits_at(network, h, positions, h.shape[2]), whole[:, :, positions], atol=1e-6)


def test_draws_and_data_points_do_not_meet():
    network = build()
    x, t, label, lam = inputs()
    out = network(x, t, label, lam)
    draws = torch.cat([network(x, t, label, lam[:, [j]]) for j in range(L)], 1)
    rows = torch.cat([network(x[[b]], t[[b]], label[[b]], lam[[b]]) for b in range(B)])
    assert torch.allclose(out, draws, atol=1e-5)
    assert torch.allclose(out, rows, atol=1e-5)
    assert (out - out.roll(1, 1)).abs().flatten(2).amax(2).min() > 1e-3


def test_without_lambda_a_student_is_its_teacher():
    teacher, student = build(lam=False), build()
    surplus = student.load_state_dict(teacher.state_dict(), strict=False)
    assert surplus.missing_keys
    assert all("lam" in name for name in surplus.missing_keys)
    x, t, label, lam = inputs()
    assert torch.equal(student(x, t, label), teacher(x, t, label))
    assert not torch.allclose(student(x, t, label, lam[:, :1]), teacher(x, t, label), atol=1e-2)


def test_no_label_is_the_last_label():
    network = build()
    x, t, label, lam = inputs()
    null = torch.full((B,), SPACE.num_classes)
    assert torch.equal(network(x, t, None, lam), network(x, t, null, lam))
    differ = (network(x, t, label, lam) - network(x, t, null, lam)).abs().flatten(1).amax(1) > 1e-3
    assert differ.tolist() == [True, True, False]


def test_without_classes():
    space = StateSpace(shape=(3, 4), num_states=7, mask_id=6)
    network = build(space=space)
    x, t, _, lam = inputs()
    assert network(x, t, None, lam).shape == (B, L, D, S)
    assert len(network.tok_emb.weight) == S + 1


def test_neither_codes_nor_classes_meet_in_the_table():
    """A label's row is no state's row: labels can be renamed without a change for other labels."""
    network = build(lam=False)
    x, t, label, _ = inputs()
    before = network(x, t, label)
    with torch.no_grad():
        network.tok_emb.weight[S + 3] += 1
    changed = (network(x, t, label) != before).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_time_is_not_seen():
    network = build()
    x, t, label, lam = inputs()
    assert not network.sees_time
    assert torch.equal(network(x, t, label, lam), network(x, 1 - t, label, lam))


def test_dropout_is_for_training():
    network = build(dropout=0.5)
    x, t, label, lam = inputs()
    assert torch.equal(network(x, t, label, lam), network(x, t, label, lam))
    assert torch.equal(network(x, t, label, lam), build(dropout=0.0).train()(x, t, label, lam))
    network.train()
    assert not torch.allclose(network(x, t, label, lam), network(x, t, label, lam), atol=1e-2)
    for module in network.modules():  # attention drops too
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    assert not torch.allclose(network(x, t, label, lam), network(x, t, label, lam), atol=1e-2)


def test_gradient_reaches_every_weight():
    network = build()
    network(*inputs()).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_initial_weights():
    torch.manual_seed(0)
    network = maskgit.Config(width=64, depth=1, heads=2, hidden=64).build(SPACE, lam=True)
    assert not network.bias.any()
    assert network.pos_emb.std().item() == pytest.approx(0.02, rel=0.1)
    assert network.tok_emb.weight.std().item() == pytest.approx(1, rel=0.1)
    mha = network.transformer.layers[0][0].fn.mha
    assert mha.in_proj_weight.std().item() == pytest.approx((2 / (4 * 64)) ** 0.5, rel=0.1)
    assert not mha.in_proj_bias.any()
    assert not mha.out_proj.bias.any()
    assert network.lam_projection[2].weight.any()


def test_misfits():
    with pytest.raises(ValueError, match=r"^network 'maskgit': width 16 is not a multiple of 3 heads$"):
        maskgit.Config(width=16, heads=3).build(SPACE, lam=False)
    with pytest.raises(ValueError, match=r"^network 'maskgit' needs a masked process"):
        maskgit.Config(**SIZES).build(StateSpace(shape=(4, 4), num_states=7), lam=False)
