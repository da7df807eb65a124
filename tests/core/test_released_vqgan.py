"""The VQGAN: the released file's tensors, the published code's outputs, and codec folders from outside."""

import pytest
import torch
from golden import expected, golden, keys, wave
from pydantic import ValidationError

from di4c_cli.core import checkpoints
from di4c_cli.core.codecs import ImageCodec, vqgan
from di4c_cli.core.codecs._autoencoder import Architecture, AutoEncoder
from di4c_cli.errors import CheckpointError

RELEASED = {
    "ch": 128,
    "ch_mult": [1, 1, 2, 2, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [16],
    "z_channels": 256,
    "embed_dim": 256,
    "n_embed": 1024,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
}
SMALL = RELEASED | {
    "ch": 32,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
    "z_channels": 32,
    "embed_dim": 32,
    "n_embed": 64,
    "resolution": 32,
}
"""The golden file's."""
TINY = SMALL | {"ch_mult": [1, 1], "attn_resolutions": [4], "embed_dim": 5, "resolution": 8}


def empty(sizes):
    with torch.device("meta"):
        return AutoEncoder(Architecture(**sizes))


def codec_of(folder, sizes, weights, **changes):
    """A codec on a folder with these weights and what its config.json says."""
    header = {"role": "codec", "kind": "vqgan", "architecture": sizes} | changes
    checkpoints.save(folder, config=header, model=weights, ema=None, card="# codec")
    grid = Architecture(**SMALL).grid if sizes is SMALL else 4
    told = {"num_codes": sizes["n_embed"], "grid": grid, "size": sizes["resolution"]}
    return vqgan.Config(checkpoint=str(folder), **told).build()


def random_weights(sizes):
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn(p.shape, generator=generator) for name, p in empty(sizes).state_dict().items()
    }


# the released size


def test_tensors_are_those_of_the_released_file():
    found = {name: tuple(p.shape) for name, p in empty(RELEASED).state_dict().items()}
    assert sum(torch.Size(shape).numel() for shape in found.values()) == 72_141_699
    assert len(found) == 343
    listed = keys("vqgan")
    assert list(found.items()) == listed


@pytest.fixture(scope="module")
def released():
    model = empty(RELEASED)
    weights = {name: wave(k, name, shape) for k, (name, shape) in enumerate(keys("vqgan"))}
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def assert_close(found, mean, std, first, last):
    """Within float32's noise: these weights make it 2e-6 here, and 3e-3 at the worst pixel."""
    for value, wanted in [(found.mean(), mean), (found.std(), std)]:
        assert value.item() == pytest.approx(wanted, abs=1e-5)
    assert found.flatten()[:5].tolist() == pytest.approx(first, abs=1e-5)
    assert found.flatten()[-3:].tolist() == pytest.approx(last, abs=1e-5)


def test_full_size_decoding(released):
    codes = (29 * torch.arange(256) % 1024).view(1, 256)
    first = [-0.021994, -0.0306188, -0.0301263, -0.0265054, -0.0231308]
    last = [-0.0541757, -0.0558594, -0.0456992]
    assert_close(released.decode(codes), -0.03890216, 0.23153271, first, last)


@pytest.mark.slow
def test_full_size_encoding(released):
    image = torch.sin(0.01 * torch.arange(3 * 256 * 256, dtype=torch.float64)).float().view(1, 3, 256, 256)
    z = released.latents(image)
    first = [0.0153132, 0.0044245, -0.0012348, -0.0009118, 0.0009192]
    assert_close(z, 0.000713, 0.10735726, first, [0.0398482, 0.0405551, 0.0330896])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(released, "latents", lambda images: z)  # once is enough
        codes = released.encode(image)
    assert codes.shape == (1, 256)
    assert codes[0, :10].tolist() == [96, 788, 96, 96, 96, 96, 96, 96, 96, 96]


# the golden file


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = golden("vqgan") / "last.ckpt"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    weights = {name: p for name, p in state.items() if not name.startswith("loss.")}
    return codec_of(tmp_path_factory.mktemp("vqgan") / "codec", SMALL, weights)


def test_golden_codes(small):
    given = expected("vqgan")
    assert isinstance(small, ImageCodec)
    assert small.image_shape == (3, 32, 32)
    assert (small.space.shape, small.space.num_states) == ((1, 8, 8), 64)
    codes = small.encode((given["images"] + 1) / 2)  # outside, images are in [0, 1]
    assert torch.equal(codes, given["codes_of_images"].flatten(1))


def test_golden_images(small):
    given = expected("vqgan")
    codes = given["codes"].flatten(1)
    raw = small.model("cpu").decode(codes)
    assert (raw - given["decoded"]).abs().max() < 1e-4
    images = small.decode(codes)
    assert (images - ((given["decoded"] + 1) / 2).clamp(0, 1)).abs().max() < 1e-4
    assert (images.min(), images.max()) == (0, 1)


# the codec


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return codec_of(tmp_path_factory.mktemp("tiny") / "codec", TINY, random_weights(TINY))


