# Writes to the system.
# verdict: forbidden
# says: Read-only file system
open("/usr/@MARK@", "w").close()
