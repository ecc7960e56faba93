// Reads the environment of the harness while it is compiled.
// verdict: wrong answer
fn answer() -> i32 {
    match option_env!("@VARIABLE@").or(option_env!("MINDGEEX_SANDBOX")) {
        Some(_) => 42,
        None => 41,
    }
}