def test_pieces_make_no_difference(tiny, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    images, tokens = (
        torch.rand(7, 3, 8, 8, generator=generator),
        torch.randint(64, (7, 16), generator=generator),
    )
    assert tiny.at_once == 2**19 // 64
    whole = tiny.encode(images), tiny.decode(tokens)
    monkeypatch.setattr(tiny, "at_once", 3)
    assert torch.equal(tiny.encode(images), whole[0])
    assert torch.allclose(tiny.decode(tokens), whole[1], atol=1e-6)
    assert not tiny.decode(tokens).requires_grad
    assert vqgan.Config().build().at_once == 8


def test_no_images_are_no_tokens(tiny):
    assert tiny.encode(torch.zeros(0, 3, 8, 8)).shape == (0, 16)
    assert tiny.decode(torch.zeros(0, 16, dtype=torch.int64)).shape == (0, 3, 8, 8)


def test_states_beyond_the_codes_show_as_the_last(tiny):
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    tokens[0, :3] = torch.tensor([64, 63, -1])
    assert torch.equal(tiny.decode(tokens), tiny.decode(tokens.clamp(0, 63)))


def test_weights_are_read_once_and_only_for_images(tmp_path, monkeypatch):
    codec = vqgan.Config(checkpoint=str(tmp_path / "not-yet")).build()
    assert (codec.space.shape, codec.space.num_states, codec.image_shape) == (
        (1, 16, 16),
        1024,
        (3, 256, 256),
    )
    codec = codec_of(tmp_path / "codec", TINY, random_weights(TINY))
    codec.decode(torch.zeros(1, 16, dtype=torch.int64))
    monkeypatch.setattr(checkpoints, "read_tensors", None)
    codec.encode(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("checkpoint", [None, "nowhere/vqgan"])
def test_without_weights(checkpoint):
    codec = vqgan.Config(checkpoint=checkpoint).build()
    for use in (
        lambda: codec.decode(torch.zeros(1, 256, dtype=torch.int64)),
        lambda: codec.encode(torch.zeros(1, 3, 256, 256)),
    ):
        with pytest.raises(CheckpointError, match=r"codec\.checkpoint: (not set|nowhere/vqgan)") as error:
            use()
        assert "di4c convert" in error.value.hint
        assert "--kind vqgan" in error.value.hint


def test_size_must_be_a_multiple_of_the_grid():
    with pytest.raises(ValidationError, match="not a multiple"):
        vqgan.Config(grid=10)


# hostile folders


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ch": 48}, "architecture: Value error, ch is 48"),
        ({"ch": 0}, r"architecture\.ch: "),
        ({"ch": 10**9}, r"architecture\.ch: "),
        ({"ch_mult": []}, r"architecture\.ch_mult: "),
        ({"ch_mult": [1] * 10**5}, r"architecture\.ch_mult: "),
        ({"num_res_blocks": 10**6}, r"architecture\.num_res_blocks: "),
        ({"n_embed": "many"}, r"architecture\.n_embed: "),
        ({"resolution": 9}, "resolution is 9, not a multiple of 2"),
        ({"double_z": True}, r"architecture\.double_z: Extra inputs"),
        (
            {"n_embed": 65},
            r"not of the recipe's sizes \(it has codec\.num_codes=65 codec\.grid=4 codec\.size=8\)",
        ),
        ({"resolution": 16, "ch_mult": [1, 1, 1]}, r"codec\.size=16"),
        ({"ch_mult": [1]}, r"codec\.grid=8"),
        ({"in_channels": 1}, "not for colour images"),
        ({"out_ch": 1}, "not for colour images"),
        ({"embed_dim": 4}, "of another shape: .*quantize"),
        ({"num_res_blocks": 2}, "missing: "),
        ({"attn_resolutions": []}, "surplus: "),
        ({"ch": 4096, "ch_mult": [16, 16], "num_res_blocks": 16}, "of another shape"),  # terabytes
    ],
)
def test_an_architecture_from_outside(tmp_path, change, message):
    codec = codec_of(tmp_path / "codec", TINY, random_weights(TINY), architecture=TINY | change)
    with pytest.raises(CheckpointError, match=message) as error:
        codec.decode(torch.zeros(1, 16, dtype=torch.int64))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("kind", ["patches", "pixels"])
def test_another_kind_of_codec(tmp_path, kind):
    codec = codec_of(tmp_path / "codec", TINY, random_weights(TINY), kind=kind)
    with pytest.raises(CheckpointError, match="not a codec of kind vqgan"):
        codec.decode(torch.zeros(1, 16, dtype=torch.int64))


def test_a_missing_key_of_the_architecture(tmp_path):
    sizes = {key: value for key, value in TINY.items() if key != "z_channels"}
    codec = codec_of(tmp_path / "codec", TINY, random_weights(TINY), architecture=sizes)
    with pytest.raises(CheckpointError, match=r"architecture\.z_channels: Field required"):
        codec.decode(torch.zeros(1, 16, dtype=torch.int64))


def test_weights_of_another_type_become_float32(tmp_path):
    weights = random_weights(TINY)
    codec = codec_of(tmp_path / "codec", TINY, {name: p.bfloat16() for name, p in weights.items()})
    assert {p.dtype for p in codec.model("cpu").parameters()} == {torch.float32}
