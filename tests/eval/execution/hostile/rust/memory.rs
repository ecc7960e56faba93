// Wants all memory.
// verdict: memory
// limits: memory_mib=200
fn answer() -> i32 {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1u8; 10_000_000]);
    }
}
