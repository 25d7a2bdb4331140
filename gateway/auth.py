"""Who is asking: the bearer token of ``headrace up``; one owner, until accounts come."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Header

from headrace.errors import NotAllowed
from headrace.wiring import House, house

OWNER = "default"


def owner(authorization: Annotated[str, Header()] = "") -> str:
    """Return the owner whom the request's token names; raises ``NotAllowed``."""
    scheme, _, token = authorization.partition(" ")
    wanted = house().settings.token.get_secret_value()
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), wanted.encode()):
        raise NotAllowed(
            "the bearer token is missing or wrong",
            hint="It is HEADRACE_TOKEN in settings.env of the home that `headrace up` uses.",
        )
    return OWNER


Owner = Annotated[str, Depends(owner)]
Here = Annotated[House, Depends(house)]
