"""From a picture to pixels as a model takes them, as a Hugging Face `preprocessor_config.json` says.

The steps, their order and their rounding are those of the processors in transformers that use Pillow and
NumPy: resize, crop in the middle, rescale, normalize, each if it is asked for. Whatever else a file asks for
is refused: pixels that are nearly right give answers that are not the model's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError, reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG = "preprocessor_config.json"
MOST_EDGE = 16_384  # of what a picture is resized or cropped to
# Kinds of processors that do these steps and no others; of each, whether a size of one number is that of the
# shorter edge (the other in proportion), or else of both.
SHORTER = dict.fromkeys(("CLIP", "Bit", "ConvNext", "MobileNetV1", "MobileNetV2"), True)
SHORTER |= dict.fromkeys(("ViT", "DeiT", "Beit", "Siglip", "Blip"), False)
# What such files hold besides, and what does not change pixels here: all pictures are made RGB.
READ = frozenset(
    {"do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale"}
    | {"rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb"}
    | {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "data_format"}
    | {"input_data_format", "return_tensors", "device", "default_to_square", "disable_grouping"}
    | {"do_reduce_labels", "reduce_labels", "num_channels", "_valid_processor_keys"}
)
# ConvNext resizes to a size over the share `crop_pct`, and crops; from a size on it squeezes into a square.
CROPPED, WARPED = 224 / 256, 384

Size = tuple[int, int]  # height, width
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Processor:
    """Makes pixels of pictures.

    Attributes:
        size: that pictures are resized to; of one number, the shorter edge's; None: they stay as they are.
        crop: that is then taken from the middle, or None.
        resample: the filter, as Pillow numbers them.
        factor: that the bytes are multiplied by; None: by nothing.
        mean, std: of the channels, which are normalized with them, or None.
    """

    size: Size | int | None
    crop: Size | None
    resample: int
    factor: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def pixels(self, picture: Image) -> npt.NDArray[np.float32]:
        """The pixels of a picture in RGB, f32[1, 3, height, width].

        Raises:
            MemoError: it would be resized to more than `MOST_EDGE`.
        """
        if self.size is not None:
            height, width = self._resized(picture.height, picture.width)
            picture = picture.resize((width, height), self.resample)
        pixels: Pixels = np.asarray(picture)
        if self.crop is not None:
            pixels = _middle(pixels, *self.crop)
        if self.factor is not None:  # in f64, then rounded
            pixels = (pixels.astype(np.float64) * self.factor).astype(np.float32)
        pixels = pixels.astype(np.float32)
        if self.mean is not None and self.std is not None:
            pixels = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])

    def _resized(self, height: int, width: int) -> Size:
        if not isinstance(self.size, int):
            assert self.size is not None
            return self.size
        short, long = sorted((height, width))
        other = int(self.size * long / short)
        if not 1 <= other <= MOST_EDGE:
            raise MemoError(f"of {width} x {height} pixels, it would be {self.size} x {other}: crop it first")
        return (other, self.size) if width <= height else (self.size, other)


def processor_file(path: Path) -> Path:
    """The `preprocessor_config.json` itself, of one that is named, or of the folder that holds one."""
    return path / CONFIG if path.is_dir() else path


def load_processor(path: Path) -> Processor:
    """The processor that a `preprocessor_config.json`, or the folder that holds one, describes.

    Raises:
        MemoError: it is not there, is not readable, or asks for what is not done here.
    """
    file = processor_file(path)
    if not file.is_file():
        raise MemoError(f"'{file}' is not a file: name the model's {CONFIG} with --image-processor")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MemoError(f"'{file}' is not JSON ({reason_of(error)}): name the model's {CONFIG}") from error
    if not isinstance(config, dict):
        raise MemoError(f"'{file}' is no object of JSON: name the model's {CONFIG}")
    try:
        return _processor({name: value for name, value in config.items() if value is not None})
    except (ValueError, TypeError, OverflowError) as unfit:
        raise MemoError(
            f"'{file}' {unfit}: make the pixels with its own program, and give them as .npz"
        ) from unfit


def _processor(config: Mapping[str, Any]) -> Processor:
    """Raises ValueError or TypeError, which say what is wrong with the file."""
    if not {"size", "crop_size", "image_mean", "rescale_factor"} & config.keys():
        raise ValueError("says nothing of pictures")
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    kind = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if kind and kind not in SHORTER:
        raise ValueError(f"is for the processor '{kind[:40]}', which is not known here")
    others = [name for name, value in config.items() if name not in READ and value is not False]
    if others:
        raise ValueError(f"asks for '{others[0][:40]}', which is not known here")
    size = crop = None
    if config.get("do_resize", "size" in config):
        if config.get("resample") not in range(6):
            raise ValueError("does not say in 'resample' how to resize, as 0 to 5")
        size = _size("size", config.get("size"), SHORTER.get(kind))
    if config.get("do_center_crop", False):
        crop = _square(_size("crop_size", config.get("crop_size"), False))
    if size is not None and kind == "ConvNext":
        edge = size if isinstance(size, int) else size[0]
        crop = (edge, edge)
        share = _number("crop_pct", config.get("crop_pct", CROPPED))
        size = crop if edge >= WARPED else _edge("size", edge / share)
    elif "crop_pct" in config:
        raise ValueError("asks for 'crop_pct', which is known of ConvNext alone")
    mean = std = None
    if config.get("do_normalize", "image_mean" in config):
        mean, std = (_channels(name, config.get(name)) for name in ("image_mean", "image_std"))
        if not all(std):
            raise ValueError("holds 0 in 'image_std'")
    rescales = config.get("do_rescale", True)
    factor = _number("rescale_factor", config.get("rescale_factor", 1 / 255)) if rescales else None
    return Processor(size, crop, int(config.get("resample", 0)), factor, mean, std)


def _size(name: str, value: object, shorter: bool | None) -> Size | int:
    """Of an object or a number; `shorter` is whether one number is the shorter edge's, None: not known."""
    if isinstance(value, Mapping):
        if value.keys() == {"height", "width"}:
            return _edge(name, value["height"]), _edge(name, value["width"])
        if value.keys() == {"shortest_edge"}:
            return _edge(name, value["shortest_edge"])
    elif isinstance(value, list) and len(value) == 2:
        return _edge(name, value[0]), _edge(name, value[1])
    elif value is not None and shorter is not None:
        return _edge(name, value) if shorter else _square(_edge(name, value))
    raise ValueError(f"gives no '{name}' of {{'height', 'width'}} or {{'shortest_edge'}}")


