"""Judges: distributions that sum to one, against counts by hand, and known by what they were made of."""

import importlib.util
import itertools
import math
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import characters, gpt2
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.datasets._mapped import WindowSplit
from di4c_cli.core.judges import fingerprint, ngram, transformer
from di4c_cli.core.judges import gpt2 as pretrained
from di4c_cli.core.metrics import fitting, perplexity
from di4c_cli.errors import CheckpointError, RecipeError

ALPHABET = "abcdefgh "
HERE = (Path("unused"), "cpu")
"""Where judges are kept, and where they compute."""
TEXT = "a bad cab had a bag; abe fed a dead bee; he had a bad head "


def told(text, length=8):
    """A codec, and a text as training rows, which are its held-out ones too."""
    codec = characters.Config(length=length, alphabet=ALPHABET).build()
    tokens = codec.tokenize("".join(c for c in text if c in ALPHABET))
    rows = tokens[: len(tokens) // length * length].view(-1, length)
    return codec, Dataset(TensorSplit(rows), TensorSplit(rows))


def random_rows(num, length, num_states, seed=0):
    return torch.randint(num_states, (num, length), generator=torch.Generator().manual_seed(seed))


def last_token_probs(token_nats, context, num_states):
    """p(. | context) from the nats of every continuation."""
    rows = torch.cat([context.expand(num_states, -1), torch.arange(num_states)[:, None]], 1)
    return (-token_nats(rows)[:, -1].double()).exp()


def kneser_ney(texts, num_states, order, context, token):
    """p(token | context) by dictionaries of strings, as the formula is written."""
    grams = [
        Counter(tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1))
        for n in range(1, order + 1)
    ]

    def of(level, counts, context, token, lower):
        n = Counter(counts.values())
        one, two, three, four = (max(1, n[k]) for k in (1, 2, 3, 4))
        y = one / (one + 2 * two)
        amounts = [0, 1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
        amounts = [0, *(min(max(a, 0.1), k - 0.1) for k, a in enumerate(amounts[1:], 1))]
        followers = {gram: count for gram, count in counts.items() if gram[:-1] == context}
        total = sum(followers.values())
        if not total:
            return lower
        taken = sum(amounts[min(count, 3)] for count in followers.values())
        count = followers.get((*context, token), 0)
        return (count - amounts[min(count, 3)] + taken * lower) / total

    p = 1 / num_states
    for n in range(1, min(order, len(context) + 1) + 1):
        full = n == order or n == len(context) + 1
        counts = grams[n - 1] if full else Counter(gram[1:] for gram in grams[n])
        p = of(n, counts, tuple(context[len(context) - n + 1 :]), token, p)
    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_ngram_model_is_kneser_ney(order):
    text = random_rows(12, 9, 4, seed=1).clamp(max=2)  # state 3 never occurs
    judge = ngram.NGram(text, 4, order)
    rows = random_rows(20, 6, 4, seed=2)
    nats = judge.token_nats(rows)
    for row, found in zip(rows.tolist(), nats.tolist(), strict=True):
        for place, token in enumerate(row):
            context = row[max(0, place - order + 1) : place]
            wanted = kneser_ney(text.tolist(), 4, order, context, token)
            assert math.exp(-found[place]) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("num_states", [5, 50_257])
def test_the_ngram_model_sums_to_one(num_states):
    text = random_rows(40, 30, min(num_states, 60), seed=3)
    judge = ngram.NGram(text, num_states, 6)
    for length in (0, 1, 2, 5, 9):
        known, foreign = text[3, 4 : 4 + length], random_rows(1, length, num_states, seed=length)[0]
        for context in (known, foreign):
            p = last_token_probs(judge.token_nats, context[None], num_states)
            assert p.min() > 0
            assert p.sum().item() == pytest.approx(1, abs=1e-9)


def test_a_row_is_the_sum_of_its_tokens_and_more_context_helps():
    codec, data = told(TEXT * 20)
    judges = [ngram.Config(order=n).build(data, codec, *HERE) for n in (1, 2, 4)]
    totals = []
    for judge in judges:
        nats, count = judge.nats(data.test.x_0)
        assert torch.equal(nats, judge.token_nats(data.test.x_0).sum(1))
        assert count.tolist() == [8] * len(data.test)
        totals.append(nats.sum().item())
    assert totals == sorted(totals, reverse=True)
    assert judges[2].nats(torch.zeros(0, 8, dtype=torch.int64))[0].shape == (0,)


def test_windows_are_counted_once():
    rows = random_rows(30, 8, 5)
    stream = rows.view(1, -1)
    assert torch.equal(ngram.text_once(WindowSplit(TensorSplit(rows), 8, 1), 10**6), stream)
    assert torch.equal(ngram.text_once(TensorSplit(rows), 10**6), rows)
    part = ngram.text_once(WindowSplit(TensorSplit(rows), 8, 1), 24)
    assert part.tolist() == rows[[0, 14, 29]].tolist()


def test_a_judge_is_known_by_its_text():
    names = []
    for text in (TEXT, TEXT, TEXT.replace("cab", "fab"), TEXT[8:]):
        codec, data = told(text * 3)
        names.append(ngram.Config(order=3).build(data, codec, *HERE).name)
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert names[0].startswith("3-gram over ")
    assert len({ngram.Config(order=n).build(data, codec, *HERE).name for n in (1, 2, 3)}) == 3


def test_a_fingerprint_is_of_names_types_shapes_and_values():
    x = torch.arange(6.0)
    variants = [{"a": x}, {"b": x}, {"a": x.double()}, {"a": x.view(2, 3)}, {"a": x + 1}, {"a": x.bfloat16()}]
    assert len({fingerprint(tensors) for tensors in variants}) == len(variants)
    assert fingerprint({"a": x, "b": x}) == fingerprint({"b": x, "a": x.clone()})


# the transformer


SMALL = transformer.Config(width=32, depth=2, heads=2)


def test_the_transformer_sums_to_one_and_sees_only_what_is_before():
    torch.manual_seed(0)
    codec, _ = told(TEXT)
    network = SMALL.untrained(codec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # far from equal shares
        for length in (0, 1, 7):
            context = random_rows(1, length, 10, seed=length)
            p = last_token_probs(network.token_nats, context, 10)
            assert p.sum().item() == pytest.approx(1, abs=1e-5)
            assert p.max() > 0.11
        rows = random_rows(3, 8, 10)
        other = rows.clone()
        other[:, 5:] = (other[:, 5:] + 1) % 10
        assert torch.allclose(network.token_nats(rows)[:, :5], network.token_nats(other)[:, :5], atol=1e-6)
        moved = torch.cat([rows[:, 1:2], rows[:, :1], rows[:, 2:]], 1)  # positions matter
        assert not torch.allclose(
            network.token_nats(rows)[:, -1], network.token_nats(moved)[:, -1], atol=1e-4
        )


def test_the_transformer_learns_is_kept_and_is_known_by_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "BATCH", 256)
    codec, data = told(TEXT * 30)
    fit = SMALL.fit(data, codec, 60, 0, "cpu")
    assert fit.held_out < 1.6 < math.log(10)
    folder = SMALL.folder(data, codec, tmp_path)
    with pytest.raises(RecipeError, match=r"no judge of this text.*di4c train-judge"):
        SMALL.build(data, codec, tmp_path, "cpu")
    SMALL.save(folder, fit, {}, "a card")
    found = SMALL.build(data, codec, tmp_path, "cpu")
    assert found.name == fit.judge.name
    assert "float32, sha256 " in found.name
    ours, theirs = (judge.nats(data.test.x_0) for judge in (fit.judge, found))
    assert torch.equal(ours[0], theirs[0])
    assert (ours[0].sum() / ours[1].sum()).item() == pytest.approx(fit.held_out)
    again, other = SMALL.fit(data, codec, 3, 0, "cpu"), SMALL.fit(data, codec, 3, 1, "cpu")
    assert again.judge.name == SMALL.fit(data, codec, 3, 0, "cpu").judge.name != other.judge.name

    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-8])
    with pytest.raises(CheckpointError, match=r"damaged.*di4c train-judge"):
        SMALL.build(data, codec, tmp_path, "cpu")


