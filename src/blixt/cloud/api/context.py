"""The cloud's parts, wired together once and handed to whoever serves a request."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from blixt.cloud.db import Database
from blixt.cloud.identity import Audit, Identity, Secrets, bootstrap
from blixt.cloud.money import Money, PriceList
from blixt.cloud.objects import Store
from blixt.cloud.registry import Blobs, ContentStore, Experiments, Models
from blixt.cloud.settings import Settings


@dataclass(frozen=True)
class Registry:
    """Experiments with their runs, models with their versions, and blobs."""

    experiments: Experiments
    models: Models
    blobs: Blobs


@dataclass(frozen=True)
class Cloud:
    """Everything a route or a controller needs."""

    settings: Settings
    db: Database
    store: Store
    money: Money
    identity: Identity
    audit: Audit
    secrets: Secrets
    registry: Registry

    def close(self) -> None:
        """End watches and close the database."""
        self.store.close()
        self.db.close()


def open_cloud(settings: Settings) -> Cloud:
    """Open the data folder, making what a first start needs, and return the cloud's parts."""
    settings.make_data_dir()
    prices = PriceList(settings.prices_file)
    db = Database(settings.database_url)
    store = Store(db, machines=prices.machines)
    content = ContentStore(settings.blobs_dir)
    cloud = Cloud(
        settings=settings,
        db=db,
        store=store,
        money=Money(db, prices),
        identity=Identity(db),
        audit=Audit(db),
        secrets=Secrets(db, settings.keys_file, store),
        registry=Registry(Experiments(db, store), Models(db, store, content), Blobs(db, content)),
    )
    bootstrap(cloud)
    return cloud


def cloud_of(connection: HTTPConnection) -> Cloud:
    """Return the cloud of the app that serves this request; a FastAPI dependency."""
    cloud: Cloud = connection.app.state.cloud
    return cloud
