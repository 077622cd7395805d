"""An answer that outlives its connection: it runs on its own, is kept for a while, and can be joined again.

answer    one answer: the flow's sink on one side, listeners on the other
answers   all answers of this process, and their tasks
claims    which answer a message that is sent again belongs to
push      what a session is told without having asked
shared    the same for several replicas
journal   what other replicas can read of them
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config import Section


class StreamSettings(Section):
    """Times in seconds. `heartbeat`: silence after which a sign of life is sent; many edges cut idle ones at 60 s.

    When the last listener has left, `cancel` ends the answer at once, `grace` after `grace` seconds, `finish` lets it
    end by itself. Finished answers can be read for `journal_ttl`; one of more than `journal_bytes` is an error.
    """

    heartbeat: Annotated[float, Field(gt=0, le=15)] = 15
    on_disconnect: Literal["cancel", "grace", "finish"] = "grace"
    grace: Annotated[float, Field(ge=0, le=3600)] = 60
    journal_ttl: Annotated[float, Field(ge=1, le=86_400)] = 600
    journal_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] = 1_048_576


class DrainSettings(Section):
    """Seconds that running answers have when their process ends: `clients` with those who listen, and then `answers`
    for being finished without them, to be resumed elsewhere. Where answers aren't shared, listeners stay for both.

    A worker that was only replaced finishes them all: what bounds it is its upstreams' deadlines.
    """

    clients: Annotated[float, Field(ge=0, le=3600)] = 10
    answers: Annotated[float, Field(ge=0, le=3600)] = 10