def test_a_transformer_lies_where_its_text_and_sizes_say(tmp_path):
    codec, data = told(TEXT)
    folders = [
        SMALL.folder(data, codec, tmp_path),
        SMALL.folder(told(TEXT.replace("cab", "fab"))[1], codec, tmp_path),
        transformer.Config(width=64, depth=2, heads=2).folder(data, codec, tmp_path),
    ]
    assert len(set(folders)) == 3
    assert SMALL.folder(told(TEXT)[1], codec, tmp_path) == folders[0]


# pretrained models


class FakeModel(torch.nn.Module):
    """p(x | before) is large for the token behind the last one, whatever was before that."""

    def __init__(self, vocab_size, context):
        super().__init__()
        self.weight = torch.nn.Parameter(3 * torch.eye(vocab_size).roll(1, 1))
        self.config = SimpleNamespace(vocab_size=vocab_size, max_position_embeddings=context)
        self.device = torch.device("cpu")

    def forward(self, input_ids):
        assert input_ids.shape[1] <= (self.config.max_position_embeddings or 10**6)
        return SimpleNamespace(logits=self.weight[input_ids])


class Letters:
    """A tokenizer of the letters a to g as 1 to 7; 0 begins a text, and is shown as "_"."""

    bos_token_id = None
    eos_token_id = 0

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return ["_abcdefg".index(c) for c in text]


