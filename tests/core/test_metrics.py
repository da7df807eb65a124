"""Metrics against enumeration, closed forms and known cases."""

import itertools
import math

import pytest
import torch

from di4c_cli.core.codecs import characters, pixels, states
from di4c_cli.core.component import config_class, kinds
from di4c_cli.core.datasets import Dataset, TensorSplit, digits, spread, toy
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.metrics import (
    Trial,
    _features,
    class_entropy,
    copies,
    entropy,
    fitting,
    frechet,
    kid,
    nll_bound,
    plain,
    precision_recall,
    spelling,
    tv,
    words,
)
from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import Call, ancestral, sample
from di4c_cli.core.space import NEVER, StateSpace

PROCESSES = {
    "masked": lambda space: masked.Config().build(space),
    "loglinear": lambda space: masked.Config(schedule="loglinear").build(space),
    "uniform": lambda space: uniform.Config().build(space),
    "gaussian": lambda space: gaussian.Config(rate_sigma=1.0).build(space),
}


class Fake:
    """A denoiser of which only `law` matters."""

    def law(self, x_t, t, label=None, *, generator, num_latents=1):
        raise NotImplementedError

    def __call__(self, x_t, t, label=None, *, generator):
        """A component drawn at random."""
        log_p = self.law(x_t, t, generator=generator).log_p
        pick = torch.randint(log_p.shape[1], (len(x_t),), generator=generator)
        return ProductLaw.dense(log_p[torch.arange(len(x_t)), pick])

    def law_of_draws(self, x, t, label=None, *, generator):
        raise NotImplementedError


class Table(Fake):
    """A mixture with a random law for every noisy state, the same at all times; visible positions stay."""

    def __init__(self, process, num_components, seed=0):
        D, S = process.space.num_dims, process.space.num_states
        generator = torch.Generator().manual_seed(seed)
        shape = (S**D, num_components, D, S)
        logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        if process.space.mask_id is not None:
            logits[..., process.space.mask_id] = NEVER
            x = torch.stack(torch.unravel_index(torch.arange(S**D), (S,) * D), -1)
            visible = (x != process.space.mask_id)[:, None, :, None]
            seen = torch.nn.functional.one_hot(x, S).bool()[:, None]
            logits = torch.where(visible, torch.where(seen, 0.0, NEVER).double(), logits)
        self.log_p = logits.log_softmax(-1)
        self.weight = torch.tensor([S**k for k in reversed(range(D))])

    def law(self, x_t, t, label=None, *, generator, num_latents=1):
        return MixtureLaw.dense(self.log_p[(x_t * self.weight).sum(-1)])


class Posterior(Fake):
    """Exact posterior marginals of a joint; an impossible x_t keeps what it shows."""

    def __init__(self, process, joint):
        self.process, self.joint = process, joint

    def law(self, x_t, t, label=None, *, generator=None, num_latents=1):
        log_likelihood = self.process.log_likelihood(x_t, t)
        S, D = self.joint.shape[0], self.joint.dim()
        likelihood = log_likelihood[..., :S].exp()
        weight = self.joint.expand(len(x_t), *self.joint.shape)
        for d in range(D):
            weight = weight * likelihood[:, d].view(-1, *[S if k == d else 1 for k in range(D)])
        p = torch.zeros_like(log_likelihood)
        for d in range(D):
            p[:, d, :S] = weight.sum([k + 1 for k in range(D) if k != d]) + 1e-300 * likelihood[:, d]
        return MixtureLaw.dense((p / p.sum(-1, keepdim=True)).log().clamp(min=NEVER)[:, None])


def plan(denoiser, steps):
    times = [1 - k / steps for k in range(steps)] + [0.0]
    return [Call(denoiser, t, s) for t, s in itertools.pairwise(times)]


def trial(tmp_path, dataset, codec, samples, *, process=None, plan=(), seed=0):
    return Trial(samples, codec, dataset, process or masked.Config().build(codec.space), plan, seed, tmp_path)


# total variation


