// Aborts.
// verdict: exception
// says: signal 6
fn answer() -> i32 {
    std::process::abort()
}
