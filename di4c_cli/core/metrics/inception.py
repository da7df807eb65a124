"""FID, Inception score, precision and recall in the features that published figures use.

The network is torch-fidelity's port of the original graph, which resizes 8-bit images to 299 x 299 itself
(bilinear, as TensorFlow 1 did). Its weights come from outside: they are read as tensors only.
"""

import hashlib
import importlib.metadata
import io
import pickle
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from di4c_cli.core import metrics
from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import Codec, ImageCodec
from di4c_cli.core.component import installed
from di4c_cli.core.datasets import Dataset, Split, spread, spread_index
from di4c_cli.core.datasets._download import download_folder, downloading
from di4c_cli.core.metrics import Direction, Trial
from di4c_cli.core.metrics.frechet import frechet_distance
from di4c_cli.core.metrics.precision_recall import covered
from di4c_cli.errors import DataError, RecipeError

Reference = Literal["train", "test"]
WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
SHA256 = "6726825d"  # its beginning, as in the name of the file
TIMEOUT = 60.0  # seconds without a byte, after which a download is given up
CHUNK = 50  # images in one forward pass
SPLITS = 10  # of the Inception score
NEIGHBOUR = 3  # of precision and recall


class Inception:
    """Features (2048) and logits of images."""

    def __init__(self, network: nn.Module, name: str) -> None:
        self.network = network
        self.name = name

    @torch.no_grad()
    def __call__(
        self, codec: ImageCodec, tokens: Int[Tensor, "N D"], device: torch.device | str
    ) -> tuple[Float[Tensor, "N 2048"], Float[Tensor, "N 1008"]]:
        """Of tokens, in float64 on the CPU."""
        self.network.to(device)
        found = []
        for chunk in tokens.cpu().split(CHUNK):
            images = (codec.decode(chunk) * 255).round().clamp(0, 255).to(torch.uint8)
            rgb = images.expand(-1, 3, -1, -1).to(device)
            found.append([values.double().cpu() for values in self.network(rgb)])
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        return features, logits


@lru_cache(maxsize=1)
def inception(weights: Path | None) -> Inception:
    """The network with weights from a file, or a download.

    Raises:
        DataError: the file is not there, or holds something else.
    """
    import_torchvision()  # before torch-fidelity does
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = weights or _downloaded()
    try:
        content = path.read_bytes()
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        # torch-fidelity reads pickles of any kind: it gets one that was written here.
        trusted = io.BytesIO()
        torch.save({name: tensors[name] for name in tensors if isinstance(tensors[name], Tensor)}, trusted)
        trusted.seek(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], trusted)
    except (OSError, RuntimeError, ValueError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}: no weights of the Inception network: {reason}",
            "set weights of the inception metric to torch-fidelity's weights-inception-2015-12-05 file",
        ) from None
    digest = hashlib.sha256(content).hexdigest()[:12]
    version = importlib.metadata.version("torch-fidelity")
    return Inception(network, f"torch-fidelity {version} inception-v3-compat, weights {digest}")


def _downloaded() -> Path:
    path = download_folder() / "inception" / WEIGHTS.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        hint = "download it elsewhere, and set weights of the inception metric to it"
        with downloading("Inception weights", path.parent, TIMEOUT, hint):
            torch.hub.download_url_to_file(WEIGHTS, str(path), hash_prefix=SHA256, progress=False)
    return path


@lru_cache(maxsize=2)
def _features(
    network: Inception,
    dataset: Dataset,
    codec: ImageCodec,
    reference: Reference,
    num: int,
    device: torch.device | str,
) -> Float[Tensor, "N 2048"]:
    return network(codec, spread(_split(dataset, reference), num).x_0, device)[0]


def _split(dataset: Dataset, reference: Reference) -> Split:
    return dataset.train if reference == "train" else dataset.test


class InceptionMetrics:
    """`fid`, `inception_recall` and `inception_precision` against real images; `is`: the Inception score.

    For the floor, held-out images stand for samples. Where the reference is the held-out split itself, they
    are compared with the other half of it.
    """

    def __init__(self, weights: Path | None, reference: Reference, num: int) -> None:
        self.directions: dict[str, Direction] = {
            "fid": "lower",
            "is": "higher",
            "inception_precision": "higher",
            "inception_recall": "higher",
        }
        self.weights = weights
        self.reference = reference
        self.num = num

    @cached_property
    def _network(self) -> Inception:
        return inception(self.weights)

    def judge(self, trial: Trial) -> str:
        size = min(self.num, len(_split(trial.dataset, self.reference)))
        return (
            f"{self._network.name}, float32, 8-bit images resized to 299 x 299 (bilinear), {size} real ones "
            f"of the {self.reference} split; score in {SPLITS} parts, neighbour {NEIGHBOUR}"
        )

    def __call__(self, trial: Trial) -> dict[str, float]:
        """Raises RecipeError where too few samples are given."""
        codec = trial.codec
        assert isinstance(codec, ImageCodec)
        if len(trial.samples) <= NEIGHBOUR:
            raise RecipeError(
                f"eval.num: the inception metric needs more than {NEIGHBOUR} samples", "raise it, or --num"
            )
        samples = trial.samples
        network = self._network
        real = _features(network, trial.dataset, codec, self.reference, self.num, trial.device)
        if trial.plan is None and self.reference == "test":
            samples, real = spread(trial.dataset.test, self.num).x_0[1::2], real[::2]
        features, logits = network(codec, samples, trial.device)
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        score = isc_features_to_metric(logits, splits=min(SPLITS, len(logits)))[KEY_METRIC_ISC_MEAN]
        size = min(len(features), len(real))  # reach shrinks with size
        few, few_real = (of[spread_index(len(of), size)] for of in (features, real))
        return {
            "fid": frechet_distance(real, features),
            "is": score,
            "inception_precision": covered(few, few_real, NEIGHBOUR).double().mean().item(),
            "inception_recall": covered(few_real, few, NEIGHBOUR).double().mean().item(),
        }


class Config(metrics.Config):
    """FID, Inception score, precision and recall by torch-fidelity's Inception network."""

    weights: str | None = None
    """Its weights, a .pth file; unset: a download."""
    reference: Reference = "train"
    """Which split samples are compared with."""
    num: int = Field(50_000, ge=10)
    """Items of it, at most, spread evenly."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if not isinstance(codec, ImageCodec):
            raise ValueError("reads images; leave it out")
        if not installed("torch_fidelity"):
            raise ValueError("needs torch-fidelity; pip install 'di4c[fid]'")

    def build(self) -> InceptionMetrics:
        weights = None if self.weights is None else Path(self.weights).expanduser()
        return InceptionMetrics(weights, self.reference, self.num)