def _square(size: Size | int) -> Size:
    return (size, size) if isinstance(size, int) else size


def _edge(name: str, value: object) -> int:
    edge = int(_number(name, value))
    if not 1 <= edge <= MOST_EDGE:
        raise ValueError(f"holds {edge} in '{name}', which is no size from 1 to {MOST_EDGE:,}")
    return edge


def _number(name: str, value: object) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ValueError(f"holds no number above 0 in '{name}'")
    return value


def _channels(name: str, value: object) -> tuple[float, ...]:
    """A number for each of the three channels, or one for all."""
    numbers: list[Any] = value if isinstance(value, list) else [value] * 3
    real = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    if len(numbers) != 3 or not real:
        raise ValueError(f"holds no three numbers in '{name}'")
    return tuple(float(number) for number in numbers)


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    """The middle of pixels [h, w, 3], on zeros where they are too few; an odd one is cut at the end.

    Where pixels are added and taken, an odd one is added before them.
    """
    h, w = pixels.shape[:2]
    top, left = (h - height) // 2, (w - width) // 2
    if top >= 0 and left >= 0:
        return pixels[top : top + height, left : left + width]
    room = np.zeros((max(h, height), max(w, width), 3), pixels.dtype)
    above, before = math.ceil((len(room) - h) / 2), math.ceil((room.shape[1] - w) / 2)
    room[above : above + h, before : before + w] = pixels
    top, left = top + above, left + before
    return room[max(top, 0) : top + height, max(left, 0) : left + width]
