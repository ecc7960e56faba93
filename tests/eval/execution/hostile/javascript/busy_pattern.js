// A pattern that takes for ever to fail.
// verdict: CPU time
// limits: cpu_s=1
const answer = () => /^(a+)+$/.test('a'.repeat(60) + 'b')
