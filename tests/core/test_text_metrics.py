"""Metrics of running text against counting by hand, and against samplers that are wrong in a known way."""

import itertools
import math
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from di4c_cli.core.codecs import characters, pixels, states
from di4c_cli.core.datasets import Dataset, TensorSplit, spread
from di4c_cli.core.judges import ngram, transformer
from di4c_cli.core.metrics import (
    Judged,
    PerItem,
    Trial,
    entropy,
    mauve,
    ngrams,
    perplexity,
    self_bleu,
    spelling,
)
from di4c_cli.core.processes import masked
from di4c_cli.errors import RecipeError

LETTERS = "abcdefghijklmnopqrstuvwxyz "


def trial(dataset, codec, samples, *, plan=(), seed=0, cache=Path("unused")):
    return Trial(samples, codec, dataset, masked.Config().build(codec.space), plan, seed, cache)


def figures(metric, run):
    return {
        name: value.figure if isinstance(value, PerItem) else value for name, value in metric(run).items()
    }


def small(*texts, length=6):
    """A codec, and texts as rows."""
    codec = characters.Config(length=length, alphabet=LETTERS).build()
    return codec, codec.encode(texts)


# n-grams


def counted(rows, n):
    return Counter(tuple(row[i : i + n]) for row in rows.tolist() for i in range(len(row) - n + 1))


def divergence(a, b):
    """Jensen-Shannon, bits, of two Counters."""
    total = 0.0
    for gram in a | b:
        p, q = a[gram] / a.total(), b[gram] / b.total()
        total += sum(x / 2 * math.log2(2 * x / (p + q)) for x in (p, q) if x)
    return total


def test_ngrams_are_those_counted_by_hand():
    codec = characters.Config(length=7, alphabet="abcd").build()
    samples, held_out, train = (
        torch.randint(low, 5, (num, 7), generator=torch.Generator().manual_seed(num))
        for low, num in ((0, 30), (1, 30), (2, 50))
    )
    samples[3] = samples[9] = samples[20]
    data = Dataset(TensorSplit(train), TensorSplit(held_out))
    found = figures(ngrams.Config().build(), trial(data, codec, samples))
    floor = figures(ngrams.Config().build(), trial(data, codec, held_out, plan=None))
    for n in (1, 2, 3, 4):
        ours, real = counted(samples, n), counted(held_out, n)
        assert found[f"ngram_js_{n}"] == pytest.approx(divergence(ours, real), abs=1e-12)
        assert found[f"distinct_{n}"] == pytest.approx(len(ours) / ours.total())
        other = counted(spread(TensorSplit(train), 30).x_0, n)
        assert floor[f"ngram_js_{n}"] == pytest.approx(divergence(real, other), abs=1e-12)
    assert found["ngram_js"] == pytest.approx(sum(found[f"ngram_js_{n}"] for n in (1, 2, 3, 4)) / 4)
    assert found["unique"] == pytest.approx(28 / 30)
    assert set(found) == set(ngrams.Config().build().directions)


def test_ngrams_of_a_large_vocabulary_do_not_overflow():
    rows = torch.tensor([[50_256] * 8 + [50_255], [*range(50_248, 50_257)]])
    last = list(ngrams.ngram_ids(rows, 8))[-1]
    assert last.shape == (2, 2)
    assert len(last.unique()) == 4


def test_divergence_of_equal_and_of_foreign_text():
    codec, rows = small("abcdef", "bcdefa", "uvwxyz", "vwxyzu")
    data = Dataset(TensorSplit(rows[:2]), TensorSplit(rows[:2]))
    measure = ngrams.Config(longest=2).build()
    assert figures(measure, trial(data, codec, rows[:2]))["ngram_js_2"] == 0
    assert figures(measure, trial(data, codec, rows[2:]))["ngram_js_2"] == pytest.approx(1)
    with pytest.raises(ValueError, match="rows of 6 tokens have no 8-grams"):
        ngrams.Config(longest=8).check(codec, data)


# entropy


def test_entropy_of_samples_and_pooled():
    codec, rows = small("aaaaaa", "aaabbb", "abcdef", "a", "")
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    run = trial(data, codec, rows)
    each = entropy.Config().build()(run)["sample_entropy"]
    assert each.total.tolist() == pytest.approx([0, math.log(2), math.log(6), 0, 0])
    pooled = Counter("aaaaaaaaabbbabcdefa")
    expected = -sum(n / pooled.total() * math.log(n / pooled.total()) for n in pooled.values())
    assert figures(entropy.Config().build(), run)["entropy"] == pytest.approx(expected)


