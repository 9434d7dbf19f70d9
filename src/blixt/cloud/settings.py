"""Where the cloud keeps its data and which address it listens on."""

import os
from dataclasses import dataclass
from pathlib import Path

from blixt.cloud.errors import Invalid

DEFAULT_PORT = 8480


@dataclass(frozen=True)
class Settings:
    """Settings of one server.

    Attributes:
        data_dir: Folder of the database, keys, prices, blobs; created with mode 0700.
        host: Address the public door listens on.
        port: Port of the public door; 0 lets the system choose.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @classmethod
    def resolve(
        cls, data_dir: str | Path | None = None, host: str | None = None, port: int | None = None
    ) -> "Settings":
        """Build settings from arguments, then BLIXT_DATA_DIR and BLIXT_PORT, then the defaults.

        Raises:
            Invalid: When the port is not a number from 0 to 65535.
        """
        folder = Path(data_dir or os.environ.get("BLIXT_DATA_DIR") or "~/.blixt").expanduser().absolute()
        chosen: str | int = port if port is not None else os.environ.get("BLIXT_PORT", DEFAULT_PORT)
        try:
            number = int(chosen)
        except ValueError:
            number = -1
        if not 0 <= number <= 65535:
            raise Invalid(f"Port {chosen!r} is not a number from 0 to 65535.", "Mend --port or BLIXT_PORT.")
        return cls(folder, host or "127.0.0.1", number)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return f"sqlite:///{self.data_dir / 'blixt.db'}"

    @property
    def token_file(self) -> Path:
        """File with the first user's token, mode 0600."""
        return self.data_dir / "token"

    @property
    def server_file(self) -> Path:
        """File with the running server's url, pid and version, mode 0600."""
        return self.data_dir / "server.json"

    @property
    def prices_file(self) -> Path:
        """The price list, for people to edit."""
        return self.data_dir / "prices.toml"

    @property
    def keys_file(self) -> Path:
        """The keys that encrypt secrets at rest, mode 0600."""
        return self.data_dir / "secret.keys"

    @property
    def blobs_dir(self) -> Path:
        """Folder of content-addressed files: sources and model files."""
        return self.data_dir / "blobs"

    def make_data_dir(self) -> None:
        """Create the data folder for this user only.

        Raises:
            Invalid: When the folder cannot be made or written.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Invalid(
                f"Cannot make the data folder {self.data_dir}: {error.strerror}.",
                "Choose another with --data-dir or BLIXT_DATA_DIR.",
            ) from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise Invalid(
                f"The data folder {self.data_dir} is not writable.",
                "Choose another with --data-dir or BLIXT_DATA_DIR, or mend its permissions.",
            )
