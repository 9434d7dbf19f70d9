"""Bodies of every kind as what the annotation says; what does not fit is a 4xx with a sentence."""

import base64
import io
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import PIL.Image
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve import API, ConfigError, Form, HTTPError, Reply, UploadFile
from blixt.serve.codec import decoder_for
from blixt.serve.codecs.answers import write
from blixt.serve.codecs.forms import read_form
from blixt.serve.codecs.npy import npy
from blixt.serve.request import Meta
from blixt.serve.wire import Kind, split_reply

URLENCODED = "application/x-www-form-urlencoded"


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


class Upload(msgspec.Struct):
    title: str
    picture: bytes


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(gt=0)


def read(annotation: Any, body: bytes, content_type: str = "", zero_copy: bool = False):
    meta = Meta(content_type=content_type) if content_type else None
    return decoder_for(annotation, "Api.predict", zero_copy)(body, meta)


def refused(annotation: Any, body: bytes, content_type: str = ""):
    with pytest.raises(HTTPError) as error:
        read(annotation, body, content_type)
    return error.value


def multipart(*parts: tuple[str, bytes, str | None, str | None], boundary: str = "xYz"):
    body = b""
    for name, data, filename, media in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += f'; filename="{filename}"'.encode() if filename is not None else b""
        body += f"\r\nContent-Type: {media}".encode() if media else b""
        body += b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def png(color=(255, 0, 0)):
    out = io.BytesIO()
    PIL.Image.new("RGB", (3, 2), color).save(out, "PNG")
    return out.getvalue()


# -- JSON and forms -----------------------------


def test_a_struct_is_read_from_json_and_from_a_form_alike():
    assert read(Point, b'{"x": 3, "tags": ["a", "b"]}') == Point(3, ["a", "b"])
    assert read(Point, b"x=3&tags=a&tags=b", URLENCODED) == Point(3, ["a", "b"])


def test_a_pydantic_model_is_read_from_a_form():
    assert read(Order, b"item=pen&count=2", URLENCODED) == Order(item="pen", count=2)
    assert refused(Order, b"item=pen&count=0", URLENCODED).status == 422


def test_a_struct_takes_a_files_bytes_from_a_multipart_form():
    body, media = multipart(
        ("title", b"cat", None, None), ("picture", b"\x00\xffbytes", "a.bin", "image/png")
    )
    assert read(Upload, body, media) == Upload("cat", b"\x00\xffbytes")


def test_wrong_fields_are_422_and_say_where():
    error = refused(Point, b'{"x": "three"}')
    assert error.status == 422
    assert error.detail[0]["loc"] == ["body", "x"]
    assert refused(Point, b"x=three", URLENCODED).status == 422
    assert refused(Point, b'{"x": ').status == 400


def test_a_media_type_that_is_neither_json_nor_form_is_415_for_a_typed_body():
    assert refused(Point, b"x", "image/png").status == 415


def test_what_curl_mislabels_is_read_as_json():
    assert read(Point, b'{"x": 1}', URLENCODED) == Point(1)
    assert read(Any, b'{"x": 1}', URLENCODED) == {"x": 1}


def test_without_an_annotation_the_content_type_decides():
    assert read(Any, b'{"a": 1}') == {"a": 1}
    assert read(Any, b"a=1&a=2", URLENCODED).get_all("a") == ["1", "2"]
    assert read(Any, b"\x00\x01", "application/octet-stream") == b"\x00\x01"
    assert read(Any, "grüß".encode("latin-1"), "text/plain; charset=latin-1") == "grüß"
    assert refused(Any, b"\xff", "text/plain").status == 400


def test_a_form_holds_fields_and_files_in_their_order():
    body, media = multipart(
        ("a", b"1", None, None), ("f", b"one", "1.txt", "text/plain"), ("f", b"two", "2.txt", None)
    )
    form = read(Form, body, media)
    assert form["a"] == "1"
    assert [file.read() for file in form.files()] == [b"one", b"two"]
    assert [file.content_type for file in form.files()] == ["text/plain", "application/octet-stream"]
    assert form.files()[0].size == 3
    assert refused(Form, b"{}").status == 415


