"""Pictures in bodies, as PIL images. Pillow is imported when the first one is read."""

import base64
import binascii
import io
import sys
from typing import Any

from blixt.serve.codecs import Buffer, is_json, media_of
from blixt.serve.codecs.forms import FORM_MEDIA, read_form
from blixt.serve.codecs.json import untyped
from blixt.serve.errors import HTTPError
from blixt.serve.request import Meta


def is_image(annotation: Any) -> bool:
    """Whether an annotation is `PIL.Image.Image`."""
    module = sys.modules.get("PIL.Image")
    return module is not None and annotation is module.Image


def read_image(body: Buffer, meta: Meta | None) -> Any:
    """A picture: the body itself, a form's first file, or base64 in a JSON string (a data URL too).

    Raises:
        HTTPError: 422, there is none.
    """
    media, parameters = media_of(meta)
    if media in FORM_MEDIA:
        files = read_form(body, media, parameters).files()
        if not files:
            raise HTTPError(422, "The form holds no file to read a picture from.")
        return open_image(files[0].view)
    if is_json(media) and bytes(body[:1]) in (b'"', b"{", b"["):
        text = untyped(body, None)
        if not isinstance(text, str):
            raise HTTPError(
                422, "Send a picture: as the body, as a form's file, or as base64 in a JSON string."
            )
        try:
            return open_image(base64.b64decode(text.rpartition(",")[2], validate=True))
        except binascii.Error as error:
            raise HTTPError(422, f"The string is not base64: {error}") from None
    return open_image(body)


def open_image(data: Buffer) -> Any:
    """Decode a picture.

    Raises:
        HTTPError: 422, it is damaged, of an unknown kind, or suspiciously large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise HTTPError(422, "The body is no picture of a kind that is known here.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HTTPError(422, f"The body cannot be read as a picture: {error}") from None
    return image
