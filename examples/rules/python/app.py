"""Backup reports: a failed job raises an alert, the next success closes it, a warning is a ticket."""

import wit_world
from wit_world.imports.types import (
    Action_Alert,
    Action_Ticket,
    Alert,
    AlertState,
    Context,
    Decision,
    Decision_Actions,
    Decision_Pass,
    Field_Subject,
    Field_Text,
    Message,
    Ticket,
    Value_Text,
)

SUBJECT = r"(?i)^Backup (?<job>.+) on (?<host>\S+): (?<result>failed|succeeded|warning)$"
MESSAGE = r"(?m)^Message: (.+)$"


class WitWorld(wit_world.WitWorld):
    def decide(self, message: Message, context: Context) -> Decision:
        # The host matches, in linear time; Python's own `re` works too, slower and under the deadline.
        report = message.match(Field_Subject(), SUBJECT)
        if report is None:
            return Decision_Pass()
        named = {name: report.groups[number] or "" for name, number in report.names}
        job, host, result = named["job"], named["host"], named["result"].lower()
        found = message.match(Field_Text(), MESSAGE)
        words = found.groups[1] if found else None

        if result == "warning":
            return Decision_Actions([
                Action_Ticket(
                    Ticket(
                        title=f"Backup {job} on {host} ended with a warning",
                        body=words,
                        queue="backup",
                        priority=None,
                        requester=None,
                        fields=[("host", Value_Text(host)), ("job", Value_Text(job))],
                        tags=[],
                    )
                )
            ])
        return Decision_Actions([
            Action_Alert(
                Alert(
                    key=f"backup/{host}/{job}",
                    state=AlertState.FIRING if result == "failed" else AlertState.RESOLVED,
                    severity="critical",
                    host=host,
                    service=job,
                    summary=words,
                    fields=[],
                )
            )
        ])
