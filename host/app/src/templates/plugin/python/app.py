"""Raises an alert for mails such as "DISK srv-01 full"; leaves every other mail to the next rule."""

import wit_world
from wit_world.imports.types import (
    Action_Alert,
    Alert,
    AlertState,
    Context,
    Decision,
    Decision_Actions,
    Decision_Pass,
    Field_Subject,
    Message,
)


class WitWorld(wit_world.WitWorld):
    def decide(self, message: Message, context: Context) -> Decision:
        found = message.match(Field_Subject(), r"^DISK (\S+) full")
        if found is None:
            return Decision_Pass()
        host = found.groups[1]
        alert = Alert(
            key=f"disk/{host}",
            state=AlertState.FIRING,
            severity="critical",
            host=host,
            service=None,
            summary=None,
            fields=[],
        )
        return Decision_Actions([Action_Alert(alert)])
