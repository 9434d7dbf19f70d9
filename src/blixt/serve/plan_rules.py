"""What an API says about admission, resolved: functions that were not overridden are never called."""

from blixt.serve.api import API
from blixt.serve.callbacks import NO_EVENTS, Events
from blixt.serve.hub_rules import Rules
from blixt.serve.plan_hooks import is_overridden


def rules_of(api: API, events: Events = NO_EVENTS) -> Rules:
    """The rules for an API's hub."""
    return Rules(
        priority=api.priority if is_overridden(api, "priority") else None,
        cost=api.cost if is_overridden(api, "cost") else None,
        on_request=events.of("on_request"),
        on_response=events.of("on_response"),
    )