def test_a_file_is_a_forms_first_or_the_body_itself():
    body, media = multipart(("f", b"data", "d.bin", None))
    assert read(UploadFile, body, media).filename == "d.bin"
    assert read(UploadFile, b"data", "image/png").file.read() == b"data"
    assert refused(UploadFile, *multipart(("a", b"1", None, None))).status == 422


def test_an_uploaded_file_is_not_copied_when_the_api_allows_it():
    body, media = multipart(("f", b"moon" * 10, "d.bin", None))
    buffer = bytearray(body)
    file = decoder_for(UploadFile, "", True)(memoryview(buffer), Meta(content_type=media))
    buffer[buffer.index(b"moon") : buffer.index(b"moon") + 4] = b"MOON"
    assert bytes(file.view[:4]) == b"MOON"
    kept = decoder_for(UploadFile, "")(memoryview(buffer), Meta(content_type=media))
    buffer[:] = bytes(len(buffer))
    assert bytes(kept.view[:4]) == b"MOON", "without zero_copy a body in shared memory is copied"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of the kind",
        b"--xYz",
        b"--xYz\r\n",
        b'--xYz\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end',
        b"--xYz\r\nno headers at all\r\n--xYz--\r\n",
        b"--xYz\r\nContent-Type: text/plain\r\n\r\nno name\r\n--xYz--\r\n",
        b"--xYzz\r\n\r\n--xYz--",
    ],
)
def test_a_broken_multipart_form_is_400_with_a_sentence(body):
    with pytest.raises(HTTPError) as error:
        read_form(body, "multipart/form-data", {"boundary": "xYz"})
    assert error.value.status == 400
    assert error.value.detail.endswith(".")


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="f"; filename="a b.txt"', "a b.txt"),
        (r'form-data; name="f"; filename="a\"b.txt"', 'a"b.txt'),
        ("form-data; name=f; filename=plain.txt", "plain.txt"),
        ("form-data; name=f; filename=x.txt; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("form-data; name=f; filename*=nonsense''%41.txt", "A.txt"),
        ('form-data; name="f"; filename=""', ""),
    ],
)
def test_a_files_name_is_read_in_every_spelling(disposition, filename):
    body = f"--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--".encode()
    form = read_form(body, "multipart/form-data", {"boundary": "b"})
    assert form["f"].filename == filename


def test_a_multipart_form_without_a_boundary_is_400():
    assert refused(Form, b"--x--", "multipart/form-data").status == 400


def test_a_form_with_too_many_fields_is_413():
    body = "&".join(f"f{i}=1" for i in range(1001)).encode()
    assert refused(Form, body, URLENCODED).status == 413


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(names, st.binary(max_size=60)), max_size=5))
def test_multipart_files_arrive_as_they_were_sent(files):
    safe = [(name, data) for name, data in files if b"\r\n--xYz" not in b"\r\n" + data]
    body, _ = multipart(*((name, data, "f", None) for name, data in safe))
    if safe:
        form = read_form(body, "multipart/form-data", {"boundary": "xYz"})
        assert [(name, bytes(f.view)) for name, f in form.items_in_order] == safe


@given(st.binary(max_size=300), st.sampled_from(["x", "boundary", ""]))
def test_any_bytes_make_a_form_or_a_4xx(body, boundary):
    status = 200
    try:
        read_form(b"--x\r\n" + body, "multipart/form-data", {"boundary": boundary})
    except HTTPError as error:
        status = error.status
    assert 200 <= status < 500


# -- arrays and pictures -----------------------------


def test_an_array_is_read_from_a_npy_body_of_any_layout():
    for array in (
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3.5),
    ):
        got = read(np.ndarray, npy(array), "application/x-npy")
        assert got.dtype == array.dtype
        assert (got == array).all()
        assert got.flags.writeable


def test_an_array_is_read_from_raw_numbers_with_their_type_and_shape():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    got = read(np.ndarray, array.tobytes(), "application/octet-stream; dtype=int16; shape=2,3")
    assert (got == array).all()


