"""FID, Inception score, precision and recall beside torch-fidelity's own program, on weights made up here."""

from pathlib import Path

import pytest
import torch
from torch import nn

from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import characters, pixels
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.metrics import Judged, Trial, inception
from di4c_cli.core.processes import masked
from di4c_cli.errors import DataError, RecipeError

import_torchvision()
torch_fidelity = pytest.importorskip("torch_fidelity")
CODEC = pixels.Config(height=8, width=8, channels=3, levels=256).build()
REAL = torch.randint(256, (40, 192), generator=torch.Generator().manual_seed(0))
FAKE = torch.randint(60, 200, (24, 192), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *args, **kwargs: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *args, **kwargs: None)
        network = FeatureExtractorInceptionV3("made-up", ["2048"], "nowhere")
    torch.save(network.state_dict(), path)
    return path


def trial(samples, plan=()):
    data = Dataset(train=TensorSplit(REAL), test=TensorSplit(REAL[:20]))
    return Trial(
        samples=samples, codec=CODEC, dataset=data, process=masked.Config().build(CODEC.space), plan=plan,
        seed=0, cache=Path("unused"),
    )  # fmt: skip


class Pictures(torch.utils.data.Dataset):
    def __init__(self, tokens):
        self.images = (CODEC.decode(tokens) * 255).round().to(torch.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.slow  # eigenvalues of products of 2048 x 2048 covariances
def test_figures_are_those_of_torch_fidelity(weights):
    metric = inception.Config(weights=str(weights), num=40).build()
    ours = metric(trial(FAKE))
    theirs = torch_fidelity.calculate_metrics(
        input1=Pictures(FAKE), input2=Pictures(REAL), cuda=False, fid=True, isc=True, cache=False,
        isc_splits=10, samples_shuffle=False, feature_extractor_weights_path=str(weights), verbose=False,
        batch_size=20, num_workers=0,
    )  # fmt: skip
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    one_image = metric(trial(FAKE[:1].repeat(24, 1)))
    assert one_image["fid"] > ours["fid"]
    assert one_image["is"] == pytest.approx(1, abs=1e-6)
    assert one_image["inception_recall"] <= ours["inception_recall"]
    floor = inception.Config(weights=str(weights), reference="test", num=40).build()(trial(REAL[:20], None))
    assert floor["fid"] > 1e-3  # not a set with itself


def test_weights_are_read_as_tensors_only(tmp_path):
    class Command:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"fc.weight": Command()}, tmp_path / "hostile.pth")
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("hostile.pth", "other.pth", "text.pth", "missing.pth"):
        with pytest.raises(DataError, match=name):
            inception.Config(weights=str(tmp_path / name)).build()(trial(FAKE))


def test_what_is_no_image_is_refused(weights):
    metric = inception.Config(weights=str(weights)).build()
    assert isinstance(metric, Judged)
    assert "40 real ones of the train split" in metric.judge(trial(FAKE))
    with pytest.raises(RecipeError, match="more than 3 samples"):
        metric(trial(FAKE[:3]))
    text = characters.Config(length=4, alphabet="ab").build()
    with pytest.raises(ValueError, match="reads images"):
        inception.Config().check(text, trial(FAKE).dataset)
