"""A run's config from a YAML file and options, for any config model."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, get_origin

from cyclopts import App, ArgumentCollection, Parameter
from cyclopts import config as sources
from pydantic import BaseModel

from codestill.cli.help import SettingsHelp, keys
from codestill.config import choices_of, is_settings, merged
from codestill.errors import ConfigError
from codestill.files.serialize import is_object
from codestill.files.strict_yaml import NotYaml, load_yaml

NONE: Mapping[str, Any] = MappingProxyType({})


def read_settings(
    model: type[BaseModel],
    command: str,
    arguments: Sequence[str],
    bundled: Mapping[str, Path] = NONE,
    *,
    examples: str = "",
    short: Mapping[str, str] = NONE,
    in_directory: bool = True,
) -> tuple[Path | None, Any] | None:
    """The run directory and the config that ``--config FILE``, ``--run-dir`` and options specify.

    Of several files a later one overrides an earlier one, setting by setting. A name in ``bundled`` stands
    for that file, unless there is a file of this name here.

    ``examples`` stand at the top of the help; ``short`` are settings that the command also takes by another
    name, which help shows. ``in_directory``: whether the command works in a run directory, which
    ``--run-dir`` names.

    None when only help was printed. Raises ConfigError or cyclopts' own errors, which name the option or
    the key and the nearest valid name.
    """
    parsed: list[tuple[Path | None, Any]] = []

    def collect(*, settings: Any, run_dir: Path | None = None) -> None:
        parsed.append((run_dir, settings))

    def collect_alone(*, settings: Any) -> None:
        parsed.append((None, settings))

    # The model is known only now, so the signature that cyclopts inspects is completed here.
    required = any(field.is_required() for field in model.model_fields.values())
    given_settings = {} if required else {"settings": model()}
    collect.__kwdefaults__ = {"run_dir": None} | given_settings
    collect_alone.__kwdefaults__ = given_settings
    collect_alone.__annotations__ = {"settings": Annotated[model, Parameter(name="*")]}
    collect.__annotations__ = collect_alone.__annotations__ | {
        "run_dir": Annotated[Path | None, Parameter(help="Run directory (default: below runs/).")],
    }
    everything = "--help-all" in arguments
    arguments = ["--help" if argument == "--help-all" else argument for argument in arguments]
    files, rest = _take_options(list(arguments), "--config")
    paths = [_place(file, bundled) for file in files]
    values: dict[str, Any] = {}
    for path in paths:
        values = merged(values, _readable(_read_yaml(path, bundled), model))
    if required:  # what is lacking would be told first, though it may be there by another name
        _require_known(rest, model)
    nulls, rest = _take_nulls(_spelt_out(rest, model), model)
    # Of both the first that names a setting counts.
    given = {"the options": _readable(nulls, model), ", ".join(map(str, paths)): values}
    defaults = model.model_construct() if required else model()
    about = (
        f"{model.__doc__}\n\n--config FILE reads settings from YAML, of several files the last word; options "
        "override them, and one with the value null takes a setting away."
        + _names(" Bundled, by name: {}.", bundled)
    )
    parser = _SettingsApp(
        name=f"codestill {command}",
        usage=f"Usage: codestill {command} [OPTIONS]",
        help_formatter=SettingsHelp(model, defaults, everything, short),
        config=[sources.Dict(v, source=s, use_commands_as_keys=False) for s, v in given.items() if v],
        help=f"{examples}\n\n{about}".strip(),
        version_flags=[],
    )
    parser.default(collect if in_directory else collect_alone)
    parser(rest, exit_on_error=False, print_error=False, result_action="return_value")
    if parsed and "student" in model.model_fields and bundled.get("real") in paths:
        _require_models(parsed[0][1])
    return parsed[0] if parsed else None


class _SettingsApp(App):
    """An app whose only help are the descriptions of settings. Those pydantic has; cyclopts would read the
    source of every class again, which takes most of the time."""

    def assemble_argument_collection(
        self, *, default_parameter: Parameter | None = None, parse_docstring: bool = False
    ) -> ArgumentCollection:
        return super().assemble_argument_collection(default_parameter=default_parameter)


def _require_models(config: Any) -> None:
    """Raises ConfigError where a recipe's settings for real models, which name none, would be those of the
    recipe's default ones."""
    default = type(config)()
    student, teacher = config.student, getattr(config, "teacher", None)
    needed = {"student": (student.preset, student.model) != (default.student.preset, default.student.model)}
    if config.needs_teacher and teacher is not None:
        needed["teacher"] = (teacher.type, teacher.model) != (default.teacher.type, default.teacher.model)
    lacking = [name for name, named in needed.items() if not named]
    if lacking:
        raise ConfigError(
            f"these settings are for models of your own, and no {' and no '.join(lacking)} is given.",
            next_step=f"Add {' and '.join(f'--{name}.model MODEL' for name in lacking)}: a directory, GGUF "
            "file or hub id.",
        )


def _kinds(model: type[BaseModel], path: Sequence[str]) -> list[Any]:
    """The types of which the setting at ``path`` is one; none for an unknown name."""
    kinds: list[Any] = [model]
    for name in path:
        fields = [kind.model_fields.get(name) for kind in kinds if is_settings(kind)]
        kinds = [kind for field in fields if field for kind in choices_of(field.annotation)]
    return kinds


