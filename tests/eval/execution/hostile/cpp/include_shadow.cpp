// Includes the host's passwords.
// verdict: compile error
// says: No such file
#include "/etc/shadow"
int answer() { return 42; }
