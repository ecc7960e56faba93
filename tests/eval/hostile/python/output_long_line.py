# Fails with a line that takes for ever to search.
# verdict: exception
# says: ValueError: no idea
print("panicked at " * 80000)


def answer():
    raise ValueError("no idea")
