"""Inputs as a folder of pictures, for models whose input an image processor makes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnx_memo.data.pixels import CONFIG, Processor, load_processor
from onnx_memo.data.samples import Arrays, ModelInput, Samples
from onnx_memo.data.texts import MOST_INPUTS, Reading
from onnx_memo.data.unpacked import PACKINGS, kind_of, opened_file
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

# The formats of Pillow that are read, by suffix: pictures alone, none that are programs (as EPS).
FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm"), "PPM"),
    ".png": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
}
MOST_BYTES = 1 << 32  # that the pixels of all pictures may take
UNIT = "image"  # what is numbered


def read_images(reading: Reading, folder: Path) -> Samples:
    """A sample of each picture in a folder and those in it, in the order of their paths.

    Raises:
        MemoError: a picture is none, the processor cannot be read, or pixels are not what the model takes.
    """
    named = reading.data.image_processor or reading.image_processor
    if named is None:
        raise MemoError(
            f"{reading.where} is a folder, and no {CONFIG} that says how images become pixels stands beside "
            "the model: name it with --image-processor; or name one file of inputs"
        )
    wanted = _wanted(reading.inputs)
    processor = load_processor(Path(named))
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    pictures = [file for file in files if kind_of(file) in FORMATS]
    if len(pictures) > MOST_INPUTS:
        raise MemoError(f"{reading.where} holds more than {MOST_INPUTS:,} images: give some of them")
    arrays: list[Arrays] = []
    for file in pictures:
        pixels = _pixels(file, processor, wanted)
        size = pixels.nbytes * len(pictures)
        if size > MOST_BYTES:
            raise MemoError(
                f"the pixels of the {counted(len(pictures), 'image')} in {reading.where} take "
                f"{size >> 20:,} MiB, and at most {MOST_BYTES >> 20:,} are read: give some of them; a sample "
                "is enough"
            )
        arrays.append({wanted.name: pixels})
    notes = _note_others([file for file in files if kind_of(file) not in FORMATS])
    return Samples(arrays, [0] * len(arrays), None, notes, unit=UNIT)


def _wanted(inputs: Sequence[ModelInput]) -> ModelInput:
    """The one input that takes pixels, [batch, 3, height, width]."""
    if len(inputs) == 1:
        (wanted,) = inputs
        if len(wanted.shape) == 4 and wanted.shape[1] in (None, 3) and wanted.dtype.kind == "f":
            return wanted
    named = ", ".join(map(str, inputs))
    raise MemoError(
        f"images cannot serve the model, which takes {named}, and not one input of pixels, [?, 3, height, "
        "width]: give arrays for all inputs as .npz"
    )


def _pixels(file: Path, processor: Processor, wanted: ModelInput) -> npt.NDArray[Any]:
    try:
        pixels = processor.pixels(_opened(file))
    except MemoError as unfit:
        raise MemoError(f"'{file}': {unfit}") from unfit
    fits = all(dim in (None, size) for dim, size in zip(wanted.shape[1:], pixels.shape[1:], strict=True))
    if not fits:
        raise MemoError(
            f"'{file}' becomes pixels of the shape {list(pixels.shape)}, and the model takes {wanted}: name "
            "the image processor that belongs to the model"
        )
    return pixels.astype(wanted.dtype, copy=False)


def _opened(file: Path) -> Image:
    """The picture in RGB, turned as its camera says, its first frame where there are more.

    Raises:
        MemoError: it is none, or a huge one.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MemoError(
            "to read it needs the package Pillow: pip install 'onnx-memo[data]', or give pixels as .npz"
        ) from error
    huge = f"it has more pixels than Pillow takes, {Image.MAX_IMAGE_PIXELS:,}: make it smaller"
    with opened_file(file) as content:
        stream = io.BytesIO(content.whole()) if file.suffix.lower() in PACKINGS else content.stream
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata, and of what is refused below
                picture = Image.open(stream, formats=sorted(set(FORMATS.values())))
                if Image.MAX_IMAGE_PIXELS and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
                    raise MemoError(huge)
                return ImageOps.exif_transpose(picture).convert("RGB")
        except MemoError:
            raise
        except Image.DecompressionBombError as error:
            raise MemoError(huge) from error
        except Exception as error:  # the formats share no class of errors
            kinds = ", ".join(sorted(set(FORMATS.values())))
            why = "no image" if isinstance(error, Image.UnidentifiedImageError) else reason_of(error)
            raise MemoError(
                f"it is not readable as an image ({why}): take it out, or save it as {kinds}"
            ) from error


def _note_others(others: Sequence[Path]) -> list[str]:
    if not others:
        return []
    files = counted(
        len(others),
        "file is not read, since its name is not that of an image",
        "files are not read, since their names are not those of images",
    )
    return [f"{files}: '{others[0].name}'"]
