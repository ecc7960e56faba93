# Breaks the parser.
# verdict: exception, memory
answer = eval("(" * 100000)  # noqa: S307
