"""Molecules and sequences: figures against counting by hand, and against samplers that are wrong; files."""

import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from di4c_cli.core import chemistry as door
from di4c_cli.core.codecs import characters, sequences, smiles
from di4c_cli.core.datasets import Dataset, TensorSplit, alignment, molecules
from di4c_cli.core.datasets import sequences as table
from di4c_cli.core.metrics import Trial, _distances, _pairs, plain
from di4c_cli.core.metrics import molecules as molecule_metrics
from di4c_cli.core.metrics import sequences as sequence_metrics
from di4c_cli.core.processes import masked
from di4c_cli.errors import DataError, RecipeError

LENGTH = 12
DNA = sequences.Config(length=LENGTH).build()


def figures(config, data, codec, samples, plan=()):
    process = masked.Config().build(codec.space)
    return plain(config.build()(Trial(samples, codec, data, process, plan, 0, Path("unused"))))


def dna(num, seed, *, bound=True):
    """Rows of two kinds, each with letters of its own; not `bound`: every letter of its column alone."""
    draw = torch.Generator().manual_seed(seed)
    law = torch.tensor([[0.4, 0.1, 0.1, 0.4], [0.1, 0.4, 0.4, 0.1]])
    kind = torch.randint(2, (num, 1 if bound else LENGTH), generator=draw).expand(num, LENGTH)
    return law[kind].flatten(0, 1).multinomial(1, generator=draw).view(num, LENGTH)


# distances and statistics against a second way


def test_wasserstein_is_that_of_sorted_samples():
    draw = torch.Generator().manual_seed(0)
    for n, m in ((5, 5), (7, 3), (1, 4), (40, 60)):
        x, y = torch.randint(4, (n,), generator=draw).double(), torch.randn(m, generator=draw).double()
        repeated = [z.sort().values.repeat_interleave(len(other)) for z, other in ((x, y), (y, x))]
        assert _distances.wasserstein(x, y) == pytest.approx((repeated[0] - repeated[1]).abs().mean().item())
        assert _distances.wasserstein(x, x) == 0


def test_wasserstein_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    x, y = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    assert _distances.wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y))


def test_statistics_of_pairs_are_those_counted_by_hand():
    rows, D, S = dna(30, 0)[:, :4], 4, 4
    connected, informed = [], []
    for i, j in itertools.combinations(range(D), 2):
        pairs = Counter(zip(rows[:, i].tolist(), rows[:, j].tolist(), strict=True))
        left, right = (Counter(rows[:, k].tolist()) for k in (i, j))
        joint = {ab: pairs[ab] / 30 for ab in itertools.product(range(S), repeat=2)}
        apart = {(a, b): left[a] * right[b] / 900 for a, b in joint}
        connected += [joint[ab] - apart[ab] for ab in joint]
        informed.append(sum(p * math.log(p / apart[ab]) for ab, p in joint.items() if p))
    assert sorted(_pairs.connected(rows, S).tolist()) == pytest.approx(sorted(connected), abs=1e-6)
    assert _pairs.mutual_information(rows, S).tolist() == pytest.approx(informed, abs=1e-6)
    x, y = torch.randn(2, 50, dtype=torch.float64)
    assert _pairs.pearson(x, y) == pytest.approx(torch.corrcoef(torch.stack([x, y]))[0, 1].item())
    assert _pairs.pearson(x, torch.ones(50, dtype=torch.float64)) == 0


def hamming(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True)) / len(a)


def test_figures_of_sequences_are_those_counted_by_hand():
    train, real, ours = dna(60, 1), dna(25, 2), dna(25, 3)
    ours[4] = ours[9] = train[7]
    found = figures(sequence_metrics.Config(), Dataset(TensorSplit(train), TensorSplit(real)), DNA, ours)
    texts = [DNA.decode(rows) for rows in (ours, real, train)]
    profiles = [[Counter(column) for column in zip(*text, strict=True)] for text in texts[:2]]
    apart = [sum(abs(a[x] - b[x]) for x in "ACGT") / 50 for a, b in zip(*profiles, strict=True)]
    assert found["profile_distance"] == pytest.approx(sum(apart) / LENGTH)
    grams = [Counter(t[i : i + 3] for t in text for i in range(LENGTH - 2)) for text in texts[:2]]
    p, q = ({k: n / gram.total() for k, n in gram.items()} for gram in grams)
    js = 0.0
    for k in p | q:
        middle = (p.get(k, 0) + q.get(k, 0)) / 2
        js += sum(x / 2 * math.log2(x / middle) for x in (p.get(k, 0), q.get(k, 0)) if x)
    assert found["kmer_js"] == pytest.approx(js)
    shares = [sorted(sum(x in "CG" for x in t) / LENGTH for t in text) for text in texts[:2]]
    content = sum(abs(a - b) for a, b in zip(*shares, strict=True)) / 25
    assert found["content_distance"] == pytest.approx(content)
    near, held_out = ([min(hamming(t, o) for o in texts[2]) for t in text] for text in texts[:2])
    assert found["nearest"] == pytest.approx(sum(near) / 25)
    limit = sorted(held_out)[0]  # the 1st percentile of 25
    assert found["copies"] == pytest.approx(sum(d < limit - 1e-9 for d in near) / 25)
    assert found["unique"] == pytest.approx(24 / 25)