def test_an_array_is_read_from_json_lists_in_the_type_asked_for():
    got = read(npt.NDArray[np.float32], b"[[1, 2], [3, 4]]")
    assert got.dtype == np.float32
    assert got.tolist() == [[1, 2], [3, 4]]


def test_an_array_without_copying_points_into_the_body():
    body = npy(np.arange(4))
    assert not read(np.ndarray, body, "application/x-npy", zero_copy=True).flags.writeable


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"[[1], [2, 3]]", ""),
        (b'["a"]', ""),
        (b'{"a": 1}', ""),
        (b"\x93NUMPY\x01\x00broken", "application/x-npy"),
        (b"no npy", "application/x-npy"),
        (b"abc", "application/octet-stream; dtype=float32"),
        (b"abcd", "application/octet-stream; dtype=nonsense"),
        (b"abcd", "application/octet-stream; shape=2,x"),
        (b"no picture", "image/png"),
    ],
)
def test_what_is_no_array_is_422_with_a_sentence(body, media):
    assert refused(np.ndarray, body, media).status == 422


def test_a_npy_file_with_objects_inside_is_refused():
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    assert refused(np.ndarray, out.getvalue(), "application/x-npy").status == 422


def test_a_picture_is_read_from_the_body_a_form_and_base64_and_as_an_array():
    form, media = multipart(("image", png(), "p.png", "image/png"))
    text = msgspec.json.encode("data:image/png;base64," + base64.b64encode(png()).decode())
    for body, kind in ((png(), "image/png"), (form, media), (text, "")):
        assert read(PIL.Image.Image, body, kind).getpixel((0, 0)) == (255, 0, 0)
    assert read(np.ndarray, png(), "image/png").shape == (2, 3, 3)
    assert read(np.ndarray, form, media).shape == (2, 3, 3)


@pytest.mark.parametrize("body", [b"", b"GIF89a", b'"%%%"', b'{"image": 1}', b'"aGVsbG8="'])
def test_what_is_no_picture_is_422(body):
    assert refused(PIL.Image.Image, body).status == 422


def test_a_type_that_no_codec_knows_is_refused_at_start():
    with pytest.raises(ConfigError, match=r"Api\.predict takes"):
        decoder_for(API, "Api.predict")


# -- answers -----------------------------


def test_answers_are_json_bytes_or_replies():
    assert write({"a": np.float32(0.5), "b": np.arange(2)}) == (Kind.OK, b'{"a":0.5,"b":[0,1]}')
    assert write(Order(item="x", count=1)) == (Kind.OK, b'{"item":"x","count":1}')
    assert write(bytearray(b"raw")) == (Kind.RAW, b"raw")
    with pytest.raises(TypeError):
        write(object())


def test_a_reply_carries_status_headers_and_media_type():
    kind, payload = write(Reply("<b>", 201, {"X-A": "1"}, "text/html"))
    assert kind == Kind.REPLY
    assert split_reply(payload) == (201, {"content-type": "text/html", "x-a": "1"}, b"<b>")
    assert split_reply(write(Reply({"a": 1}))[1]) == (200, {"content-type": "application/json"}, b'{"a":1}')
    assert split_reply(write(Reply(b"\x00"))[1])[1] == {"content-type": "application/octet-stream"}


def test_a_starlette_response_is_passed_on():
    from starlette.responses import PlainTextResponse

    status, headers, body = split_reply(write(PlainTextResponse("tea", 418, {"x-pot": "short"}))[1])
    assert (status, headers["x-pot"], body) == (418, "short", b"tea")
    assert "content-length" not in headers


def test_a_picture_is_answered_as_png():
    kind, payload = write(PIL.Image.new("L", (1, 1)))
    assert kind == Kind.REPLY
    assert split_reply(payload)[2].startswith(b"\x89PNG")


def test_a_tensor_is_read_like_an_array_and_is_its_own():
    import torch

    body = npy(np.arange(4, dtype=np.float32))
    got = read(torch.Tensor, body, "application/x-npy", zero_copy=True)
    got += 1
    assert got.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert read(torch.Tensor, b"[1, 2]").dtype == torch.int64
