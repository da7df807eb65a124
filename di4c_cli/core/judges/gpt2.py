"""A causal language model of Hugging Face's `transformers`: GPT-2, which published figures use, or another.

Texts are decoded and tokenised anew by the judge, so its tokens are counted; the rows of a codec of GPT-2's
own tokens are judged as they are. A text begins behind the judge's token of a beginning. A row that begins
with that token itself gets no second one, and that one is not counted.
"""

import importlib
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from di4c_cli.core import judges
from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.codecs.gpt2 import NUM_TOKENS, GPT2Codec
from di4c_cli.core.component import installed
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.judges import fingerprint
from di4c_cli.errors import RecipeError


class Pretrained:
    """A model with its tokenizer; what is longer than its context is left out."""

    def __init__(self, model: Any, tokenizer: Any, codec: TextCodec, batch_size: int, title: str) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.codec = codec
        self.batch_size = batch_size
        self.context = getattr(model.config, "max_position_embeddings", None)
        beginning = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.begin = next(token for token in beginning if token is not None)
        self.as_they_are = isinstance(codec, GPT2Codec) and model.config.vocab_size == NUM_TOKENS
        size = sum(parameter.numel() for parameter in model.parameters())
        precision = str(next(model.parameters()).dtype).removeprefix("torch.")
        self.name = f"{title} of {size:,} parameters, {precision}, sha256 {fingerprint(model.state_dict())}"

    def nats(self, rows: Int[Tensor, "N D"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        parts = [self._batch(part) for part in rows.split(self.batch_size)]
        total, count = (torch.cat(part) for part in zip(*parts, strict=True))
        return total, count

    @torch.no_grad()
    def _batch(self, rows: Int[Tensor, "B D"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        tokens, known = (x.to(self.model.device) for x in self._tokens(rows))
        # Padding is behind the text, where a causal model does not look.
        logits = self.model(input_ids=tokens[:, :-1]).logits.float()
        nats = F.cross_entropy(logits.mT, tokens[:, 1:], reduction="none").double()
        counted = known[:, 1:].double()
        return (nats * counted).sum(1).cpu(), counted.sum(1).cpu()

    def _tokens(self, rows: Int[Tensor, "B D"]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """The judge's tokens behind that of the beginning, padded to one length, and which are no padding."""
        if self.as_they_are:
            texts = rows.tolist()
        else:
            encode = self.tokenizer.encode
            texts = [encode(text, add_special_tokens=False) for text in self.codec.decode(rows)]
        begun = [text if text[:1] == [self.begin] else [self.begin, *text] for text in texts]
        # The last token is only predicted, and needs no place in the context.
        cut = [text[: self.context + 1] if self.context else text for text in begun]
        length = torch.tensor([len(text) for text in cut])
        longest = max(2, int(length.max()))  # a batch of empty texts, too, has a place to predict
        padded = torch.tensor([text + [self.begin] * (longest - len(text)) for text in cut])
        return padded, torch.arange(longest) < length[:, None]


class Config(judges.Config):
    """A pretrained causal language model; needs `pip install 'di4c[judges]'`."""

    model: str = "gpt2-large"
    """A name on Hugging Face's hub, or a folder."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of its weights and activations; published figures are in float32."""
    batch_size: int = Field(8, ge=1)
    """Texts at a time."""
    download: bool = False
    """Fetch the model where it is not at hand; $HF_HUB_OFFLINE still forbids it."""

    def check(self) -> None:
        if not installed("transformers"):
            raise ValueError("the judge needs transformers; pip install 'di4c[judges]'")

    def build(
        self, dataset: Dataset, codec: TextCodec, cache: Path, device: torch.device | str
    ) -> Pretrained:
        """The judge.

        Raises:
            RecipeError: the model is missing.
        """
        import_torchvision()  # before transformers does, which cannot mend a build that does not fit torch's
        transformers = importlib.import_module("transformers")
        given = {"local_files_only": not self.download}
        dtype = getattr(torch, self.precision)
        try:
            # Only safetensors: other weights are pickles, which can run code.
            model = transformers.AutoModelForCausalLM.from_pretrained(
                self.model, dtype=dtype, use_safetensors=True, **given
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, **given)
        except (OSError, ValueError) as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise RecipeError(
                f"metrics: perplexity: {self.model}: cannot be loaded: {cause}",
                "give its folder as judge.model, or set judge.download = true",
            ) from error
        return Pretrained(model.to(device), tokenizer, codec, self.batch_size, self.model)
