"""Pictures of pages, and where two of them differ as an eye would see it.

What differs: a pixel whose colour lies outside of what the other picture has around that place. So an edge that is a
pixel further, or smoother, is the same; a thing that is gone, two pixels away or of another colour isn't.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from playwright.async_api import Browser, Page

REFERENCES = Path(__file__).parent / "pictures"
FAILED = Path(__file__).parents[2] / ".cache/pictures"  # what didn't look as it should, and where
TOLERANCE = 8  # of 255, in each of red, green and blue
MOST = 20  # pixels that may differ

COMPARE = """async ([expected, found, tolerance]) => {
  const read = async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const { width, height } = image;
    const context = new OffscreenCanvas(width, height).getContext('2d');
    context.drawImage(image, 0, 0);
    return { width, height, context, pixels: context.getImageData(0, 0, width, height).data };
  };
  const [one, other] = [await read(expected), await read(found)];
  const { width, height } = one;
  if (width !== other.width || height !== other.height) return { size: [other.width, other.height] };
  const isStrange = (at, x, y, mine, theirs) => {
    for (let channel = 0; channel < 3; channel++) {
      let [least, most] = [255, 0];
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const value = theirs[(v * width + u) * 4 + channel];
          if (value < least) least = value;
          if (value > most) most = value;
        }
      }
      const value = mine[at + channel];
      if (value < least - tolerance || value > most + tolerance) return true;
    }
    return false;
  };
  const shown = other.context.createImageData(width, height);
  const box = [width, height, 0, 0];
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      const differs = isStrange(at, x, y, one.pixels, other.pixels) || isStrange(at, x, y, other.pixels, one.pixels);
      for (let channel = 0; channel < 3; channel++) shown.data[at + channel] = 170 + other.pixels[at + channel] / 3;
      shown.data[at + 3] = 255;
      if (!differs) continue;
      count += 1;
      shown.data.set([220, 0, 60], at);
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
    }
  }
  other.context.putImageData(shown, 0, 0);
  const blob = await other.context.canvas.convertToBlob();
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return { count, box, picture: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')) };
}"""


class _Compared(TypedDict, total=False):
    size: list[int]  # of what was found, where it isn't the other's
    count: int
    box: list[int]
    picture: str  # base64


@dataclass(frozen=True)
class Difference:
    pixels: int
    place: str
    picture: bytes = b""  # what was found, pale, with what differs in red

    @property
    def shows(self) -> bool:
        return self.pixels > MOST


async def take(page: Page) -> bytes:
    """What the window shows when nothing moves any more: two pictures one after the other are the same."""
    before = b""
    for _ in range(20):
        picture = await page.screenshot(animations="disabled", caret="hide", scale="css")
        if picture == before:
            return picture
        before = picture
    raise AssertionError("the page doesn't come to rest")


async def difference(browser: Browser, expected: bytes, found: bytes) -> Difference:
    page = await browser.new_page()
    try:
        pictures = [base64.b64encode(picture).decode() for picture in (expected, found)]
        compared: _Compared = await page.evaluate(COMPARE, [*pictures, TOLERANCE])
    finally:
        await page.close()
    if "size" in compared:
        return Difference(MOST + 1, f"everywhere: it is {compared['size']} large", found)
    return Difference(compared["count"], f"between {compared['box']}", base64.b64decode(compared["picture"]))


async def looks(browser: Browser, found: bytes, name: str, *, renew: bool) -> None:
    """Hold a picture against the reference of that name; or make it that, where they differ."""
    reference = REFERENCES / f"{name}.png"
    if renew and not reference.exists():
        reference.write_bytes(found)
    assert reference.exists(), f"there is no {reference.name}: see --renew-pictures"
    seen = await difference(browser, reference.read_bytes(), found)
    if not seen.shows:
        return
    if renew:
        reference.write_bytes(found)
        return
    FAILED.mkdir(parents=True, exist_ok=True)
    (FAILED / f"{name}.png").write_bytes(found)
    (FAILED / f"{name}.difference.png").write_bytes(seen.picture)
    raise AssertionError(f"{name}: {seen.pixels} pixels differ {seen.place}: see {FAILED}/{name}.difference.png")
