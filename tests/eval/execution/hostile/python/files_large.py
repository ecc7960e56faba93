# Fills the folder it may write to.
# verdict: exception
# says: No space left|File too large
# limits: files_mib=8
with open("@MARK@", "wb") as file:
    for _ in range(100):
        file.write(bytes(1 << 20))
