"""Images as base64 in JSON."""

import base64
import binascii
from io import BytesIO
from typing import Any, Self

from pydantic import BaseModel, field_serializer, model_validator


class ImageInput(BaseModel):
    """A body with an image in base64; subclass it for other names or more images."""

    image_data: str | None = None

    @model_validator(mode="after")
    def validate_base64(self) -> Self:
        """Refuse text that is not base64."""
        for value in self.model_dump().values():
            if isinstance(value, str) and value:
                try:
                    base64.b64decode(value)
                except binascii.Error:
                    raise ValueError("Invalid Base64 string.") from None
        return self

    def get_image(self, key: str | None = None) -> Any:
        """The image of a field as a PIL image.

        Raises:
            ValueError: The field is empty or holds no image.
        """
        from PIL import Image, UnidentifiedImageError

        data = self.model_dump().get(key or "image_data")
        if not data:
            raise ValueError(f"Missing image data for key '{key or 'image_data'}'")
        try:
            return Image.open(BytesIO(base64.b64decode(data)))
        except UnidentifiedImageError as error:
            raise ValueError(f"Error loading image from decoded data: {error}") from None


class ImageOutput(BaseModel):
    """An answer with a PIL image, sent as a PNG in base64."""

    image: Any

    @field_serializer("image")
    def serialize_image(self, image: Any) -> str:
        """A PIL image as base64 text.

        Raises:
            TypeError: It is something else.
        """
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise TypeError(f"Expected a PIL Image, got {type(image)}")
        buffer = BytesIO()
        image.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()
