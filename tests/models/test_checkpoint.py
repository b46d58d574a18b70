"""models/{checkpoint,weights,settings,families}.py: what a checkpoint is and what identifies it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from vidcomp.models import settings
from vidcomp.models.checkpoint import identify, resolve
from vidcomp.models.families import UnknownModelError, families, family_module
from vidcomp.models.jsonfile import CheckpointError
from vidcomp.models.load import load_llm, load_model, tokenizer_of
from vidcomp.models.prompt import written

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint that may be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def edit(path: Path, **keys: Any) -> None:
    """Set keys of a JSON file; None takes one out."""
    value = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


# -- identity ------------------------------------------------------------------------------------------


def test_identity_is_json_without_paths(tiny: Path, copy: Path) -> None:
    identity = resolve(str(tiny)).identity()
    text = json.dumps(identity, sort_keys=True)
    assert json.loads(text) == identity
    assert str(tiny.parent) not in text
    assert tiny.name not in text
    assert identity["family"] == "qwen2_5_vl"
    assert identity["dtype"] == "float32"
    assert identity["settings"]["size"] == {"shortest_edge": 4 * 784, "longest_edge": 48 * 784}
    edit(copy / "config.json", _name_or_path="/home/somebody/elsewhere")
    assert resolve(str(copy)).identity() == identity == identify(str(tiny))


def test_identity_is_of_the_files_that_are_read(copy: Path) -> None:
    before = resolve(str(copy)).identity()
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")
    assert resolve(str(copy)).identity() == before


def test_the_maker_is_deterministic(tiny: Path, tiny_maker: ModuleType, tmp_path: Path) -> None:
    again, other = (tiny_maker.make("qwen2_5_vl", tmp_path / str(seed), seed=seed) for seed in (0, 1))
    for path in sorted(tiny.iterdir()):
        assert (again / path.name).read_bytes() == path.read_bytes()
    assert resolve(str(other)).identity()["weights"] != resolve(str(tiny)).identity()["weights"]


def merge_lora(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["visual.merger.mlp.2.weight"] += 1e-3 * torch.ones(48, 1) @ torch.ones(1, 128)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


CHANGES: dict[str, Callable[[Path], None]] = {
    "weights": merge_lora,
    "config": lambda folder: edit(folder / "config.json", tie_word_embeddings=True),
    "settings": lambda folder: edit(folder / "video_preprocessor_config.json", max_pixels=40 * 784),
    "dtype": lambda folder: edit(folder / "config.json", dtype="bfloat16"),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_change_shows_in_its_part(copy: Path, part: str) -> None:
    before = resolve(str(copy)).identity()
    CHANGES[part](copy)
    after = resolve(str(copy)).identity()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {part} | ({"config"} if part == "dtype" else set())


def test_a_processor_default_change_shows(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(str(copy)).identity()
    table = settings.TABLES["qwen2_5_vl"]
    flipped = settings.Table(table.processor, {**table.defaults, "cap_pixels_per_frame": True})
    monkeypatch.setitem(settings.TABLES, "qwen2_5_vl", flipped)
    assert resolve(str(copy)).identity() != before


def test_asked_settings_and_dtype_show(tiny: Path) -> None:
    asked = identify(str(tiny), settings={"max_pixels": 8 * 784}, dtype="bfloat16")
    assert asked["settings"]["size"]["longest_edge"] == 8 * 784
    assert asked["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="float32, bfloat16, float16, got 'int8'"):
        identify(str(tiny), dtype="int8")


def test_the_dtype_comes_from_the_weights_where_the_config_is_silent(copy: Path) -> None:
    edit(copy / "config.json", dtype=None)
    assert resolve(str(copy)).dtype == "float32"
    edit(copy / "config.json", torch_dtype="bfloat16")  # the older spelling
    assert resolve(str(copy)).dtype == "bfloat16"


def test_built_in() -> None:
    assert identify("dct") == {"family": "dct"}
    with pytest.raises(CheckpointError, match="dct is built in: it has no checkpoint"):
        resolve("dct")
    with pytest.raises(ValueError, match="dct is built in and has no dtype, settings"):
        identify("dct", dtype="float32", settings={"size": 1})


def test_no_torch_no_transformers(tiny: Path) -> None:
    code = (
        "import sys; from vidcomp.models.checkpoint import identify; "
        f"print(identify({str(tiny)!r})['family'], 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["qwen2_5_vl", "False", "False"]


# -- folders -------------------------------------------------------------------------------------------


def test_shards(copy: Path, encoder: Any) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(weights))}
    for shard in set(names.values()):
        part = {name: weights[name] for name in names if names[name] == shard}
        save_file(part, copy / shard, {"format": "pt"})
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    frames, pts = torch.full((2, 60, 60, 3), 9, dtype=torch.uint8), torch.zeros(2).double()
    assert torch.equal(load_model(str(copy)).encode(frames, pts).data, encoder.encode(frames, pts).data)
    load_llm(str(copy))
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="1 of 2 weight files missing, the first is model-00002"):
        resolve(str(copy))


def test_a_released_checkpoints_config(copy: Path, encoder: Any) -> None:
    """As of early 2025: text settings at the root, `torch_dtype`, rope_scaling, one preprocessor file."""
    config = json.loads((copy / "config.json").read_text())
    text = config.pop("text_config")
    text["rope_scaling"] = {"type": "mrope", "mrope_section": text.pop("rope_parameters")["mrope_section"]}
    flat = {
        **text,
        **config,
        "rope_theta": 1e4,
        "torch_dtype": config.pop("dtype"),
        "model_type": "qwen2_5_vl",
    }
    del flat["dtype"], flat["layer_types"]
    flat["vision_config"]["model_type"] = "qwen2_5_vl"
    del flat["vision_config"]["rope_parameters"]
    (copy / "config.json").write_text(json.dumps(flat))
    (copy / "video_preprocessor_config.json").unlink()
    edit(copy / "preprocessor_config.json", image_processor_type="Qwen2_5_VLImageProcessor")
    frames, pts = torch.full((2, 60, 60, 3), 9, dtype=torch.uint8), torch.zeros(2).double()
    loaded: Any = load_model(str(copy))
    assert torch.equal(loaded.encode(frames, pts).data, encoder.encode(frames, pts).data)
    assert loaded.checkpoint.identity() == identify(str(copy))  # loading changes nothing in the config
    model, _ = load_llm(str(copy))
    assert model.config.get_text_config().rope_parameters["mrope_section"] == [2, 2, 2]


TEXT_MODELS = "{% for message in messages %}{{ message['role'] + message['content'] }}{% endfor %}"  # knows no video


def test_the_processors_chat_template_stands_over_the_tokenizers(copy: Path) -> None:
    """As in the real processor; the order of the places is that of `ProcessorMixin.get_processor_dict`."""
    own = tokenizer_of(resolve(str(copy))).chat_template
    (copy / "chat_template.jinja").write_text(TEXT_MODELS)
    with pytest.raises(ValueError, match=r"cannot write a video \(TypeError: .*\): take that of the model's") as told:
        written(tokenizer_of(resolve(str(copy))), "Who?", "<|video_pad|>", 1)
    assert "\n" not in str(told.value)
    (copy / "chat_template.json").write_text(json.dumps({"chat_template": own}))
    assert tokenizer_of(resolve(str(copy))).chat_template == own
    (copy / "processor_config.json").write_text(json.dumps({"chat_template": "last"}))
    assert tokenizer_of(resolve(str(copy))).chat_template == "last"


def leave_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").rename(folder.parent / "moved.safetensors")


def outside(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    index(folder, dict.fromkeys(names, "../moved.safetensors"))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle": (
        leave_pickles,
        r"only pickled weights \(pytorch_model.bin\), which are never opened; save it again",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors; save it again"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read as JSON"),
    "list config": (lambda f: (f / "config.json").write_text("[]"), "a JSON object is expected, got list"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "merge it first"),
    "outside": (outside, r"index\.json: its weight_map must name files that lie beside it; fetch it again"),
    "list index": (lambda f: index(f, ["model.safetensors"]), "its weight_map must name files that lie beside it"),
    "cut": (cut, r"bytes where its header says \d+; fetch it again"),
    "pointer": (lambda f: (f / "model.safetensors").write_text("version https://git-lfs"), "git-lfs pointer"),
    "family": (
        lambda f: edit(f / "config.json", model_type="llama"),
        "no model family 'llama' here; there are: .*qwen",
    ),
    "typeless": (lambda f: edit(f / "config.json", model_type=None), "no model family None here"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders(copy: Path, case: str) -> None:
    harm, message = BROKEN[case]
    harm(copy)
    with pytest.raises((CheckpointError, UnknownModelError), match=message) as caught:
        resolve(str(copy)).identity()
    assert "\n" not in str(caught.value)


# -- the hub -------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds `someone/tiny`, and no network."""
    repo = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return repo


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_hub_id_from_the_cache(hub: Path, revision: str | None) -> None:
    checkpoint = resolve("someone/tiny", revision)
    identity = checkpoint.identity()
    assert (checkpoint.model_id, checkpoint.commit) == ("someone/tiny", COMMIT)
    assert identity == resolve(str(checkpoint.folder)).identity()  # by whichever door the weights came
    assert str(hub.parent) not in json.dumps(identity)


