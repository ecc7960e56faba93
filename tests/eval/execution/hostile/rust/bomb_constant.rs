// A constant that is never found.
// verdict: compile error
// compiler: bomb
const ENDLESS: u64 = {
    let mut count = 0u64;
    while count < u64::MAX {
        count += 1;
    }
    count
};
fn answer() -> i32 {
    ENDLESS as i32
}
