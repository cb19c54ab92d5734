"""Names of all encoders. The classes are imported when one is created, so that listing is quick."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdetect.encoders.audio import entries as audio
from avdetect.encoders.entry import Entry
from avdetect.encoders.lipsync import entries as lipsync
from avdetect.encoders.visual import entries as visual
from avdetect.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from avdetect.encoders.base import Encoder
    from avdetect.weights import Published

KINDS = ("visual", "audio", "lipsync")


_PLAIN: dict[str, Entry] = {**visual.ENTRIES, **audio.ENTRIES, **lipsync.ENTRIES}
_ENTRIES: dict[str, Entry] = _PLAIN | {f"ssim({name})": visual.with_ssim(name) for name in visual.ENTRIES}


def list_encoders(kind: str | None = None) -> list[str]:
    """Names for `create_encoder`, sorted; of one kind ("visual", "audio", "lipsync") or all."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"There is no kind of encoder '{kind}'; the kinds are {', '.join(KINDS)}.")
    return sorted(name for name, entry in _ENTRIES.items() if kind in (None, entry.kind))


def _entry(name: str) -> Entry:
    if name in _ENTRIES:
        return _ENTRIES[name]
    inner = name.removeprefix("ssim(").removesuffix(")") if name.startswith("ssim(") else name
    if inner in _ENTRIES:
        raise ConfigError(
            f"There is no encoder '{name}': ssim(NAME) takes a visual encoder of single frames, "
            f"and {inner} is none."
        )
    close = difflib.get_close_matches(inner, _PLAIN, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else f"the names are {', '.join(sorted(_PLAIN))}, and ssim(NAME) of the visual ones."
    )
    raise ConfigError(f"There is no encoder '{inner}'; {hint}")


def create_encoder(name: str, weights: str | Path | None = None, **settings: Any) -> "Encoder":
    """A network by name, with random weights, with those of a file of this package, or with published ones.

    weights: path of a `.safetensors` file that `save_encoder` wrote, or the name of a published checkpoint
    (`meso4.df`; `avdetect weights list` shows them), which is taken from the cache and never downloaded here.
    With weights the network is in evaluation mode. settings: keyword arguments of the network's class, over the
    preset of that name. Raises `ConfigError` for an unknown name or setting and `WeightsError` for weights that
    do not fit or are not in the cache.
    """
    if weights is not None:
        if _means_file(weights):
            return load_encoder(weights, name, settings)
        return _create_published(name, weights, settings)
    return _build(name, settings)


def _build(name: str, settings: Mapping[str, Any]) -> "Encoder":
    """The network of a name with random weights."""
    from avdetect.transforms.settings import check_settings  # with torch, which listing does without

    entry = _entry(name)
    module, _, attribute = entry.target.partition(":")
    cls = getattr(import_module(f"avdetect.encoders.{module}"), attribute)
    parameters = inspect.signature(cls).parameters
    check_settings(name, settings, {key: p.annotation for key, p in parameters.items() if key != "name"})
    if negative := [key for key, value in settings.items() if _least(value) < 0]:
        raise ConfigError(
            f"{name} has the setting {negative[0]} {settings[negative[0]]!r}: it cannot be negative."
        )
    try:
        return cls(name=name, **{**entry.preset, **settings})
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        if not settings:
            raise
        given = ", ".join(f"{key} {value!r}" for key, value in settings.items())
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"{name} cannot be made with {given}: {reason}.") from error


def _least(value: Any) -> float:
    """The smallest number in a setting; 0 where there is none."""
    numbers = value if isinstance(value, list | tuple) else [value]
    return min((number for number in numbers if isinstance(number, int | float)), default=0)


def _means_file(weights: str | Path) -> bool:
    """Whether `weights` is a path, be the file there or not, rather than a name of the catalogue."""
    if not isinstance(weights, str | Path):
        raise ConfigError(
            f"weights is {weights!r}: it must be a path, or a name that `avdetect weights list` shows."
        )
    path = Path(weights)
    return isinstance(weights, Path) or len(path.parts) > 1 or path.suffix == ".safetensors" or path.is_file()


def _create_published(name: str, weights: str, settings: Mapping[str, Any]) -> "Encoder":
    from avdetect.weights import cached_file, find_published

    published = find_published(weights)
    if published.encoder != name:
        raise WeightsError(f"{weights} holds weights of {published.encoder}, not of {name}.")
    return load_checkpoint(published, cached_file(published), **settings)


