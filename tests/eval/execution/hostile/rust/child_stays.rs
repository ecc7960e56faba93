// Leaves a child process and passes.
// verdict: passed
fn answer() -> i32 {
    std::process::Command::new("setsid").args(["sh", "-c", ": @MARK@; sleep 99"]).spawn().unwrap();
    42
}
