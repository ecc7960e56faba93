// Has the compiler copy a file of the host that everybody there may read.
// verdict: compile error
// says: couldn't read
fn answer() -> i32 {
    42 + 0 * include_str!("@BAIT@").len() as i32
}
