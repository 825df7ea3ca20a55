"""Folders of images: pixels as the processors of transformers make them, and what is refused."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import fixture
from support_inputs import IDS, packed

from onnx_memo import MemoError
from onnx_memo.data import images
from onnx_memo.data.given import Data
from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.pixels import load_processor
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import ModelInput, Samples

Image = pytest.importorskip("PIL.Image", reason="needs the extra 'data'")

PIXELS = ModelInput("pixel_values", np.dtype(np.float32), (None, 3, None, None))
BILINEAR, BICUBIC = 2, 3
RAW = {"do_resize": False, "do_rescale": False, "do_normalize": False, "rescale_factor": 1}


def config(folder: Path, **content: object) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(content))
    return path


def picture(height: int, width: int) -> np.ndarray:
    """u8[height, width, 3], in which every pixel is another."""
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * y + x, 255 - 2 * x - y, 7 * y * x % 256], axis=-1).astype(np.uint8)


def made(folder: Path, pixels: np.ndarray, **content: object) -> np.ndarray:
    """What a picture becomes, [3, height, width]."""
    return load_processor(config(folder, **content)).pixels(Image.fromarray(pixels))[0]


# ---- Pixels


def test_bytes_are_rescaled_and_normalized_by_channel(tmp_path):
    mean, std = [0.5, 0.25, 0.0], [0.5, 0.25, 2.0]
    found = made(tmp_path, picture(4, 5), do_resize=False, image_mean=mean, image_std=std)
    assert (found.shape, found.dtype) == ((3, 4, 5), np.float32)
    want = ((picture(4, 5) / 255) - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(found, want.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)


def test_other_factors_and_one_mean_for_all_channels(tmp_path):
    content = {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1, "do_normalize": True}
    found = made(tmp_path, np.full((2, 2, 3), 255, np.uint8), do_resize=False, **content)
    np.testing.assert_array_equal(found, np.ones((3, 2, 2), np.float32))


def test_what_is_not_asked_for_is_not_done(tmp_path):
    np.testing.assert_array_equal(made(tmp_path, picture(3, 4), **RAW), picture(3, 4).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("size", "kind", "shape"),
    [
        ({"height": 6, "width": 9}, "ViT", (6, 9)),
        ({"shortest_edge": 8}, "CLIP", (8, 13)),  # 8 * 50 / 30 is 13.3, which is cut
        (8, "CLIP", (8, 13)),
        (8, "ViT", (8, 8)),
        ([6, 9], "", (6, 9)),
    ],
)
def test_sizes_as_they_are_written(tmp_path, size, kind, shape):
    content = RAW | {"do_resize": True, "size": size, "resample": BICUBIC}
    for name in (f"{kind}ImageProcessor", f"{kind}FeatureExtractor", f"{kind}ImageProcessorFast"):
        named = {"image_processor_type": name} if kind else {}
        found = made(tmp_path, picture(30, 50), **content, **named)
        assert found.shape == (3, *shape)
        want = np.asarray(Image.fromarray(picture(30, 50)).resize(shape[::-1], BICUBIC))
        np.testing.assert_array_equal(found, want.transpose(2, 0, 1))
    if kind == "CLIP":
        assert made(tmp_path, picture(50, 30), **content, **named).shape == (3, 13, 8)


def test_known_values_of_a_resized_picture(tmp_path):
    """Halved by Pillow's bilinear filter, which is as wide as what it takes together: 1, 3, 3, 1 of 8."""
    step = np.repeat(np.array([[0, 0, 0, 80, 80, 80]], np.uint8), 6, axis=0)[..., np.newaxis].repeat(3, -1)
    content = RAW | {"do_resize": True, "size": {"height": 3, "width": 3}, "resample": BILINEAR}
    found = made(tmp_path, step, **content)
    assert found[0].tolist() == [[0, 40, 80]] * 3
    np.testing.assert_array_equal(found[0], found[2])
    nearest = made(tmp_path, step, **content | {"resample": 0})
    assert nearest[0].tolist() == [[0, 80, 80]] * 3


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (4, 6, slice(1, 5), slice(0, 6)),  # of 7 x 6: an odd row is cut at the end
        (5, 3, slice(1, 6), slice(1, 4)),
        (7, 6, slice(0, 7), slice(0, 6)),
    ],
)
def test_the_middle_is_cut_out(tmp_path, height, width, rows, columns):
    content = RAW | {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    found = made(tmp_path, picture(7, 6), **content)
    np.testing.assert_array_equal(found, picture(7, 6)[rows, columns].transpose(2, 0, 1))


def test_small_pictures_are_cut_out_on_zeros(tmp_path):
    found = made(tmp_path, picture(3, 8), **RAW, do_center_crop=True, crop_size=6)
    want = np.zeros((6, 6, 3), np.uint8)
    want[2:5] = picture(3, 8)[:, 1:7]
    np.testing.assert_array_equal(found, want.transpose(2, 0, 1))


def test_convnext_crops_a_share_of_what_it_resizes(tmp_path):
    content = RAW | {
        "do_resize": True,
        "resample": BILINEAR,
        "image_processor_type": "ConvNextImageProcessor",
    }
    found = made(tmp_path, picture(40, 60), **content, size={"shortest_edge": 14})
    want = np.asarray(Image.fromarray(picture(40, 60)).resize((24, 16), BILINEAR))[1:15, 5:19]
    np.testing.assert_array_equal(found, want.transpose(2, 0, 1))
    assert made(tmp_path, picture(4, 6), **content, size={"shortest_edge": 384}).shape == (3, 384, 384)


# ---- Folders


def folder_of(path: Path) -> Path:
    """Images of several formats, one of them in a folder of its own, and a file that is none."""
    folder = path / "images"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(picture(8, 6)).save(folder / "b.png")
    Image.fromarray(picture(8, 6)).convert("L").save(folder / "c.bmp")
    Image.fromarray(picture(8, 6)).save(folder / "a.tiff")
    Image.fromarray(picture(8, 6)).save(folder / "more" / "d.JPG")
    (folder / "list.csv").write_text("none")
    (folder / ".hidden").write_text("none")
    return folder


def read(folder: Path, wanted: ModelInput = PIXELS, **content: object) -> Samples:
    processor = config(folder.parent, **RAW | content)
    return read_samples(Data(folder, image_processor=processor), [wanted], None)


def test_every_image_of_a_folder_is_a_sample_in_the_order_of_their_paths(tmp_path):
    samples = read(folder_of(tmp_path))
    assert [arrays["pixel_values"].shape for arrays in samples.arrays] == [(1, 3, 8, 6)] * 4
    want = picture(8, 6).transpose(2, 0, 1)
    for at in (0, 1):
        np.testing.assert_array_equal(samples.arrays[at]["pixel_values"][0], want)
    grey = samples.arrays[2]["pixel_values"][0]
    np.testing.assert_array_equal(grey[0], grey[2])
    assert samples.place(3) == "image 4"
    assert samples.notes == ["1 file is not read, since its name is not that of an image: 'list.csv'"]


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_images_may_be_packed(tmp_path, packing):
    folder = folder_of(tmp_path)
    whole = read(folder)
    for file in sorted(folder.rglob("*.*")):
        if file.suffix in (".png", ".JPG"):
            packed(file, packing)
    for one, other in zip(whole.arrays, read(folder).arrays, strict=True):
        np.testing.assert_array_equal(one["pixel_values"], other["pixel_values"])


def test_an_image_stands_as_its_camera_says(tmp_path):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(picture(8, 6)).save(tmp_path / "images" / "a.png", exif=exif)
    found = read(tmp_path / "images").arrays[0]["pixel_values"][0]
    np.testing.assert_array_equal(found, np.rot90(picture(8, 6), -1).transpose(2, 0, 1))


def test_pixels_take_the_models_type(tmp_path):
    half = ModelInput("x", np.dtype(np.float16), (None, 3, 8, 6))
    assert read(folder_of(tmp_path), half).arrays[0]["x"].dtype == np.float16


def test_a_folder_of_images_becomes_a_bundle(tmp_path, cli):
    """With the size of the fixture, 16 x 16 pixels."""
    folder, size = folder_of(tmp_path), {"do_resize": True, "size": {"height": 16, "width": 16}}
    processor = config(tmp_path, **RAW | size, resample=BICUBIC)
    given = ("--data", folder, "--image-processor", processor)
    done = cli("optimize", fixture("vit"), *given, "-o", tmp_path / "bundle")
    assert "came with the model" not in done.out
    assert done.code == 0, done.err
    assert "3 inputs of vit.onnx stored" in done.out, "two images are the same"
    told = cli("explain", tmp_path / "bundle", *given, "--line", "2")
    assert told.code == 0, told.err
    assert "image 2" in told.out
    (folder / "b.png").write_bytes(b"none")
    done = cli("optimize", fixture("vit"), *given, "-o", tmp_path / "other")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "b.png': it is not readable as an image" in done.err
    assert not (tmp_path / "other").exists()


@pytest.fixture
def beside(tmp_path):
    """The fixture with an image processor beside it, and a folder of images."""
    model = tmp_path / "model" / "onnx" / "model.onnx"
    model.parent.mkdir(parents=True)
    shutil.copyfile(fixture("vit"), model)
    size = {"do_resize": True, "size": {"height": 16, "width": 16}, "resample": BICUBIC}
    config(tmp_path / "model", **RAW | size)
    return model, folder_of(tmp_path), RAW | size


def test_the_processor_beside_the_model_is_found_and_comes_along(tmp_path, beside, cli):
    model, folder, content = beside
    found = "images become pixels as preprocessor_config.json says, which came with the model"
    told = []
    for name, named in (("a file", model), ("a directory", model.parents[1])):
        bundle = tmp_path / f"bundle of {name}"
        done = cli("optimize", named, "--data", folder, "-o", bundle)
        assert done.code == 0, done.err
        assert found in " ".join(done.out.split())
        assert json.loads((bundle / "preprocessor_config.json").read_text()) == content
        for command in (
            ("bench", named, bundle, "--data", folder, "--rounds", 1),
            ("compare", named, bundle, "--data", folder, "--rounds", 2),
            ("explain", bundle, "--data", folder),
        ):
            done = cli(*command, "--json")
            assert done.code == 0, done.err
            told.append(json.loads(done.out)["requests"])
        told.append(
            json.loads(cli("explain", bundle, "--data", folder, "--line", 2, "--json").out)["outcome"]
        )
    assert told == [4, 4, 4, "repeat"] * 2
    few = cli("advise", model, "--data", folder)
    assert "4 inputs are too few for this promise" in few.err


def test_a_processor_that_is_named_is_taken_in_place_of_that_beside_the_model(tmp_path, beside, cli):
    model, folder, content = beside
    (tmp_path / "other").mkdir()
    other = config(tmp_path / "other", **content | {"do_rescale": True, "rescale_factor": 0.25})
    bundles = []
    for given in ((), ("--image-processor", other.parent)):
        bundles.append(tmp_path / f"bundle{len(bundles)}")
        done = cli("optimize", model, "--data", folder, *given, "-o", bundles[-1])
        assert done.code == 0, done.err
        assert ("came with the model" in " ".join(done.out.split())) == (not given)
    assert (bundles[1] / "preprocessor_config.json").read_bytes() == other.read_bytes()

    def outcome(bundle: Path, *given: object) -> str:
        return json.loads(cli("explain", bundle, "--data", folder, *given, "--line", 1, "--json").out)[
            "outcome"
        ]

    assert outcome(bundles[1]) == "repeat", "its own"
    assert outcome(bundles[0], "--image-processor", other) != "repeat"
    done = cli("compare", model, *bundles, "--data", folder)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "bring different image processors: name one with --image-processor" in done.err
    done = cli("compare", model, *bundles, "--data", folder, "--image-processor", other, "--rounds", 2)
    assert done.code == 0, done.err


def test_a_processor_beside_the_model_that_cannot_be_read_gets_one_line(tmp_path, beside, cli):
    model, folder, _ = beside
    (tmp_path / "model" / "preprocessor_config.json").write_text("{")
    done = cli("optimize", model, "--data", folder, "-o", tmp_path / "bundle")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "preprocessor_config.json' is not JSON" in done.err
    assert not (tmp_path / "bundle").exists()


# ---- What is refused


def refused(because: str, call, *arguments, **named) -> None:
    with pytest.raises(MemoError, match=because) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)