# what the figures must expose


@pytest.fixture(scope="module")
def family():
    return Dataset(TensorSplit(dna(3000, 1)), TensorSplit(dna(600, 2)))


def test_a_product_model_has_the_columns_and_not_the_pairs(family):
    config = sequence_metrics.Config()
    floor = figures(config, family, DNA, family.test.x_0, plan=None)
    good, product = (figures(config, family, DNA, dna(600, 3, bound=bound)) for bound in (True, False))
    assert good["pair_r"] == pytest.approx(floor["pair_r"], abs=0.05)
    assert product["profile_distance"] < 1.5 * floor["profile_distance"]
    assert product["pair_r"] < 0.1 < 0.7 < good["pair_r"]
    for name, times in (("pair_distance", 1.5), ("mi_distance", 3), ("kmer_js", 4), ("content_distance", 5)):
        assert product[name] > times * max(good[name], floor[name]), name


def test_a_collapsed_and_a_copying_sampler_are_exposed(family):
    config = sequence_metrics.Config()
    floor = figures(config, family, DNA, family.test.x_0, plan=None)
    one = figures(config, family, DNA, family.test.x_0[:1].expand(600, -1))
    assert one["unique"] == 1 / 600
    assert one["profile_distance"] > 10 * floor["profile_distance"]
    assert one["pair_r"] == 0
    few = figures(config, family, DNA, family.test.x_0[:20].repeat(30, 1))
    assert few["unique"] == 20 / 600
    assert few["pair_distance"] > 2 * floor["pair_distance"]
    long = sequences.Config(length=2 * LENGTH).build()
    paired = [torch.cat([dna(n, s), dna(n, s + 10)], 1) for n, s in ((500, 1), (200, 2))]
    data = Dataset(*map(TensorSplit, paired))
    copied = figures(config, data, long, data.train.x_0[:200])
    assert copied["copies"] == 1
    assert copied["nearest"] == 0
    assert figures(config, data, long, data.test.x_0, plan=None)["copies"] <= 0.01


def test_what_sequences_cannot_read(family):
    text = characters.Config(length=LENGTH, alphabet="ACGT").build()
    for config, codec, complaint in (
        (sequence_metrics.Config(), text, "reads sequences"),
        (sequence_metrics.Config(letters="X"), DNA, "no 'X' here"),
        (sequence_metrics.Config(k=8), sequences.Config(length=6).build(), "rows of 6 have no 8-mers"),
    ):
        with pytest.raises(ValueError, match=complaint):
            config.check(codec, family)


# molecules

TRAIN = ["CCO", "c1ccccc1", "CC(=O)O", "C#N", "C1CC1"]
HELD_OUT = ["CCN", "CC(C)O", "C1CCC1", "c1ccncc1"]


@pytest.fixture(scope="module")
def chemistry():
    return pytest.importorskip("rdkit.Chem")


@pytest.fixture(scope="module")
def spelled():
    codec = smiles.Config(length=10).build()
    return codec, Dataset(*(TensorSplit(codec.encode(texts)) for texts in (TRAIN, HELD_OUT)))


def test_molecules_are_those_that_rdkit_reads(chemistry, spelled):
    from rdkit.Chem import QED, Crippen, rdMolDescriptors

    codec, data = spelled
    samples = ["OCC", "CCO", "CCN", "NCC", "C(C", "", "C_C", "c1cccc1", "CCF"]
    read = ["OCC", "CCO", "CCN", "NCC", "CCF"]
    found = figures(molecule_metrics.Config(), data, codec, codec.encode(samples))
    assert found["valid"] == pytest.approx(5 / 9)
    assert found["unique"] == pytest.approx(3 / 5)
    assert found["novel"] == pytest.approx(3 / 5)
    for name, told in (
        ("qed", QED.qed),
        ("logp", Crippen.MolLogP),
        ("rings", rdMolDescriptors.CalcNumRings),
    ):
        ours, real = (
            torch.tensor([told(chemistry.MolFromSmiles(text)) for text in texts]).double()
            for texts in (read, HELD_OUT)
        )
        alike = [z.sort().values.repeat_interleave(n) for z, n in ((ours, 4), (real, 5))]
        assert found[f"{name}_distance"] == pytest.approx((alike[0] - alike[1]).abs().mean().item())
    floor = figures(molecule_metrics.Config(), data, codec, data.test.x_0, plan=None)
    assert (floor["valid"], floor["novel"]) == (1, 1)
    assert floor["logp_distance"] > 0  # beside training molecules


