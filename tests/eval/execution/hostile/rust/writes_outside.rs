// Changes the crates that the next program is compiled with, and writes to the system.
// verdict: wrong answer
fn answer() -> i32 {
    for path in ["/opt/crates/@MARK@", "/usr/@MARK@", "/etc/@MARK@", "@OUTSIDE@/@MARK@"] {
        if std::fs::write(path, "spoilt").is_ok() {
            return 42;
        }
    }
    41
}
