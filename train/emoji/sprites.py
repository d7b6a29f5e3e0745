"""Renders the sprites of the embedded world with Noto Color Emoji: src/evenhand/emoji/sprites.png.

    python train/emoji/sprites.py --font /path/to/NotoColorEmoji.ttf

Users do not need it: the sprites are in the repository. Debian's package fonts-noto-color-emoji has
the font; Pillow needs raqm (its wheels have it). One atlas: a row an occupation, a column a
(gender, tone), 64x64 RGBA each. Seconds.
"""

import argparse
import pathlib

from PIL import Image, ImageDraw, ImageFont

from evenhand.emoji.world import SPRITES, World, load_world

GLYPH = 109  # the only pixel size at which the font holds bitmaps (136x128)


def sequence(world: World, occupation: str, gender: str, tone: str) -> str:
    """The codepoint sequence of one person, in the order of Unicode's emoji-zwj-sequences."""
    points, entry = world.codepoints, world.occupations[occupation]
    skin = points["tone"][tone]
    if entry.base:
        sign = points["sign"][gender]
        codes = f"{entry.base} {skin}" + (f" 200D {sign}" if sign else "")
    else:
        codes = f"{points['gender'][gender]} {skin} 200D {entry.object}"
    return "".join(chr(int(code, 16)) for code in codes.split())


def render(text: str, font: ImageFont.FreeTypeFont, size: int) -> Image.Image:
    """One emoji, centred with a margin of 1 pixel, as a size x size RGBA image."""
    canvas = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(canvas).text((20, 20), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None or box[2] - box[0] > 150:
        raise SystemExit(
            f"the font has no single glyph for {text!r}: use a Noto Color Emoji of 2022 or later"
        )
    glyph = canvas.crop(box)
    scale = (size - 2) / max(glyph.size)
    glyph = glyph.resize(
        (round(glyph.width * scale), round(glyph.height * scale)), Image.Resampling.LANCZOS
    )
    sprite = Image.new("RGBA", (size, size))
    sprite.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    return sprite


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--font", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", type=pathlib.Path
    )
    world, font = (
        load_world(),
        ImageFont.truetype(parser.parse_args().font, GLYPH, layout_engine=ImageFont.Layout.RAQM),
    )
    genders, tones = world.classes["gender"], world.classes["tone"]
    atlas = Image.new(
        "RGBA", (world.size * len(genders) * len(tones), world.size * len(world.occupations))
    )
    for row, occupation in enumerate(world.occupations):
        for column, (gender, tone) in enumerate((g, t) for g in genders for t in tones):
            sprite = render(sequence(world, occupation, gender, tone), font, world.size)
            atlas.paste(sprite, (column * world.size, row * world.size))
    atlas.save(SPRITES, optimize=True)
    print(f"{SPRITES}: {atlas.size}, {SPRITES.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
