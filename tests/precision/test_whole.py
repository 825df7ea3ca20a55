"""The ways in which an encoder runs in 8 bits, from fast to exact, each rounded when it is asked for."""

from __future__ import annotations

from itertools import islice

import pytest
from support import fixture, original, random_samples
from support_precision import LENGTHS
from support_rows import opened, samples_of

from onnx_memo.data.samples import Samples
from onnx_memo.precision import whole as wholes
from onnx_memo.precision.chains import Chains
from onnx_memo.precision.whole import Rounding, bytes_at_most
from onnx_memo.progress import silent
from onnx_memo.store.data import ALIGNMENT


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=1)
    return samples_of(fixture("bert"), requests, tmp_path_factory.mktemp("samples"))


def rounding_of(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, native: bool
) -> tuple[Rounding, list[int]]:
    """Rounds with or without a native library; and how many channels stay apart, each time that it did."""
    asked: list[int] = []
    real = wholes.round_products

    def counted(model, chains, rows, apart, progress):
        asked.append(apart)
        return real(model, chains, rows, apart, progress)

    monkeypatch.setattr(wholes, "library_path", lambda: "library.so" if native else None)
    monkeypatch.setattr(wholes, "round_products", counted)
    return Rounding(opened(fixture("bert")), samples, silent), asked


def channels_of(whole) -> set[int]:
    return {len(product.channels) for product in whole.rounded.values()}


def test_they_go_from_fast_to_exact(samples, monkeypatch):
    rounding, _ = rounding_of(samples, monkeypatch, native=True)
    fast, exact = rounding.wholes()
    assert (fast.coarse, exact.coarse) == (False, False)
    assert (channels_of(fast), channels_of(exact)) == ({8}, {32})
    assert (fast.name, exact.name) == ("int8", "int8, 32 channels in floats")


def test_without_a_native_library_a_coarse_one_is_the_fastest(samples, monkeypatch):
    rounding, _ = rounding_of(samples, monkeypatch, native=False)
    coarse, fast, exact = rounding.wholes()
    assert (coarse.name, channels_of(coarse)) == ("int8, coarse", {0})
    assert (channels_of(fast), channels_of(exact)) == ({8}, {32})


def test_each_is_rounded_when_it_is_asked_for_and_once(samples, monkeypatch):
    rounding, asked = rounding_of(samples, monkeypatch, native=True)
    assert asked == []
    (first,) = islice(rounding.wholes(), 1)
    assert asked == [8]
    again, _ = rounding.wholes()
    assert again is first
    assert asked == [8, 32]


def test_without_products_there_are_none(samples, monkeypatch):
    monkeypatch.setattr(wholes, "find_chains", lambda _: Chains({}, {}, {}))
    rounding, asked = rounding_of(samples, monkeypatch, native=True)
    assert list(rounding.wholes()) == asked == []


def test_none_takes_more_bytes_than_was_said(samples, monkeypatch):
    """Each tensor begins on a page."""
    rounding, _ = rounding_of(samples, monkeypatch, native=False)
    sizes = [
        sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in whole.tensors())
        for whole in rounding.wholes()
    ]
    said = bytes_at_most(opened(fixture("bert")))
    assert max(sizes) <= said < 2.5 * min(sizes[1:])


def test_no_channels_are_counted_that_a_product_does_not_have(monkeypatch):
    """Its rows may be fewer than channels stay apart."""
    said = bytes_at_most(opened(fixture("bert")))
    monkeypatch.setattr(wholes, "APART", (8, 10**6))
    assert bytes_at_most(opened(fixture("bert"))) < 2 * said
