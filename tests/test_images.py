"""Image files become pixels, always in the same way."""

import base64
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from evenhand.images import io as images_io
from evenhand.images.io import Unreadable, read_image, read_images

AVIF = base64.b64decode(  # 8 x 8, red
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAA"
    "AAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAJAAAAChpaW5mAAAAAAABAAAA"
    "GmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAA"
    "AAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAALG1kYXQS"
    "AAoIGAi/aICGg0IyFh7Hh4VZ3///4sAAAJA1jjxwI2s71Io="
)
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # PNG's numbers


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return io.BytesIO(file.getvalue())


def png(bits, colour, row, *, width, clear=b"", palette=b""):
    """A PNG of one row, given as it stands in the file: Pillow writes few of its kinds."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"")
    body += chunk(b"tRNS", clear) if clear else b""
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + body
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def words(*values):
    return struct.pack(f">{len(values)}H", *values)


def grey(file):
    """The one row of a grey picture."""
    pixels = read_image(file)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def gradient(width=96, height=64):
    y, x = np.mgrid[:height, :width]
    levels = [x / width, y / height, (x + y) / (width + height)]
    return Image.fromarray((255 * np.stack(levels, -1)).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(orientation):
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    stored = {  # what a camera stores, so that the picture is seen as it is (EXIF 2.3, tag 0x0112)
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture),
        7: picture[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(file), picture)


CLEAR = {  # the first pixel opaque, the second fully transparent
    "colour and alpha": png(8, COLOUR_ALPHA, bytes([9, 9, 9, 255, 9, 9, 9, 0]), width=2),
    "grey and alpha": png(8, GREY_ALPHA, bytes([9, 255, 9, 0]), width=2),
    "16-bit grey and alpha": png(16, GREY_ALPHA, words(9 * 257, 65535, 9 * 257, 0), width=2),
    "palette": png(8, PALETTE, b"\0\1", width=2, palette=b"\x09" * 6, clear=b"\xff\0"),
    "a colour": png(8, COLOUR, bytes([9] * 3 + [7] * 3), width=2, clear=words(7, 7, 7)),
    "a 16-bit colour": png(
        16, COLOUR, words(*[9 * 257] * 3, *[7 * 257] * 3), width=2, clear=words(*[7 * 257] * 3)
    ),
    "a dark 16-bit colour": png(
        16, COLOUR, words(*[9 * 257] * 3, *[7] * 3), width=2, clear=words(*[7] * 3)
    ),
    "a grey": png(8, GREY, bytes([9, 7]), width=2, clear=words(7)),
    "a 16-bit grey": png(16, GREY, words(9 * 257, 7), width=2, clear=words(7)),
}


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_transparent_is_shown_over_white(name):
    assert grey(CLEAR[name]) == [9, 255]


@pytest.mark.parametrize(
    "bits, row, pixels",
    [(1, 0b0100_0000, [0, 255]), (2, 0b0001_1011, [0, 85, 170, 255]), (4, 0x1E, [17, 238])],
)
@pytest.mark.parametrize("number", [0, 1])
def test_few_bits_a_pixel_know_their_transparent_grey(bits, row, pixels, number):
    value = pixels[number] * (2**bits - 1) // 255  # as the file counts it
    file = png(bits, GREY, bytes([row]), width=len(pixels), clear=words(value))
    assert grey(file) == [255 if i == number else pixel for i, pixel in enumerate(pixels)]


def test_a_palette_with_alpha_is_shown_over_white():
    picture = Image.new("PA", (2, 1), (0, 255))
    picture.putpalette([9] * 6)
    picture.putpixel((1, 0), (1, 0))
    assert grey(saved(picture, "TIFF")) == [9, 255]


def test_what_is_half_transparent_is_mixed_with_white():
    assert grey(saved(Image.new("LA", (1, 1), (0, 128)))) == [127]


def test_one_bit_is_black_or_white():
    assert grey(saved(Image.fromarray(np.array([[True, False]])))) == [255, 0]


@pytest.mark.parametrize(
    "ink, colour", [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0,) * 3)]
)
def test_cmyk_inks_become_colours(ink, colour):
    file = saved(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
    assert np.abs(read_image(file).astype(int) - colour).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_to_8(kind):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    assert grey(saved(Image.fromarray(values), kind)) == [0, 1, 128, 255]


def test_16_bit_grey_of_either_byte_order_is_read():
    high_first = Image.frombytes("I;16B", (2, 1), words(257, 65535))
    assert grey(saved(high_first, "TIFF")) == [1, 255]


def test_16_bit_ppm_is_scaled_to_8():
    assert grey(io.BytesIO(b"P5 2 1 1023\n" + words(0, 1023))) == [0, 255]


def test_floats_from_0_to_1_are_scaled():
    values = np.array([[0, 0.2, 1]], dtype=np.float32)
    assert grey(saved(Image.fromarray(values), "TIFF")) == [0, 51, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, np.inf])
def test_floats_beyond_0_to_1_are_refused(value):
    file = saved(Image.fromarray(np.array([[0.5, value]], dtype=np.float32)), "TIFF")
    with pytest.raises(Unreadable, match="floating-point pixels beyond 0 to 1; save it with"):
        read_image(file)


def test_32_bit_integers_are_refused():
    file = saved(Image.fromarray(np.array([[0, 200]], dtype=np.int32)), "TIFF")
    with pytest.raises(Unreadable, match="32 bits a pixel, of unknown white; save it with"):
        read_image(file)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_a_moving_picture_the_first_frame_is_seen(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (read_image(file) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind, tolerance", [("PNG", 1), ("JPEG", 3)])
def test_a_reduced_picture_shows_the_same(kind, tolerance):
    file = saved(gradient(), kind)
    whole, small = read_image(file), read_image(file, side=8)
    again = np.asarray(Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(small.astype(int) - again).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_reduced_picture_has_twice_the_pixels_asked_for(kind):
    assert read_image(saved(gradient(), kind), side=8).shape == (16, 24, 3)


def test_a_picture_smaller_than_asked_for_is_left_as_it_is():
    file = saved(gradient(20, 10))
    assert np.array_equal(read_image(file, side=8), read_image(file))


def exif(tag, kind):
    """A JPEG turned by its EXIF, in which another value has an impossible type."""
    rows = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", tag, kind, 1, 0)
    tiff = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + rows + bytes(4)
    return saved(gradient(8, 8), "JPEG", exif=tiff).getvalue()


BROKEN = {
    "exif that raises struct.error": exif(0x0100, 1),
    "exif that raises TypeError": exif(0x011A, 1),
    "exif that raises AttributeError": exif(0x010F, 5),
    "AVIF cut in its data": AVIF[:-30],
    "AVIF cut in its header": AVIF[:150],
    "PNG cut in its data": saved(gradient()).getvalue()[:-200],
    "PNG cut in its header": saved(gradient()).getvalue()[:20],
    "JPEG cut in its data": saved(gradient(), "JPEG").getvalue()[:700],
    "text": b"no image",
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns of some of the damage
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_unreadable_with_a_reason(tmp_path, name):
    (tmp_path / "x.jpg").write_bytes(BROKEN[name])
    with pytest.raises(Unreadable, match=r"^no image$|^damaged \(.+\)$"):
        read_image(tmp_path / "x.jpg")


def test_a_name_that_is_not_utf8_is_unreadable(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(path, "wb") as file:
        file.write(saved(gradient()).getvalue())
    with pytest.raises(Unreadable, match="its name is not UTF-8; rename it"):
        read_image(os.fsdecode(path))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("pixels", [101, 201])  # Pillow warns of the one and refuses the other
def test_a_picture_beyond_pillows_limit_is_unreadable(monkeypatch, pixels):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Unreadable, match="too large"):
        read_image(saved(Image.new("L", (pixels, 1))))


def test_a_link_to_nowhere_is_unreadable(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(Unreadable, match="no such file"):
        read_image(tmp_path / "x.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_reading_goes_on_after_broken_files_in_order():
    broken = [io.BytesIO(data) for data in BROKEN.values()]
    whole = [saved(Image.new("RGB", (4, 4), (i, 0, 0))) for i in range(len(broken))]
    files = [file for pair in zip(broken, whole, strict=True) for file in pair]
    read = list(read_images(files))
    assert [file for file, _ in read] == files
    assert all(isinstance(found, Unreadable) for _, found in read[::2])
    assert [int(found[0, 0, 0]) for _, found in read[1::2]] == list(range(len(whole)))


def pictures(number, side, taken):
    """Files that are made, and counted, when they are asked for."""
    for i in range(number):
        taken.append(i)
        yield saved(Image.new("L", (side, side)))


def test_reading_waits_for_who_uses_the_images():
    taken = []
    next(read_images(pictures(1000, 1, taken)))
    assert len(taken) <= images_io.AHEAD + images_io.CHUNK + 1


def test_bytes_read_ahead_are_bounded(monkeypatch):
    monkeypatch.setattr(images_io, "CHUNK_BYTES", 2 * 3 * 100**2)
    monkeypatch.setattr(images_io, "AHEAD_BYTES", 6 * 3 * 100**2)
    taken, ahead = [], []
    for used, _ in enumerate(read_images(pictures(40, 100, taken)), start=1):
        ahead.append(len(taken) - used)
    assert len(ahead) == 40 and max(ahead) <= 6 + 2 + 1  # decoded, gathered, and the next header


def test_a_jpeg_is_reduced_while_it_is_decoded(monkeypatch):
    """Its bytes, as those of its reduced size, leave room for many to be read ahead."""
    monkeypatch.setattr(images_io, "AHEAD_BYTES", 3 * 400**2)  # one picture, if it were whole
    monkeypatch.setattr(images_io, "CHUNK_BYTES", 3 * 50**2)
    picture, taken = saved(gradient(400, 400), "JPEG").getvalue(), []
    files = (io.BytesIO(picture) for _ in range(20) if not taken.append(0))
    next(read_images(files, side=25))
    assert len(taken) > 10


def test_a_picture_larger_than_the_bound_is_read(monkeypatch):
    monkeypatch.setattr(images_io, "CHUNK_BYTES", 10)
    monkeypatch.setattr(images_io, "AHEAD_BYTES", 10)
    assert [x.shape for _, x in read_images(pictures(3, 4, []))] == [(4, 4, 3)] * 3
