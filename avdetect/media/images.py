"""Still pictures as upright 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from avdetect.errors import MediaError
from avdetect.media.files import MediaInfo, check_file, file_sha256
from avdetect.media.tags import picture_tags

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")
# EXIF orientation -> degrees counter-clockwise that put the picture upright (mirrored ones: after the flip).
_EXIF_ROTATION = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90}


@dataclass(frozen=True)
class StillImage:
    rgb: np.ndarray  # (H, W, 3) uint8, upright
    info: MediaInfo
    warnings: tuple[str, ...] = ()


def read_image(path: str | Path) -> StillImage | None:
    """The picture at `path`, told by its content and not by its name; None where it is none of jpg, png,
    webp, bmp, tiff.

    EXIF orientation is applied, transparency laid on white, 16-bit grey reduced to 8, CMYK converted. Of an
    animation the first picture is taken. Raises MediaError where the file cannot be read or is a damaged
    picture.
    """
    file = check_file(path)
    try:
        image = Image.open(file, formats=PICTURE_FORMATS)
    except UnidentifiedImageError:
        return None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(
            f"{path} cannot be read as a picture ({error}): copy or download it again."
        ) from error
    with image:
        try:
            orientation = image.getexif().get(0x0112, 1)
            mode, kind, tags = image.mode, image.format.lower(), picture_tags(image)
            frames = getattr(image, "n_frames", 1) if kind != "mpo" else 1
            rgb = to_rgb(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(
                f"{path} is a damaged picture ({str(error).rstrip('.')}): copy or download it again."
            ) from error
    warnings = (f"only the first of {frames} pictures in the file was examined",) if frames > 1 else ()
    info = MediaInfo(
        container=kind,
        size_bytes=file.stat().st_size,
        sha256=file_sha256(file),
        has_video=True,
        is_image=True,
        duration_s=0.0,
        video_codec=kind,
        width=rgb.shape[1],
        height=rgb.shape[0],
        rotation=_EXIF_ROTATION.get(orientation, 0),
        pix_fmt=mode,
        tags=tags,
    )
    return StillImage(rgb, info, warnings)


def to_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a picture of any mode: transparency on white, 16-bit grey reduced to 8."""
    if image.mode in _SIXTEEN_BIT:
        grey = np.asarray(image, np.int64)
        # 8-bit values in a 16-bit file stay; anything larger is on the scale of 16 bits.
        grey = np.clip(grey >> 8 if grey.max(initial=0) > 255 else grey, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