class ByThree(characters.CharacterCodec):
    """What it shows are the judge's tokens three times as slowly."""

    def decode(self, tokens):
        return [text[::3] for text in super().decode(tokens)]


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for the package, with a model of 8 tokens."""

    def install(context):
        module = ModuleType("transformers")
        module.asked = []

        def load(made):
            def from_pretrained(name, **given):
                module.asked.append((name, given))
                if name == "missing":
                    raise OSError("missing is not a local folder\nand more")
                return made

            return SimpleNamespace(from_pretrained=from_pretrained)

        module.AutoModelForCausalLM, module.AutoTokenizer = load(FakeModel(8, context)), load(Letters())
        monkeypatch.setitem(sys.modules, "transformers", module)
        return module

    return install


def nats_of(tokens):
    """What FakeModel says of tokens, the first of which is given."""
    hit, rest = 3 - math.log(7 + math.exp(3)), -math.log(7 + math.exp(3))
    return -sum(hit if b == (a + 1) % 8 else rest for a, b in itertools.pairwise(tokens))


def test_a_pretrained_judge_reads_the_text_in_its_own_tokens(transformers):
    asked = transformers(None).asked
    codec = ByThree(9, "abcdefg_"[:7])
    _, data = told(TEXT)
    rows = codec.encode(["abcdefgab", "aaabbbccc", "bbbccc", ""])  # read as adg, abc, bc and nothing
    judge = pretrained.Config(batch_size=3).build(data, codec, *HERE)
    nats, count = judge.nats(rows)
    assert count.tolist() == [3, 3, 2, 0]
    wanted = [nats_of([0, *row]) for row in ([1, 4, 7], [1, 2, 3], [2, 3], [])]
    assert nats.tolist() == pytest.approx(wanted, abs=1e-6)
    assert judge.name.startswith("gpt2-large of 64 parameters, float32, sha256 ")
    assert [given["local_files_only"] for _, given in asked] == [True, True]
    assert asked[0][1]["use_safetensors"] is True


def test_what_does_not_fit_the_context_is_left_out(transformers):
    transformers(2)
    codec, data = told(TEXT)
    judge = pretrained.Config().build(data, characters.Config(length=5, alphabet="abcdefg").build(), *HERE)
    nats, count = judge.nats(codec.encode(["abcde"])[:, :5])
    assert count.tolist() == [2]
    assert nats.tolist() == pytest.approx([nats_of([0, 1, 2])])


def test_a_row_that_begins_with_the_beginning_gets_no_second_one(transformers):
    transformers(None)
    codec, data = told(TEXT)
    judge = pretrained.Config().build(data, codec, *HERE)
    judge.as_they_are = True
    nats, count = judge.nats(torch.tensor([[0, 1, 2], [1, 2, 5]]))
    assert count.tolist() == [2, 3]
    assert nats.tolist() == pytest.approx([nats_of([0, 1, 2]), nats_of([0, 1, 2, 5])])


def test_a_missing_model_is_told(transformers):
    codec, data = told(TEXT)
    transformers(None)
    with pytest.raises(RecipeError, match=r"missing: cannot be loaded: missing is not a local folder \("):
        pretrained.Config(model="missing").build(data, codec, *HERE)


def test_a_missing_package_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    sections = [perplexity.Config(), perplexity.Config(judge=pretrained.Config(), name="gpt2_judge_ppl")]
    codec, data = told(TEXT)
    with pytest.raises(ValueError, match=r"1 \(perplexity\): .* pip install 'di4c\[judges\]'"):
        fitting(sections, codec, data)
    assert len(fitting(sections[:1], codec, data)) == 1


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_a_tiny_gpt2_of_the_package(tmp_path):
    import_torchvision()
    import tokenizers
    import transformers

    torch.manual_seed(0)
    vocabulary = {"<|endoftext|>": 0, **{c: k for k, c in enumerate(ALPHABET, 1)}}
    shape = transformers.GPT2Config(vocab_size=10, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(shape)
    model.save_pretrained(tmp_path)
    letters = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    transformers.PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|endoftext|>").save_pretrained(
        tmp_path
    )
    codec, data = told(TEXT)
    judge = pretrained.Config(model=str(tmp_path), batch_size=2).build(data, codec, *HERE)
    rows = codec.encode(["abcdefgh", "bad head", "cab"])
    nats, count = judge.nats(rows)
    assert count.tolist() == [8, 8, 3]
    for row, length, found in zip(rows, count.int().tolist(), nats.tolist(), strict=True):
        ids = torch.cat([torch.zeros(1, dtype=torch.int64), row[:length]])[None]
        loss = model.eval()(input_ids=ids, labels=ids).loss  # a mean over the predicted tokens
        assert found == pytest.approx(loss.item() * length, rel=1e-4)
    assert pretrained.Config(model=str(tmp_path)).build(data, codec, *HERE).name == judge.name
    low = pretrained.Config(model=str(tmp_path), precision="bfloat16").build(data, codec, *HERE)
    assert ", bfloat16, " in low.name
    assert low.nats(rows)[0].tolist() == pytest.approx(nats.tolist(), rel=0.05)


def test_gpt2_tokens_are_judged_as_they_are(transformers, monkeypatch):
    module = transformers(None)
    monkeypatch.setattr(pretrained, "NUM_TOKENS", 8)
    data = told(TEXT)[1]
    codec = gpt2.Config(length=3).build()
    judge = pretrained.Config().build(data, codec, *HERE)
    assert judge.nats(torch.tensor([[1, 2, 5]]))[0].tolist() == pytest.approx([nats_of([0, 1, 2, 5])])
    assert len(module.asked) == 2
