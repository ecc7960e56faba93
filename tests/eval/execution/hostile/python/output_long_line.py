# Fails with a line that takes for ever to search.
# verdict: exception
# says: ValueError: no idea
print("(" * 900_000)


def answer():
    raise ValueError("no idea")
