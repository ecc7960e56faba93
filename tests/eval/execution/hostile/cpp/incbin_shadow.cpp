// Has the assembler copy the host's passwords into the program.
// verdict: compile error
asm(".incbin \"/etc/shadow\"");
int answer() { return 42; }
