"""From presets, files and `--set a.b=c` to one `Recipe`. Imports no torch."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..stages.listing import UnknownMethodError, names
from .config import Recipe
from .errors import ConfigError
from .yamltext import MAX_YAML, read_yaml

Tree = dict[str, Any]

SHOWN_COMPLAINTS = 5


def preset_names() -> list[str]:
    """The YAML files of `configs/`."""
    found = (p.name for p in resources.files("vidcomp.configs").iterdir())
    return sorted(n.removesuffix(".yaml") for n in found if n.endswith(".yaml"))


def method_names() -> list[str]:
    """Everything that `--method` takes: presets of methods, and mergers (alone: with the `uniform` segmenter)."""
    return sorted({n for n in preset_names() if "merger" in preset(n)} | set(names("merger")))


def preset(name: str) -> Tree:
    """A shipped preset's tree."""
    return parse((resources.files("vidcomp.configs") / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def method_tree(name: str) -> Tree:
    """The preset of a method; a merger alone is one with the `uniform` segmenter, `SEGMENTER+MERGER` one of these."""
    segmenter, plus, merger = str(name).partition("+")
    if plus and segmenter in names("segmenter") and merger in names("merger"):
        return {"method": name, "segmenter": {"name": segmenter}, "merger": {"name": merger}}
    if name not in method_names():
        raise UnknownMethodError(f"no method {name!r}; there are: {', '.join(method_names())}, or SEGMENTER+MERGER")
    if name in preset_names():
        return {"method": name, **preset(name)}
    return {"method": name, "segmenter": {"name": "uniform"}, "merger": {"name": name}}


def parse(text: str, name: str) -> Tree:
    """A YAML mapping, or `ConfigError`."""
    tree = read_yaml(text, name) or {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: must be a mapping of settings, got {type(tree).__name__}")
    return tree


def read_config(name: str) -> Tree:
    """`--config`: a shipped preset's name or a YAML file."""
    if name in preset_names():
        return {"method": name, **preset(name)} if "merger" in preset(name) else preset(name)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"no config {name!r}: neither a file nor one of {', '.join(preset_names())}")
    with open(path, encoding="utf-8", errors="replace") as file:
        return parse(file.read(MAX_YAML + 1), name)


def parse_setting(text: str) -> Tree:
    """`a.b=c` -> {"a": {"b": c}}, the value read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {text!r}: write it as key.subkey=value")
    leaf: Any = read_yaml(value, f"--set {text!r}")
    for key in reversed(path.split(".")):
        leaf = {key: leaf}
    return dict(leaf)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """`above` laid over `below`, key by key; a part under another name starts afresh with its own hyper-parameters."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name"):
            value = merge(old, value)
        out[key] = value
    return out


def build_recipe(
    config: str | Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    settings: Iterable[str | Mapping[str, Any]] = (),
    over: Mapping[str, Any] | None = None,
) -> Recipe:
    """`default.yaml`, the preset of the config's method, `config`, then the preset of `method`, flags, `settings`.

    Raises:
        ConfigError, UnknownMethodError: one line each.
    """
    given = dict(config) if isinstance(config, Mapping) else read_config(config) if config else {}
    default = preset("default")
    tree = merge(default, method_tree(given.get("method") or default["method"]))
    layers = [{k: v for k, v in given.items() if k != "method"}, method_tree(method) if method else {}, over or {}]
    layers += [parse_setting(s) if isinstance(s, str) else s for s in settings]
    return named(validate(functools.reduce(lay, layers, tree)))


def named(recipe: Recipe) -> Recipe:
    """The recipe under its parts' names, `SEGMENTER+MERGER`, where these are not the parts of the preset it names."""
    preset_of = method_tree(recipe.method)
    own = recipe.segmenter.name, recipe.merger.name
    same = own == (preset_of["segmenter"]["name"], preset_of["merger"]["name"])
    return recipe if same else recipe.model_copy(update={"method": "+".join(own)})


def lay(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """`merge`, but stand-ins belong to the merger that they were named for: they go when another one comes."""
    tree = merge(below, above)
    named = [part.get("name") for t in (below, tree) if isinstance(part := t.get("merger", {}), Mapping)]
    if len(set(named)) > 1 and "stand_ins" not in above:
        tree.pop("stand_ins", None)
    return tree


def validate(tree: Mapping[str, Any]) -> Recipe:
    """A tree as a `Recipe`; every complaint in one line, parts checked against the folders."""
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as e:
        raise ConfigError(complaints(e.errors())) from None
    for kind, name in (("segmenter", recipe.segmenter.name), ("merger", recipe.merger.name)):
        known = names("segmenter" if kind == "segmenter" else "merger")
        if name not in known:
            raise UnknownMethodError(f"no {kind} {name!r}; there are: {', '.join(known)}")
    return recipe


def complaints(errors: Sequence[Any]) -> str:
    """The first few of pydantic's errors, in one line."""
    more = len(errors) - SHOWN_COMPLAINTS
    told = [complaint(error) for error in errors[:SHOWN_COMPLAINTS]]
    return "; ".join([*told, f"and {more} more"] if more > 0 else told)


def complaint(error: Any) -> str:
    """pydantic's error as `where: what (got value)`."""
    where = ".".join(str(p) for p in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{where}: no such setting"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    shown = "" if isinstance(error["input"], dict | BaseModel) else f", got {reprlib.repr(error['input'])}"
    return f"{where}: {message}{shown}"