# self-BLEU


def bleu(text, others):
    """BLEU-4 as Papineni et al. define it, an order without matches counting as 0.1 of one."""
    logs = []
    for n in (1, 2, 3, 4):
        grams = [Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (text, *others)]
        matches = sum(min(count, max(other[gram] for other in grams[1:])) for gram, count in grams[0].items())
        if not matches and n == 1:
            return 0.0
        logs.append(math.log((matches or 0.1) / max(1, grams[0].total())))
    nearest = min((abs(len(t) - len(text)), len(t)) for t in others)[1]
    brevity = math.exp(min(0, 1 - nearest / len(text)))
    return brevity * math.exp(sum(logs) / 4)


def random_texts(num, seed, shortest=0):
    draw = random.Random(seed)
    return [[draw.choice("abc") for _ in range(draw.randint(shortest, 9))] for _ in range(num)]


@pytest.mark.parametrize("num", [2, 3, 12])
def test_self_bleu_is_the_definition(num):
    for seed in range(10):
        texts = random_texts(num, seed)
        wanted = [bleu(text, texts[:k] + texts[k + 1 :]) if text else 0.0 for k, text in enumerate(texts)]
        assert self_bleu.self_bleu(texts).tolist() == pytest.approx(wanted)


def test_self_bleu_is_that_of_nltk():
    nltk = pytest.importorskip("nltk.translate.bleu_score")
    texts = random_texts(10, 0, shortest=4)
    smoothed = nltk.SmoothingFunction().method1
    wanted = [
        nltk.sentence_bleu(texts[:k] + texts[k + 1 :], text, smoothing_function=smoothed)
        for k, text in enumerate(texts)
    ]
    assert self_bleu.self_bleu(texts).tolist() == pytest.approx(wanted)


def test_self_bleu_of_one_text_of_different_ones_and_behind_what_they_share():
    codec, rows = small("once upon a b c d e", "once upon f g h i j", "once upon k l m n o", length=19)
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    measure = self_bleu.Config(skip=10).build()
    same = figures(measure, trial(data, codec, rows[:1].repeat(3, 1)))
    assert same == {"self_bleu": pytest.approx(1), "self_bleu_continuation": pytest.approx(1)}
    found = figures(measure, trial(data, codec, rows))
    assert found["self_bleu"] > 0.05
    assert found["self_bleu_continuation"] == 0
    assert self_bleu.Config().build().directions == {"self_bleu": "report"}


def test_self_bleu_is_of_a_subset_that_the_seed_draws():
    codec, rows = small(*(f"{a} {b} {c}" for a, b, c in itertools.product("abcdef", repeat=3)))
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    measure = self_bleu.Config(num=20).build()
    draws = [measure(trial(data, codec, rows, seed=seed))["self_bleu"] for seed in (0, 0, 1)]
    assert [len(draw.total) for draw in draws] == [20, 20, 20]
    assert draws[0].figure == draws[1].figure != draws[2].figure


# perplexity


def test_perplexity_is_of_nats_per_token():
    codec, rows = small("abcabc", "bcabca", "cabcab", "aaaaaa")
    data = Dataset(TensorSplit(rows[:3]), TensorSplit(rows))
    measure = perplexity.Config(judge=ngram.Config(order=3)).build()
    judge = ngram.NGram(rows[:3], codec.space.num_states, 3)
    expected = math.exp(judge.token_nats(rows).sum().item() / rows.numel())
    assert figures(measure, trial(data, codec, rows)) == {"judge_ppl": pytest.approx(expected)}
    assert isinstance(measure, Judged)
    assert measure.judge(trial(data, codec, rows)) == judge.name
    named = perplexity.Config(name="gram_judge_ppl").build()
    assert set(named.directions) == set(named(trial(data, codec, rows))) == {"gram_judge_ppl"}


def test_a_judge_serves_all_trials_of_an_evaluation(monkeypatch):
    codec, rows = small("abcabc", "bcabca")
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    made = []

    class Counted(ngram.NGram):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(ngram, "NGram", Counted)
    measure = perplexity.Config(judge=ngram.Config(order=2)).build()
    names = {measure.judge(trial(data, codec, rows, seed=seed)) for seed in (0, 1)}
    assert names == {judge.name for judge in made}
    assert len(made) == 1


def test_a_judge_that_is_not_trained_is_told(tmp_path):
    codec, rows = small("abcabc", "bcabca")
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    measure = perplexity.Config(judge=transformer.Config()).build()
    with pytest.raises(RecipeError, match="train it: di4c train-judge RECIPE"):
        measure(trial(data, codec, rows, cache=tmp_path))


