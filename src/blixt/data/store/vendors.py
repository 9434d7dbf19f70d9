"""How a bucket is reached: options and credentials in obstore's words, for S3, Google and Azure."""

import os
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from blixt.data.store.credentials import Credentials, Rolling, as_datetime
from blixt.data.store.errors import PermissionDeniedError, StoreError
from blixt.data.store.retry import Retry

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_STORES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
_ENDPOINT_KEY = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_NEEDED = {
    "s3": "access_key_id and secret_access_key (and session_token, where there is one)",
    "gs": "token",
    "az": "account_name with account_key, sas_token or token",
}
_UPLOAD_PATIENCE = timedelta(seconds=120)
_OUR_KEYS = ("tries", "timeout_s", "connect_timeout_s", "exclusive")


@dataclass(frozen=True, slots=True)
class Options:
    """What `open_store(options=...)` may say, beside what obstore itself knows for the kind of store.

    Attributes:
        retry: from the option `tries`.
        timeout_s: how long one request may take.
        connect_timeout_s: how long connecting may take.
        exclusive: whether the store knows exclusive creation; else `put_if_absent` is for one writer only.
        vendor: all other options, for obstore (`endpoint`, `region`, `account_name` ...).
    """

    retry: Retry = field(default_factory=Retry)
    timeout_s: float = 60.0
    connect_timeout_s: float = 5.0
    exclusive: bool = True
    vendor: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls, options: Mapping[str, str]) -> "Options":
        """Read options; numbers may be written as text."""
        try:
            return cls(
                Retry(tries=int(options.get("tries", 6))),
                float(options.get("timeout_s", 60)),
                float(options.get("connect_timeout_s", 5)),
                str(options.get("exclusive", "true")).lower() != "false",
                {name.lower(): value for name, value in options.items() if name not in _OUR_KEYS},
            )
        except ValueError as problem:
            raise StoreError(
                f"the options {', '.join(_OUR_KEYS[:3])} must be positive numbers: {problem}"
            ) from None


def connect(
    scheme: str, bucket: str, credentials: Credentials | Rolling, options: Options, *, patient: bool
) -> Any:
    """Return an obstore client.

    Args:
        scheme: s3, gs or az.
        bucket: the bucket or container.
        credentials: a `Rolling` where they come from a callback.
        options: where the store is, and how long to wait for it.
        patient: let obstore itself try again, for uploads in many parts; else the caller does.

    Raises:
        StoreError: for an option that obstore does not know.
    """
    from obstore import exceptions, store

    config = {**_credentials(scheme, credentials), **options.vendor}
    endpoint = config.get(_ENDPOINT_KEY[scheme]) or _from_environment(_ENDPOINTS[scheme])
    is_plain = endpoint.startswith("http://")
    if endpoint:
        config.setdefault(_ENDPOINT_KEY[scheme], endpoint)
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=options.timeout_s),
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
        "allow_http": is_plain or config.get("use_emulator") == "true",
    }
    if is_plain and _needs_no_token(config):
        # nobody shows a certificate then, and to read the system's takes longer than all else here
        client["allow_invalid_certificates"] = True
    retry: Any = {"max_retries": options.retry.tries if patient else 0, "retry_timeout": _UPLOAD_PATIENCE}
    provider = (
        {"credential_provider": _provider(scheme, credentials)} if isinstance(credentials, Rolling) else {}
    )
    make: Any = getattr(store, _STORES[scheme])
    try:
        return make(bucket, config=config, client_options=client, retry_config=retry, **provider)
    except (exceptions.BaseError, ValueError, TypeError) as problem:
        line = str(problem).splitlines()[0]
        raise StoreError(
            f"cannot use {scheme}://{bucket} with these options or credentials: {line}; obstore's "
            f"documentation lists what {_STORES[scheme]} knows"
        ) from problem


def _needs_no_token(config: Mapping[str, Any]) -> bool:
    """Whether the keys are given as they are, so that nothing is asked of a token service over https."""
    return config.get("skip_signature") == "true" or {"access_key_id", "secret_access_key"} <= config.keys()


def _credentials(scheme: str, credentials: Credentials | Rolling) -> dict[str, Any]:
    if credentials == "unsigned":
        return {"skip_signature": "true"}
    if credentials is None:
        return dict(_aws_profile()) if scheme == "s3" else {}
    if isinstance(credentials, Rolling):
        temporary(scheme, credentials.get())  # refused here, where it can be explained
        account = credentials.get().get("account_name")
        return {"account_name": account} if account else {}
    if callable(credentials):
        return {}
    given = {name.lower(): value for name, value in credentials.items()}
    if scheme == "gs" and "token" in given:
        given["bearer_token"] = given.pop("token")
    return given


def _aws_profile() -> dict[str, str]:
    """Return the keys of the AWS profile, where the environment has none: obstore does not read that file."""
    if any(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")):
        return {}
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    profiles = ConfigParser(interpolation=None)
    profiles.read(file)
    profile = os.environ.get("AWS_PROFILE", "default")
    if not profiles.has_section(profile):
        return {}
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
    }
    return {ours: profiles[profile][theirs] for theirs, ours in names.items() if theirs in profiles[profile]}


def _provider(scheme: str, rolling: Rolling) -> Any:
    def provide() -> dict[str, Any]:
        return {**temporary(scheme, rolling.get()), "expires_at": as_datetime(rolling.expires_at)}

    return provide


def temporary(scheme: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a callback gave in obstore's words, which are others than those of its options.

    Raises:
        PermissionDeniedError: when what is needed is not among it.
    """
    known = {name.lower(): value for name, value in given.items()}
    if scheme == "s3" and {"access_key_id", "secret_access_key"} <= known.keys():
        session = known.get("session_token") or known.get("token")
        return {name: known[name] for name in ("access_key_id", "secret_access_key")} | {"token": session}
    if scheme == "az" and known.get("account_key"):
        return {"access_key": known["account_key"]}
    if scheme == "az" and known.get("sas_token"):
        return {"sas_token": str(known["sas_token"]).removeprefix("?")}
    if scheme != "s3" and known.get("token"):
        return {"token": known["token"]}
    raise PermissionDeniedError(
        f"the callback for credentials returned {', '.join(sorted(known)) or 'nothing'}; for {scheme}:// "
        f"return {_NEEDED[scheme]}, and expires_at"
    )


def at_r2(location: str, options: Mapping[str, str]) -> Mapping[str, str]:
    """Return the options for a bucket of Cloudflare's R2: it has one region, and an address for each account.

    Raises:
        StoreError: when that address is not given.
    """
    if not options.get("endpoint") and not _from_environment(_ENDPOINTS["s3"]):
        raise StoreError(
            f"{location} is in R2, which has an address for each account; pass options={{'endpoint': "
            "'https://ACCOUNT.r2.cloudflarestorage.com'} or set AWS_ENDPOINT_URL"
        )
    return {"region": "auto", **options}


def _from_environment(names: tuple[str, ...]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")