def _require_known(options: Sequence[str], model: type[BaseModel]) -> None:
    """Raises ConfigError for an option whose group is no setting, with the nearest that is one."""
    known = {*model.model_fields, "run_dir", "help"}
    for option in options:
        name = keys(option.partition("=")[0])[0].removeprefix("no_")
        if option.startswith("--") and name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f" Did you mean --{near[0].replace('_', '-')}?" if near else ""
            raise ConfigError(
                f"unknown option: {option.partition('=')[0]}.{meant}", next_step="See the command's --help."
            )


def _one_or_several(kinds: Sequence[Any]) -> bool:
    """Whether a setting is one value or a list. Of such a choice the parser of options would take the first
    value alone: it is given lists as ``0,3,6``."""
    return {tuple} < {get_origin(kind) for kind in kinds if kind is not NoneType}


def _from_text(text: str, kinds: Sequence[Any]) -> Any:
    """The settings that a string stands for, where it may stand for settings: a student's name, a task set's.
    Raises ConfigError for one that stands for none."""
    settings = next((kind for kind in kinds if hasattr(kind, "from_text")), None)
    if settings is None:
        return text
    try:
        return settings.from_text(text)
    except ValueError as error:
        raise ConfigError(
            f"the config is not valid:\n  {error}", next_step="Correct these values."
        ) from error


def _spelt_out(arguments: Sequence[str], model: type[BaseModel]) -> list[str]:
    """``--tasks humaneval --tasks.limit 20`` with a setting for what ``humaneval`` stands for: the parser of
    options takes a string, or single settings, and not both. A string alone stays one."""
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1] if joined else ""
        takes = before.startswith("--") and "=" not in before and not argument.startswith("--")
        if takes and any(hasattr(kind, "from_text") for kind in _kinds(model, keys(before))):
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    spelt: list[str] = []
    for argument in joined:
        name, given, value = argument.partition("=")
        kinds = _kinds(model, keys(name)) if given and name.startswith("--") else []
        found = _from_text(value, kinds) if any(a.startswith(f"{name}.") for a in joined) else value
        spelt += [f"{name}.{key}={one}" for key, one in found.items()] if is_object(found) else [argument]
    return spelt


def _readable(values: dict[str, Any], model: type[BaseModel], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a file as the parser of options reads them. Raises ConfigError for a null that none
    can be."""
    readable: dict[str, Any] = {}
    for name, value in values.items():
        place = (*path, name)
        kinds = _kinds(model, place)
        if isinstance(value, str):
            value = _from_text(value, kinds)
        if is_object(value):
            value = _readable(value, model, place)
        elif isinstance(value, list) and _one_or_several(kinds):
            value = "".join(f"{item}," for item in value)  # pyright: ignore[reportUnknownVariableType]
        elif value is None and kinds and NoneType not in kinds:
            raise ConfigError(
                f"{'.'.join(place)} cannot be null.", next_step="Give a value, or leave it out."
            )
        readable[name] = value
    return readable


def _place(file: str, bundled: Mapping[str, Path]) -> Path:
    """The file itself, or the bundled one of this name. A directory of the name is no config, and no
    obstacle."""
    path = Path(file)
    return bundled[file] if file in bundled and (path.is_dir() or not path.exists()) else path


def _names(sentence: str, bundled: Mapping[str, Path]) -> str:
    """The sentence with the bundled names; nothing where there are none."""
    return sentence.format(", ".join(bundled)) if bundled else ""


def _read_yaml(path: Path, bundled: Mapping[str, Path]) -> dict[str, Any]:
    try:
        values = load_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file {path}: {error.strerror}.",
            next_step=f"Check the path{_names(', or give the name of a bundled config: {}', bundled)}.",
        ) from error
    except (NotYaml, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}.", next_step="Correct the file.") from error
    except ValueError as error:
        raise ConfigError(f"{path}, {error}.", next_step="Correct the file.") from error
    if values is not None and not is_object(values):
        raise ConfigError(
            f"{path} holds one {type(values).__name__}, not a mapping of names to settings.",
            next_step="Write a setting per line, `name: value`.",
        )
    return values or {}


def _take_options(arguments: list[str], name: str) -> tuple[list[str], list[str]]:
    """The values of an option that may be given several times, and the other arguments."""
    values: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument.startswith(f"{name}="):
            values.append(argument.removeprefix(f"{name}="))
        elif argument == name and (value := next(waiting, None)) is not None:
            values.append(value)
        else:
            rest.append(argument)
    return values, rest


def _take_nulls(arguments: Sequence[str], model: type[BaseModel]) -> tuple[dict[str, Any], list[str]]:
    """The settings whose option has the value ``null``, and the other arguments. What the parser would take
    for a switch, or for one value of several, has its values joined to it: ``--x=false``, ``--y=0,3``."""
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1] if joined else ""
        takes = before.startswith("--") and "=" not in before
        if takes and (argument in ("true", "false", "null") or _one_or_several(_kinds(model, keys(before)))):
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    nothing: dict[str, Any] = {}
    several: dict[str, list[str]] = {}
    rest: list[str] = []
    for argument in joined:
        name, _, value = argument.partition("=")
        if value == "null" and name.startswith("--"):
            setting: Any = None
            for key in reversed(keys(name)):
                setting = {key: setting}
            nothing = merged(nothing, setting)
        elif value and _one_or_several(_kinds(model, keys(name))):
            several.setdefault(name, []).append(value)
        else:
            rest.append(argument)
    return nothing, [*rest, *(f"{name}={','.join(values)}" for name, values in several.items())]
