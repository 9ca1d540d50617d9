"""An importer of your own turns a file into rows RAPO knows: sft.importer=own_importer:tickets (or users.importer)."""

import csv


def tickets(path):
    """A CSV of ticket, who (customer or agent), text, stars; stars say how the customer took the answer before."""
    talks = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            message = {"role": "user" if row["who"] == "customer" else "assistant", "content": row["text"]}
            if row["stars"]:
                message["rating"] = int(row["stars"])
            talks.setdefault(row["ticket"], []).append(message)
    return [{"id": ticket, "messages": messages} for ticket, messages in talks.items()]
