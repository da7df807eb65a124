"""The space that image metrics measure in: 64 features of a small classifier trained on the training split.

The network is trained once, deterministically, and kept as `classifier-<hash>.safetensors`, named by its
settings and the very data it saw: figures are comparable exactly where the name is the same. Features are
divided by one number, their standard deviation over the training items, so that distances do not depend on
the scale that the network settled on.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec, ImageCodec
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.space import Batch


@dataclass(frozen=True)
class Settings:
    """Everything that shapes the classifier; part of its name."""

    architecture: str = "conv16-conv32/2-linear64"
    num_train: int = 10_000
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0


SETTINGS = Settings()
NUM_FEATURES = 64
CHUNK = 1000  # images in one forward pass


class Classifier(nn.Module):
    """Two convolutions and a hidden layer, whose values before the ReLU are the features.

    After it, a fifth of them is 0 for every image, and the others are far from the Gaussian that `fd` fits.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        area = ((height + 1) // 2) * ((width + 1) // 2)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * area, NUM_FEATURES),
        )
        self.head = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N classes"]:
        """Logits."""
        return self.head(self.body(images).relu())


class Evaluator:
    """Features and classes of tokens; the training and the held-out items' are kept."""

    def __init__(self, classifier: Classifier, dataset: Dataset, codec: ImageCodec, name: str) -> None:
        self.name = name
        self.num_classes = classifier.head.out_features
        self._classifier = classifier.eval()
        self._dataset = dataset
        self._codec = codec

    def features(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N features"]:
        """float64, scaled."""
        return self._raw(tokens) / self._scale

    @torch.no_grad()
    def classes(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N classes"]:
        """Class probabilities."""
        chunks = tokens.cpu().split(CHUNK)
        return torch.cat([self._classifier(self._codec.decode(chunk)).softmax(-1) for chunk in chunks])

    @cached_property
    def train_features(self) -> Float[Tensor, "N features"]:
        """Of the training items that the classifier saw."""
        return self._train_raw / self._scale

    @cached_property
    def test_features(self) -> Float[Tensor, "N features"]:
        """Of the held-out items, at most as many."""
        return self.features(spread(self._dataset.test, SETTINGS.num_train).x_0)

    @cached_property
    def _train_raw(self) -> Float[Tensor, "N features"]:
        return self._raw(spread(self._dataset.train, SETTINGS.num_train).x_0)

    @cached_property
    def _scale(self) -> Tensor:
        return self._train_raw.std()

    @torch.no_grad()
    def _raw(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N features"]:
        chunks = tokens.cpu().split(CHUNK)
        return torch.cat([self._classifier.body(self._codec.decode(chunk)).double() for chunk in chunks])


class Config(metrics.Config):
    """What metrics in this feature space are told: nothing yet."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if not isinstance(codec, ImageCodec) or spread(dataset.train, 1).label is None:
            raise ValueError("needs images with labels; leave it out")


@lru_cache(maxsize=4)
def evaluator(dataset: Dataset, codec: Codec, cache: Path) -> Evaluator:
    """The evaluator of a data set: from this process, from `cache`, or trained now (seconds)."""
    items = spread(dataset.train, SETTINGS.num_train)
    assert isinstance(codec, ImageCodec)
    assert items.label is not None
    name = f"classifier-{_digest(items, codec)}"
    classifier = Classifier(codec.image_shape, int(items.label.max()) + 1)
    path = cache / f"{name}.safetensors"
    if not _load(classifier, path):
        _train(classifier, codec.decode(items.x_0), items.label)
        _save(classifier, path)
    return Evaluator(classifier, dataset, codec, name)


def _digest(items: Batch, codec: ImageCodec) -> str:
    assert items.label is not None
    digest = hashlib.sha256(
        json.dumps([asdict(SETTINGS), codec.image_shape, codec.space.num_states]).encode()
    )
    digest.update(items.x_0.to(torch.int32).numpy().tobytes())
    digest.update(items.label.to(torch.int32).numpy().tobytes())
    return digest.hexdigest()[:12]


def _load(classifier: Classifier, path: Path) -> bool:
    """Whether the cache held the weights; a damaged file counts as none."""
    try:
        classifier.load_state_dict(load_file(path, backend="pread"))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _save(classifier: Classifier, path: Path) -> None:
    """All or nothing: another process may be reading. Where nothing can be kept, it is trained again."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(classifier.state_dict(), part)
        part.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _train(classifier: Classifier, images: Float[Tensor, "N C H W"], label: Int[Tensor, " N"]) -> None:
    """Cross-entropy by Adam with a cosine learning rate; initial weights and batches from the one seed.

    On one thread: sums then round the same on every number of cores, and the network is too small to gain.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=SETTINGS.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, SETTINGS.steps)
    for _ in range(SETTINGS.steps):
        index = torch.randint(len(images), (SETTINGS.batch_size,), generator=generator)
        loss = F.cross_entropy(classifier(images[index]), label[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)


class PassThrough(nn.Identity):
    """Hands features through torchmetrics, which expects a network of that many features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
