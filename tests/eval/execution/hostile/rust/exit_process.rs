// Ends with process::exit.
// verdict: early exit
// says: exit code 0
fn answer() -> i32 {
    std::process::exit(0)
}
