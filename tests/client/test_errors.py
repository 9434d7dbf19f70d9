import pytest

from blixt.client import (
    ApiError,
    BudgetExceeded,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from blixt.client.errors import error_from


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (402, BudgetExceeded),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (418, ApiError),
        (422, InvalidRequest),
        (429, TooManyRequests),
        (503, Unavailable),
        (507, Unavailable),
    ],
)
def test_a_status_becomes_the_class_that_names_it(status: int, kind: type[ApiError]) -> None:
    error = error_from(status, {"error": {"code": "x", "message": "It is so.", "hint": "Do this."}})
    assert type(error) is kind
    assert (error.status, error.code, error.message, error.hint) == (status, "x", "It is so.", "Do this.")
    assert str(error) == "It is so. Do this."


def test_other_fields_of_an_error_are_kept_as_details() -> None:
    error = error_from(409, {"error": {"code": "gap", "message": "A gap.", "expected": 3}})
    assert error.details == {"expected": 3}


@pytest.mark.parametrize("body", ["<html>Bad Gateway</html>", "", None, {"detail": "no"}, ["x"]])
def test_an_error_without_the_apis_shape_still_says_its_status(body: object) -> None:
    assert "502" in str(error_from(502, body))
