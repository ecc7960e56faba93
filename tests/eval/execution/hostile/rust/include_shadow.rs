// Has the compiler copy the host's passwords into the program.
// verdict: compile error
// says: shadow
fn answer() -> i32 {
    42 + 0 * include_str!("/etc/shadow").len() as i32
}
