"""From presets, files, flags and --set to one recipe."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

import vidcomp
from vidcomp.pipeline.build import build_method
from vidcomp.pipeline.errors import ConfigError
from vidcomp.pipeline.presets import build_recipe, method_names, preset_names
from vidcomp.stages.listing import UnknownMethodError

IDENTITY = {"family": "dct"}


def test_defaults() -> None:
    recipe = build_recipe()
    assert (recipe.model.id, recipe.sample.fps, recipe.method) == ("dct", 1.0, "fastvid")
    assert (recipe.segmenter.name, recipe.merger.name) == ("dyseg", "fastvid")


def test_a_merger_alone_is_a_method_with_the_uniform_segmenter() -> None:
    recipe = build_recipe(method="pool")
    assert (recipe.segmenter.name, recipe.merger.name) == ("uniform", "pool")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds(name: str) -> None:
    assert build_recipe(name).method in method_names()


def test_later_wins(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("method: evs\nmerger: {retain: 0.5}\nsample: {fps: 4}\n")
    recipe = build_recipe(
        str(config), over={"sample": {"fps": 2.0}}, settings=["merger.retain=0.3", "decode.threads=1"]
    )
    assert recipe.merger.hyper == {"retain": 0.3}
    assert (recipe.sample.fps, recipe.decode.threads) == (2.0, 1)


def test_another_merger_starts_afresh() -> None:
    recipe = build_recipe(method="fastvid", settings=["merger.name=evs", "merger.retain=0.2"])
    assert recipe.merger.hyper == {"retain": 0.2}


def test_a_named_method_wins_over_a_config() -> None:
    recipe = build_recipe("fastvid", method="evs")
    assert (recipe.method, recipe.segmenter.name, recipe.merger.name) == ("evs", "uniform", "evs")


def test_stand_ins_go_with_the_merger_they_were_named_for() -> None:
    assert build_recipe(method="fastvid").stand_ins.keys() == {"attention", "frame_vectors"}
    assert build_recipe(settings=["merger.name=evs"]).stand_ins == {}
    named = build_recipe(settings=["merger.name=evs", "stand_ins.attention=norm"])
    assert named.stand_ins == {"attention": "norm"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"method": "fastvid", "settings": ["merger.beta=0.5"]}, "fastvid"),
        (
            {"method": "fastvid", "settings": ["segmenter.name=dp_static", "merger.name=prunevid"]},
            "dp_static+prunevid",
        ),
        ({"config": {"segmenter": {"name": "cosine"}, "merger": {"name": "evs"}}}, "cosine+evs"),
        ({"config": {"method": "fastvid", "merger": {"name": "evs"}}}, "dyseg+evs"),
        ({"config": {"merger": {"name": "evs"}}, "method": "evs"}, "evs"),
        ({"settings": ["method=evs"]}, "dyseg+fastvid"),
        ({"method": "dp_static+prunevid"}, "dp_static+prunevid"),
        ({"config": {"method": "dp_static+prunevid", "merger": {"k": 3}}}, "dp_static+prunevid"),
    ],
)
def test_a_recomposed_method_has_its_parts_names(given: dict, name: str) -> None:
    recipe = build_recipe(**given)
    assert recipe.method == name
    assert build_method(recipe).name == name


def test_a_method_may_be_named_by_its_parts() -> None:
    features = torch.randn(8, 4, 6, 16)
    found = vidcomp.reduce(features, "dp_static+prunevid")
    assert isinstance(found, vidcomp.Reduction)
    with pytest.raises(UnknownMethodError, match=r"no method 'dp_static\+nope'; there are: "):
        vidcomp.reduce(features, "dp_static+nope")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"settings": ["nope.a=1"]}, "nope: no such setting"),
        ({"settings": ["sample.fpz=1"]}, "sample.fpz: no such setting"),
        ({"settings": ["sample.fps=fast"]}, "sample.fps: .*number"),
        ({"settings": ["chunk_frames=0"]}, "chunk_frames: .*greater than or equal to 1, got 0"),
        ({"settings": ["chunk_frames"]}, "write it as key.subkey=value"),
        ({"settings": ["merger.retain=[1"]}, "not valid YAML"),
        ({"over": {"budget": {"retain": 0.0}}}, "budget.retain: .*greater than 0, got 0.0"),
        ({"over": {"budget": {"retain": 1.5}}}, "budget.retain: .*less than or equal to 1, got 1.5"),
        ({"over": {"budget": {"retain": 0.5, "tokens": 3}}}, "one budget at a time, got retain and tokens"),
        ({"config": "no-such-preset"}, "neither a file nor one of"),
        ({"config": {"merger": 3}}, "merger: "),
    ],
)
def test_bad_settings_are_one_line(given: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as e:
        build_recipe(**given)
    assert "\n" not in str(e.value)


BOMB = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghijklmnopqrs"))


@pytest.mark.parametrize(
    "text",
    [
        "- a\n",
        "3",
        "a: [",
        "a: !!python/object/apply:os.getcwd []",
        BOMB,
        "a: &a [*a]",
        "a: 2020-13-45",
        "a: " + "9" * 5000,
        "[" * 5000,
        "a: " + "b" * (1 << 20),
    ],
    ids=lambda text: text[:9],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as e:
        build_recipe(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 1000


def test_aliases_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BOMB)
    with pytest.raises(ConfigError, match=r"bad.yaml: .*aliases .* are not taken: write the value out.*line 2"):
        build_recipe(str(tmp_path / "bad.yaml"))
    for value in ("[*a]", "[" * 5000, "2020-13-45"):
        with pytest.raises(ConfigError, match="--set"):
            build_recipe(settings=[f"merger.beta={value}"])


def test_many_wrong_settings_are_told_briefly() -> None:
    with pytest.raises(ConfigError, match="no such setting; and 9995 more") as e:
        build_recipe({f"nope{n}": 1 for n in range(10_000)})
    assert len(str(e.value)) < 500


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("compute.threads=100000", "compute.threads: must be less than or equal to"),
        ("decode.threads=100000", "decode.*threads.* 1024"),
        (f"merger.beta={1 << 70}", "beta: .* does not fit in 64 bits"),
    ],
)
def test_numbers_that_no_machine_takes(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_recipe(settings=[setting])


@pytest.mark.parametrize(
    "given", [{"method": "nope"}, {"settings": ["merger.name=../evs"]}, {"settings": ["segmenter.name=nope"]}]
)
def test_unknown_methods_list_what_there_is(given: dict) -> None:
    with pytest.raises(UnknownMethodError, match=r"there are: .*uniform"):
        build_recipe(**given)


def test_the_digest_covers_values_and_nothing_else() -> None:
    base = build_recipe().digest(IDENTITY)
    for same in (
        ["decode.deadline_s=5"],
        ["decode.threads=2"],
        ["compute.threads=3"],
        ["model.id=somewhere/else"],
    ):
        assert build_recipe(settings=same).digest(IDENTITY) == base
    other = [
        ["sample.fps=2"],
        ["chunk_frames=16"],
        ["merger.beta=0.5"],
        ["budget.tokens=9"],
        ["segmenter.tau=0.8"],
    ]
    digests = {build_recipe(settings=s).digest(IDENTITY) for s in other} | {build_recipe().digest({"family": "x"})}
    assert len(digests - {base}) == 6