@pytest.mark.parametrize(
    ("model_id", "revision", "message"),
    [
        ("someone/other", None, r"cannot get model 'someone/other' \(revision main\): .*; check the id"),
        ("someone/tiny", "v2", r"\(revision v2\)"),
        ("no such name", None, "cannot get model 'no such name'"),
        ("./tiny", None, "no such folder"),
        ("a/b/c", None, "no such folder"),
    ],
)
def test_what_is_nowhere(hub: Path, model_id: str, revision: str | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve(model_id, revision)
    assert "\n" not in str(caught.value)


def test_a_folder_has_no_revision(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="it has no revision 'main'"):
        resolve(str(tiny), "main")


# -- settings ------------------------------------------------------------------------------------------


def test_which_file_is_read(copy: Path) -> None:
    nested = {"video_processor": {"max_pixels": 11 * 784}, "processor_class": "Qwen2_5_VLProcessor"}
    (copy / "processor_config.json").write_text(json.dumps(nested))
    edit(copy / "video_preprocessor_config.json", max_pixels=22 * 784)
    edit(copy / "preprocessor_config.json", max_pixels=33 * 784)
    for name, wanted in zip(settings.SOURCES, (11, 22, 33), strict=True):
        assert resolve(str(copy)).settings["size"]["longest_edge"] == wanted * 784
        (copy / name).unlink()
    with pytest.raises(CheckpointError, match=r"none of processor_config\.json"):
        resolve(str(copy))


def test_a_processor_file_without_a_video_part_is_passed_over(copy: Path) -> None:
    (copy / "processor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    assert resolve(str(copy)).settings["size"]["longest_edge"] == 48 * 784


def test_layers() -> None:
    size = settings.resolve("qwen2_5_vl")["size"]
    assert size == {"shortest_edge": 100352, "longest_edge": 602112}
    older = {
        "size": {"max_pixels": 900000, "min_pixels": 3136},
        "min_pixels": 3200,
        "max_pixels": None,
        "fps": 2,
    }
    resolved = settings.resolve("qwen2_5_vl", older, {"size": {"longest_edge": 800000}, "resample": None})
    assert resolved["size"] == {"shortest_edge": 3200, "longest_edge": 800000}
    assert resolved["resample"] == 3
    assert "fps" not in resolved
    assert settings.resolve("qwen2_5_vl")["size"] == size  # the table itself is never touched


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"size": {"height": 3}}, "size is shortest_edge and longest_edge in pixels, got 'height'"),
        ({"size": 448}, "size is shortest_edge and longest_edge in pixels, got 448"),
        ({"max_pixels": 0}, "longest_edge must be a positive number of pixels, got 0"),
        ({"video_processor_type": "SmolVLMVideoProcessor"}, "expected Qwen2VLVideoProcessor"),
    ],
)
def test_settings_refuse(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings.resolve("qwen2_5_vl", layer)


# -- families ------------------------------------------------------------------------------------------


def test_every_family_file_says_its_own_name() -> None:
    assert {"dct", "qwen2_5_vl"} <= set(families())
    assert not {"types", "base", "mrope", "load", "settings"} & set(families())
    for name in families():
        assert name == family_module(name).FAMILY
    with pytest.raises(UnknownModelError, match="no model family 'types'; there are: "):
        family_module("types")
