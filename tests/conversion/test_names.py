"""Names of released tensors and ours, both ways."""

import pytest
import torch
from golden import keys
from released import KINDS, network_of

from di4c_cli.conversion import our_name, released_name
from di4c_cli.core.codecs.vqgan import Architecture, AutoEncoder
from di4c_cli.core.component import config_class
from di4c_cli.core.space import StateSpace

LISTS = {
    "unet_teacher": ["tauldr"],
    "unet_student": ["di4c-tauldr"],
    "maskgit_teacher": ["maskgit"],
    "maskgit_student": ["di4c-maskgit"],
    "dit_teacher": ["mdlm", "sdtt"],
    "dit_student": ["di4c-sdtt"],
    "vqgan": ["vqgan"],
}


def released_network(name):
    """The network of the released size."""
    lam = name.endswith("student")
    with torch.device("meta"):
        if name == "vqgan":
            sizes = {"ch": 128, "ch_mult": [1, 1, 2, 2, 4], "num_res_blocks": 2, "attn_resolutions": [16]}
            rest = {"z_channels": 256, "embed_dim": 256, "n_embed": 1024, "resolution": 256}
            return AutoEncoder(Architecture(**sizes, **rest))
        kind, space = {
            "unet": ("tauldr", StateSpace(shape=(3, 32, 32), num_states=256)),
            "maskgit": (
                "maskgit",
                StateSpace(shape=(1, 16, 16), num_states=1025, mask_id=1024, num_classes=1000),
            ),
            "dit": ("mdlm", StateSpace(shape=(1024,), num_states=50258, mask_id=50257)),
        }[name.partition("_")[0]]
        return config_class("networks", kind)().build(space, lam=lam)


@pytest.mark.parametrize("name", LISTS)
def test_every_released_name_is_one_of_ours(name):
    """All lines of the list, both ways, and nothing else in the network."""
    listed = keys(name)
    own = {key: tuple(p.shape) for key, p in released_network(name).state_dict().items()}
    for kind in LISTS[name]:
        assert {our_name(key, kind): shape for key, shape in listed} == own
        assert [released_name(our_name(key, kind), kind) for key, _ in listed] == [key for key, _ in listed]


@pytest.mark.parametrize("kind", KINDS)
def test_back_and_forth(kind):
    own = list(network_of(kind).state_dict())
    assert [our_name(released_name(name, kind), kind) for name in own] == own
    lam = [name for name in own if "lam" in name]
    assert bool(lam) == kind.startswith("di4c-")


@pytest.mark.parametrize(
    ("wrapped", "kind", "ours"),
    [
        ("backbone.blocks.0.norm1.weight", "mdlm", "blocks.0.norm1.weight"),
        ("backbone.backbone.blocks.0.norm1.weight", "sdtt", "blocks.0.norm1.weight"),
        ("_orig_mod.backbone._orig_mod.vocab_embed.embedding", "di4c-sdtt", "vocab_embed.embedding"),
        ("backbone.latent_projection.0.bias", "di4c-sdtt", "lam_projection.0.bias"),
        ("module.tok_emb.weight", "maskgit", "tok_emb.weight"),
        ("net.module.input_conv.bias", "tauldr", "input_conv.bias"),
        (
            "net.middle_modules.0.dense1.weight",
            "di4c-tauldr",
            "middle_modules.0.lam_dense.weight",
        ),
        ("net.hlemb_modules.1.bias", "di4c-tauldr", "lam_h_modules.1.bias"),
        ("net.lemb_modules.1.bias", "di4c-tauldr", "lam_modules.1.bias"),
        ("net.tlam_mix.bias", "di4c-tauldr", "tlam_mix.bias"),
        ("encoder.module.weight", "vqgan", "encoder.module.weight"),  # only in front
    ],
)
def test_wrappers_are_stripped(wrapped, kind, ours):
    assert our_name(wrapped, kind) == ours