def test_models_that_take_no_images(tmp_path):
    folder = folder_of(tmp_path)
    refused(r"images cannot serve the model, which takes input_ids int64\[\?, \?\]", read, folder, IDS)
    fixed = ModelInput("pixel_values", np.dtype(np.float32), (None, 3, 8, 8))
    refused(r"a.tiff' becomes pixels of the shape \[1, 3, 8, 6\], and the model takes", read, folder, fixed)


def test_a_folder_without_images_and_options_that_it_has_not(tmp_path):
    (tmp_path / "images").mkdir()
    refused("holds no input that can be used", read, tmp_path / "images")
    processor = config(tmp_path, **RAW)
    for data, because in (
        (Data(tmp_path / "images", ["text"], processor), "--column 'text' names a column, and .* has none"),
        (Data(tmp_path / "images", (), processor, 5), "--max-length cuts texts, and .* holds none"),
    ):
        refused(because, read_samples, data, [PIXELS], None)
    labels = LabelColumn("kind", {})
    data = Data(tmp_path / "images", (), processor)
    refused("--labels 'kind' names a column", read_samples, data, [PIXELS], None, labels=labels)


@pytest.mark.parametrize("content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_an_image_that_is_none(tmp_path, content):
    folder = folder_of(tmp_path)
    (folder / "b.png").write_bytes(content)
    refused(r"b.png': it is not readable as an image \(no image\): take it out", read, folder)


def test_a_damaged_image(tmp_path):
    folder = folder_of(tmp_path)
    whole = (folder / "more" / "d.JPG").read_bytes()
    (folder / "more" / "d.JPG").write_bytes(whole[:-100])
    refused(r"d.JPG': it is not readable as an image \(.*(?i:truncated)", read, folder)


def test_a_huge_image(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    for most in (47, 20):  # of 48 pixels: Pillow warns of the first, and refuses the other itself
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        refused(f"a.tiff': it has more pixels than Pillow takes, {most}: make it smaller", read, folder)


def test_a_strip_that_would_become_a_wall(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((1, 9000, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    size = {"do_resize": True, "size": {"shortest_edge": 224}, "resample": BILINEAR}
    refused("a.png': of 9000 x 1 pixels, it would be 224 x 2016000", read, tmp_path / "images", **size)


def test_more_pixels_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 4 * 3 * 48 * 4 - 1)
    refused("the pixels of the 4 images in .* take 0 MiB, and at most 0 are read", read, folder_of(tmp_path))


def test_pillow_is_not_there(tmp_path, monkeypatch):
    real, folder = builtins.__import__, folder_of(tmp_path)

    def without(name: str, *arguments: object) -> object:
        if name.partition(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(r"a.tiff': to read it needs the package Pillow: pip install 'onnx-memo\[data\]'", read, folder)


@pytest.mark.parametrize(
    ("content", "because"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "is for the processor 'Levit', which is not known"),
        ({"do_pad": True}, "asks for 'do_pad', which is not known here"),
        ({"rescale_offset": 1}, "asks for 'rescale_offset', which is not known here"),
        ({"crop_pct": 0.9}, "asks for 'crop_pct', which is known of ConvNext alone"),
        ({"size": {"longest_edge": 9}}, "gives no 'size' of {'height', 'width'} or {'shortest_edge'}"),
        ({"size": 9}, "gives no 'size'"),
        ({"size": {"shortest_edge": 0}}, "holds no number above 0 in 'size'"),
        ({"size": {"shortest_edge": 10**9}}, "holds 1000000000 in 'size', which is no size from 1 to 16,384"),
        ({"resample": 9}, "does not say in 'resample' how to resize"),
        ({"resample": None}, "does not say in 'resample' how to resize"),
        ({"do_center_crop": True}, "gives no 'crop_size'"),
        ({"image_mean": [1, 2]}, "holds no three numbers in 'image_mean'"),
        ({"image_mean": [1, 2, 3], "image_std": [1, 0, 1]}, "holds 0 in 'image_std'"),
        ({"rescale_factor": "a"}, "holds no number above 0 in 'rescale_factor'"),
    ],
)
def test_processors_that_do_something_else(tmp_path, content, because):
    known = {"size": {"height": 4, "width": 4}, "resample": BILINEAR}
    refused(
        f"preprocessor_config.json' {because}.*: make the pixels",
        made,
        tmp_path,
        picture(4, 4),
        **known | content,
    )


def test_a_processor_that_is_none(tmp_path):
    refused("preprocessor_config.json' is not a file: name the model's", load_processor, tmp_path)
    for content, because in (
        ("{", "is not JSON"),
        ("[]", "is no object"),
        ("{}", "says nothing of pictures"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(content)
        refused(because, load_processor, tmp_path)
    assert load_processor(config(tmp_path, **RAW).parent)


def test_a_folder_without_a_processor(tmp_path):
    refused(
        "is a folder, and no preprocessor_config.json that says how images become pixels stands beside the "
        "model: name it with --image-processor; or name one file",
        read_samples,
        folder_of(tmp_path),
        [PIXELS],
        None,
    )