def load_checkpoint(published: "Published", path: Path, **settings: Any) -> "Encoder":
    """The network of a published checkpoint with the weights of a file, in evaluation mode.

    Raises `WeightsError` where the file does not fit.
    """
    return create_encoder(published.encoder, **settings).load_published(path).eval()


@dataclass(frozen=True)
class EncoderCard:
    """What a network is: for people who choose one."""

    name: str
    kind: str
    input: list[list[int | str]]  # shape of each input; "N" is the batch
    preprocess: dict[str, Any]
    embedding_dim: int
    parameters: int
    paper: str
    changes: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)


def describe_encoder(name: str) -> EncoderCard:
    """The card of a network with its default settings; nothing is allocated for its weights."""
    entry = _entry(name)
    import torch

    with torch.device("meta"):
        encoder = create_encoder(name)
        shapes = [["N", *x.shape[1:]] for x in encoder.example_inputs(1)]
    return EncoderCard(
        name=name,
        kind=entry.kind,
        input=shapes,
        preprocess=encoder.preprocess.to_dict(),
        embedding_dim=encoder.embedding_dim,
        parameters=sum(p.numel() for p in encoder.parameters()),
        paper=entry.paper,
        changes=entry.changes,
    )


def save_encoder(encoder: "Encoder", path: str | Path, half: bool = False) -> None:
    """Write weights, name, settings and preprocess of an encoder to one `.safetensors` file, atomically.

    half: as float16 what float16 can hold; `load_encoder` makes float32 of it again.
    """
    from avdetect.weights import in_half_precision, write_safetensors

    metadata = {
        "name": encoder.name,
        "settings": encoder.settings,
        "preprocess": encoder.preprocess.to_dict(),
    }
    state = encoder.state_dict()
    write_safetensors(in_half_precision(state) if half else state, path, metadata)


def load_encoder(
    path: str | Path, name: str | None = None, settings: Mapping[str, Any] | None = None
) -> "Encoder":
    """The encoder that `save_encoder` wrote, in evaluation mode.

    name: what the file is expected to hold; settings: in place of the file's of the same names, also in the
    preprocessing. Raises `WeightsError` where the file holds another encoder, or weights that do not fit the
    settings, or is damaged.
    """
    from avdetect.weights import load_strict, read_metadata, read_state

    state, metadata = read_state(path), read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if not {"name", "settings", "preprocess"} <= set(metadata):
        raise WeightsError(
            f"{path} was not written by this package's save_encoder; "
            "a published checkpoint is read by the load_published method of its encoder."
        )
    if name is not None and metadata["name"] != name:
        raise WeightsError(f"{path} holds weights of {metadata['name']}, not of {name}.")
    try:
        stored = metadata["settings"]
        differing = {key: value for key, value in (settings or {}).items() if value != stored.get(key)}
        encoder = _build(metadata["name"], {**stored, **differing})
        # an input of another size is wanted: what the file says of it does not hold
        changed = {key: value for key, value in encoder.preprocess.to_dict().items() if key in differing}
        preprocess = type(encoder.preprocess).from_dict({**metadata["preprocess"], **changed})
    except (AttributeError, TypeError) as error:
        raise WeightsError(f"The metadata of {path} is damaged ({error}); fetch or save it again.") from error
    load_strict(encoder, state, str(path))
    encoder.preprocess = preprocess
    return encoder.eval()


def mix_encoders(first: str | Path, second: str | Path, share: float) -> "Encoder":
    """(1 - share) of the weights of one file of `save_encoder` plus `share` of another's, in evaluation mode.

    Of a network and what a second training made of it, the mixture often judges better than either (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022); of networks of separate starts it is useless. Integer
    buffers are the second's. Raises `WeightsError` for files of different encoders or settings, `ConfigError` for a
    share outside of [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of the second file is {share}: it must be in [0, 1]")
    mixed, other = load_encoder(second), load_encoder(first)
    for what in ("name", "settings", "preprocess"):
        own, theirs = getattr(mixed, what), getattr(other, what)
        if own != theirs:
            raise WeightsError(
                f"{first} and {second} cannot be mixed, since they differ in {what}: {theirs} and {own}"
            )
    before = other.state_dict()
    for name, value in mixed.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(before[name], 1.0 - share)
    return mixed