# MAUVE


def test_mauve_is_that_of_the_package(monkeypatch):
    codec, rows = small("abcabc", "bcabca", "cccccc")
    data = Dataset(TensorSplit(rows[2:]), TensorSplit(rows))
    measure = mauve.Config().build()
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ValueError, match="mauve-text"):
        mauve.Config().check(codec, data)
    package = ModuleType("mauve")
    given = {}
    package.compute_mauve = lambda **texts: given.update(texts) or SimpleNamespace(mauve=0.5)
    monkeypatch.setitem(sys.modules, "mauve", package)
    assert measure(trial(data, codec, rows[:2])) == {"mauve": 0.5}
    assert (given["p_text"], given["q_text"]) == (["abcabc", "cccccc"], ["abcabc", "bcabca"])


@pytest.mark.parametrize("metric", [ngrams, self_bleu, mauve, perplexity, spelling])
def test_they_are_of_running_text(metric):
    codec = pixels.Config(height=2, width=4, levels=4).build()
    rows = torch.zeros(2, 8, dtype=torch.int64)
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    for other in (codec, states.Config(num_dims=2, num_states=12).build()):
        with pytest.raises(ValueError, match="reads running text"):
            metric.Config().check(other, data)


# what a default table must expose


LENGTH, NUM = 48, 400


@pytest.fixture(scope="module")
def language():
    """Text of 60 made-up words in random order: its codec, training and held-out rows, and the words."""
    draw = random.Random(0)
    words = ["".join(draw.choices(LETTERS[:-1], k=draw.randint(2, 6))) for _ in range(60)]
    codec = characters.Config(length=LENGTH, alphabet=LETTERS).build()

    def rows(known, num, seed):
        draw = random.Random(seed)
        text = " ".join(draw.choices(known, k=num * LENGTH // 3))
        return codec.tokenize(text[: num * LENGTH]).view(num, LENGTH)

    data = Dataset(TensorSplit(rows(words, 3000, 1)), TensorSplit(rows(words, NUM, 2)))
    return codec, data, lambda known, seed: rows(words[:known], NUM, seed)


def table(language, samples, plan=()):
    """The metrics of the recipes of running text that read samples alone."""
    codec, data, _ = language
    run = trial(data, codec, samples, plan=plan)
    kinds = (entropy, spelling, ngrams, perplexity)
    return {name: value for kind in kinds for name, value in figures(kind.Config().build(), run).items()}


def test_a_good_sampler_is_at_the_floor(language):
    floor, good = table(language, language[1].test.x_0, plan=None), table(language, language[2](60, 3))
    for name in (
        "entropy",
        "sample_entropy",
        "valid_words",
        "judge_ppl",
        "ngram_js_1",
        "ngram_js_2",
        "ngram_js_3",
        "ngram_js_4",
    ):
        assert good[name] == pytest.approx(floor[name], rel=0.1, abs=2e-3), name
    assert good["unique"] == 1


def test_a_collapsed_sampler_is_praised_by_perplexity_and_exposed_by_the_rest(language):
    codec, data, _ = language
    floor = table(language, data.test.x_0, plan=None)
    likely = ngram.NGram(data.train.x_0, codec.space.num_states, 6).nats(data.test.x_0)[0].argmin()
    found = table(language, data.test.x_0[likely].expand(NUM, -1))
    assert found["judge_ppl"] < 0.9 * floor["judge_ppl"]
    assert found["valid_words"] == 1
    assert found["unique"] == 1 / NUM
    assert found["distinct_4"] < 0.02 * floor["distinct_4"]
    assert found["ngram_js_1"] > 20 * floor["ngram_js_1"]
    assert found["ngram_js_4"] > 4 * floor["ngram_js_4"]
    assert found["entropy"] < floor["entropy"] - 0.1
    samples = data.test.x_0[likely].expand(NUM, -1)
    assert figures(self_bleu.Config().build(), trial(data, codec, samples)) == {"self_bleu": pytest.approx(1)}


def test_a_sampler_that_drops_half_of_the_words_is_exposed_by_ngrams(language):
    floor, found = table(language, language[1].test.x_0, plan=None), table(language, language[2](30, 3))
    assert found["judge_ppl"] < 1.1 * floor["judge_ppl"]  # every text of it is a good one
    assert found["valid_words"] == 1
    assert found["unique"] == 1
    for n, times in ((1, 10), (2, 10), (3, 5), (4, 3)):
        assert found[f"ngram_js_{n}"] > times * floor[f"ngram_js_{n}"], n
