"""From presets, files, flags and --set to one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize("text", ["- a\n", "3", "a: [", "a: !!python/object/apply:os.getcwd []"])
def test_bad_files_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError):
        build_recipe(str(tmp_path / "bad.yaml"))


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
