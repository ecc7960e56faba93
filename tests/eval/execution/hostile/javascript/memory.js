// Wants all memory.
// verdict: memory
const answer = () => {
  const kept = []
  while (true) kept.push(Buffer.alloc(10000000, 1))
}
