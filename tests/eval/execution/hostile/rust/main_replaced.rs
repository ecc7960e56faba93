// Brings its own main.
// verdict: compile error
// says: main
fn main() {}
fn answer() -> i32 {
    41
}
