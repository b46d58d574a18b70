"""Parts by name, methods from parts, stand-ins by name: what is accepted, and what an error says."""

import numpy as np
import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.methods import Method, assemble
from vidcomp.stages.parts import Merger, Segmenter, UnknownMethodError, make, names, part_class
from vidcomp.stages.standins import STAND_INS, complete

PLAIN = ("uniform", {})


def grid(**more):
    data = torch.randn(4, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    return TokenGrid(data, torch.arange(4).double(), **more)


def test_files_are_methods():
    assert {"evs", "fastvid", "pool", "random", "uniform"} <= set(names("merger"))
    assert {"dyseg", "uniform"} <= set(names("segmenter"))
    assert not any(n.startswith("_") for n in names("merger"))


@pytest.mark.parametrize("kind", ["merger", "segmenter"])
def test_every_file_defines_one_part(kind):
    for name in names(kind):
        cls = part_class(kind, name)
        assert issubclass(cls, Merger if kind == "merger" else Segmenter)
        assert cls.name() == name
        assert cls.__doc__
        assert cls.paper


def test_unknown_names_say_what_there_is():
    with pytest.raises(UnknownMethodError, match=r"no merger 'evss'; there are: .*evs.*fastvid"):
        make("merger", "evss", {})
    with pytest.raises(ValueError, match=r"'evs' has no 'retian'; it has: retain, threshold"):
        make("merger", "evs", {"retian": 0.5})


@pytest.mark.parametrize(
    ("name", "hyper", "words"),
    [
        ("evs", {"retain": 1.5}, "retain must be"),
        ("evs", {"threshold": -1}, "threshold must be"),
        ("evs", {"retain": None}, "retain or threshold"),
        ("fastvid", {"retain": -0.1}, "retain must be"),
        ("fastvid", {"beta": 2}, "beta must be"),
        ("fastvid", {"k": 0}, "k must be"),
        ("fastvid", {"variant": "llava"}, "variant must be 'onevision' or "),
        ("pool", {"spatial": 0}, "spatial"),
        ("pool", {"retain": 7}, "retain"),
        ("uniform", {"retain": 7}, "retain"),
        ("random", {"retain": 7}, "retain"),
    ],
)
def test_values_out_of_bounds(name, hyper, words):
    with pytest.raises(ValueError, match=words):
        make("merger", name, hyper)


@pytest.mark.parametrize(
    "value",
    [[3, 2], (3, 2), np.array([3, 2]), list(np.array([3, 2])), torch.tensor([3, 2]), [3.0, 2.0], np.array([3.0, 2])],
)
def test_lists_of_numbers_may_come_from_anywhere(value):
    rounds = make("merger", "tome", {"rounds": value}).rounds
    assert rounds == (3, 2)
    assert all(type(r) is int for r in rounds)


@pytest.mark.parametrize(
    ("kind", "name", "hyper"),
    [
        ("segmenter", "uniform", {"segments": 8.0}),
        ("segmenter", "uniform", {"segments": np.int32(8)}),
        ("segmenter", "uniform", {"segments": np.array(8)}),
        ("segmenter", "uniform", {"segments": torch.tensor(8)}),
        ("merger", "evs", {"retain": np.float32(0.5)}),
        ("merger", "evs", {"retain": np.array(0.5)}),
        ("merger", "evs", {"retain": 1}),
        ("merger", "sttm", {"weighted": np.True_}),
        ("merger", "rlt", {"mean": np.array([0.5, 0.25, 0.5]), "std": (1, 1, np.float32(0.5))}),
        ("merger", "fastvid", {"variant": np.str_("llava_video")}),
    ],
)
def test_numbers_may_come_from_anywhere(kind, name, hyper):
    part = make(kind, name, hyper)
    for field, value in hyper.items():
        plain = value.tolist() if hasattr(value, "tolist") else value
        assert getattr(part, field) == (tuple(plain) if isinstance(plain, list) else plain)
        assert type(getattr(part, field)) in (int, float, bool, str, tuple)
        assert type(getattr(part, field)) is type(getattr(make(kind, name, {}), field)) or field == "retain"


@pytest.mark.parametrize(
    ("name", "hyper", "words"),
    [
        ("tome", {"rounds": [1.5]}, r"tome.rounds must be list of int or none, got \[1.5\]"),
        ("tome", {"rounds": [True]}, "tome.rounds must be"),
        ("tome", {"rounds": 3}, "tome.rounds must be"),
        ("tome", {"rounds": [[3]]}, "tome.rounds must be"),
        ("tome", {"rounds": np.array([-1])}, "rounds must be whole numbers of at least 0"),
        ("pool", {"spatial": 2.5}, "pool.spatial must be int"),
        ("pool", {"spatial": float("inf")}, "pool.spatial must be int"),
        ("sttm", {"weighted": 1}, "sttm.weighted must be bool"),
        ("evs", {"retain": "0.5"}, "evs.retain must be"),
        ("evs", {"retain": np.nan}, "evs.retain must be"),
        ("evs", {"retain": True}, "evs.retain must be"),
    ],
)
def test_values_of_other_types(name, hyper, words):
    with pytest.raises(ValueError, match=words):
        make("merger", name, hyper)


@pytest.mark.parametrize("hyper", [{"segments": 0}, {"tau": 3}])
def test_segmenter_values_out_of_bounds(hyper):
    with pytest.raises(ValueError, match="must be"):
        make("segmenter", "dyseg", hyper)


def test_flat_hyper_parameters_go_to_every_part_that_has_them():
    m = assemble(
        "x", ("dyseg", {"tau": 0.5}), ("fastvid", {"beta": 0.7}), {}, {"segments": 3, "beta": 0.1, "retain": 0.2}
    )
    assert (m.segmenter.segments, m.segmenter.tau) == (3, 0.5)
    assert (m.merger.beta, m.merger.retain) == (0.1, 0.2)
    with pytest.raises(ValueError, match=r"method 'x' has no 'taau'; it has: .*retain.*segments.*tau"):
        assemble("x", ("dyseg", {}), ("fastvid", {}), {}, {"taau": 1})


def test_a_flat_parameter_clears_what_it_stands_in_the_place_of():
    evs = ("evs", {"retain": 0.25})
    assert assemble("evs", PLAIN, evs, {}, {"threshold": 0.1}).merger.retain is None
    assert assemble("evs", PLAIN, ("evs", {"threshold": 0.1}), {}, {"retain": 0.5}).merger.threshold is None
    assert assemble("evs", PLAIN, evs, {}, {"retain": 0.5}).merger.retain == 0.5
    with pytest.raises(ValueError, match="not both"):
        assemble("evs", PLAIN, evs, {}, {"retain": 0.5, "threshold": 0.1})


def test_what_a_method_says_of_itself():
    m = assemble("fastvid", ("dyseg", {}), ("fastvid", {}), {}, {})
    assert m.needs == {"attention", "frame_vectors"}
    assert (m.kind, m.causal) == ("both", False)
    assert "2503.11187" in m.paper
    assert assemble("evs", PLAIN, ("evs", {}), {}, {"threshold": 0.1}).causal
    assert not assemble("evs", PLAIN, ("evs", {}), {}, {}).causal
    assert assemble("pool", PLAIN, ("pool", {}), {}, {}).needs == {"grid"}


def test_a_missing_need_is_an_error_that_names_the_way_out():
    m = assemble("fastvid", ("dyseg", {}), ("fastvid", {}), {"frame_vectors": "token_mean"}, {})
    with pytest.raises(ValueError, match=r"needs attention.*stand_ins.*attention.*: NAME.*distinctness, norm"):
        m.decide(grid())
    assert len(m.decide(grid(attention=torch.rand(4, 3, 5)))[0])


def test_unknown_stand_ins():
    for wrong in ({"attention": "rollout"}, {"pixels": "noise"}):
        with pytest.raises(ValueError, match="no stand-in"):
            assemble("x", PLAIN, ("evs", {}), wrong, {})


@pytest.mark.parametrize(("need", "name"), [(need, name) for need, known in STAND_INS.items() for name in known])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stand_ins_fit_the_grid(need, name, dtype):
    g = grid()
    g = TokenGrid(g.data.to(dtype), g.pts_s)
    full = complete(g, {need: name}, {need})
    assert torch.equal(getattr(full, need), STAND_INS[need][name](g))  # and the grid's own laws hold
    assert full.data is g.data


def test_distinctness_is_1_minus_cos_to_the_frame_mean():
    g = grid()
    want = 1 - torch.cosine_similarity(g.data, g.data.mean((1, 2), keepdim=True), dim=-1)
    got = complete(g, {"attention": "distinctness"}, {"attention"}).attention
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_the_models_own_comes_before_a_stand_in():
    own = torch.rand(4, 3, 5)
    g = grid(attention=own)
    assert complete(g, {"attention": "norm"}, {"attention", "grid"}) is g
    assert complete(grid(), {"attention": "norm"}, {"grid"}).attention is None  # nor computed where nothing needs it


def test_decide_takes_features_that_want_gradients():
    g = grid()
    m = assemble("evs", PLAIN, ("evs", {}), {}, {})
    wanting = TokenGrid(g.data.clone().requires_grad_(), g.pts_s)
    assert torch.equal(m.decide(wanting)[0].anchor, m.decide(g)[0].anchor)
    assert isinstance(m, Method)
