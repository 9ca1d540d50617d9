"""An importer of your own turns a row of your file into one RAPO knows: sft.importer=own_importer:from_tickets."""


def from_tickets(row):
    """{"ticket": 7, "lines": ["C: It broke.", "A: When?", "C: Today. (4)"]}: C is the customer, (4) a rating."""
    messages = []
    for line in row["lines"]:
        who, _, text = line.partition(": ")
        text, _, rating = text.partition(" (")
        message = {"role": "user" if who == "C" else "assistant", "content": text}
        messages.append(message | ({"rating": int(rating[0])} if rating else {}))
    return {"id": str(row["ticket"]), "messages": messages}