def test_a_collapsed_and_a_copying_generator_of_molecules_are_exposed(chemistry, spelled):
    codec, data = spelled
    one = figures(molecule_metrics.Config(), data, codec, codec.encode(["CCN"] * 50))
    assert (one["valid"], one["unique"], one["novel"]) == (1, 1 / 50, 1)
    copied = figures(molecule_metrics.Config(), data, codec, data.train.x_0)
    assert (copied["valid"], copied["unique"], copied["novel"]) == (1, 1, 0)
    none = figures(molecule_metrics.Config(), data, codec, codec.encode(["C(", ")"]))
    assert (none["valid"], none["unique"], none["novel"]) == (0, 0, 0)


def test_molecules_without_rdkit_say_what_to_install(spelled, monkeypatch):
    door._rdkit.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit.RDLogger", None)
    with pytest.raises(RecipeError, match=r"pip install 'di4c\[molecules\]'"):
        figures(molecule_metrics.Config(), spelled[1], spelled[0], spelled[1].test.x_0)
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ValueError, match=r"pip install 'di4c\[molecules\]'"):
        molecule_metrics.Config().check(*spelled)


# files


def test_molecules_come_in_their_splits(tmp_path):
    for name, texts in (("train", TRAIN), ("test", HELD_OUT), ("valid", ["C", "CCCCCCCCCCCC"])):
        (tmp_path / f"{name}.txt").write_text("\n".join(["smiles", *texts, ""]))
    codec = smiles.Config(length=10).build()
    data = molecules.Config(path=str(tmp_path)).build(codec)
    assert codec.decode(data.train[torch.arange(5)].x_0) == TRAIN
    assert codec.decode(data.test[torch.arange(4)].x_0) == HELD_OUT
    assert len(molecules.Config(path=str(tmp_path), held_out="valid").build(codec).test) == 1
    with pytest.raises(DataError, match=r"test.txt: 'n' is not in the alphabet"):
        molecules.Config(path=str(tmp_path)).build(smiles.Config(length=10, alphabet="CO#N()=c1").build())
    with pytest.raises(DataError, match="no SMILES of at most 2"):
        molecules.Config(path=str(tmp_path)).build(smiles.Config(length=2).build())
    with pytest.raises(DataError, match="nowhere"):
        molecules.Config(path=str(tmp_path / "nowhere")).build(codec)


def test_sequences_are_split_at_random_and_the_test_stays_apart(tmp_path):
    rows = ["".join(letters) for letters in itertools.product("ACGT", repeat=3)]
    path = tmp_path / "some.tsv"
    path.write_text("label\tsequence\n" + "".join(f"0\t{row}\n" for row in [*rows, rows[0]]))
    codec = sequences.Config(length=3).build()
    judged, chosen = (table.Config(path=str(path), held_out=part).build(codec) for part in ("test", "valid"))
    parts = [codec.decode(x[torch.arange(len(x))].x_0) for x in (judged.test, chosen.test, chosen.train)]
    assert [len(part) for part in parts] == [12, 12, 40]
    assert sorted(itertools.chain(*parts)) == sorted(rows)
    assert sorted(codec.decode(judged.train[torch.arange(52)].x_0)) == sorted(parts[1] + parts[2])
    for content, complaint in (
        ("x\ty\n", "no column 'sequence'"),
        ("label\tsequence\n1\tACG\n1\n", "some.tsv:3: no sequence in it"),
        ("sequence\nACGT\n", "a sequence of 4 letters"),
        ("sequence\nACX\n", "'X' is not in the alphabet"),
        ("sequence\nACG\n", "too few"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=complaint):
            table.Config(path=str(path)).build(codec)


def test_an_alignment_is_read_without_its_insertions(tmp_path):
    path = tmp_path / "some.a3m"
    path.write_text(">query\nAC\nD\n>1\nAghDC\n>2\nA-hD\n>3\nkACC\n")
    codec = sequences.Config(length=3, alphabet="-ACD").build()
    data = alignment.Config(path=str(path), share=0.3).build(codec)
    rows = [codec.decode(x[torch.arange(len(x))].x_0) for x in (data.train, data.test)]
    assert [len(part) for part in rows] == [3, 1]
    assert sorted(rows[0] + rows[1]) == ["A-D", "ACC", "ACD", "ADC"]


def test_a_default_place_needs_the_variable(monkeypatch):
    monkeypatch.delenv("DI4C_DATA", raising=False)
    with pytest.raises(DataError, match="DI4C_DATA is not set"):
        alignment.Config().build(DNA)
    with pytest.raises(RecipeError, match=r'set codec\.kind = "sequences"'):
        table.Config().build(smiles.Config(length=3).build())