@pytest.mark.parametrize(("num_dims", "num_states"), [(4, 2), (4, 3), (6, 2)])
def test_tv_of_the_product_teacher_on_pairs_is_the_closed_form(tmp_path, num_dims, num_states):
    codec = states.Config(num_dims=num_dims, num_states=num_states).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    process = masked.Config().build(codec.space)
    teacher = Posterior(process, data.joint)
    for steps in (1, 2, 3, 8, 32):
        run = trial(tmp_path, data, codec, data.test.x_0, process=process, plan=plan(teacher, steps))
        exact = 1 - (1 - (1 - 1 / num_states) / steps) ** (num_dims // 2)
        assert tv.Config().build()(run)["tv"] == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_law_of_a_plan_is_what_the_sampler_draws(name):
    process = PROCESSES[name](StateSpace(shape=(3,), num_states=3))
    calls = plan(Table(process, num_components=2), 3)
    law = tv.law_of_plan(calls, process, num_latents=1, chunk=7)
    assert law.sum().item() == pytest.approx(1, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    num = 60_000
    x = sample(ancestral.Config().build(process), calls, process, num, generator, "cpu")
    S = process.space.num_states
    counts = (x * torch.tensor([S * S, S, 1])).sum(-1).bincount(minlength=S**3)
    expected = num * law.flatten()
    assert counts[expected == 0].sum() == 0
    cells = expected > 5
    chi_square = ((counts - expected)[cells] ** 2 / expected[cells]).sum().item()
    assert chi_square < cells.sum().item() + 5 * math.sqrt(2 * cells.sum().item())


def test_tv_sees_a_mixture_and_its_absence(tmp_path):
    codec = states.Config(num_dims=2, num_states=2).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    process = masked.Config().build(codec.space)

    class Coin(Fake):
        """lambda decides the pair."""

        def law(self, x_t, t, label=None, *, generator, num_latents=1):
            rows = torch.tensor([[0.0, NEVER, NEVER], [NEVER, 0.0, NEVER]]).double()
            return MixtureLaw.dense(rows[:, None].expand(len(x_t), 2, 2, 3))

    figures = []
    for denoiser in (Coin(), Posterior(process, data.joint)):
        run = trial(tmp_path, data, codec, data.test.x_0, process=process, plan=plan(denoiser, 1))
        figures.append(tv.Config().build()(run)["tv"])
    assert figures == pytest.approx([0, 0.5], abs=1e-9)


# likelihood bound


def all_points(num_states, num_dims):
    return torch.cartesian_prod(*[torch.arange(num_states)] * num_dims).view(-1, num_dims)


def expected_bound(process, calls, x_0):
    """The bound of a two-call plan by enumeration of x_1 and x_s."""
    first_call, last = calls
    points = all_points(process.space.num_states, process.space.num_dims)
    prior = process.prior_probs()
    repeat = x_0.expand(len(points), -1)
    t = torch.full((len(points),), first_call.t, dtype=torch.float64)
    s = torch.full_like(t, first_call.s)
    total = 0.0
    for x_1 in points:
        if (weight := prior[x_1].prod().item()) < 1e-12:
            continue
        rows = x_1.expand(len(points), -1)
        log_q = nll_bound.log_posterior(process, repeat, rows, points, t, s)
        step = first_call.denoiser.law(rows, t, generator=None).log_step(process, rows, points[:, None], t, s)
        step = step[:, 0]
        end = last.denoiser.law(points, s, generator=None).log_joint(repeat[:, None])[:, 0]
        reached = log_q > -300
        total += weight * (log_q.exp() * (log_q - step - end))[reached].sum().item()
    return total


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("components", [1, 3])
def test_nll_bound_is_the_enumerated_one_and_lies_above_the_truth(name, components):
    process = PROCESSES[name](StateSpace(shape=(2,), num_states=3))
    calls = plan(Table(process, components), 2)
    truth = tv.law_of_plan(calls, process, num_latents=1, chunk=100)
    num = 4000
    for x_0 in torch.tensor([[0, 1], [2, 2]]):
        chain, latents = (torch.Generator().manual_seed(1) for _ in range(2))
        draws = nll_bound.call_nats(calls, process, x_0.repeat(num, 1), chain, latents, 1).sum(1)
        exact = expected_bound(process, calls, x_0)
        assert abs(draws.mean().item() - exact) < 4 * draws.std().item() / math.sqrt(num) + 1e-9
        assert exact > -math.log(truth[tuple(x_0)].item())


@pytest.mark.parametrize("name", PROCESSES)
def test_log_posterior_is_bayes(name):
    process = PROCESSES[name](StateSpace(shape=(1,), num_states=3))
    states_ = torch.arange(process.space.num_states)[:, None]
    t, s = (torch.full((len(states_),), value, dtype=torch.float64) for value in (0.8, 0.3))
    x_0 = torch.zeros_like(states_)
    given = process.log_likelihood(states_, s)[:, 0].exp()[:, 0]  # q_{s|0}(k | 0)
    for x_t in states_[-1:]:
        rows = x_t.expand_as(states_)
        log_q = nll_bound.log_posterior(process, x_0, rows, states_, t, s)
        assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-9)
        if name == "masked":
            assert log_q.exp().tolist() == pytest.approx([0.625, 0, 0, 0.375])
        if name == "uniform":
            forward = process.rows(states_, t, s)[:, 0, x_t.item()]  # q_{t|s}(x_t | k)
            assert torch.allclose(log_q.exp(), forward * given / (forward * given).sum())


def test_nll_bound_of_one_call_is_the_joint_and_seeds_pair_the_models(tmp_path):
    codec = states.Config(num_dims=3, num_states=2).build()
    data = toy.Config(joint="markov", num=500).build(codec)
    process = masked.Config().build(codec.space)
    measure = nll_bound.Config(num=300, batch=64).build()

    def figure(denoiser, steps, seed=0):
        calls = plan(denoiser, steps)
        run = trial(tmp_path, data, codec, data.test.x_0, process=process, plan=calls, seed=seed)
        return plain(measure(run))["nll_bound"]

    teacher = Posterior(process, data.joint)
    x = spread(data.test, 300).x_0
    assert len(x) == 300
    marginals = [data.joint.sum([k for k in range(3) if k != d]).log()[x[:, d]] for d in range(3)]
    assert figure(teacher, 1) == pytest.approx(-torch.stack(marginals).sum(0).mean().item(), abs=1e-6)
    entropy_of_data = torch.special.entr(data.joint).sum().item()
    assert figure(teacher, 32) == pytest.approx(entropy_of_data, abs=0.15)
    assert figure(teacher, 4) == figure(teacher, 4) != figure(teacher, 4, seed=1)

    class Drawing(Posterior):
        """The same law, but it uses up random numbers as a student does."""

        def law(self, x_t, t, label=None, *, generator, num_latents=1):
            torch.rand(5, generator=generator)
            return super().law(x_t, t)

    assert figure(Drawing(process, data.joint), 4) == figure(teacher, 4)


def test_nll_bound_has_the_standard_error_of_its_items(tmp_path):
    codec = states.Config(num_dims=1, num_states=2).build()
    process = masked.Config().build(codec.space)

    class Biased(Fake):
        """Its bound of a single call is -log 0.9 of state 0, and -log 0.1 of state 1."""

        def law(self, x_t, t, label=None, *, generator, num_latents=1):
            log_p = torch.tensor([0.9, 0.1, 0]).double().log().clamp(min=NEVER)
            return MixtureLaw.dense(log_p.expand(len(x_t), 1, 1, 3))

    def figures(*points):
        split = TensorSplit(torch.tensor(points)[:, None])
        run = trial(
            tmp_path, Dataset(split, split), codec, split.x_0, process=process, plan=plan(Biased(), 1)
        )
        return plain(nll_bound.Config(batch=2).build()(run))

    spread_of_three = math.log(9) * (2 / 3) ** 0.5 / 2**0.5  # d, d, d + log 9; Bessel
    assert figures(0, 0, 1)["nll_bound_se"] == pytest.approx(spread_of_three / 3**0.5)
    assert figures(0, 0, 0)["nll_bound_se"] == pytest.approx(0, abs=1e-12)
    assert figures(1) == {"nll_bound": pytest.approx(-math.log(0.1))}


def test_real_data_has_no_plan_to_measure(tmp_path):
    codec = states.Config(num_dims=2, num_states=2).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    run = trial(tmp_path, data, codec, data.test.x_0, plan=None)
    assert tv.Config().build()(run) == {}
    assert nll_bound.Config().build()(run) == {}


# feature space


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Digits, their codec and a cache whose classifier is trained."""
    codec = pixels.Config(height=8, width=8, levels=4).build()
    data = digits.Config().build(codec)
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_features, "SETTINGS", _features.Settings(steps=200))
        _features.evaluator(data, codec, cache)
        yield data, codec, cache


def on_images(images, samples, plan=(), seed=0):
    data, codec, cache = images
    return trial(cache, data, codec, samples, plan=plan, seed=seed)


def test_classifier_knows_the_classes_and_scales_its_features(images):
    data, codec, cache = images
    space = _features.evaluator(data, codec, cache)
    assert (space.classes(data.test.x_0).argmax(1) == data.test.label).double().mean() > 0.95
    assert space.train_features.shape == (1400, 64)
    assert space.train_features.std().item() == pytest.approx(1)
    assert torch.equal(space.features(data.test.x_0), space.test_features)
    assert (cache / f"{space.name}.safetensors").is_file()


def test_classifier_is_made_once_and_named_by_what_made_it(images, tmp_path, monkeypatch):
    data, codec, cache = images
    monkeypatch.setattr(_features, "SETTINGS", _features.Settings(steps=5))
    make = _features.evaluator.__wrapped__
    ours = make(data, codec, tmp_path)
    path = tmp_path / f"{ours.name}.safetensors"
    weights = path.read_bytes()
    path.write_bytes(weights[:100])  # a damaged cache is made again, the same
    assert torch.equal(make(data, codec, tmp_path).test_features, ours.test_features)
    assert path.read_bytes() == weights
    repainted, relabelled = data.train.x_0.clone(), data.train.label.clone()
    repainted[-1, 20] = 3 - repainted[-1, 20]
    relabelled[-1] = 9 - relabelled[-1]
    others = [TensorSplit(repainted, data.train.label), TensorSplit(data.train.x_0, relabelled)]
    names = {make(Dataset(split, data.test), codec, tmp_path).name for split in others}
    names |= {ours.name, _features.evaluator(data, codec, cache).name}
    assert len(names) == 4

    def never(*args):
        raise AssertionError("trained although cached")

    monkeypatch.setattr(_features, "_train", never)
    assert torch.equal(make(data, codec, tmp_path).test_features, ours.test_features)


@pytest.mark.parametrize("metric", [frechet, kid, precision_recall, class_entropy, copies])
def test_features_need_labelled_images(metric):
    codec = states.Config(num_dims=2, num_states=2).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    with pytest.raises(ValueError, match="images"):
        metric.Config().check(codec, data)


def test_metrics_of_a_recipe_fit_its_data_and_do_not_meet():
    codec = states.Config(num_dims=2, num_states=2).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    sections = [tv.Config(), frechet.Config()]
    with pytest.raises(ValueError, match=r"^1 \(frechet\): needs images"):
        fitting(sections, codec, data)
    (only,) = fitting(sections, codec, data, ["tv"])  # what is not asked for need not fit
    assert only.directions.keys() == {"tv"}
    with pytest.raises(ValueError, match=r"^1 \(tv\) gives tv, and so does 0 \(tv\); leave one"):
        fitting([sections[0]] * 2, codec, data)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet.frechet_distance(x, x + 0.5) == pytest.approx(8 * 0.25, abs=1e-6)
    assert frechet.frechet_distance(x, 3 * (x - x.mean(0)) + x.mean(0)) == pytest.approx(
        4 * x.var(0).sum().item(), abs=1e-6
    )


def test_kernel_distance_is_unbiased_seeded_and_leaves_the_global_generator_alone():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(800, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    settings = {"subsets": 20, "subset_size": 200}
    before = torch.get_rng_state()
    same = kid.kernel_distance(x, y, seed=0, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert abs(same) < 0.05
    assert (
        kid.kernel_distance(x, y, seed=0, **settings) == same != kid.kernel_distance(x, y, seed=1, **settings)
    )
    assert kid.kernel_distance(x, y + 0.5, seed=0, **settings) > 0.3


def test_frechet_and_kid_rank_images(images):
    data = images[0]
    generator = torch.Generator().manual_seed(0)
    x = data.train.x_0
    noise = torch.randint(4, x.shape, generator=generator)
    samples = {
        "real": x,
        "noisy": torch.where(torch.rand(x.shape, generator=generator) < 0.2, noise, x),
        "product": torch.stack([column[torch.randperm(len(x), generator=generator)] for column in x.T], 1),
        "noise": noise,
    }
    figures = {name: frechet.Config().build()(on_images(images, tokens)) for name, tokens in samples.items()}
    for name in ("fd", "fd_test"):
        values = [figure[name] for figure in figures.values()]
        assert values == sorted(values)
    kernel = {
        name: kid.Config().build()(on_images(images, tokens))["kid"] for name, tokens in samples.items()
    }
    assert kernel["real"] < min(kernel["noisy"], kernel["product"]) < max(kernel["noisy"], kernel["product"])
    assert max(kernel.values()) == kernel["noise"]
    own = frechet.Config().build()(on_images(images, x))
    assert own["fd"] == pytest.approx(0, abs=1e-6)
    assert own["fd_test"] > 0.05


def test_frechet_floor_never_compares_data_with_itself(images):
    floor = frechet.Config().build()(on_images(images, images[0].test.x_0, plan=None))
    assert floor["fd"] > 0.05
    assert floor["fd_test"] > 0.05


def test_floors_do_not_depend_on_the_order_of_the_data(images):
    """Folders of pictures come class by class, and metrics look at fewer items than there are."""
    data, codec, cache = images
    order = data.train.label.argsort(stable=True)
    train = TensorSplit(data.train.x_0[order], data.train.label[order])
    sorted_ = Dataset(train=train, test=data.test), codec, cache
    few = data.test.x_0[data.test.label.argsort(stable=True)][::2]
    mixed, by_class = (
        frechet.Config().build()(on_images(given, few, plan=None))["fd_test"] for given in (images, sorted_)
    )
    assert by_class < 2 * mixed
    floor = precision_recall.Config(num=150).build()(on_images(sorted_, few, plan=None))
    assert min(floor.values()) > 0.8


def test_copies_looks_at_samples_of_every_class(images):
    data = images[0]
    noise = torch.randint(4, (300, 64), generator=torch.Generator().manual_seed(0))
    half = torch.cat([data.train.x_0[:300], noise])
    assert copies.Config(num=300).build()(on_images(images, half))["copies"] == 0.5


def test_balls_of_neighbours():
    support = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    points = torch.tensor([[-2.9], [-3.1], [5.9], [16.9], [17.1]])
    # second nearest fellow: radii 3, 2, 3, 9
    assert precision_recall.covered(points, support, 2).tolist() == [True, False, True, True, True]
    assert precision_recall.covered(points, support, 1).tolist() == [False, False, True, True, False]


def test_precision_falls_with_noise_and_recall_with_collapse(images):
    data = images[0]
    measure = precision_recall.Config().build()
    floor = measure(on_images(images, data.test.x_0, plan=None))
    noise = torch.randint(4, (397, 64), generator=torch.Generator().manual_seed(0))
    ones = data.train.x_0[data.train.label == 1].repeat(3, 1)
    assert min(floor.values()) > 0.8
    assert measure(on_images(images, noise))["precision"] < 0.2  # a training item far from all reaches far
    assert measure(on_images(images, ones))["recall"] < 0.3 < measure(on_images(images, ones))["precision"]


def test_class_entropy_of_one_class_and_of_all(images):
    data = images[0]
    measure = class_entropy.Config().build()
    assert measure(on_images(images, data.test.x_0))["class_entropy"] > 0.97
    assert measure(on_images(images, data.train.x_0[data.train.label == 1]))["class_entropy"] < 0.2


def test_copies(images):
    data = images[0]
    measure = copies.Config().build()
    changed = data.train.x_0.clone()
    changed[:, 27] = (changed[:, 27] - 1).abs()
    assert measure(on_images(images, data.train.x_0))["copies"] == 1
    assert measure(on_images(images, changed))["copies"] > 0.9
    assert measure(on_images(images, data.test.x_0, plan=None))["copies"] <= 0.01
    noise = torch.randint(4, (100, 64), generator=torch.Generator().manual_seed(0))
    assert measure(on_images(images, noise))["copies"] == 0


def test_nearest_is_the_brute_force():
    x, y = (torch.rand(600, 5, generator=torch.Generator().manual_seed(n)) for n in range(2))
    assert torch.allclose(copies.nearest(x, y), torch.cdist(x, y).square().amin(1), atol=1e-5)


# text


def test_words_and_entropy(tmp_path):
    codec = characters.Config(length=4).build()
    known = TensorSplit(codec.encode(["a", "ab", "abba", "ab"]))
    run = trial(tmp_path, Dataset(known, known), codec, codec.encode(["ab", "ab", "abba", "bab", "a_b"]))
    assert plain(words.Config().build()(run)) == {"valid": 0.6, "distinct": 0.8}
    share = torch.tensor([7, 6]) / 13  # a and b; padding is not counted
    assert entropy.Config().build()(run)["entropy"] == pytest.approx(torch.special.entr(share).sum().item())


LETTERS = "abcdefghijklmnopqrstuvwxyzT' .-2"


def text_rows(*texts):
    """A codec of running text, and rows of it."""
    codec = characters.Config(length=24, alphabet=LETTERS).build()
    return codec, codec.encode(texts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" the cat ", ["the", "cat"]),
        ("the cat sat", ["cat"]),
        (".The the-cat.", ["the", "the", "cat"]),
        (" don't 'tis 'so' dogs' ", ["don't", "tis", "so", "dogs"]),
        ("'t was'", []),  # of don't, it may be
        (" a2b 22 ", ["a", "b"]),
        (" ' '' . ", []),
        ("the", []),
        ("", []),
    ],
)
def test_complete_words_of_a_row(text, words):
    codec, rows = text_rows("cat", text, "cat")  # neighbours join nothing
    assert spelling.complete_words(codec, rows) == [[], words, []]


def test_spelling(tmp_path):
    codec, rows = text_rows("x The cat. don't sleep", "ing x. ")
    data = Dataset(TensorSplit(rows), TensorSplit(rows))
    measure = spelling.Config().build()

    def figures(*samples):
        return plain(measure(trial(tmp_path, data, codec, codec.encode(samples), plan=None)))

    assert figures("a the cat. The dog", " don't dont ", "caterpillar") == {
        "valid_words": 0.8,
        "words_per_sample": 5 / 3,
    }
    assert figures(" sleep ", " ing ", " x ")["valid_words"] == pytest.approx(1 / 3)
    assert figures("the", "cat") == {"valid_words": 0, "words_per_sample": 0}


def test_spelling_reads_a_bounded_part_of_the_training_text(monkeypatch):
    texts = [f" {a}{b} " for a in "abcdef" for b in "xyz"]
    codec, rows = text_rows(*texts)
    monkeypatch.setattr(spelling, "READ_AT_ONCE", 5 * 24)

    def known():
        split = TensorSplit(rows.clone())  # another data set, of which nothing is remembered
        return spelling.vocabulary(Dataset(split, split), codec)

    assert known() == {text.strip() for text in texts}
    monkeypatch.setattr(spelling, "READ", 2 * 24)
    assert known() == {"ax", "fz"}


def test_ends_of_documents_are_no_words():
    class Documents(characters.CharacterCodec):
        document_end = 0

        def decode(self, tokens):
            return ["".join(("<end>", *LETTERS)[k] for k in row) for row in tokens.tolist()]

    codec = Documents(24, LETTERS)
    rows = torch.tensor([[0, *codec.tokenize("b cd"), 0, *codec.tokenize("de f"), 0]])
    assert spelling.complete_words(codec, rows) == [["cd", "de"]]


def test_entropy_of_equal_states_is_the_logarithm(tmp_path):
    codec = states.Config(num_dims=2, num_states=3).build()
    data = toy.Config(joint="pairs", num=1).build(codec)
    run = trial(tmp_path, data, codec, torch.tensor([[0, 1], [2, 0], [1, 2]]))
    assert entropy.Config().build()(run)["entropy"] == pytest.approx(math.log(3))


# all


def test_every_metric_says_which_way_is_better():
    told = [config_class("metrics", kind)().build().directions for kind in kinds("metrics")]
    names = {name for directions in told for name in directions}
    assert {"tv", "fd", "fd_test", "kid", "precision", "recall", "nll_bound", "valid", "unique"} <= names
    for (
        name
    ) in names:  # words and molecules are both valid or not: a figure of several metrics means the same
        assert len({directions[name] for directions in told if name in directions}) == 1, name


def test_spread_covers_a_split():
    split = TensorSplit(torch.arange(10)[:, None])
    assert spread(split, 4).x_0.flatten().tolist() == [0, 3, 6, 9]
    assert spread(split, 50).x_0.flatten().tolist() == list(range(10))
